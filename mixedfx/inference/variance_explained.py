"""Intraclass correlations, R2, variance inflation, and principal components of random effects.

The variance of a group is the mean over the rows of ``z' Sigma z``, with ``Sigma`` the covariance
of its effects: for a random intercept its variance, with slopes Johnson's (2014) extension. All
variances are on the scale of the linear predictor; what an observation of a generalised model adds
(Nakagawa, Johnson and Schielzeth 2017) is computed at the mean of the model without predictors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedfx.design.contrasts import columns_of_term, fixed_terms
from mixedfx.design.slim import summary_of_rows
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.inference.emmeans.linear_functions import mean_offset
from mixedfx.inference.random_variance import group_variances, random_variance


@dataclass(frozen=True)
class VarianceShares:
    """
    Variance by source, on the scale of the linear predictor.

    Parameters
    ----------
    fixed : float
        Variance of ``X beta`` over the rows, with divisor n - 1.
    groups : pandas.Series
        Mean variance of the random effects by grouping factor.
    residual : float
        Residual variance; of a generalised model the variance of an observation about its mean.
    method : str
        How ``residual`` was computed.
    """

    fixed: float
    groups: pd.Series
    residual: float
    method: str = "residual"

    @property
    def icc(self) -> pd.Series:
        """Share of each group, and of all, in the variance that is not of the fixed part."""
        random = float(self.groups.sum())
        variances: pd.Series = pd.concat([self.groups, pd.Series({"total": random})])
        return (variances / (random + self.residual)).rename("icc")

    @property
    def r2(self) -> pd.Series:
        """Share of the fixed part, and of fixed and random parts together, in all."""
        random = float(self.groups.sum())
        total = self.fixed + random + self.residual
        shares = {"marginal": self.fixed / total, "conditional": (self.fixed + random) / total}
        return pd.Series(shares, name="r2")


@summary_of_rows("variance shares")
def variance_shares(fit: FittedModel) -> VarianceShares:
    """Variance of the fixed part, the groups and the observations, by the family's default."""
    return shares_by_method(fit, fit.residual.observation_methods[0])


def variance_explained(fit: FittedModel, method: str | None = None) -> VarianceShares:
    """The same with another variance of the observations."""
    methods = fit.residual.observation_methods
    if method is None:
        return variance_shares(fit)
    check_choice("method", method, methods)
    shares = shares_by_method(fit, method)
    if math.isnan(shares.residual):
        raise ArgumentError(
            f"method='{method}': the latent response of {fit.spec.family} has no variance, so "
            f"there are no shares of it; take method={' or '.join(map(repr, methods[1:]))}."
        )
    return shares


def shares_by_method(fit: FittedModel, method: str) -> VarianceShares:
    """
    Divide the variance between the fixed part, the groups and the observations.

    References
    ----------
    .. [1] Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4:133, equations 26 and 30.
    .. [2] Johnson (2014), Methods Ecol. Evol. 5:944, equation 10.
    .. [3] Nakagawa, Johnson and Schielzeth (2017), J. R. Soc. Interface 14:20170213.
    """
    mean = fit.rows.X @ fit.solution.beta
    mean = mean - mean[0]  # a constant has a variance of exactly zero
    counts = fit.rows.counts
    residual = fit.residual.observation_variance(
        method, lambda: fit.residual_variance, lambda: _typical_mean(fit), counts
    )
    frequencies = None if counts is None else counts.astype(np.int64)
    fixed = float(np.cov(mean, fweights=frequencies))
    return VarianceShares(fixed, group_variances(fit), residual, method)


def _typical_mean(fit: FittedModel) -> float:
    """
    Mean of the response in the model without predictors, at the mean offset.

    The linear predictor is normal about the intercept with the variance of all random effects.
    """
    # The model without predictors is fitted once; a fit is immutable, so that the value stays.
    if "_typical_mean" not in fit.__dict__:
        null = _without_predictors(fit)
        eta = float(null.solution.beta[0]) + mean_offset(fit)
        variance = random_variance(null)
        fit.__dict__["_typical_mean"] = fit.spec.family.link.marginal_mean(eta, variance)
    value: float = fit.__dict__["_typical_mean"]
    return value


def _without_predictors(fit: FittedModel) -> FittedModel:
    """Fit with an intercept alone in the fixed part."""
    if fit.spec.X_names == ("Intercept",):
        return fit
    design = fit.original_design
    rows = replace(design.rows, X=np.ones((fit.rows.n, 1)))
    null = replace(design, spec=with_intercept_alone(design.spec), rows=rows)
    return fit_design(null, engine="auto", reml=False, control=Control())


def with_intercept_alone(spec: ModelSpec) -> ModelSpec:
    """Specification of the model without predictors."""
    return replace(
        spec,
        column_names=("Intercept",),
        kept_columns=np.zeros(1, dtype=np.intp),
        aliases=None,
    )


def vif(fit: FittedModel) -> pd.DataFrame:
    """
    Generalised variance inflation factors, ``det R_11 det R_22 / det R``, of the fixed terms.

    References
    ----------
    .. [1] Fox and Monette (1992), J. Am. Stat. Assoc. 87:178.
    """
    columns_by_term = {}
    for term in fixed_terms(fit.spec.fixed_info):
        columns = columns_of_term(fit.spec, term)
        if term.factors and columns:
            columns_by_term[term.name] = columns
    if len(columns_by_term) < 2:
        raise ArgumentError(
            f"vif() compares terms of the fixed part, and '{fit.formula}' has "
            f"{len(columns_by_term)} besides the intercept; it needs two."
        )
    cov = fit.solution.vcov_unscaled
    all_columns = [i for columns in columns_by_term.values() for i in columns]
    size = np.sqrt(np.diag(cov))
    R = cov / np.outer(size, size)

    def log_det(columns: list[int]) -> float:
        return float(np.linalg.slogdet(R[np.ix_(columns, columns)])[1])

    rows = []
    for columns in columns_by_term.values():
        others = [i for i in all_columns if i not in columns]
        gvif = np.exp(log_det(columns) + log_det(others) - log_det(all_columns))
        df = len(columns)
        rows.append({"vif": gvif, "df": df, "scaled": gvif ** (0.5 / df)})
    return pd.DataFrame(rows, index=pd.Index(columns_by_term, name="term"))


def rank_pca(fit: FittedModel) -> dict[str, pd.DataFrame]:
    """
    Principal components of each group's random effects: singular values of Lambda.

    References
    ----------
    .. [1] Bates, Kliegl, Vasishth and Baayen (2015), Parsimonious mixed models,
       arXiv:1506.04967, section 3.
    """
    sds_by_group: dict[str, list[float]] = {group: [] for group in fit.formula.groups}
    for random_term, lam in zip(fit.spec.random_terms, fit.solution.lambdas, strict=True):
        sds_by_group[random_term.group] += np.linalg.svd(lam, compute_uv=False).tolist()
    tables = {}
    for group, sds in sds_by_group.items():
        sd = np.sort(np.array(sds))[::-1]
        share = sd**2 / max(float((sd**2).sum()), np.finfo(float).tiny)
        index = pd.RangeIndex(1, len(sd) + 1, name="component")
        tables[group] = pd.DataFrame(
            {"sd": sd, "variance": share, "cumulative": np.cumsum(share)}, index=index
        )
    return tables
