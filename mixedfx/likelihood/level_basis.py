"""Bases of effects that are correlated between levels, or of which a row has several.

Rows have codes, and row u of S (codes, L) has the weights of the levels of code u: indicators, or
multiple memberships. Effects of the levels have the relative covariance A = T T'. With d the sums
of squares of the codes' columns (weighted) and the eigen-decomposition

    T'S' diag(d) S T = Q diag(s) Q'

the effects ``b = B v``, ``B = T Q``, have ``v ~ N(0, theta**2 I)`` and cross-products
``Z'WZ = diag(s)``: an ordinary random intercept, one evaluation of which costs the number of levels
(Kang and others 2008, Genetics 178:1709; here with any further terms and weights).

Several effects of a level, of covariance G, have the covariance ``G (x) A`` of all levels, and v
independent levels of covariance G. No basis makes the cross-products ``B'S' diag(d_ab) S B`` of
each two effects a and b diagonal together: the factor's block is dense. That of the sums of squares
of all effects, whose columns are uncorrelated over the rows, leaves little beside the diagonal, so
that starting values are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx._cached import cached_property
from mixedfx.covariance import known_covariance, relationship_checks
from mixedfx.covariance import relationship as known_relationships
from mixedfx.design.known_levels import check_dense_levels
from mixedfx.design.levels import Levels
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import ModelSpec
from mixedfx.likelihood import level_precision
from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.cholesky.block_matrix import BlockPattern, LevelPairs
from mixedfx.linalg.precision import PrecisionBasis, PrecisionSolver
from mixedfx.linalg.sparse_matrix import SparseMatrix

if TYPE_CHECKING:
    from mixedfx.covariance.relationship import Relationship

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
BlocksOfPairs = dict[tuple[int, int], tuple[LevelPairs, Array]]

# Smallest eigenvalue, relative to the largest, of a relationship matrix.
_POSITIVE = 1e-12
# Arrays of the size of a dense block at the peak of a fit: the cross-products by pairs of levels,
# their positions and as a matrix, its factor, inverse and temporary ones.
_COPIES = 7


class LevelSums(NamedTuple):
    """Cross-products of the columns of a grouping factor."""

    ZtZ: Array  # (K, K, L) Z'WZ within levels
    ZtXy: Array  # (K, m, L)
    # Pairs of levels of which a row has both, if any, and Z'WZ between these, (K, K, pairs).
    within: tuple[LevelPairs, Array] | None = None


def covariance_root(relationship: Relationship, levels: Levels) -> Matrix:
    """Lower triangular T of ``A = T T'`` of some levels."""
    at = known_relationships.positions_of_levels(relationship, levels.labels, "")
    A = relationship.known.block(at, at)
    try:
        return np.asarray(linalg.cholesky(A, lower=True, overwrite_a=True, check_finite=False))
    except linalg.LinAlgError:
        relationship_checks.raise_not_positive_definite(relationship.known.block(at, at))
        raise


def effects_root(relationship: Relationship, levels: Levels) -> Matrix | PrecisionBasis:
    """T of ``A = T T'`` of some levels: of many of a pedigree by the sparse inverse."""
    if _is_pedigree(relationship) and len(levels) > level_precision.DENSE_EFFECTS:
        return level_precision.pedigree_basis(relationship, levels)
    return covariance_root(relationship, levels)


def _is_pedigree(relationship: Relationship) -> bool:
    return isinstance(relationship.known, known_covariance.PedigreeCovariance)


def precision_basis(
    relationship: Relationship | None, memberships: SparseMatrix | None, levels: Levels
) -> PrecisionBasis | None:
    """Basis of the effects of rows' codes whose covariance has a known inverse; None of plain."""
    if memberships is not None:
        return PrecisionBasis.of_combinations(memberships)
    if relationship is None:
        return None
    if _is_pedigree(relationship):
        return level_precision.pedigree_basis(relationship, levels)
    return PrecisionBasis.of_covariance(covariance_root(relationship, levels))


@dataclass(frozen=True)
class RelatedLevels:
    """Relationships and memberships of grouping factors, which give their levels' bases."""

    groups: tuple[str, ...]
    levels: tuple[Levels, ...]
    relationships: tuple[Relationship | None, ...]
    memberships: tuple[SparseMatrix | None, ...]

    @staticmethod
    def of(spec: ModelSpec, by_group: Sequence[Sequence[RandomTermRows]]) -> RelatedLevels:
        """Those of the terms of each grouping factor."""
        groups = tuple(terms[0].group for terms in by_group)
        return RelatedLevels(
            groups,
            tuple(spec.levels_of(group) for group in groups),
            tuple(spec.random_terms[spec.terms_of(group)[0]].relationship for group in groups),
            tuple(terms[0].memberships for terms in by_group),
        )

    @staticmethod
    def plain(groups: tuple[str, ...], levels: tuple[Levels, ...]) -> RelatedLevels:
        """Independent levels, of which each row has one."""
        none = (None,) * len(groups)
        return RelatedLevels(groups, levels, none, none)

    @cached_property
    def is_plain(self) -> bool:
        """Whether all levels are independent, and each row has one of them."""
        return all(known is None for known in (*self.relationships, *self.memberships))

    @property
    def no_bases(self) -> tuple[Matrix | None, ...]:
        """Bases of levels that stand for themselves."""
        return (None,) * len(self.groups)

    def precision_solver(self, pattern: BlockPattern) -> PrecisionSolver | None:
        """Solver with the sparse inverses of large pedigrees, where these pay."""
        if self.is_plain:
            return None
        plain = [
            known is None and memberships is None
            for known, memberships in zip(self.relationships, self.memberships, strict=True)
        ]
        return level_precision.precision_bases(self.relationships, self.levels, plain, pattern)

    def precision_bases(self) -> tuple[PrecisionBasis | None, ...]:
        """Bases of the codes of each factor by sparse inverses; None where levels are plain."""
        known = zip(self.relationships, self.memberships, self.levels, strict=True)
        return tuple(precision_basis(*of_factor) for of_factor in known)

    def loadings(self, f: int, basis: Matrix | None) -> Matrix | None:
        """``S B``, (codes, L): what a row of each code has of a factor's effects v."""
        memberships = self.memberships[f]
        return basis if basis is None or memberships is None else memberships.csr @ basis

    def in_bases(
        self, sums: Sequence[tuple[Array, Array]], blocks: BlocksOfPairs
    ) -> tuple[list[LevelSums], BlocksOfPairs, tuple[Matrix | None, ...]]:
        """Sums by code, and blocks between codes, as those by effect v; the bases B."""
        bases = tuple(self._basis(f, ZtZ) for f, (ZtZ, _) in enumerate(sums))
        P = [self.loadings(f, basis) for f, basis in enumerate(bases)]
        found = [
            LevelSums(*own) if of is None else sums_in_basis(of, *own)
            for own, of in zip(sums, P, strict=True)
        ]
        codes = [ZtZ.shape[2] for ZtZ, _ in sums]
        between = {
            (i, j): block_in_basis(pairs, values, (codes[i], codes[j]), (P[i], P[j]))
            for (i, j), (pairs, values) in blocks.items()
        }
        return found, between, bases

    def _basis(self, f: int, ZtZ: Array) -> Matrix | None:
        """B (L, L); None where effects are independent and rows have one each."""
        relationship, memberships = self.relationships[f], self.memberships[f]
        if relationship is None and memberships is None:
            return None
        return level_basis(relationship, memberships, self.levels[f], ZtZ, self.groups[f])


def level_basis(
    relationship: Relationship | None,
    memberships: SparseMatrix | None,
    levels: Levels,
    ZtZ: Array,
    group: str,
) -> Matrix:
    """B (L, L) of a grouping factor, by its sums of products by code."""
    check_dense_levels(group, len(levels), "a relationship matrix")
    if len(ZtZ) > 1:
        _check_dense_block(len(ZtZ), len(levels), group)
    squares = np.einsum("aal->l", ZtZ)
    if relationship is None:
        assert memberships is not None
        weighted = memberships.csr.T @ (sparse.diags_array(squares) @ memberships.csr)
        return _eigen(weighted.toarray())[1]
    if (squares > 0.0).all():
        # Q and s of D^1/2 A D^1/2 give B = D^-1/2 Q s^1/2, without T.
        at = known_relationships.positions_of_levels(relationship, levels.labels, group)
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


def _check_dense_block(K: int, L: int, group: str) -> None:
    """Refuse effects of which memory does not hold all cross-products."""
    check_memory(
        f"'{group}' has {K} effects of each of {L:,} levels, and with a relationship matrix or "
        f"multiple memberships these are factorised as a dense matrix of {K * L:,} x {K * L:,} "
        "numbers",
        8.0 * (K * L) ** 2,
        copies=_COPIES,
        advice=f"Take one effect, (1 | {group}), or rows of fewer levels.",
    )


def _eigen(matrix: Matrix) -> tuple[Vector, Matrix]:
    values, vectors = linalg.eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
    return values, vectors


def sums_in_basis(P: Matrix, ZtZ: Array, ZtXy: Array) -> LevelSums:
    """Sums over rows by code, (K, K, codes) and (K, m, codes), as those by effects v."""
    if len(ZtZ) == 1:
        diagonal = np.einsum("ul,u,ul->l", P, ZtZ[0, 0], P, optimize=True)
        return LevelSums(diagonal[None, None], np.asarray(ZtXy @ P))
    K, L = len(ZtZ), P.shape[1]
    pairs = LevelPairs(*np.tril_indices(L, -1))
    diagonal, within = np.empty((K, K, L)), np.empty((K, K, len(pairs)))
    for a in range(K):
        for b in range(a + 1):
            products = P.T @ (ZtZ[a, b][:, None] * P)
            diagonal[a, b] = diagonal[b, a] = np.diag(products)
            within[a, b] = within[b, a] = products[pairs.rows, pairs.cols]
    return LevelSums(diagonal, np.asarray(ZtXy @ P), (pairs, within))


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
