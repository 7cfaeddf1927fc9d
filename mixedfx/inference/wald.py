"""Fixed effects, their standard errors, and the tests and intervals made of the two.

Any combination of the fixed effects is estimated, and any set of them tested, by one
function each; what is the right covariance, and with how many degrees of freedom, is for
:mod:`mixedfx.inference.denominator_df` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def coefficients(fit: FittedModel) -> pd.Series:
    """Fixed effects."""
    values = np.full(len(fit.design.column_names), np.nan)
    values[fit.design.kept_columns] = fit.solution.beta
    return pd.Series(values, index=list(fit.design.column_names), name="estimate")


def covariance(fit: FittedModel) -> pd.DataFrame:
    """Covariance of the fixed effects, the covariance parameters taken as known."""
    names = list(fit.design.column_names)
    full = np.full((len(names), len(names)), np.nan)
    kept = fit.design.kept_columns
    full[np.ix_(kept, kept)] = fit.solution.sigma**2 * fit.solution.vcov_unscaled
    return pd.DataFrame(full, index=names, columns=names)


def standard_errors(fit: FittedModel) -> pd.Series:
    """Standard errors of the fixed effects."""
    cov = covariance(fit)
    return pd.Series(np.sqrt(np.diag(cov.to_numpy())), index=cov.index, name="std_error")


def estimates(
    fit: FittedModel,
    how: DenominatorDf,
    rows: Matrix,
    labels: Sequence[str],
    *,
    values: Vector | None = None,
    conf_level: float = 0.95,
) -> pd.DataFrame:
    """Estimate linear combinations of the fixed effects, with a t test and an interval each."""
    check_share("conf_level", conf_level)
    estimate = rows @ fit.solution.beta
    error = np.sqrt(np.maximum(np.einsum("rp,pq,rq->r", rows, how.cov, rows), 0.0))
    df = np.array([how.t_df(row) for row in rows])
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


def tidy(fit: FittedModel, how: DenominatorDf, *, conf_level: float) -> pd.DataFrame:
    """Lay the fixed effects out in a table."""
    design = fit.design
    kept = estimates(fit, how, np.eye(fit.crossprod.p), design.X_names, conf_level=conf_level)
    full = kept.set_index("term").reindex(list(design.column_names))
    return full.rename_axis("term").reset_index()


def f_test(fit: FittedModel, how: DenominatorDf, hypotheses: Constraints) -> pd.Series:
    """Test several hypotheses on the fixed effects together."""
    wanted = hypotheses.independent()
    _expect_uncertain(fit, how, wanted.rows)
    gap = wanted.rows @ fit.solution.beta - wanted.values
    q = len(wanted.rows)
    factor, df = how.f_scale_and_df(wanted.rows)
    F = factor * float(gap @ np.linalg.solve(wanted.rows @ how.cov @ wanted.rows.T, gap)) / q
    found = {"F": F, "num_df": float(q), "den_df": df, "p_value": f_p_value(F, q, df)}
    return pd.Series(found, name="wald_test")


def _expect_uncertain(fit: FittedModel, how: DenominatorDf, rows: Matrix) -> None:
    """Refuse to test what a prior without variance has fixed."""
    if fit.priors is None or (fit.priors.coef_sd > 0.0).all():
        return
    spread = np.einsum("ri,ij,rj->r", rows, how.cov, rows)
    if (spread <= 0.0).any():
        names = [
            n for n, sd in zip(fit.design.X_names, fit.priors.coef_sd, strict=True) if sd == 0.0
        ]
        raise ArgumentError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} constant by the priors, so "
            "there is nothing to test."
        )


def t_p_value(statistic: Vector, df: Vector) -> Vector:
    """Two-sided p-value of t statistics."""
    return np.asarray(2.0 * special.stdtr(df, -np.abs(statistic)))


def t_quantile(share: float, df: Vector) -> Vector:
    """Quantiles of t distributions."""
    return np.where(np.isinf(df), special.ndtri(share), special.stdtrit(df, share))


def f_p_value(F: float, num_df: float, den_df: float) -> float:
    """Upper tail of the F distribution."""
    if np.isinf(den_df):
        return float(special.chdtrc(num_df, num_df * F))
    return float(special.fdtrc(num_df, den_df, F))
