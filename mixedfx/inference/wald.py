"""Fixed effects, their standard errors, and the tests and intervals made of the two.

Any combination of the fixed effects is estimated, and any set of them tested, by one
function each; what is the right covariance, and with how many degrees of freedom, is for
:mod:`mixedfx.inference.degrees` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError, check_share
from mixedfx.fit import Fit
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.degrees import Degrees

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def coefficients(fit: Fit) -> pd.Series:
    """
    Fixed effects.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.Series
        By column, in the units of the response per unit of the column; NaN for columns that
        were left out.
    """
    values = np.full(len(fit.design.columns), np.nan)
    values[fit.design.kept] = fit.solution.beta
    return pd.Series(values, index=list(fit.design.columns), name="estimate")


def covariance(fit: Fit) -> pd.DataFrame:
    """
    Covariance of the fixed effects, the covariance parameters taken as known.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.DataFrame
        ``sigma**2 (X'V^-1 X)^-1`` as lme4's ``vcov``; NaN for columns that were left out.
    """
    names = list(fit.design.columns)
    full = np.full((len(names), len(names)), np.nan)
    kept = fit.design.kept
    full[np.ix_(kept, kept)] = fit.solution.sigma**2 * fit.solution.unscaled_cov
    return pd.DataFrame(full, index=names, columns=names)


def standard_errors(fit: Fit) -> pd.Series:
    """
    Standard errors of the fixed effects.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.Series
        By column.
    """
    cov = covariance(fit)
    return pd.Series(np.sqrt(np.diag(cov.to_numpy())), index=cov.index, name="std_error")


def estimates(
    fit: Fit,
    how: Degrees,
    rows: Matrix,
    labels: Sequence[str],
    *,
    values: Vector | None = None,
    conf_level: float = 0.95,
) -> pd.DataFrame:
    """
    Estimate linear combinations of the fixed effects, with a t test and an interval each.

    Parameters
    ----------
    fit : Fit
        Any fit.
    how : Degrees
        Covariance and degrees of freedom.
    rows : ndarray of shape (r, p)
        The combinations, over the columns of ``X``.
    labels : sequence of str
        Their names.
    values : ndarray of shape (r,), optional
        What the test takes them to be; zero without it.
    conf_level : float
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        ``term estimate std_error statistic df p_value conf_low conf_high``.
    """
    check_share("conf_level", conf_level)
    estimate = rows @ fit.solution.beta
    error = np.sqrt(np.maximum(np.einsum("rp,pq,rq->r", rows, how.cov, rows), 0.0))
    df = np.array([how.of_row(row) for row in rows])
    known = np.where(error > 0.0, error, np.nan)  # of a constant there is nothing to test
    statistic = (estimate - (0.0 if values is None else values)) / known
    half = t_quantile(0.5 + conf_level / 2, df) * error
    return pd.DataFrame(
        {
            "term": list(labels),
            "estimate": estimate,
            "std_error": error,
            "statistic": statistic,
            "df": df,
            "p_value": t_p_value(statistic, df),
            "conf_low": estimate - half,
            "conf_high": estimate + half,
        }
    )


def tidy(fit: Fit, how: Degrees, *, conf_level: float) -> pd.DataFrame:
    """
    Lay the fixed effects out in a table.

    Parameters
    ----------
    fit : Fit
        Any fit.
    how : Degrees
        Covariance and degrees of freedom.
    conf_level : float
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        As :func:`estimates`, a row per coefficient; NaN for columns that were left out.
    """
    design = fit.design
    kept = estimates(fit, how, np.eye(fit.cross.p), design.names, conf_level=conf_level)
    full = kept.set_index("term").reindex(list(design.columns))
    return full.rename_axis("term").reset_index()


def f_test(fit: Fit, how: Degrees, hypotheses: Constraints) -> pd.Series:
    """
    Test several hypotheses on the fixed effects together.

    Parameters
    ----------
    fit : Fit
        Any fit.
    how : Degrees
        Covariance and degrees of freedom.
    hypotheses : Constraints
        Rows that follow from the others are left out.

    Returns
    -------
    pandas.Series
        ``F num_df den_df p_value``.

    Raises
    ------
    ArgumentError
        If priors make what is tested a constant.
    """
    wanted = hypotheses.independent()
    _expect_uncertain(fit, how, wanted.rows)
    gap = wanted.rows @ fit.solution.beta - wanted.values
    q = len(wanted.rows)
    factor, df = how.of_rows(wanted.rows)
    F = factor * float(gap @ np.linalg.solve(wanted.rows @ how.cov @ wanted.rows.T, gap)) / q
    found = {"F": F, "num_df": float(q), "den_df": df, "p_value": f_p_value(F, q, df)}
    return pd.Series(found, name="wald_test")


def _expect_uncertain(fit: Fit, how: Degrees, rows: Matrix) -> None:
    """Refuse to test what a prior without variance has fixed."""
    if fit.beliefs is None or (fit.beliefs.sd > 0.0).all():
        return
    spread = np.einsum("ri,ij,rj->r", rows, how.cov, rows)
    if (spread <= 0.0).any():
        names = [n for n, sd in zip(fit.design.names, fit.beliefs.sd, strict=True) if sd == 0.0]
        raise ArgumentError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} constant by the priors, so "
            "there is nothing to test."
        )


def t_p_value(statistic: Vector, df: Vector) -> Vector:
    """
    Two-sided p-value of t statistics.

    Parameters
    ----------
    statistic, df : ndarray
        Infinite degrees of freedom mean the normal distribution.

    Returns
    -------
    ndarray
        Of the same shape.
    """
    return np.asarray(2.0 * special.stdtr(df, -np.abs(statistic)))


def t_quantile(share: float, df: Vector) -> Vector:
    """
    Quantiles of t distributions.

    Parameters
    ----------
    share : float
        Probability below.
    df : ndarray
        Infinite degrees of freedom mean the normal distribution.

    Returns
    -------
    ndarray
        Of the shape of ``df``.
    """
    return np.where(np.isinf(df), special.ndtri(share), special.stdtrit(df, share))


def f_p_value(F: float, num_df: float, den_df: float) -> float:
    """
    Upper tail of the F distribution.

    Parameters
    ----------
    F, num_df, den_df : float
        Infinite ``den_df`` means the chi-squared distribution.

    Returns
    -------
    float
        The p-value.
    """
    if np.isinf(den_df):
        return float(special.chdtrc(num_df, num_df * F))
    return float(special.fdtrc(num_df, den_df, F))
