"""Intraclass correlations, R2, variance inflation, and principal components of random effects.

The variance of a group is the mean over the rows of ``z' Sigma z``, with ``Sigma`` the covariance
of its effects: for a random intercept its variance, with slopes Johnson's (2014) extension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedfx.design.contrasts import columns_of_term, fixed_terms
from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel


@dataclass(frozen=True)
class VarianceShares:
    """Variance of the response by source."""

    fixed: float  # variance of X beta over the rows, with divisor n - 1
    groups: pd.Series  # mean variance of the random effects by grouping factor
    residual: float

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
    """
    Divide the variance between the fixed part, the groups and the residual.

    References
    ----------
    .. [1] Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4:133, equations 26 and 30.
    .. [2] Johnson (2014), Methods Ecol. Evol. 5:944, equation 10.
    """
    s2 = fit.solution.sigma**2
    mean = fit.rows.X @ fit.solution.beta
    mean = mean - mean[0]  # a constant has a variance of exactly zero
    groups = dict.fromkeys(fit.formula.groups, 0.0)
    for random_term, lam in zip(fit.rows.random_terms, fit.solution.lambdas, strict=True):
        Z_lam = random_term.model_matrix @ lam
        groups[random_term.group] += s2 * float(np.einsum("nk,nk->", Z_lam, Z_lam)) / len(mean)
    fixed, residual = float(np.var(mean, ddof=1)), fit.residual_variance
    return VarianceShares(fixed, pd.Series(groups, dtype=float), residual)


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
