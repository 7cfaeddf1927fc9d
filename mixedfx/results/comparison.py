"""Comparisons of fits: likelihood-ratio tests and tables of estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mixedfx.errors import ArgumentError, brief
from mixedfx.formatting import Table
from mixedfx.inference import comparison
from mixedfx.inference.parameters import Parameter, parameters
from mixedfx.inference.structures import structure_fits
from mixedfx.results.results import Results


def compare(
    *fits: Results | Sequence[Results] | Mapping[str, Results],
    names: Sequence[str] | None = None,
    refit: bool = True,
) -> pd.DataFrame:
    """
    Compare nested models by likelihood ratios, and any models by AIC and BIC.

    Parameters
    ----------
    *fits : Results
        Two or more, of the same response in the same rows, of generalised models by families of
        one kind, counts or continuous, and with the same ``nagq``; or one list of them, or one
        mapping from names to them.
    names : sequence of str, optional
        Names of the models; by default their formulas, or the keys of the mapping.
    refit : bool
        Whether REML fits are refitted by maximum likelihood (and marked in column ``refitted``),
        as models with different fixed parts must be. With ``refit=False`` all must have the same
        fixed columns.

    Returns
    -------
    pandas.DataFrame
        A row per model, by increasing number of parameters: ``npar aic bic llf deviance``,
        ``chisq df p_value`` of the test against the row above, ``refitted``, and ``nested``,
        whether the model above is a special case of this one: if not, there is no test, and
        ``attrs["notes"]`` says why.

    Raises
    ------
    ArgumentError
        If there are fewer than two, rows or responses differ, or the criteria are not
        comparable.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.1.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> one = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    >>> two = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> compare(one, two, names=["one", "two"])[["npar", "aic", "chisq", "df"]].round(2)
           npar      aic  chisq   df
    model
    one       4  1802.08    NaN  NaN
    two       6  1763.94  42.14  2.0
    """
    listed, labels = named_fits("compare", fits, names)
    labels = [fit.model.formula_text for fit in listed] if labels is None else labels
    return comparison.compare([fit.model for fit in listed], labels, refit=refit)


def compare_structures(fit: Results, structures: Sequence[str]) -> pd.DataFrame:
    """
    Fit a model with other structures of its correlated residuals, and compare them.

    Parameters
    ----------
    fit : Results
        With ``residual="us(visit | patient)"`` or another structure.
    structures : sequence of str
        Names, ``["us", "toeph", "ar1h", "cs"]``; of the same positions and subjects.

    Returns
    -------
    pandas.DataFrame
        As of :func:`compare`: a row per structure, by increasing number of parameters. The fixed
        part is one, so that REML criteria are compared as they are.

    Raises
    ------
    ArgumentError
        If the fit's residuals are independent, or a name is no structure of residuals.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.4.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> trial = mfx.datasets.load("trial")
    >>> fit = mfx.lmer("score ~ arm * visit", trial, residual="us(visit | patient)")
    >>> compare_structures(fit, ["us", "ar1h", "cs"])[["npar", "aic", "nested"]].round(1)
           npar     aic nested
    model
    cs       12  5609.3   None
    ar1h     16  5422.2  False
    us       25  5412.8   True
    """
    if not isinstance(fit, Results):
        raise ArgumentError(f"compare_structures() takes a fit, not {_described(fit)}.")
    models = structure_fits(fit.model, structures)
    return comparison.compare(models, [str(name) for name in structures], refit=False)


def table(
    *fits: Results | Sequence[Results] | Mapping[str, Results], names: Sequence[str] | None = None
) -> Table:
    """
    Tabulate the estimates of several fits side by side.

    Parameters
    ----------
    *fits : Results
        One or more, of any data; or one list of them, or one mapping from headings to them.
    names : sequence of str, optional
        Headings; by default numbers in parentheses, or the keys of the mapping.

    Returns
    -------
    Table
        A column per fit: fixed effects with their standard errors in parentheses, standard
        deviations and correlations of the random effects, sigma, sample sizes and criteria; to
        print, or ``to_markdown() to_html() to_latex() to_csv()``; ``frame`` is the DataFrame.
        A note says where REML criteria are of different fixed columns, or data differ, and the
        criteria are therefore not comparable.

    Raises
    ------
    ArgumentError
        If an argument is not a fit, or the number of names differs.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> one = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    >>> two = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> print(table(one, two).frame.head(2).to_string(index=False))
                        (1)           (2)
    Intercept 251.41 (9.75) 251.41 (6.82)
         Days 10.47 (0.804)  10.47 (1.55)
    """
    listed, named = named_fits("table", fits, names)
    heads = [f"({i})" for i in range(1, len(listed) + 1)] if named is None else named
    columns = [_column(fit) for fit in listed]
    kinds = ("fixed", "sd", "corr", "sigma", "dispersion", "about")
    rows = list(dict.fromkeys((k, r) for k in kinds for column in columns for r in column[k]))
    cells = [[name, *(column[kind].get(name, "") for column in columns)] for kind, name in rows]
    frame = pd.DataFrame(cells, columns=["", *heads])
    return Table("Estimates (standard errors)", frame, _notes_on_criteria(listed, heads))


def named_fits(
    what: str, given: Sequence[Any], names: Sequence[str] | None
) -> tuple[list[Results], list[str] | None]:
    """Fits, given one by one, as one list or as one mapping, and their names if there are any."""
    fits: Sequence[Any] = given
    if len(given) == 1 and isinstance(given[0], Mapping):
        fits = list(given[0].values())
        names = list(given[0]) if names is None else names
    elif len(given) == 1 and isinstance(given[0], list | tuple):
        fits = given[0]
    if not fits:
        raise ArgumentError(f"{what}() takes fits; none was given.")
    for fit in fits:
        if not isinstance(fit, Results):
            raise ArgumentError(f"{what}() takes fits, not {_described(fit)}.")
    if names is None:
        return list(fits), None
    if isinstance(names, str) or not isinstance(names, Iterable) or len(list(names)) != len(fits):
        raise ArgumentError(f"names={brief(names)} must be {len(fits)} names, one for each fit.")
    return list(fits), [str(name) for name in names]


def _described(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _notes_on_criteria(fits: Sequence[Results], heads: Sequence[str]) -> tuple[str, ...]:
    """Notes on columns whose log-likelihood, AIC and BIC are not comparable with the first's."""
    first, notes = fits[0], []
    others = list(zip(fits[1:], heads[1:], strict=True))
    likelihoods = [(f, h) for f, h in others if not f.model.priors.specified]
    by_data = [h for f, h in likelihoods if not comparison.same_rows(first.model, f.model)]
    if by_data:
        notes.append(
            f"Other rows or another response than {heads[0]}'s: {', '.join(by_data)}; "
            "log-likelihood, AIC and BIC are not comparable."
        )
    kinds = {h: comparison.difference(first.model, f.model) for f, h in likelihoods}
    for reason in dict.fromkeys(r for h, r in kinds.items() if r and h not in by_data):
        listed = ", ".join(h for h, r in kinds.items() if r == reason and h not in by_data)
        notes.append(
            f"Log-likelihood, AIC and BIC of {listed} are not comparable with {heads[0]}'s: "
            f"{reason}."
        )
    by_criterion = [
        h
        for f, h in likelihoods
        if h not in by_data and not kinds[h] and not comparison.same_criterion(first.model, f.model)
    ]
    if by_criterion:
        notes.append(
            f"Log-likelihood, AIC and BIC of {', '.join(by_criterion)} are not comparable with "
            f"{heads[0]}'s: REML criteria compare only between fits of the same fixed columns. "
            "compare() fits them by maximum likelihood."
        )
    return tuple(notes)


def _column(fit: Results) -> dict[str, dict[str, str]]:
    """Formatted entries of one fit, by kind and name of the row."""
    estimates, errors = fit.params, fit.bse
    coefficients = zip(estimates.index, _digits(estimates), _digits(errors), strict=True)
    others = [p for p in parameters(fit.model) if p.kind != "fixed"]
    values = _digits(pd.Series([p.value for p in others]))
    errors_of_residual = _digits(pd.Series([c.std_error for c in fit.model.residual.components]))
    values = _with_errors(others, values, errors_of_residual)
    about = {} if fit.model.spec.residual.linear else {"Family": str(fit.family)}
    about |= {"Observations": f"{fit.nobs}"}
    about |= {f"Levels of {group}": f"{count}" for group, count in fit.ngroups.items()}
    about |= {
        "Criterion": _criterion(fit),
        # A posterior mode does not maximise the likelihood.
        "Log-likelihood": "" if fit.model.priors.specified else f"{fit.llf:.2f}",
        "AIC": "" if fit.model.priors.specified else f"{fit.aic:.1f}",
        "BIC": "" if fit.model.priors.specified else f"{fit.bic:.1f}",
    }
    if not fit.model.residual.predictors:  # of one linear predictor
        about |= {f"R2 {kind}": f"{share:.3f}" for kind, share in fit.r2.items()}
    return {
        "fixed": {name: f"{value} ({error})" for name, value, error in coefficients},
        **{
            kind: {p.name: v for p, v in zip(others, values, strict=True) if p.kind == kind}
            for kind in ("sd", "corr", "sigma", "dispersion")
        },
        "about": about,
    }


def _with_errors(
    parameters: Sequence[Parameter], values: list[str], errors: Sequence[str]
) -> list[str]:
    """Append the standard errors to the values of the dispersion parameters."""
    remaining = iter(errors)
    return [
        f"{value} ({next(remaining)})" if p.kind == "dispersion" else value
        for p, value in zip(parameters, values, strict=True)
    ]


def _criterion(fit: Results) -> str:
    if fit.model.priors.specified:
        return "posterior mode"
    spec = fit.model.spec
    criterion = spec.residual.method(mixed=bool(spec.random_terms), reml=fit.reml)
    return f"least squares ({criterion})" if fit.model.spec.is_least_squares else criterion


def _digits(values: pd.Series) -> list[str]:
    """Format with three significant digits, or two decimals from 1 on."""
    return [f"{v:.2f}" if abs(v) >= 1 or v == 0 else f"{v:#.3g}" for v in values]
