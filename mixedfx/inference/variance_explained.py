"""How much of the variance is whose: shares of the fixed part, the groups and the residual.

The variance of a group is the mean over the rows of that of its effects there, ``z'Gz``: for
a random intercept its variance, with slopes Johnson's extension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedfx.design.contrasts import columns_of_term, fixed_terms
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel


@dataclass(frozen=True)
class VarianceShares:
    """
    Variance of the response by source.

    Parameters
    ----------
    fixed : float
        Variance of the fixed part over the rows, with divisor n - 1.
    groups : pandas.Series
        Mean variance of the random effects, by grouping factor.
    residual : float
        Residual variance.
    """

    fixed: float
    groups: pd.Series
    residual: float

    @property
    def icc(self) -> pd.Series:
        """Share of each group, and of all, in what the fixed part leaves."""
        rest = float(self.groups.sum()) + self.residual
        total = pd.Series({"total": float(self.groups.sum())})
        found: pd.Series = pd.concat([self.groups, total]) / rest
        return found.rename("icc")

    @property
    def r2(self) -> pd.Series:
        """Share of the fixed part, and of fixed and random parts together, in all."""
        random = float(self.groups.sum())
        whole = self.fixed + random + self.residual
        variance_shares = {
            "marginal": self.fixed / whole,
            "conditional": (self.fixed + random) / whole,
        }
        return pd.Series(variance_shares, name="r2")


def variance_shares(fit: FittedModel) -> VarianceShares:
    """
    Divide the variance between the fixed part, the groups and the residual.

    References
    ----------
    .. [1] Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4:133, equations 26 and 30.
    .. [2] Johnson (2014), Methods Ecol. Evol. 5:944, equation 10.
    """
    design, s2 = fit.design, fit.solution.sigma**2
    mean = design.X @ fit.solution.beta
    mean = mean - mean[0]  # so that a constant has no variance at all
    groups = dict.fromkeys(fit.formula.groups, 0.0)
    for random_term, lam in zip(design.random_terms, fit.solution.lambdas, strict=True):
        spread = random_term.model_matrix @ lam
        groups[random_term.group] += s2 * float(np.einsum("nk,nk->", spread, spread)) / len(mean)
    fixed, residual = float(np.var(mean, ddof=1)), fit.residual_variance
    return VarianceShares(fixed, pd.Series(groups, dtype=float), residual)


def vif(fit: FittedModel) -> pd.DataFrame:
    """
    Variance inflation of each term of the fixed part by its correlation with the others.

    References
    ----------
    .. [1] Fox and Monette (1992), J. Am. Stat. Assoc. 87:178.
    """
    members = {}
    for term in fixed_terms(fit.design.spec.fixed):
        mine = columns_of_term(fit.design, term)
        if term.factors and mine:
            members[term.name] = mine
    if len(members) < 2:
        raise ArgumentError(
            f"vif() compares terms of the fixed part, and '{fit.formula}' has "
            f"{len(members)} besides the intercept; it needs two."
        )
    cov = fit.solution.vcov_unscaled
    every = [i for mine in members.values() for i in mine]
    size = np.sqrt(np.diag(cov))
    R = cov / np.outer(size, size)

    def log_det(at: list[int]) -> float:
        return float(np.linalg.slogdet(R[np.ix_(at, at)])[1])

    rows = []
    for mine in members.values():
        others = [i for i in every if i not in mine]
        value = np.exp(log_det(mine) + log_det(others) - log_det(every))
        rows.append({"vif": value, "df": len(mine), "scaled": value ** (0.5 / len(mine))})
    return pd.DataFrame(rows, index=pd.Index(members, name="term"))


def rank_pca(fit: FittedModel) -> dict[str, pd.DataFrame]:
    """
    Principal components of each group's random effects.

    References
    ----------
    .. [1] Bates, Kliegl, Vasishth and Baayen (2015), Parsimonious mixed models,
       arXiv:1506.04967, section 3.
    """
    found: dict[str, list[float]] = {group: [] for group in fit.formula.groups}
    for random_term, lam in zip(fit.design.random_terms, fit.solution.lambdas, strict=True):
        found[random_term.group] += np.linalg.svd(lam, compute_uv=False).tolist()
    tables = {}
    for group, values in found.items():
        sd = np.sort(np.array(values))[::-1]
        share = sd**2 / max(float((sd**2).sum()), np.finfo(float).tiny)
        index = pd.RangeIndex(1, len(sd) + 1, name="component")
        tables[group] = pd.DataFrame(
            {"sd": sd, "variance": share, "cumulative": np.cumsum(share)}, index=index
        )
    return tables
