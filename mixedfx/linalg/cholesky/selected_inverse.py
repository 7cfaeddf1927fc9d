"""Selected entries of an inverse by probing with sums of unit vectors.

The levels of all factors are the nodes of a graph with an edge wherever two levels share a row;
entries of ``A``, of its inverse and of their products are zero between connected components of
that graph. Columns of different components may therefore share one right-hand side ``v``: entry
``(i, j)`` of an operator ``H`` is entry ``i`` of ``H v`` if ``v`` is the probing vector of column
``j`` and both belong to one component. One grouping factor, or nested ones, need a few vectors
in all; crossed factors need one for each column.

Tang and Saad (2012), A probing method for computing the diagonal of a matrix inverse, Numerical
Linear Algebra with Applications 19, 485-501.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.elimination import EliminationOrder

# Probing vectors are multiplied in batches of about this many entries.
_BATCH_ENTRIES = 4_000_000


@dataclass(frozen=True)
class ProbingVectors:
    """
    Assignment of scalar columns to probing vectors.

    Effect ``a`` of a level of factor ``f`` belongs to the vector with number
    ``first_vector[f] + K * index_in_component[f][level] + a``.
    """

    symbolic: EliminationOrder = field(repr=False)
    component: tuple[Ints, ...] = field(repr=False)  # per factor (L,): label of each level
    index_in_component: tuple[Ints, ...] = field(repr=False)  # per factor (L,), among its levels
    first_vector: tuple[int, ...]  # per factor, then the number of vectors

    @property
    def n_vectors(self) -> int:
        """Number of probing vectors."""
        return self.first_vector[-1]

    @property
    def n_entries(self) -> int:
        """Number of entries that :meth:`apply` returns."""
        return self.symbolic.size * self.n_vectors

    def batches(self, factor: int) -> Iterator[tuple[int, int]]:
        """Ranges of ``index_in_component`` whose vectors have about ``_BATCH_ENTRIES`` entries."""
        width = self.symbolic.layout.width(factor)
        count = (self.first_vector[factor + 1] - self.first_vector[factor]) // width
        step = max(1, _BATCH_ENTRIES // max(1, self.symbolic.size * width))
        for first in range(0, count, step):
            yield first, min(first + step, count)

    def vectors(self, factor: int, first: int, last: int) -> Array:
        """Probing vectors of a range of indices, (q, (last - first) K), the effects fastest."""
        return vectors_of_effects(self.symbolic, factor, self.of_levels(factor, first, last))

    def of_levels(self, factor: int, first: int, last: int) -> Array:
        """The same of its levels, (L, last - first)."""
        index = self.index_in_component[factor]
        level = np.flatnonzero((index >= first) & (index < last))
        out = np.zeros((len(index), last - first))
        out[level, index[level] - first] = 1.0
        return out

    def apply(self, operator: Callable[[Array], Array]) -> Array:
        """Apply a linear operator to all probing vectors, (q, n_vectors)."""
        products = [
            operator(self.vectors(f, *batch))
            for f in self.symbolic.layout.factors
            for batch in self.batches(f)
        ]
        return np.concatenate(products, axis=1) if products else np.zeros((self.symbolic.size, 0))


def vectors_of_effects(symbolic: EliminationOrder, factor: int, of_levels: Array) -> Array:
    """Vectors (q, c K) of each effect of a factor, the effects fastest, from c of levels (L, c)."""
    K, (L, count) = symbolic.layout.width(factor), of_levels.shape
    out = np.zeros((symbolic.size, count * K))
    own = out[symbolic.columns(factor)].reshape(K, L, count, K)
    own[np.arange(K), ..., np.arange(K)] = of_levels
    return out


def probing_vectors(symbolic: EliminationOrder) -> ProbingVectors:
    """Find the connected components, and number each factor's levels within each component."""
    layout = symbolic.layout
    if not symbolic.size:
        return ProbingVectors(symbolic, (), (), (0,))
    n_components, labels = connected_components(_level_graph(symbolic), directed=False)
    ends = np.cumsum([0, *(layout.levels(f) for f in layout.factors)])
    component = tuple(labels[a:b] for a, b in itertools.pairwise(ends))
    indices, first_vector = [], [0]
    for f, label in zip(layout.factors, component, strict=True):
        order = np.argsort(label, kind="stable")
        first = np.searchsorted(label[order], np.arange(n_components))
        index = np.empty(len(label), dtype=int)
        index[order] = np.arange(len(label)) - first[label[order]]
        indices.append(index)
        first_vector.append(first_vector[-1] + (int(index.max()) + 1) * layout.width(f))
    return ProbingVectors(symbolic, component, tuple(indices), tuple(first_vector))


def _level_graph(symbolic: EliminationOrder) -> sparse.coo_array:
    """Adjacency matrix of the levels of all factors: an edge where two levels share a row."""
    layout = symbolic.layout
    ends = np.cumsum([0, *(layout.levels(f) for f in layout.factors)])
    rows, cols = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    of_factor = {(f, f): pairs for f, pairs in symbolic.within.items()}
    for (i, j), pairs in {**symbolic.pairs, **of_factor}.items():
        rows.append(ends[i] + pairs.rows)
        cols.append(ends[j] + pairs.cols)
    row, col = np.concatenate(rows), np.concatenate(cols)
    total = int(ends[-1])
    return sparse.coo_array((np.ones(len(row)), (row, col)), shape=(total, total))
