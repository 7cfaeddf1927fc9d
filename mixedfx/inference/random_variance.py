"""Variance that the random effects add to the linear predictor, averaged over the rows.

That of a group is the mean of ``z' Sigma z``, with ``Sigma`` the covariance of its effects: for a
random intercept its variance, with slopes Johnson's (2014, Methods Ecol. Evol. 5:944) extension,
with multiple memberships the variance times the mean sum of their squared weights; with a
relationship matrix A it is on the scale of A, of a level whose ``A_ii`` is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel

Matrix = npt.NDArray[np.float64]


@summary_of_rows("group variances")
def group_variances(fit: FittedModel) -> pd.Series:
    """Mean over the rows of the variance of each grouping factor's effects."""
    return fit.solution.sigma**2 * relative_group_variances(fit, fit.solution.lambdas)


def relative_group_variances(fit: FittedModel, lambdas: Sequence[Matrix]) -> pd.Series:
    """The same over ``sigma**2``, at any Lambdas."""
    groups = dict.fromkeys(fit.formula.groups, 0.0)
    for random_term, lam in zip(fit.rows.random_terms, lambdas, strict=True):
        Z_lam = random_term.model_matrix @ lam
        squares = np.einsum("nk,nk->n", Z_lam, Z_lam)
        if random_term.memberships is not None:
            weights = random_term.memberships.csr
            squares *= np.asarray(weights.multiply(weights).sum(axis=1)).ravel()[random_term.codes]
        groups[random_term.group] += float(np.average(squares, weights=fit.rows.counts))
    return pd.Series(groups, dtype=float)


def random_variance(fit: FittedModel) -> float:
    """Sum of the variances of all groups."""
    return float(group_variances(fit).sum())
