"""Symbolic factor: elimination order, and positions of all values.

The values that elimination changes stand in one vector, the trailing values: the lower triangles
of the diagonal blocks and the off-diagonal blocks of every leading factor but the first, then the
dense trailing block. Eliminating a factor with entries ``A_r`` subtracts ``A_r' G A_r`` from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx.linalg.cholesky.block_matrix import Array, BlockLayout, Ints, LevelPairs

# Up to so many pairs (8 bytes each) the entries of each pair are stored, not only counted.
MAX_STORED_PAIRS = 20_000_000


def level_pairs(counts: Ints, int_type: type[np.integer[Any]]) -> tuple[Ints, Ints]:
    """Pairs of entries of each level, the later entry first, given the entries of each level."""
    first_entry = np.cumsum(counts) - counts
    pairs_per_level = counts * (counts + 1) // 2
    level_starts = np.cumsum(pairs_per_level) - pairs_per_level
    n_pairs = int(pairs_per_level.sum())
    first, second = np.empty(n_pairs, dtype=int_type), np.empty(n_pairs, dtype=int_type)
    for m in np.unique(counts[counts > 0]).tolist():
        levels = np.flatnonzero(counts == m)
        i, j = np.tril_indices(m)
        at = (level_starts[levels][:, None] + np.arange(len(i))).ravel()
        first[at] = (first_entry[levels][:, None] + i).ravel()
        second[at] = (first_entry[levels][:, None] + j).ravel()
    return first, second


@dataclass(frozen=True)
class PairwiseUpdate:
    """``A_r' G A_r`` as a sum over pairs of entries of each level, with the targets of fill-in."""

    counts: Ints  # (L,) entries of each level
    level_starts: Ints  # (L + 1,) first pair of each level, the pairs of a level adjacent
    target: Ints  # (pairs,) positions in the trailing values
    trailing_size: int
    stored_pairs: tuple[Ints, Ints] | None = field(repr=False)  # None: computed when needed

    @property
    def pairs(self) -> tuple[Ints, Ints]:
        """Entries of each pair, the one with the later column first."""
        return self.stored_pairs or level_pairs(self.counts, self.target.dtype.type)

    def jacobians(self, entries: Array) -> tuple[sparse.csc_array, ...]:
        """Jacobians of ``A_r' G A_r`` by each distinct entry of ``G``, (trailing values, L)."""
        first, second = self.pairs
        jacobians = []
        for a in range(entries.shape[0]):
            for b in range(a + 1):
                value = entries[a, first] * entries[b, second]
                if a != b:
                    value += entries[b, first] * entries[a, second]
                shape = (self.trailing_size, len(self.level_starts) - 1)
                columns = (value, self.target, self.level_starts)
                jacobians.append(sparse.csc_array(columns, shape=shape))
        return tuple(jacobians)


@dataclass(frozen=True)
class DenseUpdate:
    """``A_r' G A_r`` as dense products over batches of levels, where it fills the dense block."""

    batches: tuple[tuple[int, int], ...]  # first level and end of each batch


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
    entry_order: Ints | None  # in the first step, sorts the entries; None: they are sorted
    entry_positions: Ints | None  # (K, entries) in the trailing values, in later steps
    diagonal_positions: slice | None  # of the factor's own block in the trailing values, likewise
    update: PairwiseUpdate | DenseUpdate | None  # None for a factor without entries

    @property
    def columns(self) -> slice:
        """Scalar columns of the factor, in the elimination order."""
        return slice(self.start, self.start + self.K * self.L)

    @cached_property
    def _row_starts(self) -> Ints:
        """First entry of each row of ``A_r``, (K L + 1,)."""
        counts = np.bincount(self.entry_levels, minlength=self.L)
        return np.concatenate([[0], np.cumsum(np.tile(counts, self.K))])

    def entry_matrix(self, entries: Array, first_column: int = 0) -> sparse.csr_array:
        """``A_r`` as a sparse matrix of shape (K L, all columns from the first given)."""
        shape = (self.K * self.L, self.n_columns - first_column)
        columns = np.tile(self.entry_columns - first_column, self.K)
        return sparse.csr_array((entries.ravel(), columns, self._row_starts), shape=shape)


@dataclass(frozen=True)
class SymbolicFactor:
    """Elimination order and positions of all values; returned by :func:`~.analysis.analyze`."""

    layout: BlockLayout
    pairs: Mapping[tuple[int, int], LevelPairs] = field(repr=False)  # for every two factors i < j
    steps: tuple[EliminationStep, ...]  # one per leading factor
    dense_factors: tuple[int, ...]  # factors of the dense trailing block
    starts: Mapping[int, int]  # first scalar column of each factor, in the elimination order
    size: int  # scalar columns of all factors
    dense_start: int  # first scalar column of the dense block
    trailing_size: int  # number of trailing values
    dense_offset: int  # position of the dense block in the trailing values
    # Order of the pairs of a leading and a later factor by the levels of the leading one; None
    # where they are stored in this order.
    pair_order: Mapping[tuple[int, int], Ints | None] = field(repr=False)

    @property
    def leading_factors(self) -> tuple[int, ...]:
        """Factors that are eliminated level by level, in order."""
        return tuple(s.factor for s in self.steps)

    @property
    def order(self) -> tuple[int, ...]:
        """All factors in the elimination order."""
        return (*self.leading_factors, *self.dense_factors)

    @property
    def dense_size(self) -> int:
        """Scalar columns of the dense block."""
        return self.size - self.dense_start

    def columns(self, factor: int) -> slice:
        """Scalar columns of a factor, in the elimination order."""
        start = self.starts[factor]
        return slice(start, start + self.layout.size(factor))
