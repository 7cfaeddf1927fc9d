"""Symbolic analysis: the elimination order, and the positions that each elimination updates.

Factors each nested in the next are eliminated level by level, in the order that leaves the
smallest dense trailing block. For a later column pair ``(i, j)`` that shares a level of the
eliminated factor the update ``z_i' G z_j`` has one target among the trailing values.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from mixedfx.linalg.cholesky.block_matrix import BlockPattern, Ints, LevelPairs
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    SparseUpdate,
    SymbolicFactor,
    count_pairs,
    level_pairs,
)

# Multiplications of a dense product in the time in which one pair is gathered and scattered.
DENSE_ADVANTAGE = 50.0
# Several factors with at most so many columns in all are one dense block: each elimination step
# has a constant cost.
DENSE_ONLY_SIZE = 80
# Above so many pairs (28 bytes each) the update is computed by sparse products, which store none
# of them, and whose constant cost for each column of the dense block is small beside it.
MAX_PAIRS = 10_000_000
# Time of a pair in sparse products, over that of a stored one.
_SPARSE_COST = 5.0
# Sparse products are computed for panels of columns of about so many numbers.
_PANEL_ENTRIES = 8_000_000
# Patterns of at most so many pairs of levels are analysed once for all fits that have them.
_KNOWN_PAIRS = 4096
# Dense entries are built in batches of levels of about so many numbers.
_BATCH_ENTRIES = 16_000_000


def symbolic_factor(pattern: BlockPattern) -> SymbolicFactor:
    """Symbolic factor of a pattern, analysed at the first call and stored with the pattern."""
    if "symbolic" not in pattern.cache:
        known = KnownPattern.of(pattern)
        pattern.cache["symbolic"] = analyze(pattern) if known is None else _analyzed(known)
    symbolic: SymbolicFactor = pattern.cache["symbolic"]
    return symbolic


@lru_cache(maxsize=32)
def _analyzed(known: KnownPattern) -> SymbolicFactor:
    """Symbolic factor of a small pattern: of positions alone, and the same at the next fit."""
    return analyze(known.pattern)


def forget_patterns() -> None:
    """Analyse the patterns of later fits anew."""
    _analyzed.cache_clear()


@dataclass(frozen=True)
class KnownPattern:
    """A small pattern by its positions, for a cache."""

    positions: tuple[Any, ...]
    pattern: BlockPattern = field(compare=False, repr=False)

    @staticmethod
    def of(pattern: BlockPattern) -> KnownPattern | None:
        """The positions as bytes; None of a pattern of many pairs."""
        blocks = [*pattern.pairs.items(), *((f, pairs) for f, pairs in pattern.within.items())]
        if sum(len(pairs) for _, pairs in blocks) > _KNOWN_PAIRS:
            return None
        positions = [(at, pairs.rows.tobytes(), pairs.cols.tobytes()) for at, pairs in blocks]
        limits = DENSE_ADVANTAGE, DENSE_ONLY_SIZE, MAX_PAIRS  # which tests set
        return KnownPattern((limits, pattern.layout, *positions), pattern)


def analyze(pattern: BlockPattern) -> SymbolicFactor:
    """Choose the elimination order and compute the positions of all values."""
    leading, dense = elimination_order(pattern)
    return _Analysis(pattern, leading, dense).symbolic_factor()


def elimination_order(pattern: BlockPattern) -> tuple[list[int], list[int]]:
    """
    Leading factors, in order, and the factors of the dense block.

    For each possible first factor the factors in which all earlier ones are nested are added
    greedily, those with most levels first; the order with the smallest dense block is returned.
    """
    layout = pattern.layout
    by_levels = sorted(layout.factors, key=lambda f: -layout.levels(f))
    if len(by_levels) > 1 and sum(map(layout.size, by_levels)) <= DENSE_ONLY_SIZE:
        return [], by_levels
    best: tuple[int, list[int]] = (sum(map(layout.size, layout.factors)) + 1, [])
    eliminated = [f for f in by_levels if f not in pattern.within]
    for start in eliminated:
        leading = [start]
        for f in eliminated:
            remaining = f not in leading
            if remaining and all(_contains(pattern, f, inner) for inner in leading):
                leading.append(f)
        dense_size = sum(layout.size(f) for f in layout.factors if f not in leading)
        best = min(best, (dense_size, leading), key=lambda b: b[0])
    return best[1], [f for f in by_levels if f not in best[1]]


def _contains(pattern: BlockPattern, outer: int, inner: int) -> bool:
    """Whether ``inner`` is nested in ``outer`` and has no fewer levels."""
    as_many = pattern.layout.levels(inner) >= pattern.layout.levels(outer)
    return as_many and pattern.is_nested(inner, outer)


class _Analysis:
    """Positions of all blocks in the trailing values, for one elimination order."""

    def __init__(self, pattern: BlockPattern, leading: list[int], dense: list[int]) -> None:
        self.pattern, self.layout = pattern, pattern.layout
        self.leading, self.dense, self.order = leading, dense, [*leading, *dense]
        columns = EliminationOrder.of(pattern, tuple(leading), tuple(dense))
        self.starts, self.size = columns.starts, columns.size
        self.dense_start, self.dense_size = columns.dense_start, columns.dense_size
        # Pairs of a leading and a later factor, by the levels of the leading one.
        self.leading_pairs: dict[tuple[int, int], LevelPairs] = {}
        self.pair_order: dict[tuple[int, int], Ints | None] = {}
        for i, f in enumerate(leading):
            for g in self.order[i + 1 :]:
                pairs, order = pattern.pairs[min(f, g), max(f, g)], None
                if f > g:
                    pairs, order = pairs.transposed()
                self.leading_pairs[f, g], self.pair_order[f, g] = pairs, order
        self.diagonal_offset: dict[int, int] = {}
        self.off_diagonal_offset: dict[tuple[int, int], int] = {}
        self.dense_offset = self._assign_offsets()
        self.trailing_size = self.dense_offset + self.dense_size**2
        self.entries = {f: self._entries(i, f) for i, f in enumerate(leading)}

    def symbolic_factor(self) -> SymbolicFactor:
        first_positions = self._first_positions()
        in_a_row = [np.zeros(0, dtype=np.intp), *(at.ravel() for at in first_positions.values())]
        return SymbolicFactor(
            layout=self.layout,
            pairs=self.pattern.pairs,
            leading_factors=tuple(self.leading),
            steps=tuple(self._step(i, f) for i, f in enumerate(self.leading)),
            dense_factors=tuple(self.dense),
            starts=self.starts,
            size=self.size,
            dense_start=self.dense_start,
            trailing_size=self.trailing_size,
            dense_offset=self.dense_offset,
            trailing_positions=self._trailing_positions(),
            within=self.pattern.within,
            within_positions={f: self._within(f) for f in self.pattern.within},
            first_positions=first_positions,
            first_order=np.argsort(np.concatenate(in_a_row)),
        )

    def _trailing_positions(self) -> dict[tuple[int, int], Ints]:
        """Positions in the trailing values of all blocks that elimination changes."""
        positions: dict[tuple[int, int], Ints] = {}
        for i, f in enumerate(self.leading[1:], start=1):
            a, L = np.arange(self.layout.width(f))[:, None, None], self.layout.levels(f)
            row, column = np.maximum(a, a.transpose(1, 0, 2)), np.minimum(a, a.transpose(1, 0, 2))
            triangle = self.diagonal_offset[f] + (row * (row + 1) // 2 + column) * L
            positions[f, f] = triangle + np.arange(L)
            for g in self.order[i + 1 :]:
                shape = (len(a), self.layout.width(g), len(self.leading_pairs[f, g]))
                offset = self.off_diagonal_offset[f, g]
                at = (offset + np.arange(np.prod(shape))).reshape(shape)
                positions[min(f, g), max(f, g)] = self._in_stored_order(f, g, at)
        for f, g in itertools.combinations_with_replacement(sorted(self.dense), 2):
            pairs = LevelPairs(*[np.arange(self.layout.levels(f))] * 2)
            if f != g:
                pairs = self.pattern.pairs[f, g]
            rows, cols = pairs.rows, pairs.cols
            of_f, of_g = self._dense_columns(f, rows)[:, None], self._dense_columns(g, cols)[None]
            lower = np.maximum(of_f, of_g) * self.dense_size + np.minimum(of_f, of_g)
            positions[f, g] = self.dense_offset + lower
        return positions

    def _within(self, f: int) -> Ints:
        """Positions in the dense block of pairs of levels of one factor, (K, K, pairs)."""
        pairs = self.pattern.within[f]
        rows, cols = self._dense_columns(f, pairs.rows), self._dense_columns(f, pairs.cols)
        lower = np.maximum(rows[:, None], cols[None]) * self.dense_size
        return np.asarray(self.dense_offset + lower + np.minimum(rows[:, None], cols[None]))

    def _dense_columns(self, f: int, levels: Ints) -> Ints:
        """Columns of the dense block of a factor's levels, (K, levels)."""
        effects = np.arange(self.layout.width(f))[:, None] * self.layout.levels(f)
        return np.asarray(self.starts[f] - self.dense_start + effects + levels)

    def _in_stored_order(self, f: int, g: int, block: Ints) -> Ints:
        """Block of a leading and a later factor, (K_f, K_g, pairs), as its values are stored."""
        order = self.pair_order[f, g]
        if order is None:
            return block
        stored = np.empty_like(block)
        stored[:, :, order] = block
        return stored.transpose(1, 0, 2)

    def _first_positions(self) -> dict[int, Ints]:
        """Positions among the first step's entries of those of each other factor."""
        positions: dict[int, Ints] = {}
        if not self.leading or len(self.order) == 1:
            return positions
        f, start = self.leading[0], 0
        by = self.entries[f][2]
        place: Ints = np.empty_like(by)
        place[by] = np.arange(len(by))
        for g in self.order[1:]:
            shape = (self.layout.width(g), len(self.leading_pairs[f, g]))
            at = place[start : start + shape[0] * shape[1]].reshape(shape)
            start += at.size
            order = self.pair_order[f, g]
            positions[g] = at
            if order is not None:
                positions[g] = np.empty_like(at)
                positions[g][:, order] = at
        return positions

    def _assign_offsets(self) -> int:
        """Assign offsets to all blocks that elimination changes; that of the dense block."""
        offset = 0
        for i, f in enumerate(self.leading[1:], start=1):
            K, L = self.layout.width(f), self.layout.levels(f)
            self.diagonal_offset[f] = offset
            offset += K * (K + 1) // 2 * L
            for g in self.order[i + 1 :]:
                self.off_diagonal_offset[f, g] = offset
                offset += K * self.layout.width(g) * len(self.leading_pairs[f, g])
        return offset

    def _step(self, i: int, f: int) -> EliminationStep:
        levels, columns, _, positions = self.entries[f]
        K, L = self.layout.width(f), self.layout.levels(f)
        diagonal = None
        if i:
            offset = self.diagonal_offset[f]
            diagonal = slice(offset, offset + K * (K + 1) // 2 * L)
        update = self._update(i, f, levels, columns) if len(levels) else None
        start, n_columns = self.starts[f], self.size
        entries = (levels, columns, positions)
        return EliminationStep(f, K, L, start, n_columns, *entries, diagonal, update)

    def _update(
        self, i: int, f: int, levels: Ints, columns: Ints
    ) -> PairwiseUpdate | DenseUpdate | SparseUpdate:
        K, L = self.layout.width(f), self.layout.levels(f)
        counts = np.bincount(levels, minlength=L)
        n_pairs = float((counts * (counts + 1.0)).sum()) / 2
        if self._dense_update_pays(K, L, n_pairs):
            per_batch = max(1, _BATCH_ENTRIES // (K * self.dense_size))
            starts = range(0, L, per_batch)
            return DenseUpdate(tuple((j, min(j + per_batch, L)) for j in starts))
        if n_pairs > MAX_PAIRS and self.dense_size:
            return self._sparse_update(i, counts, levels, columns)
        return self._pairwise_update(counts, columns)

    def _sparse_update(self, i: int, counts: Ints, levels: Ints, columns: Ints) -> SparseUpdate:
        """Entries in the dense block by levels and by columns, and the pairs with leading ones."""
        L, t = len(counts), self.dense_size
        n_leading = sum(self.layout.width(f) for f in self.leading[i + 1 :])
        in_block, with_leading = None, None
        if n_leading:
            with_leading = self._pairwise_update(counts, columns, n_leading)
            in_block = np.flatnonzero(columns >= self.dense_start)
            levels, columns = levels[in_block], columns[in_block]
        within = (columns - self.dense_start).astype(np.int32)
        by_column = np.argsort(within, kind="stable")
        width = max(1, _PANEL_ENTRIES // t)
        return SparseUpdate(
            in_block=in_block,
            level_starts=np.concatenate([[0], np.cumsum(np.bincount(levels, minlength=L))]),
            columns=within,
            by_column=by_column,
            column_starts=np.concatenate([[0], np.cumsum(np.bincount(within, minlength=t))]),
            levels=levels[by_column].astype(np.int32),
            dense_offset=self.dense_offset,
            panels=tuple((j, min(j + width, t)) for j in range(0, t, width)),
            with_leading=with_leading,
        )

    def _entries(self, i: int, f: int) -> tuple[Ints, Ints, Ints, Ints | None]:
        """Levels and columns of a factor's entries in later columns, their order, and positions."""
        K, levels, columns, positions = self.layout.width(f), [], [], []
        for g in self.order[i + 1 :]:
            pairs, Kg, Lg = self.leading_pairs[f, g], self.layout.width(g), self.layout.levels(g)
            for b in range(Kg):
                levels.append(pairs.rows)
                columns.append(self.starts[g] + b * Lg + pairs.cols)
                if i:
                    a = np.arange(K)[:, None]
                    offset = self.off_diagonal_offset[f, g] + (a * Kg + b) * len(pairs)
                    positions.append(offset + np.arange(len(pairs)))
        if not levels:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty, empty, None
        level, column = np.concatenate(levels), np.concatenate(columns)
        by = np.argsort(level.astype(np.int64) * self.size + column, kind="stable")
        at = np.concatenate(positions, axis=1)[:, by] if i else None
        return level[by], column[by], by, at

    def _dense_update_pays(self, K: int, L: int, n_pairs: float) -> bool:
        """Whether dense products are faster; they apply to a single leading factor only."""
        if len(self.leading) != 1:
            return False
        multiplications = K * L * float(self.dense_size) ** 2
        pairwise = n_pairs * K * (K + 1) / 2
        return multiplications < DENSE_ADVANTAGE * pairwise * (
            _SPARSE_COST if n_pairs > MAX_PAIRS else 1.0
        )

    def _pairwise_update(
        self, counts: Ints, columns: Ints, n_second: int | None = None
    ) -> PairwiseUpdate:
        """Pairs of entries of each level, for all levels with equally many entries at once."""
        int_type: type[np.signedinteger[Any]]
        int_type = np.int32 if max(self.trailing_size, len(columns)) < 2**31 else np.int64
        first, second = level_pairs(counts, int_type, n_second)
        level_starts = np.concatenate([[0], np.cumsum(count_pairs(counts, n_second))])
        level_starts = level_starts.astype(np.int32 if len(first) < 2**31 else np.int64)
        target: Ints = self._targets(columns, first, second).astype(int_type)
        rank = np.arange(len(columns)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        of_first = rank if n_second is None else np.minimum(rank, n_second)
        return PairwiseUpdate(second, of_first, level_starts, target, self.trailing_size)

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
        L = self.layout.levels(f)
        b, level = np.divmod(earlier - self.starts[f], L)
        target = np.empty(len(later), dtype=np.int64)
        for g in self.order[self.order.index(f) :]:
            Kg, Lg = self.layout.width(g), self.layout.levels(g)
            column = later - self.starts[g]
            in_g = (column >= 0) & (column < Kg * Lg)
            c, later_level = np.divmod(column[in_g], Lg)
            if g == f:
                row = c * (c + 1) // 2 + b[in_g]
                target[in_g] = self.diagonal_offset[f] + row * L + level[in_g]
            else:
                pairs = self.leading_pairs[f, g]
                pair = pairs.positions(level[in_g], later_level, Lg)
                offset = self.off_diagonal_offset[f, g] + (b[in_g] * Kg + c) * len(pairs)
                target[in_g] = offset + pair
        return target
