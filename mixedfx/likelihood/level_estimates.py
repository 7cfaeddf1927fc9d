"""Estimates of the effects of each level: without pooling, and how far they are shrunk.

With ``A_i = Z_i'WZ_i`` and ``sigma**2 G_i`` the conditional covariance of level i's effects, the
conditional mode given the other effects is ``G_i A_i`` times the unpooled estimate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.batched import matmul, penalized_inverse, sum_outer

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Smallest eigenvalue, at unit diagonal, of a level's Z_i'WZ_i that counts as nonsingular.
MIN_EIGENVALUE = 1e-10


def shrinkage_weights(solution: Solution, t: int) -> tuple[Matrix, Matrix]:
    """``A_i`` in the term's basis, and ``G_i A_i`` of each level alone, (k, k, levels) both."""
    crossprod, position = solution.crossprod, solution.crossprod.term_positions[t]
    part = position.columns
    A = crossprod.ZtZ.diagonal[position.group][part, part]
    G, _, _ = penalized_inverse(A, solution.factors[t])
    basis = crossprod.bases[t]
    weights = np.einsum("ac,cdl,db->abl", basis.T, matmul(G, A), basis.inverse, optimize=True)
    return A, weights


def level_deviations(
    crossprod: CrossProducts, factor: int, common: list[int]
) -> tuple[Matrix, Ints]:
    """
    Deviations from the least-squares coefficients with a coefficient for each level, (k, levels).

    The levels' coefficients are eliminated from the least-squares problem of the common columns:
    a Schur complement, with ``y`` the residuals of complete pooling. The second value are those
    of the common columns that the levels determine.
    """
    p = crossprod.p
    to_X_columns = np.eye(p + 1)
    if crossprod.qr_R is not None:
        to_X_columns[:p, :p] = crossprod.qr_R
    ZtXy = np.einsum("kcl,cd->kdl", crossprod.ZtXy[factor], to_X_columns)
    XytXy = to_X_columns.T @ crossprod.XytXy @ to_X_columns
    columns = [*common, p]
    A, ZtXy = crossprod.ZtZ.diagonal[factor], ZtXy[:, columns]
    A_by_level = np.moveaxis(A, 2, 0)
    inverse = np.linalg.pinv(A_by_level, rcond=MIN_EIGENVALUE, hermitian=True)
    solved = matmul(np.asarray(np.moveaxis(inverse, 0, 2)), ZtXy)
    schur = XytXy[np.ix_(columns, columns)] - sum_outer(
        ZtXy.transpose(1, 0, 2), solved.transpose(1, 0, 2)
    )
    aliased = np.flatnonzero(np.diag(schur)[:-1] < MIN_EIGENVALUE * np.diag(XytXy)[common])
    if len(aliased):
        return np.zeros((0, 0)), aliased
    coef_vector = np.append(-np.linalg.solve(schur[:-1, :-1], schur[:-1, -1]), 1.0)
    in_basis = np.tensordot(solved, coef_vector, axes=(1, 0))
    deviations = crossprod.changes_by_group()[factor] @ in_basis
    rank = np.linalg.matrix_rank(A_by_level, hermitian=True)
    return np.where(rank == len(A), deviations, np.nan), aliased
