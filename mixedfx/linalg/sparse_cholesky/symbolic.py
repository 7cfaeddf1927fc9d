"""Positions of all values of a sparse factorisation, in one vector.

First the pivots in the order of elimination, then the entries of each column with its later
neighbours, then the dense block by rows, of which the lower triangle is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.symbolic import level_pairs
from mixedfx.linalg.sparse_cholesky.ordering import SparseOrder

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class RoundPositions:
    """Entries of a round of elimination, and the pairs of entries of each column."""

    columns: Ints  # (m,)
    pivots: slice
    entries: slice
    starts: Ints  # (m + 1,) first entry of each column
    owner: Ints  # (entries,) number among the round's columns
    neighbours: Ints  # (entries,)
    first: Ints = field(repr=False)  # (pairs,) entries of each pair, the later one first
    second: Ints = field(repr=False)
    target: Ints = field(repr=False)  # (pairs,) position that their product is subtracted from
    unique: Ints = field(repr=False)  # distinct targets
    runs: Ints = field(repr=False)  # first pair of each


@dataclass(frozen=True)
class SparseSymbolic:
    """Order and positions of a sparse matrix: analysed once, refilled with any values."""

    order: SparseOrder
    keys: Ints = field(repr=False)  # (entries,) sorted: place of the column, then the neighbour
    place: Ints = field(repr=False)  # (size,) in the order of elimination; the dense block's last

    @staticmethod
    def of(order: SparseOrder) -> SparseSymbolic:
        """Positions of an order."""
        columns = [*(r.columns for r in order.rounds), order.dense]
        place = np.empty(order.size, dtype=np.intp)
        place[np.concatenate(columns)] = np.arange(order.size)
        keys = [np.zeros(0, dtype=np.intp)]
        for r in order.rounds:
            owner = np.repeat(r.columns, np.diff(r.starts))
            keys.append(place[owner] * order.size + r.neighbours)
        return SparseSymbolic(order, np.concatenate(keys), place)

    @property
    def n_pivots(self) -> int:
        """Columns that are eliminated before the dense block."""
        return self.order.size - len(self.order.dense)

    @property
    def dense_size(self) -> int:
        """Columns of the dense block."""
        return len(self.order.dense)

    @property
    def dense_start(self) -> int:
        """Position of the first value of the dense block."""
        return self.n_pivots + len(self.keys)

    @property
    def n_values(self) -> int:
        """Values of the factor."""
        return self.dense_start + self.dense_size**2

    def positions(self, rows: Ints, columns: Ints) -> Ints:
        """Positions of entries, which the filled pattern must have; either triangle."""
        return self.find(rows, columns)[0]

    def find(self, rows: Ints, columns: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Positions of entries, of either triangle, and whether the filled pattern has them."""
        size, place = self.order.size, self.place
        first = np.minimum(place[rows], place[columns])
        second = np.maximum(place[rows], place[columns])
        later = np.where(place[rows] > place[columns], rows, columns)
        wanted = first * size + later
        at = np.searchsorted(self.keys, wanted)
        last = max(len(self.keys) - 1, 0)
        known = self.keys[np.minimum(at, last)] == wanted if len(self.keys) else wanted < 0
        found = at + self.n_pivots
        within = self.dense_start + (second - self.n_pivots) * self.dense_size
        within += first - self.n_pivots
        in_dense = first >= self.n_pivots
        found = np.where(in_dense, within, np.where(first == second, first, found))
        return found, known | in_dense | (first == second)

    @cached_property
    def rounds(self) -> tuple[RoundPositions, ...]:
        """Positions of each round."""
        found, pivot, entry = [], 0, self.n_pivots
        for r in self.order.rounds:
            counts = np.diff(r.starts)
            first, second = level_pairs(counts, np.int64)
            target = self.positions(r.neighbours[first], r.neighbours[second])
            by = np.argsort(target, kind="stable")
            target = target[by]
            runs = np.flatnonzero(np.diff(target, prepend=-1))
            found.append(
                RoundPositions(
                    r.columns,
                    slice(pivot, pivot + len(counts)),
                    slice(entry, entry + len(r.neighbours)),
                    r.starts,
                    np.repeat(np.arange(len(counts)), counts),
                    r.neighbours,
                    first[by].astype(np.intp),
                    second[by].astype(np.intp),
                    target,
                    target[runs],
                    runs,
                )
            )
            pivot, entry = pivot + len(counts), entry + len(r.neighbours)
        return tuple(found)
