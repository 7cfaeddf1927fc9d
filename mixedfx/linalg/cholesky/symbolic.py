"""The order of elimination, and everything that does not depend on Lambda.

Factors that are each nested in the next form a chain, eliminated level by level; the rest is
the dense tail. What elimination changes lives in one vector, the store: the chain's later
blocks and couplings, then the tail, whole. A factor's update of the store is a sum over pairs
of its entries that share a level, so all that is needed of it is where each pair goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx.linalg.cholesky.batched import pack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints, OffDiagonalBlock

# A dense product does about this many multiplications in the time that a pair of entries
# takes to be gathered and scattered.
DENSE_ADVANTAGE = 50.0
# Several factors of so few columns together are a dense tail: each step costs more to call.
SMALL = 80
# More pairs than this (12 bytes each) are not listed: dense products need no list.
MOST_PAIRS = 150_000_000
# Levels are turned into dense rows in portions of about this many numbers.
_PORTION = 16_000_000


@dataclass(frozen=True)
class Both:
    """
    A sparse matrix and its transpose: making one at every use would cost more than using it.

    Parameters
    ----------
    plain, transposed : sparse array
        The matrix, both ways.
    """

    plain: Any
    transposed: Any

    @classmethod
    def of(cls, matrix: Any) -> Both:
        """Pair a matrix with its transpose, which shares its numbers."""
        return cls(matrix, matrix.T)


@dataclass(frozen=True)
class Pairs:
    """
    Pairs of entries of one level, and the place in the store that each updates.

    Parameters
    ----------
    first, second : ndarray of shape (pairs,)
        Entries, the later column first; a level's pairs stand together.
    starts : ndarray of shape (L + 1,)
        Where each level's pairs begin.
    target : ndarray of shape (pairs,)
        Places in the store.
    size : int
        Length of the store.
    constant : tuple of sparse array or None
        The update as matrices of shape (store, L), one per distinct entry of ``G``, where
        the entries' values never change.
    """

    first: Ints
    second: Ints
    starts: Ints
    target: Ints
    size: int
    constant: tuple[sparse.csc_array, ...] | None = None

    def matrices(self, z: Array) -> tuple[sparse.csc_array, ...]:
        """Coefficients of each distinct entry of ``G`` in ``z_first' G z_second``."""
        if self.constant is not None:
            return self.constant
        made = []
        for a in range(z.shape[0]):
            for b in range(a + 1):
                value = z[a, self.first] * z[b, self.second]
                if a != b:
                    value += z[b, self.first] * z[a, self.second]
                shape = (self.size, len(self.starts) - 1)
                made.append(sparse.csc_array((value, self.target, self.starts), shape=shape))
        return tuple(made)


@dataclass(frozen=True)
class Rows:
    """
    Entries of a factor in the tail as dense rows, made in portions of levels.

    Parameters
    ----------
    parts : tuple of (int, int)
        First and last level of each portion.
    matrix : sparse array of shape (K L, tail)
        The entries.
    K : int
        Columns of the factor.
    kept : ndarray of shape (K, L, tail) or None
        The rows, where all make a single portion.
    """

    parts: tuple[tuple[int, int], ...]
    matrix: sparse.csr_array
    K: int
    kept: Array | None

    def portion(self, first: int, last: int) -> Array:
        """Rows of some levels, (K, last - first, tail)."""
        if self.kept is not None:
            return self.kept
        L = self.matrix.shape[0] // self.K
        rows = [self.matrix[a * L + first : a * L + last].toarray() for a in range(self.K)]
        return np.stack(rows)


@dataclass(frozen=True)
class Step:
    """
    One factor of the chain.

    Entry ``e`` says that level ``rows[e]`` meets scalar column ``cols[e]`` of a later factor,
    with one value for each of the factor's ``K`` columns.

    Parameters
    ----------
    factor, K, L, start : int
        Which factor; its columns and levels; its first scalar column in the order.
    rows, cols : ndarray of shape (entries,)
        The entries, sorted by level, then column.
    values : ndarray of shape (K, entries) or None
        Their values in the first step, which nothing changes.
    where : ndarray of shape (K, entries) or None
        Their places in the store in later steps.
    own : slice or None
        Places of the factor's own block in the store in later steps.
    pairs : Pairs or Rows or None
        How the store is updated.
    """

    factor: int
    K: int
    L: int
    start: int
    rows: Ints
    cols: Ints
    values: Array | None
    where: Ints | None
    own: slice | None
    pairs: Pairs | Rows | None

    @property
    def columns(self) -> slice:
        """Scalar columns of the factor, in the order."""
        return slice(self.start, self.start + self.K * self.L)

    def entries(self, store: Array) -> Array:
        """Values of the entries, (K, entries)."""
        return store[self.where] if self.values is None else self.values

    def matrix(self, z: Array, size: int) -> sparse.csr_array:
        """Arrange the entries as a matrix of shape (K L, all columns)."""
        counts = np.bincount(self.rows, minlength=self.L)
        starts = np.concatenate([[0], np.cumsum(np.tile(counts, self.K))])
        shape = (self.K * self.L, size)
        return sparse.csr_array((z.ravel(), np.tile(self.cols, self.K), starts), shape=shape)

    @cached_property
    def constant(self) -> tuple[Both, tuple[Both, ...]] | None:
        """Entries and updates of the first step, which never change."""
        if self.values is None or not isinstance(self.pairs, Pairs):
            return None
        entries = self.matrix(self.values, self._size)
        return Both.of(entries), tuple(map(Both.of, self.pairs.matrices(self.values)))

    _size: int = 0


@dataclass(frozen=True)
class SymbolicFactor:
    """
    Made by :func:`analyze`.

    Parameters
    ----------
    gram : Gram
        The matrix.
    steps : tuple of Step
        The chain.
    tail : tuple of int
        Factors of the dense block.
    starts : mapping of int to int
        First scalar column of each factor, in the order of elimination.
    size, tail_start : int
        All scalar columns; the first of the tail.
    store : ndarray
        The values that elimination changes, before it.
    tail_at : int
        Where the tail begins in the store.
    """

    block_matrix: BlockMatrix
    steps: tuple[Step, ...]
    dense: tuple[int, ...]
    starts: Mapping[int, int]
    size: int
    dense_start: int
    store: Array = field(repr=False)
    dense_at: int = 0

    @property
    def chain(self) -> tuple[int, ...]:
        """Factors that are eliminated level by level, in order."""
        return tuple(s.factor for s in self.steps)

    @property
    def dense_size(self) -> int:
        """Scalar columns of the tail."""
        return self.size - self.dense_start

    def columns(self, factor: int) -> slice:
        """Scalar columns of a factor, in the order."""
        start = self.starts[factor]
        return slice(start, start + self.block_matrix.size(factor))

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """The whole of the Gram as one sparse matrix, columns in the order."""
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
        for (f, g), c in block_matrix.off_diagonal.items():
            for a in range(block_matrix.width(f)):
                for b in range(block_matrix.width(g)):
                    at = self.starts[f] + a * block_matrix.levels(f) + c.rows
                    to = self.starts[g] + b * block_matrix.levels(g) + c.cols
                    rows += [at, to]
                    cols += [to, at]
                    values += [c.values[a, b]] * 2
        shape = (self.size, self.size)
        if not rows:
            return sparse.csr_array(shape)
        joined = (np.concatenate(rows), np.concatenate(cols))
        return sparse.coo_array((np.concatenate(values), joined), shape=shape).tocsr()


def analyze(block_matrix: BlockMatrix) -> SymbolicFactor:
    """Choose the order of elimination and prepare everything that does not depend on Lambda."""
    chain, dense = _order(block_matrix)
    order = [*chain, *dense]
    ends = np.cumsum([0, *(block_matrix.size(f) for f in order)]).tolist()
    starts = dict(zip(order, ends, strict=False))
    return _Builder(block_matrix, chain, dense, starts, ends[-1], ends[len(chain)]).build()


def _order(block_matrix: BlockMatrix) -> tuple[list[int], list[int]]:
    """Take the chain that leaves the smallest tail: each candidate start, extended greedily."""
    by_levels = sorted(block_matrix.factors, key=lambda f: -block_matrix.levels(f))
    if len(by_levels) > 1 and sum(map(block_matrix.size, by_levels)) <= SMALL:
        return [], by_levels
    best: tuple[int, list[int]] = (sum(map(block_matrix.size, block_matrix.factors)) + 1, [])
    for start in by_levels:
        chain = [start]
        for f in by_levels:
            outside = f not in chain
            if outside and all(_contains(block_matrix, f, c) for c in chain):
                chain.append(f)
        left = sum(block_matrix.size(f) for f in block_matrix.factors if f not in chain)
        best = min(best, (left, chain), key=lambda b: b[0])
    return best[1], [f for f in by_levels if f not in best[1]]


def _contains(block_matrix: BlockMatrix, outer: int, inner: int) -> bool:
    return block_matrix.levels(inner) >= block_matrix.levels(outer) and block_matrix.is_nested(
        inner, outer
    )


class _Builder:
    """Scratch space of :func:`analyze`: where everything stands in the store."""

    def __init__(
        self,
        block_matrix: BlockMatrix,
        chain: list[int],
        dense: list[int],
        starts: dict[int, int],
        size: int,
        dense_start: int,
    ) -> None:
        self.block_matrix, self.chain, self.dense, self.starts = block_matrix, chain, dense, starts
        self.order, self.size, self.dense_start = [*chain, *dense], size, dense_start
        self.dense_size = size - dense_start
        self.patterns: dict[tuple[int, int], OffDiagonalBlock] = {}
        self.own_at: dict[int, int] = {}
        self.coupling_at: dict[tuple[int, int], int] = {}

    def build(self) -> SymbolicFactor:
        store = self._lay_out()
        steps = tuple(self._step(i, f, len(store)) for i, f in enumerate(self.chain))
        return SymbolicFactor(
            self.block_matrix,
            steps,
            tuple(self.dense),
            self.starts,
            self.size,
            self.dense_start,
            store,
            self.dense_at,
        )

    def _lay_out(self) -> Array:
        """Give every value that elimination changes a place, and collect their first values."""
        block_matrix, parts, at = self.block_matrix, [], 0
        for i, f in enumerate(self.chain):
            for g in self.order[i + 1 :]:
                self.patterns[f, g] = block_matrix.block(f, g)
        for i, f in enumerate(self.chain[1:], start=1):
            self.own_at[f] = at
            parts += [np.concatenate(pack_lower(block_matrix.diagonal[f]))]
            at += parts[-1].size
            for g in self.order[i + 1 :]:
                self.coupling_at[f, g] = at
                parts.append(self.patterns[f, g].values.ravel())
                at += parts[-1].size
        self.dense_at = at
        return np.concatenate([*parts, self._dense_tail().ravel()])

    def _dense_tail(self) -> Array:
        """Lower triangle of the tail before elimination, whole."""
        block_matrix = self.block_matrix
        dense = np.zeros((self.dense_size, self.dense_size))
        for i, f in enumerate(self.dense):
            L, level = block_matrix.levels(f), np.arange(block_matrix.levels(f))
            start = self.starts[f] - self.dense_start
            for a in range(block_matrix.width(f)):
                for b in range(a + 1):
                    dense[start + a * L + level, start + b * L + level] = block_matrix.diagonal[f][
                        a, b
                    ]
            for g in self.dense[i + 1 :]:
                c, later = block_matrix.block(f, g), self.starts[g] - self.dense_start
                for a in range(block_matrix.width(f)):
                    for b in range(block_matrix.width(g)):
                        rows = later + b * block_matrix.levels(g) + c.cols
                        dense[rows, start + a * L + c.rows] = c.values[a, b]
        return dense

    def _step(self, i: int, f: int, total: int) -> Step:
        rows, cols, values, where = self._entries(i, f)
        K, L = self.block_matrix.width(f), self.block_matrix.levels(f)
        own = None
        if i:
            own = slice(self.own_at[f], self.own_at[f] + K * (K + 1) // 2 * L)
        pairs: Pairs | Rows | None = None
        if len(rows):
            counts = np.bincount(rows, minlength=L)
            listed = float((counts * (counts + 1.0)).sum()) / 2
            if self._dense_pays(K, L, listed):
                pairs = self._dense_rows(K, L, rows, cols, values)
            else:
                pairs = self._pair_up(counts, cols, values, total)
        return Step(f, K, L, self.starts[f], rows, cols, values, where, own, pairs, self.size)

    def _dense_pays(self, K: int, L: int, listed: float) -> bool:
        """Whether one dense product beats pairs; only where a single factor meets the tail."""
        if len(self.chain) != 1:
            return False
        work = K * L * float(self.dense_size) ** 2
        return work < DENSE_ADVANTAGE * listed * K * (K + 1) / 2 or listed > MOST_PAIRS

    def _dense_rows(self, K: int, L: int, rows: Ints, cols: Ints, values: Array | None) -> Rows:
        assert values is not None  # a single factor is the first, whose entries are constant
        at = np.concatenate([a * L + rows for a in range(K)])
        inside = np.tile(cols - self.dense_start, K)
        matrix = sparse.csr_array((values.ravel(), (at, inside)), shape=(K * L, self.dense_size))
        per = max(1, _PORTION // (K * self.dense_size))
        parts = tuple((first, min(first + per, L)) for first in range(0, L, per))
        kept = matrix.toarray().reshape(K, L, -1) if len(parts) == 1 else None
        return Rows(parts, matrix, K, kept)

    def _entries(self, i: int, f: int) -> tuple[Ints, Ints, Array | None, Ints | None]:
        """List the entries of a chain factor in later columns, sorted by level, then column."""
        block_matrix = self.block_matrix
        rows, cols, values, where = [], [], [], []
        for g in self.order[i + 1 :]:
            c, Kg, Lg = self.patterns[f, g], block_matrix.width(g), block_matrix.levels(g)
            for b in range(Kg):
                rows.append(c.rows)
                cols.append(self.starts[g] + b * Lg + c.cols)
                values.append(c.values[:, b])
                if i:
                    a = np.arange(block_matrix.width(f))[:, None]
                    at = self.coupling_at[f, g] + (a * Kg + b) * len(c.rows)
                    where.append(at + np.arange(len(c.rows)))
        if not rows:
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros((block_matrix.width(f), 0)), None
        if len(rows) == 1:  # one later column set: sorted already
            return rows[0], cols[0], (None if i else values[0]), (where[0] if i else None)
        r, k = np.concatenate(rows), np.concatenate(cols)
        by = np.argsort(r * self.size + k, kind="stable")
        if i:
            return r[by], k[by], None, np.concatenate(where, axis=1)[:, by]
        return r[by], k[by], np.concatenate(values, axis=1)[:, by], None

    def _pair_up(self, counts: Ints, cols: Ints, values: Array | None, total: int) -> Pairs:
        """List all pairs of entries that share a level, for all levels of one count at once."""
        small: type[np.signedinteger[Any]]
        small = np.int32 if max(total, len(cols)) < 2**31 else np.int64
        begin = np.cumsum(counts) - counts
        per_level = counts * (counts + 1) // 2
        starts = np.concatenate([[0], np.cumsum(per_level)])
        first = np.empty(starts[-1], dtype=small)
        second = np.empty(starts[-1], dtype=small)
        for m in np.unique(counts[counts > 0]).tolist():
            levels = np.flatnonzero(counts == m)
            i, j = np.tril_indices(m)
            at = (starts[levels][:, None] + np.arange(len(i))).ravel()
            first[at] = (begin[levels][:, None] + i).ravel()
            second[at] = (begin[levels][:, None] + j).ravel()
        target: Ints = self._targets(cols, first, second, starts[-1]).astype(small)
        starts = starts.astype(np.int32 if starts[-1] < 2**31 else np.int64)
        if values is None:
            return Pairs(first, second, starts, target, total)
        made = Pairs(first, second, starts, target, total).matrices(values)
        none = np.zeros(0, dtype=small)
        return Pairs(none, none, starts, target, total, made)

    def _targets(self, cols: Ints, first: Ints, second: Ints, count: int) -> Ints:
        """Find the place in the store of each pair's product."""
        inside = cols - self.dense_start
        if len(self.chain) == 1:
            row = self.dense_at + inside * self.dense_size
            return np.asarray(row[first] + inside[second])
        target = np.empty(count, dtype=np.int64)
        bounds = [self.starts[f] for f in self.chain] + [self.dense_start]
        owner = (np.searchsorted(bounds, cols, side="right") - 1)[second]
        mine = np.flatnonzero(owner == len(self.chain))
        target[mine] = self.dense_at + inside[first[mine]] * self.dense_size + inside[second[mine]]
        for i, f in enumerate(self.chain[1:], start=1):
            mine = np.flatnonzero(owner == i)
            if len(mine):
                target[mine] = self._chain_target(f, cols[first[mine]], cols[second[mine]])
        return target

    def _chain_target(self, f: int, later: Ints, earlier: Ints) -> Ints:
        """Find the place of the value at two columns, the earlier of which belongs to ``f``."""
        L = self.block_matrix.levels(f)
        b, level = np.divmod(earlier - self.starts[f], L)
        target = np.empty(len(later), dtype=np.int64)
        for g in self.order[self.order.index(f) :]:
            Kg, Lg = self.block_matrix.width(g), self.block_matrix.levels(g)
            at = later - self.starts[g]
            mine = (at >= 0) & (at < Kg * Lg)
            c, other = np.divmod(at[mine], Lg)
            if g == f:
                target[mine] = self.own_at[f] + (c * (c + 1) // 2 + b[mine]) * L + level[mine]
            else:
                pattern = self.patterns[f, g]
                keys = pattern.rows * Lg + pattern.cols
                pair = np.searchsorted(keys, level[mine] * Lg + other)
                target[mine] = self.coupling_at[f, g] + (b[mine] * Kg + c) * len(keys) + pair
        return target
