"""Comparisons of fits: likelihood-ratio tests and tables of estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.formatting import Table
from mixedfx.inference import comparison
from mixedfx.inference.parameters import Parameter, parameters
from mixedfx.results.results import Results


def compare(*fits: Results, names: Sequence[str] | None = None, refit: bool = True) -> pd.DataFrame:
    """
    Compare nested models by likelihood ratios, and any models by AIC and BIC.

    Parameters
    ----------
    *fits : Results
        Two or more, of the same response in the same rows. The test assumes that each is nested
        in the next, which is not checked.
    names : sequence of str, optional
        Names of the models; by default their formulas.
    refit : bool
        Whether REML fits are refitted by maximum likelihood (and marked in column ``refitted``),
        as models with different fixed parts must be. With ``refit=False`` all must have the same
        fixed columns.

    Returns
    -------
    pandas.DataFrame
        A row per model, by increasing number of parameters: ``npar aic bic llf deviance``,
        ``chisq df p_value`` of the test against the row above, and ``refitted``.

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
    labels = _names("compare", fits, names)
    return comparison.compare([fit.model for fit in fits], labels, refit=refit)


def table(*fits: Results, names: Sequence[str] | None = None) -> Table:
    """
    Tabulate the estimates of several fits side by side.

    Parameters
    ----------
    *fits : Results
        One or more, of any data.
    names : sequence of str, optional
        Headings; by default numbers in parentheses.

    Returns
    -------
    Table
        A column per fit: fixed effects with their standard errors in parentheses, standard
        deviations and correlations of the random effects, sigma, sample sizes and criteria; to
        print, or ``to_markdown() to_html() to_latex()``; ``frame`` is the DataFrame.

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
    heads = [f"({i})" for i in range(1, len(fits) + 1)] if names is None else names
    heads = _names("table", fits, heads)
    columns = [_column(fit) for fit in fits]
    kinds = ("fixed", "sd", "corr", "sigma", "dispersion", "about")
    rows = list(dict.fromkeys((k, r) for k in kinds for column in columns for r in column[k]))
    cells = [[name, *(column[kind].get(name, "") for column in columns)] for kind, name in rows]
    return Table("Estimates (standard errors)", pd.DataFrame(cells, columns=["", *heads]))


def _names(what: str, fits: Sequence[Any], names: Sequence[str] | None) -> list[str]:
    """Check the fits, and name each."""
    if not fits:
        raise ArgumentError(f"{what}() takes fits; none was given.")
    for fit in fits:
        if not isinstance(fit, Results):
            raise ArgumentError(f"{what}() takes fits, not a {type(fit).__name__}.")
    if names is None:
        names = [fit.model.formula_text for fit in fits]
    if isinstance(names, str) or len(names) != len(fits):
        raise ArgumentError(f"names={names!r} must be {len(fits)} names, one for each fit.")
    return list(names)


def _column(fit: Results) -> dict[str, dict[str, str]]:
    """Formatted entries of one fit, by kind and name of the row."""
    estimates, errors = fit.params, fit.bse
    coefficients = zip(estimates.index, _digits(estimates), _digits(errors), strict=True)
    others = [p for p in parameters(fit.model) if p.kind != "fixed"]
    values = _digits(pd.Series([p.value for p in others]))
    errors_of_residual = _digits(pd.Series([c.std_error for c in fit.model.residual.components]))
    values = _with_errors(others, values, errors_of_residual)
    about = {"Observations": f"{fit.nobs}"}
    about |= {f"Levels of {group}": f"{count}" for group, count in fit.ngroups.items()}
    about |= {
        "Criterion": _criterion(fit),
        # A posterior mode does not maximise the likelihood.
        "Log-likelihood": "" if fit.model.priors.specified else f"{fit.llf:.2f}",
        "AIC": "" if fit.model.priors.specified else f"{fit.aic:.1f}",
        "BIC": "" if fit.model.priors.specified else f"{fit.bic:.1f}",
        "R2 marginal": f"{fit.r2['marginal']:.3f}",
        "R2 conditional": f"{fit.r2['conditional']:.3f}",
    }
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
    if fit.model.spec.is_least_squares:
        return "least squares"
    return "REML" if fit.reml else "ML"


def _digits(values: pd.Series) -> list[str]:
    """Format with three significant digits, or two decimals from 1 on."""
    return [f"{v:.2f}" if abs(v) >= 1 or v == 0 else f"{v:#.3g}" for v in values]
