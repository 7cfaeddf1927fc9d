"""Wald tests and intervals of linear combinations of the fixed effects.

A row ``c`` of coefficients has the estimate ``c'beta``, the standard error ``sqrt(c'cov c)`` and a
t test; rows ``C`` together have ``F = scale (C beta - d)'(C cov C')^-1 (C beta - d) / r``. The
covariance, the scale and the degrees of freedom are those of a
:class:`~mixedfx.inference.denominator_df.DenominatorDf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.likelihood.coefficient_covariance import orthonormal_rows

if TYPE_CHECKING:
    from mixedfx.inference.constraints import Constraints


Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def coefficients(fit: FittedModel) -> pd.Series:
    """Fixed effects; NaN for dropped columns."""
    values = np.full(len(fit.spec.column_names), np.nan)
    values[fit.spec.kept_columns] = fit.solution.beta
    return pd.Series(values, index=list(fit.spec.column_names), name="estimate")


def covariance(fit: FittedModel, vcov: Matrix | None = None) -> pd.DataFrame:
    """
    Covariance of the fixed effects, NaN for dropped columns.

    That of X's own columns (p, p) is ``(X'V^-1 X)^-1`` by default.
    """
    names = list(fit.spec.column_names)
    full = np.full((len(names), len(names)), np.nan)
    kept = fit.spec.kept_columns
    full[np.ix_(kept, kept)] = fit.solution.vcov if vcov is None else vcov
    return pd.DataFrame(full, index=names, columns=names)


def standard_errors(fit: FittedModel) -> pd.Series:
    """Standard errors of the fixed effects; NaN for dropped columns."""
    cov = covariance(fit)
    # The variance of a known coefficient is zero but for rounding.
    variances = np.maximum(np.diag(cov.to_numpy()), 0.0)
    return pd.Series(np.sqrt(variances), index=cov.index, name="std_error")


def t_tests(
    fit: FittedModel,
    ddf: DenominatorDf,
    rows: Matrix,
    labels: Sequence[str],
    *,
    values: Vector | None = None,
    conf_level: float = 0.95,
) -> pd.DataFrame:
    """Estimate, t test of ``row @ beta = value`` and interval of each row, (r, p)."""
    check_share("conf_level", conf_level)
    estimate = rows @ fit.solution.beta
    std_error = np.sqrt(np.maximum(ddf.covariance.variances(rows), 0.0))
    df = np.array([ddf.t_df(row) for row in rows])
    tests = columns_of_tests(estimate, std_error, df, values=values, conf_level=conf_level)
    return pd.DataFrame({"term": list(labels), **tests})


def columns_of_tests(
    estimate: Vector,
    std_error: Vector,
    df: Vector,
    *,
    values: Vector | None = None,
    conf_level: float,
) -> dict[str, Vector]:
    """Columns of a table of t tests of ``estimate = values`` and intervals, in their order."""
    divisor = np.where(std_error > 0.0, std_error, np.nan)  # no test of a constant
    statistic = (estimate - (0.0 if values is None else values)) / divisor
    half = t_quantile(0.5 + conf_level / 2, df) * std_error
    return {
        "estimate": estimate,
        "std_error": std_error,
        "statistic": statistic,
        "df": df,
        "p_value": t_p_value(statistic, df),
        "conf_low": estimate - half,
        "conf_high": estimate + half,
    }


def tidy(fit: FittedModel, ddf: DenominatorDf, *, conf_level: float) -> pd.DataFrame:
    """Table of the fixed effects with their tests and intervals; NaN for dropped columns."""
    spec = fit.spec
    kept = t_tests(fit, ddf, np.eye(fit.crossprod.p), spec.X_names, conf_level=conf_level)
    if spec.X_names == spec.column_names:
        return kept
    full = kept.set_index("term").reindex(list(spec.column_names))
    return full.rename_axis("term").reset_index()


def exponentiated(fit: FittedModel, table: pd.DataFrame) -> pd.DataFrame:
    """Coefficients as ratios, where the link has them."""
    family = fit.spec.family
    if not fit.spec.residual.linear and family.ratio is None:
        raise ArgumentError(
            f"exponentiate=True: exponentials of coefficients have no meaning for the "
            f"{family.link.name} link of family='{family.name}'; they are odds ratios for logit, "
            "ratios of means for log, hazard ratios for cloglog. fit.emmeans(...) compares means "
            "on the scale of the response."
        )
    return exponentials(table)


def exponentials(table: pd.DataFrame) -> pd.DataFrame:
    """Exponentials of estimates and limits in a table, standard errors by the delta method."""
    ratios = table.copy()
    shown = ["estimate", "conf_low", "conf_high"]
    with np.errstate(over="ignore"):
        ratios[shown] = np.exp(table[shown])
    ratios["std_error"] = ratios["estimate"] * table["std_error"]
    return ratios


def f_test(fit: FittedModel, ddf: DenominatorDf, hypotheses: Constraints) -> pd.Series:
    """F test of several hypotheses on the fixed effects together."""
    independent = hypotheses.independent()
    rows, r = independent.rows, len(independent.rows)
    _check_positive_variance(fit, ddf, rows)
    difference = rows @ fit.solution.beta - independent.values
    scale, df = ddf.f_scale_and_df(rows)
    Q, T = orthonormal_rows(rows, ddf.covariance.qr_R)
    along = T @ difference
    F = scale * float(along @ np.linalg.solve(Q @ ddf.covariance.in_basis @ Q.T, along)) / r
    test = {"F": F, "num_df": float(r), "den_df": df, "p_value": f_p_value(F, r, df)}
    return pd.Series(test, name="wald_test")


def _check_positive_variance(fit: FittedModel, ddf: DenominatorDf, rows: Matrix) -> None:
    """Raise for hypotheses on coefficients that priors of zero variance make constants."""
    names = fit.priors.constant_columns(fit.spec.X_names)
    if names and (ddf.covariance.variances(rows) <= 0.0).any():
        raise ArgumentError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} constant by the priors, so "
            "there is nothing to test."
        )


def t_p_value(statistic: Vector, df: Vector) -> Vector:
    """Two-sided p-value of t statistics."""
    return np.asarray(2.0 * special.stdtr(df, -np.abs(statistic)))


def t_quantile(probability: float, df: Vector) -> Vector:
    """Quantiles of t distributions."""
    return np.where(np.isinf(df), special.ndtri(probability), special.stdtrit(df, probability))


def f_p_value(F: float, num_df: float, den_df: float) -> float:
    """Upper tail of the F distribution."""
    if np.isinf(den_df):
        return float(special.chdtrc(num_df, num_df * F))
    return float(special.fdtrc(num_df, den_df, F))
