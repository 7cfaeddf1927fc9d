"""Linear dependence among the derivatives of V by its covariance parameters.

With ``V = sigma**2 (W^-1 + sum_t Z_t (I (x) Psi_t) Z_t')``, W depending on the parameters of a
residual model if there are any, the covariance parameters are locally identified if and only if
the derivatives of V, projected by

    P = W - W X (X'WX)^-1 X'W    (REML)        P = W    (ML)

are linearly independent (Rothenberg 1971, Identification in parametric models, theorem 1: their
Gram matrix is the information). For directions ``S_i = Z E_i Z'`` it is, with ``U = Z'WX R^-1``,
``R'R = X'WX`` and ``K = Z'PZ = Z'WZ - U U'``,

    tr(P S_i P S_j) = tr(E_i K E_j K)    tr(P W^-1 P S_i) = tr(E_i K)    tr(P W^-1 P W^-1) = n - p

which neither the response nor, unless W depends on them, the estimates enter, and nothing of which
has the size of the rows (:mod:`mixedfx.likelihood.projected_blocks`; derivatives by a residual
model's parameters: :mod:`mixedfx.likelihood.residual_directions`).

Columns are those of the terms' bases (:mod:`mixedfx.likelihood.basis`), in which the structures
are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Positions
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.projected_blocks import ProjectedBlocks
from mixedfx.likelihood.residual_directions import OneVariance, ResidualDirections
from mixedfx.linalg.cholesky.batched import WIDE
from mixedfx.linalg.cholesky.block_matrix import Ints

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# A combination of derivatives is zero if its squared norm is below this share of the largest
# derivative's of its terms: rounding is about 1e-14 of it.
_DEPENDENT = 1e-10
# Smallest eigenvalue of scaled cross-products of independent columns.
_INDEPENDENT = 1e-6
# Entries of a dependence below this share of its largest are rounding.
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class CovarianceEntry:
    """An entry of a term's covariance: a variance where ``row`` is ``col``."""

    term: int
    row: int
    col: int


@dataclass(frozen=True)
class Dependence:
    """
    Entries of the covariances that are identified in combination only.

    ``coefficients`` (nullity, entries) are those of the derivatives of V in combinations that are
    zero: a move of the entries along one of its rows leaves the likelihood as it is.
    """

    entries: tuple[CovarianceEntry, ...]
    coefficients: Matrix
    with_residual: bool  # whether residual variances are among what cannot be told apart


def dependences(
    crossprod: CrossProducts, *, reml: bool, residual: ResidualDirections | None = None
) -> tuple[Dependence, ...]:
    """
    Dependences among the derivatives of V, each of other entries; empty where identified.

    ``residual`` are the derivatives by the residual variances: by one of them unless given.
    """
    if max(crossprod.ZtZ.layout.widths, default=0) >= WIDE:
        return ()  # pairs of so many effects are too many: the curvature at the optimum tells
    if crossprod.has_precision:
        return ()  # relationships differ from pair to pair of levels, as nothing else does
    residual = OneVariance() if residual is None else residual
    may_absorb_residual = residual.can_be_absorbed(crossprod, reml=reml)
    if not may_absorb_residual and _identified_within_levels(crossprod, reml=reml):
        return ()
    directions = [_tangents(structure, at) for structure, at in crossprod.parametrization.terms]
    sizes = [len(tangents) for tangents in directions]
    if sum(sizes) + may_absorb_residual * residual.size <= 1:
        return ()
    gram = _gram_matrix(crossprod, directions, residual, reml=reml)
    parts = _slices([*sizes, residual.size])
    scale = np.concatenate([_term_scale(gram, part) for part in parts])
    gram = gram / np.outer(scale, scale)
    if not may_absorb_residual:
        gram, scale = gram[: sum(sizes), : sum(sizes)], scale[: sum(sizes)]
    if _positive_definite(gram - _DEPENDENT * np.eye(len(gram))):
        return ()
    values, vectors = np.linalg.eigh(gram)
    null = vectors[:, values < _DEPENDENT] / scale[:, None]
    return _by_entries(crossprod, directions, null.T)


def _identified_within_levels(crossprod: CrossProducts, *, reml: bool) -> bool:
    """
    Whether the factors' columns are independent within enough levels: sufficient, and cheap.

    A combination ``D = sum_f D_f`` of derivatives is block diagonal in each factor, ``Z_l C Z_l'``
    with C not zero: the rank of ``D_f`` is at least the number of levels with independent columns,
    and at most that of columns. Of the last factor in D, by increasing numbers, the rank less those
    of the factors before it is one of D. ``P D P = 0`` requires ``D = X A' + A X'`` for some A, of
    rank 2p at most. A factor whose levels share rows has no such blocks.
    """
    if crossprod.ZtZ.within:
        return False
    columns = 2 * (crossprod.p if reml else 0)
    for block in sorted(crossprod.ZtZ.diagonal, key=lambda block: block.shape[2]):
        if not _has_independent_levels(block, columns + 1):
            return False
        columns += block.shape[0] * block.shape[2]
    return True


def _has_independent_levels(blocks: Array, enough: int) -> bool:
    """Whether at least so many levels have independent columns, by their ``Z_l'W Z_l``."""
    blocks = blocks[:, :, :: max(blocks.shape[2] // (2 * enough + 50), 1)]
    # Weights of a density that is not log-concave may have a negative sum in a level.
    if len(blocks) == 1:
        return int(np.count_nonzero(blocks[0, 0] > 0.0)) >= enough
    if len(blocks) == 2:
        first, second, both = blocks[0, 0], blocks[1, 1], blocks[0, 1]
        # Of two squares whose product is positive both are if one is.
        independent = both * both < (1.0 - _INDEPENDENT) ** 2 * first * second
        return int(np.count_nonzero(independent & (first > 0.0))) >= enough
    blocks = blocks.transpose(2, 0, 1)
    lengths = np.sqrt(np.maximum(np.einsum("lkk->lk", blocks), 0.0))
    positive = (lengths > 0.0).all(axis=1)
    blocks, lengths = blocks[positive], lengths[positive, :, None]
    smallest = np.linalg.eigvalsh(blocks / lengths / lengths.transpose(0, 2, 1))[:, 0]
    return bool((smallest > _INDEPENDENT).sum() >= enough)


def _tangents(structure: CovarianceStructure, at: Positions) -> Array:
    """
    Orthonormal basis of the derivatives of a term's covariance in scaled columns, (m, k, k).

    Taken at a covariance with distinct entries, so that no derivative vanishes by symmetry.
    """
    k = at.k
    if k == 1 and structure.size(at) == 1:
        return np.ones((1, 1, 1))
    by_params = structure.covariance_jacobian(structure.generic_params(at), at)
    flat = by_params.reshape(len(by_params), k * k)
    _, s, basis = np.linalg.svd(flat, full_matrices=False)
    return np.asarray(basis[s > 1e-10 * s[0]].reshape(-1, k, k))


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def _term_scale(gram: Matrix, part: slice) -> Vector:
    """Norm of a term's largest derivative, for each of its directions."""
    norms = np.diag(gram)[part]
    return np.full(len(norms), np.sqrt(norms.max(initial=0.0)) or 1.0)


def _positive_definite(matrix: Matrix) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def _gram_matrix(
    crossprod: CrossProducts,
    directions: Sequence[Array],
    residual: ResidualDirections,
    *,
    reml: bool,
) -> Matrix:
    """``tr(P V_i P V_j)`` of the directions of all terms, and of the residual variances last."""
    blocks = ProjectedBlocks.of(crossprod, reml=reml)
    by_factor = _by_factor(crossprod, directions)
    m = sum(len(tangents) for tangents in directions)
    gram = np.zeros((m + residual.size, m + residual.size))
    for f, (at_f, E_f) in enumerate(by_factor):
        gram[at_f, m:] = np.tensordot(E_f, residual.within(blocks, f), axes=([1, 2], [1, 2]))
        gram[m:, at_f] = gram[at_f, m:].T
        for g, (at_g, E_g) in enumerate(by_factor[f:], start=f):
            products = E_f.reshape(len(E_f), -1) @ blocks.products(f, g)
            gram[np.ix_(at_f, at_g)] = products @ E_g.reshape(len(E_g), -1).T
            gram[np.ix_(at_g, at_f)] = gram[np.ix_(at_f, at_g)].T
    gram[m:, m:] = residual.products(blocks)
    return gram


def _by_factor(crossprod: CrossProducts, directions: Sequence[Array]) -> list[tuple[Ints, Array]]:
    """Directions of each grouping factor: their positions, and as (m, K, K) over its columns."""
    parts = _slices([len(tangents) for tangents in directions])
    found = []
    for f, width in enumerate(crossprod.ZtZ.layout.widths):
        at, stacked = [], []
        for position, part, tangents in zip(
            crossprod.term_positions, parts, directions, strict=True
        ):
            if position.group == f:
                E = np.zeros((len(tangents), width, width))
                E[:, position.columns, position.columns] = tangents
                at.append(np.arange(part.start, part.stop))
                stacked.append(E)
        found.append((np.concatenate(at), np.concatenate(stacked)))
    return found


def _by_entries(
    crossprod: CrossProducts, directions: Sequence[Array], null: Matrix
) -> tuple[Dependence, ...]:
    """Split a null space (nullity, m [+ r]) by the entries of the covariances that it moves."""
    parts = _slices([len(tangents) for tangents in directions])
    changes = [basis.T for basis in crossprod.bases]
    entries, columns, sizes = [], [], []
    for t, (part, E, T, rms) in enumerate(
        zip(parts, directions, changes, crossprod.column_rms, strict=True)
    ):
        moved = T @ np.tensordot(null[:, part], E, axes=1) @ T.T
        for a in range(len(T)):
            for b in range(a, len(T)):
                entries.append(CovarianceEntry(t, a, b))
                columns.append(moved[:, a, b])
                sizes.append(rms[a] * rms[b])
    moves = np.array(columns).T
    residual = null[:, parts[-1].stop :]
    unit_free = np.hstack([moves * np.array(sizes), residual])
    projector = _projector(unit_free)
    involved = np.abs(projector) > _NEGLIGIBLE * max(float(np.abs(projector).max()), 1e-300)
    found = []
    for block in _components(involved):
        own = [i for i in block if i < len(entries)]
        found.append(
            Dependence(
                tuple(entries[i] for i in own),
                _row_space(unit_free[:, block])[:, : len(own)] / np.array(sizes)[own],
                len(own) < len(block),
            )
        )
    return tuple(found)


def _row_space(matrix: Matrix) -> Matrix:
    """Orthonormal basis of the rows."""
    _, s, rows = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(rows[s > 1e-6 * max(float(s[0]), 1e-300)])


def _projector(matrix: Matrix) -> Matrix:
    basis = _row_space(matrix)
    return np.asarray(basis.T @ basis)


def _components(adjacent: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Connected components of the indices that have any neighbour, each in order."""
    left, found = [i for i in range(len(adjacent)) if adjacent[i, i]], []
    while left:
        block, queue = {left[0]}, [left[0]]
        while queue:
            for j in np.flatnonzero(adjacent[queue.pop()]).tolist():
                if j not in block:
                    block.add(j)
                    queue.append(j)
        found.append(sorted(block))
        left = [i for i in left if i not in block]
    return found
