"""Elimination order of a sparse symmetric matrix: rounds of independent columns of small degree.

A round eliminates columns of about the smallest degree that are not adjacent to each other, by
minimum degree with multiple elimination (Liu 1985, ACM Trans. Math. Softw. 11:141). It ends where
all columns that are left have many neighbours: these are one dense block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Ints = npt.NDArray[np.intp]

# Columns of more neighbours are left to the dense block, where they cost less.
_MAX_DEGREE = 64
# Degrees up to this many times the smallest, and one more, are eliminated together: a quarter of
# the rounds of the smallest alone, and the same fill.
_SLACK = 1.2


@dataclass(frozen=True)
class Round:
    """Columns that are eliminated together, and the later neighbours of each."""

    columns: Ints  # (m,)
    starts: Ints  # (m + 1,) first neighbour of each
    neighbours: Ints  # sorted within each column


@dataclass(frozen=True)
class SparseOrder:
    """Rounds of elimination, and the columns of the dense block."""

    size: int
    rounds: tuple[Round, ...]
    dense: Ints

    @property
    def operations(self) -> float:
        """Multiplications of an evaluation: ``c**3``, and the squared degrees of the others."""
        degrees = (np.diff(r.starts).astype(float) for r in self.rounds)
        return float(len(self.dense)) ** 3 + sum(float((d**2).sum()) for d in degrees)


def order_by_degree(pattern: sparse.csr_array) -> SparseOrder:
    """Order the columns of a symmetric pattern (its values do not matter)."""
    size = pattern.shape[0]
    adjacency = _without_diagonal(pattern)
    left, rounds = np.arange(size), []
    for eliminated, to_later, kept, rest in _rounds(adjacency):
        neighbours = left[kept][to_later.indices]
        starts = to_later.indptr.astype(np.intp)
        rounds.append(Round(left[eliminated], starts, neighbours))
        left, adjacency = left[kept], rest
    return SparseOrder(size, tuple(rounds), left)


def _rounds(
    adjacency: sparse.csr_array,
) -> Iterator[tuple[Ints, sparse.csr_array, Ints, sparse.csr_array]]:
    """Eliminated and kept columns of each round, their adjacency, and that of what is left."""
    rng = np.random.default_rng(0)
    while adjacency.shape[0]:
        degrees = np.diff(adjacency.indptr).astype(np.int64)
        smallest = int(degrees.min())
        if smallest > _MAX_DEGREE:
            return
        eligible = degrees <= min(int(_SLACK * smallest) + 1, _MAX_DEGREE)
        chosen = _independent(adjacency, degrees, eligible, rng)
        eliminated, kept = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        to_later = sparse.csr_array(adjacency[eliminated][:, kept])
        to_later.sort_indices()
        rest = adjacency[kept][:, kept]
        if to_later.nnz:
            rest = rest + to_later.T @ to_later
        adjacency = _without_diagonal(rest)
        yield eliminated, to_later, kept, adjacency


def _independent(
    adjacency: sparse.csr_array,
    degrees: npt.NDArray[np.int64],
    eligible: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Eligible columns that come before all their eligible neighbours, by degree, then by lot."""
    size, last = len(degrees), np.iinfo(np.int64).max
    rank = np.where(eligible, degrees * size + rng.permutation(size), last)
    before = np.full(size, last)
    connected = np.flatnonzero(degrees)
    if len(connected):
        of_neighbours = rank[adjacency.indices]
        before[connected] = np.minimum.reduceat(of_neighbours, adjacency.indptr[connected])
    return np.asarray(eligible & (rank < before))


def _without_diagonal(matrix: sparse.csr_array) -> sparse.csr_array:
    """Pattern of the other entries, with values of one, which add up to no zero."""
    entries = sparse.coo_array(matrix)
    off = entries.row != entries.col
    ones = np.ones(int(off.sum()))
    pattern = sparse.csr_array((ones, (entries.row[off], entries.col[off])), shape=matrix.shape)
    pattern.data[:] = 1.0
    return pattern
