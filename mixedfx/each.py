"""One formula fitted to thousands of responses: :func:`lmer_each`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._names import unused_name
from mixedfx._warnings import warn_caller
from mixedfx.design.build import build
from mixedfx.design.source import as_frame
from mixedfx.errors import (
    ArgumentError,
    MixedfxError,
    MixedfxWarning,
    brief,
    check_choice,
    check_flag,
    check_share,
)
from mixedfx.formula.parser import parse
from mixedfx.formula.terms import Formula
from mixedfx.inference.many_fits import ManyFits
from mixedfx.inference.response_tables import ResponseEstimates, response_table

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_CHOICES = {
    "what": ("coefficients", "variances"),
    "adjust": ("none", "fdr"),
    "df_method": ("auto", "satterthwaite", "residual", "normal"),
}


def lmer_each(
    formula: str,
    data: Any,
    responses: Any,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    df_method: str = "auto",
    conf_level: float = 0.95,
    what: Literal["coefficients", "variances"] = "coefficients",
    moderated: bool = False,
    adjust: Literal["none", "fdr"] = "none",
) -> pd.DataFrame:
    """
    Fit one linear mixed model to each of many responses: genes, proteins, voxels, items.

    Parameters
    ----------
    formula : str
        Formula without a response, ``"~ disease + (1 | person)"``.
    data : DataFrame of n rows
        What the formula names.
    responses : DataFrame of shape (n, R), array, or list of str
        The responses, a column each, in the order of the data's rows (matched by label if the
        indexes have the same labels); or names of columns of ``data``. A missing value leaves the
        row out of that response's fit.
    reml : bool
        REML, or maximum likelihood.
    weights, offset
        As of :func:`mixedfx.lmer`, the same for all responses.
    df_method : {"auto", "satterthwaite", "residual", "normal"}
        Degrees of freedom; the default is Satterthwaite's.
    conf_level : float
        Coverage of the intervals.
    what : {"coefficients", "variances"}
        The tests of the fixed effects, or the variance that the fixed part, each random term and
        the residual account for, with its share of their sum.
    moderated : bool
        Whether residual variances are moderated by empirical Bayes over the responses, as of
        limma, which lends few rows more degrees of freedom.
    adjust : {"none", "fdr"}
        ``"fdr"`` adds ``p_adjusted``, Benjamini and Hochberg's over the responses of a term.

    Returns
    -------
    pandas.DataFrame
        ``response`` and the columns of :meth:`Results.tidy`, a row for each response and term; or
        ``response component variance share``. NaN for responses without estimates, whose reasons
        are in ``attrs["failures"]``; ``attrs["single_fits"]`` is the number of responses that were
        fitted one by one.

    Raises
    ------
    FormulaError, DataError, ArgumentError
        As of :func:`mixedfx.lmer`.

    Notes
    -----
    With one grouping factor all responses are searched at once, in arrays, from a grid of
    starting values by Newton steps; each end is certified by its gradient and Hessian, and
    responses that are not, as well as other models, are fitted one by one.

    References
    ----------
    .. [1] Hoffman and Roussos (2021), dream: powerful differential expression analysis for
       repeated measures designs, Bioinformatics 37:192.
    .. [2] Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3:3.

    Examples
    --------
    >>> import mixedfx as mfx, numpy as np, pandas as pd
    >>> sleep, rng = mfx.datasets.load("sleepstudy"), np.random.default_rng(1)
    >>> noise = rng.normal(0, 30, (180, 3))
    >>> genes = pd.DataFrame(sleep[["Reaction"]].to_numpy() + noise, columns=["g0", "g1", "g2"])
    >>> table = mfx.lmer_each("~ Days + (1 | Subject)", sleep, genes)
    >>> table[table["term"] == "Days"][["response", "estimate", "std_error", "df"]].round(2)
      response  estimate  std_error     df
    1       g0      9.93       1.06  161.0
    3       g1      9.54       1.09  161.0
    5       g2     11.46       1.03  161.0
    """
    check_flag("reml", reml)
    check_flag("moderated", moderated)
    check_share("conf_level", conf_level)
    chosen = {"what": what, "adjust": adjust, "df_method": df_method}
    for name, value in chosen.items():
        check_choice(name, value, _CHOICES[name])
    frame = as_frame(data)
    placeholder = unused_name("response", frame.columns)
    parsed = _parsed(formula, placeholder)
    names, Y = _responses(responses, frame)
    rows = frame.reset_index(drop=True)
    given = {"weights": _by_position(weights), "offset": _by_position(offset)}
    method = "satterthwaite" if df_method == "auto" else df_method
    env = EvalEnvironment.capture(1)
    how = _How(parsed, reml, method, given, env, not bool(np.isfinite(Y).all()))
    found = [
        _fit_pattern(
            how, rows[keep].assign(**{placeholder: Y[keep, which[0]]}), Y[keep][:, which], which
        )
        for keep, which in _patterns(Y)
    ]
    table = response_table(names, found, what, moderated, adjust, conf_level)
    failures = {str(names[r]): text for part in found for r, text in part.failures.items()}
    table.attrs = {"failures": failures, "single_fits": sum(part.n_single for part in found)}
    _warn_of(failures, len(names))
    return table


def _warn_of(failures: dict[str, str], count: int) -> None:
    """Warn of responses without estimates."""
    if failures:
        name, text = next(iter(failures.items()))
        warn_caller(
            f"{len(failures)} of {count} responses have no estimates, the first of them "
            f"'{name}': {text} attrs['failures'] has all.",
            MixedfxWarning,
        )


@dataclass(frozen=True)
class _How:
    """What all responses share."""

    formula: Formula
    reml: bool
    method: str
    given: dict[str, Any]
    env: EvalEnvironment
    has_missing: bool  # some values of the responses: the error may be of the rows that are left


def _by_position(values: Any) -> Any:
    """Values of a Series, whose labels are those of the data."""
    return values.to_numpy() if isinstance(values, pd.Series) else values


def _parsed(formula: Any, response: str) -> Formula:
    if not isinstance(formula, str) or not formula.lstrip().startswith("~"):
        raise ArgumentError(
            f"formula={brief(formula)} must be text without a response, such as "
            "'~ disease + (1 | person)': the responses are given by responses=."
        )
    return parse(f"{response} {formula.lstrip()}")


def _responses(responses: Any, frame: pd.DataFrame) -> tuple[list[Any], Matrix]:
    """Names and values (n, R) of the responses."""
    if isinstance(responses, str):
        responses = [responses]
    listed = isinstance(responses, list | tuple | pd.Index)
    if listed and all(isinstance(r, str) for r in responses):
        unknown = [r for r in responses if r not in frame]
        if unknown or not len(responses):
            raise ArgumentError(f"responses {unknown[:5]} are no columns of the data.")
        responses = frame[list(responses)]
    if not isinstance(responses, pd.DataFrame):
        values = np.asarray(responses)
        if values.ndim != 2:
            raise ArgumentError(
                "responses= is a DataFrame or an array with a column for each response, or a list "
                f"of columns of the data; it has the shape {values.shape}."
            )
        responses = pd.DataFrame(values)
    if len(responses) != len(frame):
        raise ArgumentError(
            f"responses= has {len(responses)} rows and the data {len(frame)}: a response is a "
            "column, with a row for each row of the data. Of one row per response take its .T."
        )
    if not responses.index.equals(frame.index) and not isinstance(responses.index, pd.RangeIndex):
        if not frame.index.is_unique or set(responses.index) != set(frame.index):
            raise ArgumentError(
                "responses= has other row labels than the data; give it the same index, or "
                "responses.reset_index(drop=True) where the rows are in the data's order."
            )
        responses = responses.loc[frame.index]
    if responses.columns.has_duplicates:
        raise ArgumentError("responses= has several columns of one name.")
    try:
        Y = responses.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        bad = [c for c in responses if not pd.api.types.is_numeric_dtype(responses[c])]
        raise ArgumentError(f"responses {bad[:5]} are not numbers.") from None
    return list(responses.columns), np.where(np.isfinite(Y), Y, np.nan)


def _patterns(Y: Matrix) -> Iterator[tuple[npt.NDArray[np.bool_], Codes]]:
    """Rows that are complete, and the responses for which these are the rows."""
    known = np.isfinite(Y)
    _, index = np.unique(np.packbits(known, axis=0), axis=1, return_inverse=True)
    index = index.ravel()
    for pattern in range(index.max(initial=-1) + 1):
        which = np.flatnonzero(index == pattern)
        yield known[:, which[0]], which


def _fit_pattern(how: _How, frame: pd.DataFrame, Y: Matrix, which: Codes) -> ResponseEstimates:
    """Fit the responses whose rows are those of ``frame``; labels are positions."""
    given = {
        name: value[frame.index] if isinstance(value, np.ndarray) else value
        for name, value in how.given.items()
    }
    try:
        weights, offset = given["weights"], given["offset"]
        design = build(how.formula, frame, env=how.env, weights=weights, offset=offset)
    except MixedfxError as error:
        if not how.has_missing:
            raise
        none = np.full((0, len(which)), np.nan)
        failures = {int(r): str(error) for r in which}
        return ResponseEstimates(
            which, (), (), none, none, none, none.sum(axis=0), none, failures, 0
        )
    taken = frame.index.get_indexer(design.rows.index)
    return _estimates(ManyFits.of(design, Y[taken], reml=how.reml, method=how.method), which)


def _estimates(fits: ManyFits, which: Codes) -> ResponseEstimates:
    """Estimates of the responses of one design, in all columns of the formula."""
    spec, found = fits.design.spec, fits.estimates(np.eye(fits.crossprod.p))
    components = ("fixed", *(str(t.formula_term) for t in spec.random_terms), "Residual")
    full = np.full((3, len(spec.column_names), len(which)), np.nan)
    full[:, spec.kept_columns] = found.estimate, found.variance, found.df
    failures = {int(which[r]): text for r, text in found.failures.items()}
    names = tuple(spec.column_names)
    return ResponseEstimates(
        which,
        names,
        components,
        full[0],
        full[1],
        full[2],
        found.sigma2,
        found.components,
        failures,
        found.n_single,
    )
