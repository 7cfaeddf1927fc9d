"""Span W of the constants of each factor, on which the complement is nearly singular.

Where every level of the first factor meets levels of another, adding a constant to the latter and
subtracting it from the former changes no row: ``S`` is nearly singular along it, in every connected
component of the levels, for each effect. The directions of different components have no level in
common, and so one vector for each effect holds those of all components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components

from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.elimination import EliminationOrder

# Unit vectors of factors with few levels, each of which costs a system.
_MOST_UNIT_VECTORS = 32


@dataclass(frozen=True)
class Components:
    """Connected components of the levels of all factors: levels that share a row are connected."""

    labels: Mapping[int, Ints] = field(repr=False)  # of each factor's levels
    count: int

    @staticmethod
    def of(order: EliminationOrder) -> Components:
        """Find the components."""
        layout = order.layout
        if _is_connected(order):
            return Components({f: np.zeros(layout.levels(f), np.intp) for f in layout.factors}, 1)
        ends = np.cumsum([0, *(layout.levels(f) for f in layout.factors)])
        rows = np.concatenate([ends[i] + pairs.rows for (i, _), pairs in order.pairs.items()])
        cols = np.concatenate([ends[j] + pairs.cols for (_, j), pairs in order.pairs.items()])
        total = int(ends[-1])
        graph = sparse.coo_array((np.ones(len(rows)), (rows, cols)), shape=(total, total))
        count, labels = connected_components(graph, directed=False)
        parts = {f: labels[ends[f] : ends[f + 1]].astype(np.intp) for f in layout.factors}
        return Components(parts, int(count))

    def sums(self, factor: int, values: Array) -> Array:
        """Sums over the levels of each component, (count,)."""
        return np.asarray(np.bincount(self.labels[factor], values, self.count), dtype=float)


def _is_connected(order: EliminationOrder) -> bool:
    """Whether few rounds from one level reach all: cheaper than the general algorithm."""
    layout = order.layout
    reached = [np.zeros(layout.levels(f), dtype=bool) for f in layout.factors]
    start = next(((i, pairs.rows[0]) for (i, _), pairs in order.pairs.items() if len(pairs)), None)
    if start is not None:
        reached[start[0]][start[1]] = True
    for _ in range(8):
        before = sum(int(own.sum()) for own in reached)
        for (i, j), pairs in order.pairs.items():
            for batch in pairs.batches():
                rows, cols = pairs.rows[batch], pairs.cols[batch]
                reached[j][cols[reached[i][rows]]] = True
                reached[i][rows[reached[j][cols]]] = True
        if sum(int(own.sum()) for own in reached) == before:
            break
    return all(own.all() for own in reached)


def _constants(components: Components, f: int, root: Array) -> Array:
    """Orthonormal constants of a factor's effects in every component, (K L, K)."""
    K, _, L = root.shape
    products = np.zeros((components.count, K, K))
    for a in range(K):
        for b in range(K):
            products[:, a, b] = components.sums(f, (root[a] * root[b]).sum(axis=0))
    products[products[:, 0, 0] == 0.0] = np.eye(K)  # components without levels of it
    inverse = np.linalg.inv(np.linalg.cholesky(products))
    # Row l of W is L_l' C^-T, with C C' the sum of L_l L_l' over the component.
    W = np.einsum("cal,lbc->abl", root, inverse[components.labels[f]], optimize=True)
    return np.asarray(W.transpose(0, 2, 1).reshape(K * L, K))


@dataclass(frozen=True)
class Deflation:
    """Orthonormal columns W, one for each effect of each factor and component; ``r`` rows."""

    columns: Array = field(repr=False)  # (r, d), those of all components added up
    component: Ints = field(repr=False)  # (r,) of each row
    count: int  # components

    @staticmethod
    def of(
        order: EliminationOrder,
        factors: Sequence[int],
        components: Components,
        roots: Mapping[int, Array],
    ) -> Deflation:
        """
        Constants in units of the preconditioner's roots L, (K, K, L): ``L_l'e_a``.

        Of factors with few levels all unit vectors, as others may be nested in them.
        """
        layout, component = order.layout, []
        parts: list[Array] = []
        left = _MOST_UNIT_VECTORS if components.count == 1 else 0
        for f in factors:
            component.append(np.tile(components.labels[f], layout.width(f)))
            if layout.size(f) <= left:
                left -= layout.size(f)
                parts.append(np.eye(layout.size(f)))
            else:
                parts.append(_constants(components, f, roots[f]))
        columns = linalg.block_diag(*parts)
        return Deflation(columns, np.concatenate(component), components.count)

    def products(self, V: Array) -> Array:
        """``W'V`` of each component, (count, d, m)."""
        return self.inner(self.columns, V)

    def inner(self, U: Array, V: Array) -> Array:
        """``U'V`` of each component, (count, a, m)."""
        if self.count == 1:
            return (U.T @ V)[None]
        out = np.empty((self.count, U.shape[1], V.shape[1]))
        for a in range(U.shape[1]):
            for j in range(V.shape[1]):
                out[:, a, j] = np.bincount(self.component, U[:, a] * V[:, j], self.count)
        return out

    def combine(self, V: Array, weights: Array) -> Array:
        """``V weights`` with the weights of each row's component, for (count, d, m): (r, m)."""
        if self.count == 1:
            return np.asarray(V @ weights[0])
        return sum(
            (V[:, a, None] * weights[self.component, a] for a in range(V.shape[1])),
            start=np.zeros((len(V), weights.shape[2])),
        )

    def complement(self, V: Array) -> Array:
        """``V - W W'V``."""
        return np.asarray(V - self.combine(self.columns, self.products(V)))
