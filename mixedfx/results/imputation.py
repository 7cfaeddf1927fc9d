"""Estimates of several imputed data sets, as one table: :func:`pool`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError, brief, check_share
from mixedfx.inference import wald
from mixedfx.inference.emmeans.emmeans import EMMeans
from mixedfx.results.results import Results

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Least share of the variance that is due to missing values, as of mice.
_LEAST_LAMBDA = 1e-4


def pool(
    fits: Iterable[Any], *, conf_level: float = 0.95, dfcom: float | None = None
) -> pd.DataFrame:
    """
    Pool the fits of several imputed data sets by Rubin's rules.

    Parameters
    ----------
    fits : iterable of Results, or of EMMeans
        The fit of each imputed data set, or its marginal means, of one model.
    conf_level : float
        Coverage of the intervals.
    dfcom : float, optional
        Degrees of freedom that complete data would have; ``inf`` for large samples. By default
        rows less parameters of fits, as of mice, and those of each marginal mean.

    Returns
    -------
    pandas.DataFrame
        Columns as of :meth:`Results.tidy`, or as of the table of marginal means, with ``fmi``,
        the share of the information that is missing, and ``riv``, the relative increase of the
        variance. The degrees of freedom are those of Barnard and Rubin.

    Raises
    ------
    ArgumentError
        If there is one fit only, or the fits are of different models.

    References
    ----------
    .. [1] Rubin (1987), Multiple Imputation for Nonresponse in Surveys, chapter 3.
    .. [2] Barnard and Rubin (1999), Biometrika 86:948.

    Examples
    --------
    >>> import mixedfx as mfx, numpy as np
    >>> sleep, rng = mfx.datasets.load("sleepstudy"), np.random.default_rng(1)
    >>> imputed = [sleep.assign(Days=sleep["Days"] + rng.normal(0, 0.3, 180)) for _ in range(5)]
    >>> fits = [mfx.lmer("Reaction ~ Days + (1 | Subject)", data) for data in imputed]
    >>> mfx.pool(fits)[["term", "estimate", "std_error", "df", "fmi"]].round(2)
            term  estimate  std_error      df   fmi
    0  Intercept    251.80       9.76  173.82  0.01
    1       Days     10.42       0.81  173.18  0.02
    """
    check_share("conf_level", conf_level)
    fits = list(fits) if isinstance(fits, Iterable) else [fits]
    _check_kind(fits)
    if dfcom is not None and not dfcom > 0.0:
        raise ArgumentError(f"dfcom={brief(dfcom)} must be a number above 0, or inf.")
    if isinstance(fits[0], EMMeans):
        return _pooled_means(fits, conf_level, dfcom)
    names = _same([list(fit.params.index) for fit in fits], "coefficients")
    complete = min(map(_complete_df, fits)) if dfcom is None else dfcom
    pooled = _rubin(
        np.array([fit.params for fit in fits]),
        np.array([fit.bse for fit in fits]) ** 2,
        np.full(len(names), float(complete)),
    )
    return _table(pd.DataFrame({"term": names}), pooled, conf_level, "estimate")


def _complete_df(fit: Results) -> int:
    """Rows less parameters, of which least squares does not count sigma, as R's df.residual."""
    return fit.df_resid if fit.model.spec.is_least_squares else fit.nobs - fit.df_modelwc


def _check_kind(fits: list[Any]) -> None:
    for kind in (Results, EMMeans):
        if fits and all(isinstance(fit, kind) for fit in fits):
            break
    else:
        seen = next((f for f in fits if not isinstance(f, Results | EMMeans)), fits[:1])
        raise ArgumentError(
            "pool() takes a list of fits, or of their marginal means, one for each imputed data "
            f"set; it has {brief(seen)}."
        )
    if len(fits) < 2:
        raise ArgumentError(
            "pool() takes the fits of several imputed data sets, and there is one: the variance "
            "between imputations has no estimate."
        )


def _same(values: list[list[Any]], what: str) -> list[Any]:
    for i, found in enumerate(values):
        if found != values[0]:
            raise ArgumentError(
                f"the fits have different {what}: the first has {brief(values[0])}, that of "
                f"position {i} {brief(found)}. Pool fits of one formula, whose factors have the "
                "same levels in each imputed data set."
            )
    return values[0]


def _pooled_means(means: list[EMMeans], conf_level: float, dfcom: float | None) -> pd.DataFrame:
    first = means[0]
    keys = first.table[[*first.by, *first.specs]]
    estimate = next(c for c in first.table if c not in keys)
    for other in means:
        _same([list(first.table.columns), list(other.table.columns)], "columns")
        _same([keys.to_numpy().tolist(), other.table[keys.columns].to_numpy().tolist()], "means")
    complete = np.mean([m.table["df"] for m in means], axis=0)
    pooled = _rubin(
        np.array([m.table[estimate] for m in means], dtype=float),
        np.array([m.table["std_error"] for m in means], dtype=float) ** 2,
        complete if dfcom is None else np.full(len(keys), float(dfcom)),
    )
    return _table(keys.copy(), pooled, conf_level, str(estimate))


def _rubin(estimates: Matrix, variances: Matrix, dfcom: Vector) -> dict[str, Vector]:
    """
    Mean, variance and degrees of freedom of estimates (m, r) with variances (m, r).

    ``T = W + (1 + 1/m) B``, and with ``lambda = (1 + 1/m) B / T``

        1 / df = lambda^2 / (m - 1) + (dfcom + 3) / ((dfcom + 1) dfcom (1 - lambda))
    """
    m = len(estimates)
    within, between = variances.mean(axis=0), estimates.var(axis=0, ddof=1)
    added = (1.0 + 1.0 / m) * between
    total = within + added
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.maximum(added / total, _LEAST_LAMBDA)
        observed = np.where(
            np.isinf(dfcom), 0.0, (dfcom + 3.0) / ((dfcom + 1.0) * dfcom * (1.0 - share))
        )
        df = 1.0 / (share**2 / (m - 1.0) + observed)
        riv = added / within
    return {
        "estimate": estimates.mean(axis=0),
        "std_error": np.sqrt(total),
        "df": df,
        "fmi": (riv + 2.0 / (df + 3.0)) / (riv + 1.0),
        "riv": riv,
    }


def _table(
    table: pd.DataFrame, pooled: dict[str, Vector], conf_level: float, name: str
) -> pd.DataFrame:
    """Table of keys with the pooled estimates, their tests and intervals."""
    columns = (pooled["estimate"], pooled["std_error"], pooled["df"])
    tests = wald.columns_of_tests(*columns, conf_level=conf_level)
    if name != "estimate":  # a mean, of which there is no test
        tests = {k: v for k, v in tests.items() if k not in ("statistic", "p_value")}
    for column, values in tests.items():
        table[name if column == "estimate" else column] = values
    table["fmi"], table["riv"] = pooled["fmi"], pooled["riv"]
    return table
