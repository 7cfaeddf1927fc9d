"""Symbolic factor: elimination order, and positions of all values.

The values that elimination changes stand in one vector, the trailing values: the lower triangles
of the diagonal blocks and the off-diagonal blocks of every leading factor but the first, then the
dense trailing block. Eliminating a factor with entries ``A_r`` subtracts ``A_r' G A_r`` from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.batched import matmul
from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.elimination import EliminationOrder


def count_pairs(counts: Ints, n_second: int | None) -> Ints:
    """Pairs of entries of each level; of which the earlier entry is one of its first ones."""
    if n_second is None:
        return np.asarray(counts * (counts + 1) // 2)
    m = np.minimum(counts, n_second)
    return np.asarray(m * (m + 1) // 2 + (counts - m) * m)


def level_pairs(
    counts: Ints, int_type: type[np.integer[Any]], n_second: int | None = None
) -> tuple[Ints, Ints]:
    """
    Pairs of entries of each level, the later entry first, given the entries of each level.

    With ``n_second`` those whose earlier entry is among the level's first ``n_second``.
    """
    first_entry = np.cumsum(counts) - counts
    pairs_per_level = count_pairs(counts, n_second)
    level_starts = np.cumsum(pairs_per_level) - pairs_per_level
    n_pairs = int(pairs_per_level.sum())
    first, second = np.empty(n_pairs, dtype=int_type), np.empty(n_pairs, dtype=int_type)
    for m in np.unique(counts[counts > 0]).tolist():
        levels = np.flatnonzero(counts == m)
        i, j = np.tril_indices(m)
        if n_second is not None:
            i, j = i[j < n_second], j[j < n_second]
        at = (level_starts[levels][:, None] + np.arange(len(i))).ravel()
        first[at] = (first_entry[levels][:, None] + i).ravel()
        second[at] = (first_entry[levels][:, None] + j).ravel()
    return first, second


@dataclass(frozen=True)
class TransposePair:
    """A sparse matrix and its transpose, stored as building one costs more than a product."""

    matrix: Any
    transpose: Any

    @classmethod
    def pattern(cls, matrix: sparse.csc_array | sparse.csr_array) -> TransposePair:
        """Positions of a matrix without its values."""
        pair = cls(matrix, matrix.T)
        pair.matrix.data = pair.transpose.data = np.empty(0)
        return pair

    def with_values(self, values: Array) -> TransposePair:
        """Matrices of the same positions; SciPy's constructors would check them each time."""
        return TransposePair(
            _with_values(self.matrix, values), _with_values(self.transpose, values)
        )


def _with_values(pattern: Any, values: Array) -> Any:
    """Shallow copy of a sparse matrix with other values, in a tenth of the time of copy.copy."""
    matrix = object.__new__(type(pattern))
    vars(matrix).update(vars(pattern), data=values)
    return matrix


@dataclass(frozen=True)
class PairwiseUpdate:
    """``A_r' G A_r`` as a sum over pairs of entries of each level, with the targets of fill-in."""

    second: Ints = field(repr=False)  # (pairs,) entry of the earlier column
    pairs_of_first: Ints = field(repr=False)  # (entries,) pairs of which each is the other entry
    level_starts: Ints  # (L + 1,) first pair of each level, the pairs of a level adjacent
    target: Ints  # (pairs,) positions in the trailing values
    trailing_size: int

    @cached_property
    def _jacobian(self) -> TransposePair:
        """Pattern of the Jacobians, (trailing values, L)."""
        shape = (self.trailing_size, len(self.level_starts) - 1)
        columns = (np.zeros(len(self.target)), self.target, self.level_starts)
        return TransposePair.pattern(sparse.csc_array(columns, shape=shape))

    @cached_property
    def _pair_matrix(self) -> TransposePair:
        """Pattern of a triangular matrix with a value for each pair, (entries, entries)."""
        starts = np.concatenate([[0], np.cumsum(self.pairs_of_first)])
        shape = (len(starts) - 1, len(starts) - 1)
        columns = (np.zeros(len(self.second)), self.second, starts.astype(self.level_starts.dtype))
        return TransposePair.pattern(sparse.csr_array(columns, shape=shape))

    def multiply(self, entries: Array, trailing: Array) -> Array:
        """``A_r (T + T')`` at the entries, (K, entries); ``T`` is a triangle of trailing values."""
        T = self._pair_matrix.with_values(trailing[self.target])
        return np.stack([T.matrix @ z + T.transpose @ z for z in entries])

    def jacobians(self, entries: Array) -> tuple[TransposePair, ...]:
        """Jacobians of ``A_r' G A_r`` by each distinct entry of ``G``, (trailing values, L)."""
        second, times = self.second, self.pairs_of_first
        jacobians = []
        for a in range(entries.shape[0]):
            for b in range(a + 1):
                value = entries[b].take(second)
                value *= np.repeat(entries[a], times)
                if a != b:
                    other = entries[a].take(second)
                    other *= np.repeat(entries[b], times)
                    value += other
                jacobians.append(self._jacobian.with_values(value))
        return tuple(jacobians)


@dataclass(frozen=True)
class DenseUpdate:
    """``A_r' G A_r`` as dense products over batches of levels, where it fills the dense block."""

    batches: tuple[tuple[int, int], ...]  # first level and end of each batch


@dataclass(frozen=True)
class SparseUpdate:
    """
    ``A_r' G A_r`` in the dense block as sparse products over panels of its columns.

    Nothing is stored for pairs of entries. Those with a column of a leading factor, few for each
    level, are updated pairwise.
    """

    in_block: Ints | None  # entries in columns of the dense block; None: all
    level_starts: Ints  # (L + 1,) the first of these of each level
    columns: Ints  # of these, within the dense block
    by_column: Ints  # order that sorts them by column
    column_starts: Ints  # (t + 1,) the first of each column in that order
    levels: Ints  # in that order
    dense_offset: int
    panels: tuple[tuple[int, int], ...]  # first column and end of each panel
    with_leading: PairwiseUpdate | None

    @property
    def size(self) -> int:
        """Columns of the dense block."""
        return len(self.column_starts) - 1


@dataclass(frozen=True)
class EliminationStep:
    """
    Elimination of one leading factor.

    Entry ``e`` of its ``A_r`` belongs to level ``entry_levels[e]`` and to scalar column
    ``entry_columns[e]`` of a later factor, with one value for each of its ``K`` columns.
    """

    factor: int
    K: int
    L: int
    start: int  # first scalar column, in the elimination order
    n_columns: int  # scalar columns of all factors
    entry_levels: Ints  # (entries,) sorted by level, then column
    entry_columns: Ints  # (entries,)
    entry_positions: Ints | None  # (K, entries) in the trailing values, in later steps
    diagonal_positions: slice | None  # of the factor's own block in the trailing values, likewise
    update: PairwiseUpdate | DenseUpdate | SparseUpdate | None  # None for a factor without entries

    @property
    def columns(self) -> slice:
        """Scalar columns of the factor, in the elimination order."""
        return slice(self.start, self.start + self.K * self.L)

    @cached_property
    def level_starts(self) -> Ints:
        """First entry of each level, (L + 1,)."""
        counts = np.bincount(self.entry_levels, minlength=self.L)
        return np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def _entry_pattern(self) -> TransposePair:
        shape = (self.K * self.L, self.n_columns)
        columns = np.tile(self.entry_columns, self.K)
        row_starts = np.concatenate([[0], np.cumsum(np.tile(np.diff(self.level_starts), self.K))])
        values = np.zeros(len(columns))
        return TransposePair.pattern(sparse.csr_array((values, columns, row_starts), shape=shape))

    def entry_matrix(self, entries: Array) -> TransposePair:
        """``A_r`` as a sparse matrix of shape (K L, all columns)."""
        return self._entry_pattern.with_values(entries.ravel())

    def sum_by_level(self, Y: Array, entries: Array) -> Array:
        """``Y A_r'``, symmetric, from the entries of both: (K, K, L)."""
        Q = np.empty((self.K, self.K, self.L))
        for a in range(self.K):
            for b in range(a + 1):
                Q[a, b] = Q[b, a] = self._sum_products(Y[a], entries[b])
        return Q

    def multiply_by_level(self, G: Array, Y: Array) -> Array:
        """``G Y`` at the entries, (K, entries), for blocks (K, K, L)."""
        if self._entries_per_level is None:
            return matmul(G.take(self.entry_levels, axis=2), Y[:, None])[:, 0]
        by_level = Y.reshape(self.K, self.L, -1)
        return matmul(G[..., None], by_level[:, None]).reshape(self.K, -1)

    def _sum_products(self, y: Array, z: Array) -> Array:
        """Sums over the entries of each level of their products, (L,)."""
        if self._entries_per_level is None:
            return np.asarray(np.bincount(self.entry_levels, y * z, self.L), dtype=np.float64)
        shape = (self.L, self._entries_per_level)
        return np.asarray(np.einsum("le,le->l", y.reshape(shape), z.reshape(shape)))

    @cached_property
    def _entries_per_level(self) -> int | None:
        """Number of entries of each level; None if they differ."""
        counts = np.diff(self.level_starts)
        return int(counts[0]) if (counts == counts[0]).all() else None


@dataclass(frozen=True)
class SymbolicFactor(EliminationOrder):
    """Elimination order and positions of all values; returned by :func:`~.analysis.analyze`."""

    steps: tuple[EliminationStep, ...]  # one per leading factor
    trailing_size: int  # number of trailing values
    dense_offset: int  # position of the dense block in the trailing values
    # Positions in the trailing values of each block that elimination changes, (K_f, K_g, pairs)
    # for f < g and (K, K, L) for f = g: those of the lower triangle for values on both sides.
    trailing_positions: Mapping[tuple[int, int], Ints] = field(repr=False)
    # Positions of the pairs within factors, among the trailing values, (K, K, pairs).
    within_positions: Mapping[int, Ints] = field(repr=False)
    # Positions among the first step's entries of each other factor's, (K_g, pairs).
    first_positions: Mapping[int, Ints] = field(repr=False)
    # Order that sorts them if all (K_g, pairs) stand in a row, in the elimination order.
    first_order: Ints = field(repr=False)
