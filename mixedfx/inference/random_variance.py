"""Variance that the random effects add to the linear predictor, averaged over the rows.

That of a group is the mean of ``z' Sigma z``, with ``Sigma`` the covariance of its effects: for a
random intercept its variance, with slopes Johnson's (2014, Methods Ecol. Evol. 5:944) extension.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel


@summary_of_rows("group variances")
def group_variances(fit: FittedModel) -> pd.Series:
    """Mean over the rows of the variance of each grouping factor's effects."""
    s2 = fit.solution.sigma**2
    groups = dict.fromkeys(fit.formula.groups, 0.0)
    for random_term, lam in zip(fit.rows.random_terms, fit.solution.lambdas, strict=True):
        Z_lam = random_term.model_matrix @ lam
        groups[random_term.group] += s2 * float(np.einsum("nk,nk->", Z_lam, Z_lam)) / fit.rows.n
    return pd.Series(groups, dtype=float)


def random_variance(fit: FittedModel) -> float:
    """Sum of the variances of all groups."""
    return float(group_variances(fit).sum())
