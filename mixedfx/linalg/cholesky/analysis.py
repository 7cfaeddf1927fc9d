"""Symbolic analysis: the elimination order, and the positions that each elimination updates.

Factors each nested in the next are eliminated level by level, in the order that leaves the
smallest dense trailing block. For a later column pair ``(i, j)`` that shares a level of the
eliminated factor the update ``z_i' G z_j`` has one target among the trailing values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from mixedfx.linalg.cholesky.batched import pack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints, OffDiagonalBlock
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    SymbolicFactor,
)

# Multiplications of a dense product in the time in which one pair is gathered and scattered.
DENSE_ADVANTAGE = 50.0
# Several factors with at most so many columns in all are one dense block: each elimination step
# has a constant cost.
DENSE_ONLY_SIZE = 80
# Above so many pairs (12 bytes each) the update is computed by dense products.
MAX_PAIRS = 150_000_000
# Dense entries are built in batches of levels of about so many numbers.
_BATCH_ENTRIES = 16_000_000


def analyze(block_matrix: BlockMatrix) -> SymbolicFactor:
    """Choose the elimination order and compute everything that does not depend on Lambda."""
    leading, dense = elimination_order(block_matrix)
    return _Analysis(block_matrix, leading, dense).symbolic_factor()


def elimination_order(block_matrix: BlockMatrix) -> tuple[list[int], list[int]]:
    """
    Leading factors, in order, and the factors of the dense block.

    For each possible first factor the factors in which all earlier ones are nested are added
    greedily, those with most levels first; the order with the smallest dense block is returned.
    """
    by_levels = sorted(block_matrix.factors, key=lambda f: -block_matrix.levels(f))
    if len(by_levels) > 1 and sum(map(block_matrix.size, by_levels)) <= DENSE_ONLY_SIZE:
        return [], by_levels
    best: tuple[int, list[int]] = (sum(map(block_matrix.size, block_matrix.factors)) + 1, [])
    for start in by_levels:
        leading = [start]
        for f in by_levels:
            remaining = f not in leading
            if remaining and all(_contains(block_matrix, f, inner) for inner in leading):
                leading.append(f)
        dense_size = sum(block_matrix.size(f) for f in block_matrix.factors if f not in leading)
        best = min(best, (dense_size, leading), key=lambda b: b[0])
    return best[1], [f for f in by_levels if f not in best[1]]


def _contains(block_matrix: BlockMatrix, outer: int, inner: int) -> bool:
    """Whether ``inner`` is nested in ``outer`` and has no fewer levels."""
    as_many = block_matrix.levels(inner) >= block_matrix.levels(outer)
    return as_many and block_matrix.is_nested(inner, outer)


class _Analysis:
    """Positions of all blocks in the trailing values, for one elimination order."""

    def __init__(self, block_matrix: BlockMatrix, leading: list[int], dense: list[int]) -> None:
        self.block_matrix, self.leading, self.dense = block_matrix, leading, dense
        self.order = [*leading, *dense]
        ends = np.cumsum([0, *(block_matrix.size(f) for f in self.order)]).tolist()
        self.starts: dict[int, int] = dict(zip(self.order, ends, strict=False))
        self.size, self.dense_start = ends[-1], ends[len(leading)]
        self.dense_size = self.size - self.dense_start
        self.blocks: dict[tuple[int, int], OffDiagonalBlock] = {
            (f, g): block_matrix.block(f, g)
            for i, f in enumerate(leading)
            for g in self.order[i + 1 :]
        }
        self.diagonal_offset: dict[int, int] = {}
        self.off_diagonal_offset: dict[tuple[int, int], int] = {}
        self.dense_offset = 0

    def symbolic_factor(self) -> SymbolicFactor:
        trailing = self._trailing_values()
        steps = tuple(self._step(i, f, len(trailing)) for i, f in enumerate(self.leading))
        return SymbolicFactor(
            self.block_matrix,
            steps,
            tuple(self.dense),
            self.starts,
            self.size,
            self.dense_start,
            trailing,
            self.dense_offset,
        )

    def _trailing_values(self) -> Array:
        """Assign offsets to all blocks that elimination changes; their values before it."""
        values, offset = [], 0
        for i, f in enumerate(self.leading[1:], start=1):
            self.diagonal_offset[f] = offset
            values += [np.concatenate(pack_lower(self.block_matrix.diagonal[f]))]
            offset += values[-1].size
            for g in self.order[i + 1 :]:
                self.off_diagonal_offset[f, g] = offset
                values.append(self.blocks[f, g].values.ravel())
                offset += values[-1].size
        self.dense_offset = offset
        return np.concatenate([*values, self._dense_block().ravel()])

    def _dense_block(self) -> Array:
        """Lower triangle of the dense block before elimination, as a square matrix."""
        A = self.block_matrix
        dense = np.zeros((self.dense_size, self.dense_size))
        for i, f in enumerate(self.dense):
            L, level = A.levels(f), np.arange(A.levels(f))
            start = self.starts[f] - self.dense_start
            for a in range(A.width(f)):
                for b in range(a + 1):
                    rows, cols = start + a * L + level, start + b * L + level
                    dense[rows, cols] = A.diagonal[f][a, b]
            for g in self.dense[i + 1 :]:
                block, later = A.block(f, g), self.starts[g] - self.dense_start
                for a in range(A.width(f)):
                    for b in range(A.width(g)):
                        rows = later + b * A.levels(g) + block.cols
                        dense[rows, start + a * L + block.rows] = block.values[a, b]
        return dense

    def _step(self, i: int, f: int, trailing_size: int) -> EliminationStep:
        levels, columns, values, positions = self._entries(i, f)
        K, L = self.block_matrix.width(f), self.block_matrix.levels(f)
        diagonal = None
        if i:
            offset = self.diagonal_offset[f]
            diagonal = slice(offset, offset + K * (K + 1) // 2 * L)
        update: PairwiseUpdate | DenseUpdate | None = None
        if len(levels):
            counts = np.bincount(levels, minlength=L)
            n_pairs = float((counts * (counts + 1.0)).sum()) / 2
            if self._dense_update_pays(K, L, n_pairs):
                update = self._dense_update(K, L, levels, columns, values)
            else:
                update = self._pairwise_update(counts, columns, values, trailing_size)
        start, n_columns = self.starts[f], self.size
        entries = (levels, columns, values, positions)
        return EliminationStep(f, K, L, start, n_columns, *entries, diagonal, update)

    def _entries(self, i: int, f: int) -> tuple[Ints, Ints, Array | None, Ints | None]:
        """Levels, columns, and values or positions, of a factor's entries in later columns."""
        A = self.block_matrix
        levels, columns, values, positions = [], [], [], []
        for g in self.order[i + 1 :]:
            block, Kg, Lg = self.blocks[f, g], A.width(g), A.levels(g)
            for b in range(Kg):
                levels.append(block.rows)
                columns.append(self.starts[g] + b * Lg + block.cols)
                values.append(block.values[:, b])
                if i:
                    a = np.arange(A.width(f))[:, None]
                    offset = self.off_diagonal_offset[f, g] + (a * Kg + b) * len(block.rows)
                    positions.append(offset + np.arange(len(block.rows)))
        if not levels:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty, np.zeros((A.width(f), 0)), None
        if len(levels) == 1:  # the entries of a single later column are sorted
            constant, changing = (None, positions[0]) if i else (values[0], None)
            return levels[0], columns[0], constant, changing
        level, column = np.concatenate(levels), np.concatenate(columns)
        by = np.argsort(level * self.size + column, kind="stable")
        if i:
            return level[by], column[by], None, np.concatenate(positions, axis=1)[:, by]
        return level[by], column[by], np.concatenate(values, axis=1)[:, by], None

    def _dense_update_pays(self, K: int, L: int, n_pairs: float) -> bool:
        """Whether dense products are faster; they apply to a single leading factor only."""
        if len(self.leading) != 1:
            return False
        multiplications = K * L * float(self.dense_size) ** 2
        pairwise = n_pairs * K * (K + 1) / 2
        return multiplications < DENSE_ADVANTAGE * pairwise or n_pairs > MAX_PAIRS

    def _dense_update(
        self, K: int, L: int, levels: Ints, columns: Ints, values: Array | None
    ) -> DenseUpdate:
        assert values is not None  # a single leading factor has constant entries
        rows = np.concatenate([a * L + levels for a in range(K)])
        cols = np.tile(columns - self.dense_start, K)
        entries = sparse.csr_array((values.ravel(), (rows, cols)), shape=(K * L, self.dense_size))
        per_batch = max(1, _BATCH_ENTRIES // (K * self.dense_size))
        batches = tuple((first, min(first + per_batch, L)) for first in range(0, L, per_batch))
        dense_entries = entries.toarray().reshape(K, L, -1) if len(batches) == 1 else None
        return DenseUpdate(batches, entries, K, dense_entries)

    def _pairwise_update(
        self, counts: Ints, columns: Ints, values: Array | None, trailing_size: int
    ) -> PairwiseUpdate:
        """Pairs of entries of each level, for all levels with equally many entries at once."""
        int_type: type[np.signedinteger[Any]]
        int_type = np.int32 if max(trailing_size, len(columns)) < 2**31 else np.int64
        first_entry = np.cumsum(counts) - counts
        pairs_per_level = counts * (counts + 1) // 2
        level_starts = np.concatenate([[0], np.cumsum(pairs_per_level)])
        n_pairs = level_starts[-1]
        first = np.empty(n_pairs, dtype=int_type)
        second = np.empty(n_pairs, dtype=int_type)
        for m in np.unique(counts[counts > 0]).tolist():
            levels = np.flatnonzero(counts == m)
            i, j = np.tril_indices(m)
            at = (level_starts[levels][:, None] + np.arange(len(i))).ravel()
            first[at] = (first_entry[levels][:, None] + i).ravel()
            second[at] = (first_entry[levels][:, None] + j).ravel()
        target: Ints = self._targets(columns, first, second).astype(int_type)
        level_starts = level_starts.astype(np.int32 if n_pairs < 2**31 else np.int64)
        update = PairwiseUpdate(first, second, level_starts, target, trailing_size)
        if values is None:
            return update
        empty = np.zeros(0, dtype=int_type)
        constant = update.matrices(values)
        return PairwiseUpdate(empty, empty, level_starts, target, trailing_size, constant)

    def _targets(self, columns: Ints, first: Ints, second: Ints) -> Ints:
        """Position in the trailing values of each pair's product."""
        dense = columns - self.dense_start
        if len(self.leading) == 1:
            row_offset = self.dense_offset + dense * self.dense_size
            return np.asarray(row_offset[first] + dense[second])
        target = np.empty(len(first), dtype=np.int64)
        bounds = [self.starts[f] for f in self.leading] + [self.dense_start]
        owner = (np.searchsorted(bounds, columns, side="right") - 1)[second]
        at = np.flatnonzero(owner == len(self.leading))
        target[at] = self.dense_offset + dense[first[at]] * self.dense_size + dense[second[at]]
        for i, f in enumerate(self.leading[1:], start=1):
            at = np.flatnonzero(owner == i)
            if len(at):
                target[at] = self._leading_targets(f, columns[first[at]], columns[second[at]])
        return target

    def _leading_targets(self, f: int, later: Ints, earlier: Ints) -> Ints:
        """Positions of the values at column pairs of which the earlier column belongs to ``f``."""
        L = self.block_matrix.levels(f)
        b, level = np.divmod(earlier - self.starts[f], L)
        target = np.empty(len(later), dtype=np.int64)
        for g in self.order[self.order.index(f) :]:
            Kg, Lg = self.block_matrix.width(g), self.block_matrix.levels(g)
            column = later - self.starts[g]
            in_g = (column >= 0) & (column < Kg * Lg)
            c, later_level = np.divmod(column[in_g], Lg)
            if g == f:
                row = c * (c + 1) // 2 + b[in_g]
                target[in_g] = self.diagonal_offset[f] + row * L + level[in_g]
            else:
                block = self.blocks[f, g]
                keys = block.rows * Lg + block.cols
                pair = np.searchsorted(keys, level[in_g] * Lg + later_level)
                offset = self.off_diagonal_offset[f, g] + (b[in_g] * Kg + c) * len(keys)
                target[in_g] = offset + pair
        return target
