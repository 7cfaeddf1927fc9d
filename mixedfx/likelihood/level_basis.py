"""Bases of effects that are correlated between levels, or of which a row has several.

Rows have codes, and row u of S (codes, L) has the weights of the levels of code u: indicators, or
multiple memberships. Effects of the levels have the relative covariance A = T T'. With d the sums
of squares of the codes' columns (weighted) and the eigen-decomposition

    T'S' diag(d) S T = Q diag(s) Q'

the effects ``b = B v``, ``B = T Q``, have ``v ~ N(0, theta**2 I)`` and cross-products
``Z'WZ = diag(s)``: an ordinary random intercept, one evaluation of which costs the number of levels
(Kang and others 2008, Genetics 178:1709; here with any further terms and weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.covariance.relationship import Relationship, positions_of_levels
from mixedfx.covariance.relationship_checks import raise_not_positive_definite
from mixedfx.design.levels import Levels
from mixedfx.design.rows import RandomTermRows
from mixedfx.errors import GroupingError
from mixedfx.linalg.cholesky.block_matrix import LevelPairs
from mixedfx.linalg.sparse_matrix import SparseMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Smallest eigenvalue, relative to the largest, of a relationship matrix.
_POSITIVE = 1e-12


def covariance_root(relationship: Relationship, levels: Levels) -> Matrix:
    """Lower triangular T of ``A = T T'`` of some levels."""
    at = positions_of_levels(relationship, levels.labels, "")
    A = relationship.known.block(at, at)
    try:
        return np.asarray(linalg.cholesky(A, lower=True, overwrite_a=True, check_finite=False))
    except linalg.LinAlgError:
        raise_not_positive_definite(relationship.known.block(at, at))
        raise


def level_basis(
    terms: Sequence[RandomTermRows],
    relationship: Relationship | None,
    levels: Levels,
    squares: Vector,
) -> Matrix | None:
    """B (L, L) of a grouping factor; None where effects are independent and rows have one each."""
    memberships = terms[0].memberships
    if relationship is None and memberships is None:
        return None
    if len(terms) > 1:
        raise GroupingError(
            f"'{terms[0].group}' stands in several random terms; with a relationship matrix or "
            "multiple memberships it can have one. A copy of the column under another name is "
            "another factor, of independent effects."
        )
    if relationship is None:
        assert memberships is not None
        weighted = memberships.csr.T @ (sparse.diags_array(squares) @ memberships.csr)
        return _eigen(weighted.toarray())[1]
    root = None
    if (squares > 0.0).all():
        # Q and s of D^1/2 A D^1/2 give B = D^-1/2 Q s^1/2, without T.
        at = positions_of_levels(relationship, levels.labels, terms[0].group)
        half = np.sqrt(squares)
        scaled = relationship.known.block(at, at)
        scaled *= half[:, None]
        scaled *= half
        values, Q = _eigen(scaled)
        if values[0] > _POSITIVE * values[-1]:
            Q *= np.sqrt(values)
            Q /= half[:, None]
            return Q
    root = covariance_root(relationship, levels)
    return np.asarray(root @ _eigen(root.T @ (squares[:, None] * root))[1])


def _eigen(matrix: Matrix) -> tuple[Vector, Matrix]:
    values, vectors = linalg.eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
    return values, vectors


def loadings(memberships: SparseMatrix | None, basis: Matrix) -> Matrix:
    """``S B``, (codes, L): what a row of each code has of the effects v."""
    return basis if memberships is None else np.asarray(memberships.csr @ basis)


def sums_in_basis(P: Matrix, ZtZ: Array, ZtXy: Array) -> tuple[Array, Array]:
    """Sums over rows by code, (1, 1, codes) and (1, m, codes), as those by effect v."""
    diagonal = np.einsum("ul,u,ul->l", P, ZtZ[0, 0], P, optimize=True)
    return diagonal[None, None], np.asarray(ZtXy @ P)


def block_in_basis(
    pairs: LevelPairs,
    values: Array,
    shape: tuple[int, int],
    P: tuple[Matrix | None, Matrix | None],
) -> tuple[LevelPairs, Array]:
    """Block between two factors by code, as that by effect; all pairs occur."""
    if P[0] is None and P[1] is None:
        return pairs, values
    blocks = []
    for row in values:
        for of_pair in row:
            M: Any = sparse.csr_array((of_pair, (pairs.rows, pairs.cols)), shape=shape)
            if P[0] is not None:
                M = (M.T @ P[0]).T
            blocks.append(M if P[1] is None else M @ P[1])
    n_rows, n_cols = blocks[0].shape
    every = LevelPairs(np.repeat(np.arange(n_rows), n_cols), np.tile(np.arange(n_cols), n_rows))
    dense = np.stack([np.asarray(b).reshape(-1) for b in blocks])
    return every, dense.reshape(*values.shape[:2], -1)
