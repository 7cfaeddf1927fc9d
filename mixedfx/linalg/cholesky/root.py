"""A root of a matrix of cross-products, singular or not: normals of its covariance.

The root M of ``G = M M'`` is lower triangular in the order of elimination, by Cholesky's method, in
which a column without a pivot is passed over. Its entries depend on G continuously, and a change of
basis ``T'G T`` by upper triangular T with positive diagonals changes it to ``T'M``: what is drawn
is the same to rounding however G was summed, and about whatever basis. Factors are eliminated as by
:mod:`~.numeric`, at no Lambda: of a leading factor with diagonal block ``A = L L'`` and entries
``A_r`` in the later columns,

    x = L z        H = L^-1 A_r        x_later <- x_later + H'z        A_later - H'H

then the dense block, and further columns, dense ones. M has an entry of z for each column, of which
that of a dependent column does nothing, and ``z'z`` of the others is the quadratic form of ``M z``
with the pseudoinverse of G. What may be a column or the rounding of one is in ``M z``, and its
entry not in ``z'z``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.linalg.cholesky.assembled import AssembledMatrix, assemble
from mixedfx.linalg.cholesky.batched import flatten, unflatten, unpack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix
from mixedfx.linalg.cholesky.dense import symmetrize
from mixedfx.linalg.cholesky.entries import Entries, step_entries
from mixedfx.linalg.cholesky.symbolic import EliminationStep, SymbolicFactor

Mask = npt.NDArray[np.bool_]

# A pivot is rounding below this share of the column's own products: within levels, and where the
# products of many levels were subtracted.
_ROUNDING_OF_LEVELS, _ROUNDING = 1e-13, 1e-12
# A column of which more than this share is left is independent of the others.
_INDEPENDENT = 1e-8
# A length is rounding below this share of the longest.
_ROUNDING_OF_LENGTHS = 1e-12
# Columns of the dense block that are eliminated one by one before those after them change.
_WIDTH = 64


class Drawn(NamedTuple):
    """A root times z."""

    effects: Array  # (q,), in the order of elimination
    further: Array  # (m,)
    squares: float  # z'z, of the independent columns


@dataclass(frozen=True)
class _LeadingRoot:
    """Root of the levels of one leading factor, and what it adds to the columns after it."""

    step: EliminationStep = field(repr=False)
    root: Array = field(repr=False)  # (K, K, L)
    independent: Mask = field(repr=False)  # (K, L)
    entries: Entries | None = field(repr=False)  # H
    further: Array = field(repr=False)  # (K, m, L) L^-1 F of the further columns F

    def multiply(self, z: Array, x: Array, further: Array) -> float:
        """Add the root times the levels' z to both parts, in place; z'z."""
        own = z[self.step.columns].reshape(self.independent.shape)
        x[self.step.columns] += np.einsum("abl,bl->al", self.root, own).ravel()
        if self.entries is not None:
            x += self.entries.multiply_transposed(own.reshape(-1, 1))[:, 0]
        further += np.einsum("kml,kl->m", self.further, own)
        return float(np.square(own[self.independent]).sum())


@dataclass(frozen=True)
class _DenseRoot:
    """Root of the dense block."""

    start: int  # first of its columns
    root: Array = field(repr=False)  # (t, t)
    independent: Mask = field(repr=False)  # (t,)
    further: Array = field(repr=False)  # (t, m)

    def multiply(self, z: Array, x: Array, further: Array) -> float:
        """Add the root times z, as above."""
        columns = slice(self.start, self.start + len(self.root))
        x[columns] += self.root @ z[columns]
        further += self.further.T @ z[columns]
        return float(np.square(z[columns][self.independent]).sum())


@dataclass(frozen=True)
class CovarianceRoot:
    """Root of ``[Z X]'W[Z X]``, of dependent columns too."""

    symbolic: SymbolicFactor = field(repr=False)
    parts: tuple[_LeadingRoot | _DenseRoot, ...] = field(repr=False)
    last: Array = field(repr=False)  # (m, m) of the further columns
    last_independent: Mask = field(repr=False)  # (m,)
    rank: int  # independent columns

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.last, self.last_independent)

    @classmethod
    def of(cls, blocks: BlockMatrix, rhs: Sequence[Array], matrix: Array) -> Self:
        """Of ``Z'WZ``, the products ``Z'WX``, (K, m, L) of each factor, and ``X'WX``, (m, m)."""
        assembled, F, left = assemble(blocks), list(rhs), matrix.copy()
        symbolic, trailing = assembled.symbolic, assembled.trailing_values.copy()
        parts: list[_LeadingRoot | _DenseRoot] = []
        rank = 0
        for step in symbolic.steps:
            leading = _eliminate(assembled, step, trailing, F)
            parts.append(leading)
            rank += int(leading.independent.sum())
            left -= np.einsum("kml,knl->mn", leading.further, leading.further)
        if t := symbolic.dense_size:
            A = trailing[symbolic.dense_offset :].reshape(t, t)
            dense = _dense_root(assembled, A, F)
            parts.append(dense)
            rank += int(dense.independent.sum())
            left -= dense.further.T @ dense.further
        size = _lengths(np.diag(matrix))
        scaled, pivots = _eliminated(left / np.outer(size, size))
        last, independent = size[:, None] * scaled, pivots > _INDEPENDENT
        return cls(symbolic, tuple(parts), last, independent, rank + int(independent.sum()))

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Normals with the covariance."""
        z = rng.standard_normal(self.symbolic.size)
        z_last = rng.standard_normal(len(self.last_independent))
        return self.multiply(z, z_last)

    def multiply(self, z: Array, z_last: Array) -> Drawn:
        """The root times z, (q,) and (m,)."""
        x, further = np.zeros(self.symbolic.size), self.last @ z_last
        squares = float(np.square(z_last[self.last_independent]).sum())
        for part in self.parts:
            squares += part.multiply(z, x, further)
        return Drawn(x, further, squares)


def _eliminate(
    assembled: AssembledMatrix, step: EliminationStep, trailing: Array, F: list[Array]
) -> _LeadingRoot:
    """Root of a leading factor, subtracted from the trailing values and from F, in place."""
    symbolic, A, entries = assembled.symbolic, assembled.diagonal[step.factor], None
    if step.diagonal_positions is not None:  # a later step
        A = unpack_lower(trailing[step.diagonal_positions].reshape(-1, step.L), step.K)
        if step.update is not None:
            entries = step_entries(step, trailing[step.entry_positions])
    else:
        entries = assembled.first_entries
    root, half, independent = _roots_of_levels(A, assembled.diagonal[step.factor])
    further = np.einsum("abl,aml->bml", half, F[step.factor])
    if entries is not None:
        H = np.einsum("abe,ae->be", half[:, :, step.entry_levels], entries.values)
        entries = _subtract(step_entries(step, H), A.shape, trailing)
        change = entries.multiply_transposed(flatten(further))
        for f, start in symbolic.starts.items():
            if start > step.start:
                rows = change[start : start + symbolic.layout.size(f)]
                F[f] = F[f] - unflatten(rows, symbolic.layout.width(f))
    return _LeadingRoot(step, root, independent, entries, further)


def _subtract(entries: Entries | None, shape: tuple[int, ...], trailing: Array) -> Entries:
    """Subtract ``H'H`` from the trailing values, in place."""
    assert entries is not None
    identity = np.eye(shape[0])[:, :, None]
    entries.subtract_update(np.broadcast_to(identity, shape), trailing)
    return entries


def _roots_of_levels(A: Array, own: Array) -> tuple[Array, Array, Mask]:
    """``L`` and ``L^-T``, (K, K, L), of what is left of the products of the levels."""
    size = _lengths(np.einsum("kkl->lk", own)).T
    scaled = A / (size[:, None] * size)
    root, inverse = np.zeros_like(scaled), np.zeros_like(scaled)
    independent = np.zeros(size.shape, dtype=bool)
    for j in range(len(scaled)):
        column = scaled[j:, j] - np.einsum("ick,ck->ik", root[j:, :j], root[j, :j])
        kept, independent[j] = column[0] > _ROUNDING_OF_LEVELS, column[0] > _INDEPENDENT
        pivot = np.sqrt(np.where(kept, column[0], 1.0))
        root[j:, j] = np.where(kept, column / pivot, 0.0)
        row = -np.einsum("ck,cik->ik", root[j, :j], inverse[:j])
        row[j] = 1.0
        inverse[j] = np.where(kept, row / pivot, 0.0)
    return size[:, None] * root, inverse.transpose(1, 0, 2) / size[:, None], independent


def _dense_root(assembled: AssembledMatrix, A: Array, F: list[Array]) -> _DenseRoot:
    """Root of what is left of the dense block, (t, t), whose lower triangle is valid."""
    symbolic = assembled.symbolic
    own = [np.einsum("kkl->kl", assembled.diagonal[f]).ravel() for f in symbolic.dense_factors]
    size = np.concatenate(list(map(_lengths, own)))
    symmetrize(A)
    root, pivots = _eliminated(A / size[:, None] / size)
    kept = np.flatnonzero(pivots > _ROUNDING)
    rows = np.concatenate([flatten(F[f]) for f in symbolic.dense_factors]) / size[:, None]
    further = np.zeros_like(rows)
    triangle = root if len(kept) == len(root) else root[np.ix_(kept, kept)]
    further[kept] = linalg.solve_triangular(triangle, rows[kept], lower=True)
    root *= size[:, None]
    return _DenseRoot(symbolic.dense_start, root, pivots > _INDEPENDENT, further)


def _eliminated(A: Array) -> tuple[Array, Array]:
    """Lower triangular root of a symmetric matrix, in its place, and the pivots of the columns."""
    t = len(A)
    pivots = np.zeros(t)
    for start in range(0, t, _WIDTH):
        end = min(start + _WIDTH, t)
        A[start:, start:end] -= A[start:, :start] @ A[start:end, :start].T
        block = A[start:end, start:end]
        pivots[start:end] = _eliminate_columns(block)
        kept = np.flatnonzero(pivots[start:end] > _ROUNDING)
        below = A[end:, start:end]
        solved = linalg.solve_triangular(block[np.ix_(kept, kept)], below[:, kept].T, lower=True)
        below[:] = 0.0
        below[:, kept] = solved.T
        A[start:end, end:] = 0.0
    return A, pivots


def _eliminate_columns(A: Array) -> Array:
    """The same of few columns, without a look ahead."""
    pivots = np.zeros(len(A))
    for j in range(len(A)):
        pivots[j], A[j, j + 1 :] = A[j, j], 0.0
        column = A[j:, j]
        if pivots[j] <= _ROUNDING:
            column[:] = 0.0
            continue
        column /= np.sqrt(pivots[j])
        A[j + 1 :, j + 1 :] -= np.outer(column[1:], column[1:])
    return pivots


def _lengths(squares: Array) -> Array:
    """Lengths of the columns of a factor, that they are scaled by."""
    longest = float(squares.max(initial=0.0)) or 1.0
    return np.sqrt(np.maximum(squares, _ROUNDING_OF_LENGTHS**2 * longest))
