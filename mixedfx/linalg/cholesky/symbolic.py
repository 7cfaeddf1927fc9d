"""Symbolic factor: elimination order, positions of all values, and the constant updates.

The values that elimination changes stand in one vector, the trailing values: the lower triangles
of the diagonal blocks and the off-diagonal blocks of every leading factor but the first, then the
dense trailing block. Eliminating a factor with entries ``Z`` subtracts ``Z' G Z`` from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints


@dataclass(frozen=True)
class TransposePair:
    """A sparse matrix and its transpose, stored as building one costs more than a product."""

    matrix: Any
    transpose: Any

    @classmethod
    def of(cls, matrix: Any) -> TransposePair:
        """Pair a matrix with its transpose, which shares its memory."""
        return cls(matrix, matrix.T)


@dataclass(frozen=True)
class PairwiseUpdate:
    """``Z' G Z`` as a sum over the pairs of entries of each level, with the targets of fill-in."""

    first: Ints  # (pairs,) entries; the later column first, the pairs of a level adjacent
    second: Ints  # (pairs,)
    level_starts: Ints  # (L + 1,) first pair of each level
    target: Ints  # (pairs,) positions in the trailing values
    trailing_size: int
    # The result of `matrices` for the first eliminated factor, whose entries are constant.
    constant: tuple[sparse.csc_array, ...] | None = None

    def matrices(self, entries: Array) -> tuple[sparse.csc_array, ...]:
        """Jacobians of ``Z' G Z`` by each distinct entry of ``G``, (trailing values, L)."""
        if self.constant is not None:
            return self.constant
        jacobians = []
        for a in range(entries.shape[0]):
            for b in range(a + 1):
                value = entries[a, self.first] * entries[b, self.second]
                if a != b:
                    value += entries[b, self.first] * entries[a, self.second]
                shape = (self.trailing_size, len(self.level_starts) - 1)
                columns = (value, self.target, self.level_starts)
                jacobians.append(sparse.csc_array(columns, shape=shape))
        return tuple(jacobians)


@dataclass(frozen=True)
class DenseUpdate:
    """``Z' G Z`` as dense products over batches of levels, where it fills the dense block."""

    batches: tuple[tuple[int, int], ...]  # first level and end of each batch
    entries: sparse.csr_array  # (K L, dense columns)
    K: int
    dense_entries: Array | None  # (K, L, dense columns), where there is a single batch

    def rows(self, first: int, last: int) -> Array:
        """Entries of a batch of levels as a dense array, (K, last - first, dense columns)."""
        if self.dense_entries is not None:
            return self.dense_entries
        L = self.entries.shape[0] // self.K
        rows = [self.entries[a * L + first : a * L + last].toarray() for a in range(self.K)]
        return np.stack(rows)


@dataclass(frozen=True)
class EliminationStep:
    """
    Elimination of one leading factor.

    Entry ``e`` of its ``Z`` belongs to level ``entry_levels[e]`` and to scalar column
    ``entry_columns[e]`` of a later factor, with one value for each of its ``K`` columns.
    """

    factor: int
    K: int
    L: int
    start: int  # first scalar column, in the elimination order
    n_columns: int  # scalar columns of all factors
    entry_levels: Ints  # (entries,) sorted by level, then column
    entry_columns: Ints  # (entries,)
    entry_values: Array | None  # (K, entries) in the first step, where they are constant
    entry_positions: Ints | None  # (K, entries) in the trailing values, in later steps
    diagonal_positions: slice | None  # of the factor's own block in the trailing values, likewise
    update: PairwiseUpdate | DenseUpdate | None  # None for a factor without entries

    @property
    def columns(self) -> slice:
        """Scalar columns of the factor, in the elimination order."""
        return slice(self.start, self.start + self.K * self.L)

    def entries(self, trailing: Array) -> Array:
        """Values of the entries, (K, entries)."""
        return trailing[self.entry_positions] if self.entry_values is None else self.entry_values

    def entry_matrix(self, entries: Array) -> sparse.csr_array:
        """``Z`` as a sparse matrix of shape (K L, all columns)."""
        counts = np.bincount(self.entry_levels, minlength=self.L)
        row_starts = np.concatenate([[0], np.cumsum(np.tile(counts, self.K))])
        shape = (self.K * self.L, self.n_columns)
        columns = np.tile(self.entry_columns, self.K)
        return sparse.csr_array((entries.ravel(), columns, row_starts), shape=shape)

    @cached_property
    def constant_matrices(self) -> tuple[TransposePair, tuple[TransposePair, ...]] | None:
        """``Z`` and the Jacobians of the update, in the first step, where they are constant."""
        if self.entry_values is None or not isinstance(self.update, PairwiseUpdate):
            return None
        Z = TransposePair.of(self.entry_matrix(self.entry_values))
        return Z, tuple(map(TransposePair.of, self.update.matrices(self.entry_values)))


@dataclass(frozen=True)
class SymbolicFactor:
    """Elimination order and update positions; returned by :func:`~.analysis.analyze`."""

    block_matrix: BlockMatrix
    steps: tuple[EliminationStep, ...]  # one per leading factor
    dense_factors: tuple[int, ...]  # factors of the dense trailing block
    starts: Mapping[int, int]  # first scalar column of each factor, in the elimination order
    size: int  # scalar columns of all factors
    dense_start: int  # first scalar column of the dense block
    trailing_values: Array = field(repr=False)  # before elimination
    dense_offset: int = 0  # position of the dense block in the trailing values

    @property
    def leading_factors(self) -> tuple[int, ...]:
        """Factors that are eliminated level by level, in order."""
        return tuple(s.factor for s in self.steps)

    @property
    def dense_size(self) -> int:
        """Scalar columns of the dense block."""
        return self.size - self.dense_start

    def columns(self, factor: int) -> slice:
        """Scalar columns of a factor, in the elimination order."""
        start = self.starts[factor]
        return slice(start, start + self.block_matrix.size(factor))

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """The block matrix as one sparse matrix, columns in the elimination order."""
        block_matrix = self.block_matrix
        rows: list[Ints] = []
        cols: list[Ints] = []
        values: list[Array] = []
        for f in block_matrix.factors:
            level = np.arange(block_matrix.levels(f))
            for a in range(block_matrix.width(f)):
                for b in range(block_matrix.width(f)):
                    rows.append(self.starts[f] + a * len(level) + level)
                    cols.append(self.starts[f] + b * len(level) + level)
                    values.append(block_matrix.diagonal[f][a, b])
        for (f, g), block in block_matrix.off_diagonal.items():
            for a in range(block_matrix.width(f)):
                for b in range(block_matrix.width(g)):
                    row = self.starts[f] + a * block_matrix.levels(f) + block.rows
                    col = self.starts[g] + b * block_matrix.levels(g) + block.cols
                    rows += [row, col]
                    cols += [col, row]
                    values += [block.values[a, b]] * 2
        shape = (self.size, self.size)
        if not rows:
            return sparse.csr_array(shape)
        indices = (np.concatenate(rows), np.concatenate(cols))
        return sparse.coo_array((np.concatenate(values), indices), shape=shape).tocsr()
