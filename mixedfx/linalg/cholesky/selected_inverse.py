"""Entries of an inverse without the inverse: columns that cannot meet share a right side.

Levels that no chain of rows connects are independent, so the columns of ``A`` (and of any
inverse or product made of it) fall into parts that do not meet. One column of each part can
stand in the same right side, and what comes back is told apart by part. For one grouping
factor, or nested ones, a few right sides so give every entry; for crossed factors it is one
right side for each column.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor

# Right sides are made in portions of about this many numbers.
_PORTION = 4_000_000


@dataclass(frozen=True)
class ProbingVectors:
    """
    Which columns share a right side.

    Slot ``starts[f] + K rank + a`` stands for effect ``a`` of a level of factor ``f``, with
    ``rank`` the level's number among the levels of its factor in its part.

    Parameters
    ----------
    plan : Plan
        The matrix.
    parts : tuple of ndarray of shape (L,)
        Part of each level, by factor.
    ranks : tuple of ndarray of shape (L,)
        Number of each level within its part, by factor.
    starts : tuple of int
        First slot of each factor, then the number of slots.
    """

    symbolic: SymbolicFactor = field(repr=False)
    parts: tuple[Ints, ...] = field(repr=False)
    ranks: tuple[Ints, ...] = field(repr=False)
    starts: tuple[int, ...]

    @property
    def slots(self) -> int:
        """Number of right sides that give every entry."""
        return self.starts[-1]

    def ranks_of(self, factor: int) -> int:
        """Most levels that a factor has in one part."""
        width = self.symbolic.block_matrix.width(factor)
        return (self.starts[factor + 1] - self.starts[factor]) // width

    def portions(self, factor: int) -> Iterator[tuple[int, int]]:
        """Divide a factor's ranks, so that the right sides of each portion fit the memory."""
        size = max(1, self.symbolic.size * self.symbolic.block_matrix.width(factor))
        step = max(1, _PORTION // size)
        count = self.ranks_of(factor)
        for first in range(0, count, step):
            yield first, min(first + step, count)

    def units(self, factor: int, first: int, last: int) -> Array:
        """Unit columns of some ranks' levels, (q, (last - first) K), the effects fastest."""
        block_matrix, ranks = self.symbolic.block_matrix, self.ranks[factor]
        K, L = block_matrix.width(factor), block_matrix.levels(factor)
        level = np.flatnonzero((ranks >= first) & (ranks < last))
        out = np.zeros((self.symbolic.size, (last - first) * K))
        for a in range(K):
            row = self.symbolic.starts[factor] + a * L + level
            out[row, (ranks[level] - first) * K + a] = 1.0
        return out

    def store(self, multiply: Callable[[Array], Array]) -> Array:
        """Multiply all unit columns: (q, slots), entry of row and slot where they can meet."""
        made = [
            multiply(self.units(f, *portion))
            for f in self.symbolic.block_matrix.factors
            for portion in self.portions(f)
        ]
        return np.concatenate(made, axis=1) if made else np.zeros((self.symbolic.size, 0))

    @property
    def cost(self) -> int:
        """Numbers in the store."""
        return self.symbolic.size * self.slots


def probing_vectors(symbolic: SymbolicFactor) -> ProbingVectors:
    """Divide the columns into parts, and number the levels within each."""
    block_matrix = symbolic.block_matrix
    if not symbolic.size:
        return ProbingVectors(symbolic, (), (), (0,))
    count, part = connected_components(_levels_that_meet(symbolic), directed=False)
    ends = np.cumsum([0, *(block_matrix.levels(f) for f in block_matrix.factors)])
    parts = tuple(part[a:b] for a, b in itertools.pairwise(ends))
    ranks, starts = [], [0]
    for f, mine in zip(block_matrix.factors, parts, strict=True):
        order = np.argsort(mine, kind="stable")
        first = np.searchsorted(mine[order], np.arange(count))
        rank = np.empty(len(mine), dtype=int)
        rank[order] = np.arange(len(mine)) - first[mine[order]]
        ranks.append(rank)
        starts.append(starts[-1] + (int(rank.max()) + 1) * block_matrix.width(f))
    return ProbingVectors(symbolic, parts, tuple(ranks), tuple(starts))


def _levels_that_meet(symbolic: SymbolicFactor) -> sparse.coo_array:
    """Graph of the levels of all factors: an edge where two share rows."""
    block_matrix = symbolic.block_matrix
    ends = np.cumsum([0, *(block_matrix.levels(f) for f in block_matrix.factors)])
    rows = [np.zeros(0, dtype=int)] + [
        ends[i] + c.rows for (i, _), c in block_matrix.couplings.items()
    ]
    cols = [np.zeros(0, dtype=int)] + [
        ends[j] + c.cols for (_, j), c in block_matrix.couplings.items()
    ]
    row, col = np.concatenate(rows), np.concatenate(cols)
    total = int(ends[-1])
    return sparse.coo_array((np.ones(len(row)), (row, col)), shape=(total, total))
