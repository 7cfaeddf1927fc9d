"""Products with the blocks of a block matrix, without one sparse matrix of all of them.

Vectors of a factor with K effects and L levels are arrays (K, L, m), for m vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints
from mixedfx.linalg.cholesky.elimination import EliminationOrder

# Numbers in a panel of a product of two blocks.
_PANEL_ENTRIES = 8_000_000
# Entries whose products are in memory together.
_BATCH = 4_000_000


@dataclass(frozen=True)
class BlockProducts:
    """Products with a block matrix, by pairs of factors."""

    matrix: BlockMatrix = field(repr=False)

    @cached_property
    def _off_diagonal(self) -> dict[tuple[int, int], list[list[Any]]]:
        """For factors i < j a sparse matrix (L_i, L_j) for each two effects, of one pattern."""
        blocks = {}
        layout = self.matrix.layout
        for (i, j), pairs in self.matrix.pattern.pairs.items():
            shape = (layout.levels(i), layout.levels(j))
            small = max(*shape, len(pairs)) < 2**31
            index_type = np.int32 if small else np.int64
            cols: Ints = pairs.cols.astype(index_type, copy=False)
            starts: Ints = pairs.row_starts(shape[0]).astype(index_type)
            blocks[i, j] = [
                [_sparse(of_pair, cols, starts, shape) for of_pair in row]
                for row in self.matrix.off_diagonal[i, j]
            ]
        return blocks

    def _block(self, i: int, j: int) -> list[list[Any]]:
        """Sparse matrices (L_i, L_j) for each effect of i and of j."""
        if i < j:
            return self._off_diagonal[i, j]
        return self._transposed[j, i]

    @cached_property
    def _transposed(self) -> dict[tuple[int, int], list[list[Any]]]:
        """The same by columns: no number is copied."""
        return {
            ij: [[_transpose(M) for M in column] for column in zip(*block, strict=True)]
            for ij, block in self._off_diagonal.items()
        }

    def times(self, i: int, j: int, X: Array) -> Array:
        """Block of two different factors times vectors of ``j``: (K_i, L_i, m)."""
        rows = self._block(i, j)
        return np.stack([sum(M @ x for M, x in zip(row, X, strict=True)) for row in rows])

    def weighted_squares(self, i: int, j: int, G: Array) -> Array:
        """``sum_l A_lm' G_l A_lm`` over the levels l of ``i``, for each level m of j: (K, K, L)."""
        block = self._block(i, j)
        K, L = self.matrix.layout.width(j), self.matrix.layout.levels(j)
        out = np.zeros((K, K, L))
        for c in range(K):
            for d in range(c + 1):
                for a, row in enumerate(block):
                    for b, other in enumerate(block):
                        if G[a, b].any():
                            out[c, d] += _product_sums(row[c], other[d], G[a, b])
                out[d, c] = out[c, d]
        return out

    def count_triples(self, first: int, f: int, g: int) -> float:
        """Levels of ``f`` and of ``g`` that share rows with the same level of the first factor."""
        left, right = (self._block(first, h)[0][0].tocsr().indptr for h in (f, g))
        return float(np.diff(left).astype(float) @ np.diff(right))

    def sum_over_triples(
        self, first: int, f: int, g: int, G: Array, scales: tuple[Array, Array]
    ) -> float:
        """``sum tr(S_i A_ij S_j A_jl G_l A_li)`` over levels i of f, j of g and l of the first."""
        direct, to_first, from_first = (
            [[block.tocsr() for block in row] for row in self._block(*pair)]
            for pair in ((f, g), (f, first), (first, g))
        )
        rows, total = max(1, _PANEL_ENTRIES // self.matrix.layout.levels(g)), 0.0
        for a, scale in enumerate(scales[0]):
            for b, other in enumerate(scales[1].transpose(1, 0, 2)):
                weights = sum(
                    sparse.diags_array(s) @ M @ sparse.diags_array(t)
                    for s, row in zip(scale, direct, strict=True)
                    for M, t in zip(row, other, strict=True)
                )
                for left, by in zip(to_first[a], G, strict=True):
                    right = sum(
                        sparse.diags_array(g_cd) @ row[b]
                        for g_cd, row in zip(by, from_first, strict=True)
                    )
                    for i in range(0, weights.shape[0], rows):
                        panel = left[i : i + rows] @ right
                        total += float(panel.multiply(weights[i : i + rows]).sum())
        return total

    def all_times(self, order: EliminationOrder, X: Array) -> Array:
        """The whole matrix times (q, ...) vectors, rows in the order of elimination."""
        vectors = X.reshape(order.size, -1)
        layout, out = self.matrix.layout, np.empty_like(vectors)
        parts = {
            f: vectors[order.columns(f)].reshape(layout.width(f), layout.levels(f), -1)
            for f in layout.factors
        }
        for f in layout.factors:
            total = by_level(self.matrix.diagonal[f], parts[f])
            for g in layout.factors:
                if g != f:
                    total += self.times(f, g, parts[g])
            out[order.columns(f)] = total.reshape(len(out[order.columns(f)]), -1)
        return out.reshape(X.shape)


def _sparse(values: Array, indices: Ints, starts: Ints, shape: tuple[int, int]) -> Any:
    """Sparse matrix by rows of these very arrays, of which SciPy would copy parts of others."""
    M: Any = sparse.csr_array(shape)
    M.data, M.indices, M.indptr = values, indices, starts
    return M


def _transpose(M: Any) -> Any:
    out: Any = sparse.csc_array(M.shape[::-1])
    out.data, out.indices, out.indptr = M.data, M.indices, M.indptr
    return out


def _product_sums(M: Any, N: Any, g: Array) -> Array:
    """``(M * N)' g`` of matrices of one pattern, by rows or by columns: a batch at a time."""
    lines, by_rows = len(M.indptr) - 1, M.format == "csr"
    out = np.zeros(M.shape[1])
    ends = np.searchsorted(M.indptr, np.arange(_BATCH, int(M.indptr[-1]) + _BATCH, _BATCH), "right")
    first = 0
    for last in [*np.unique(np.maximum(ends - 1, 1)).tolist(), lines]:
        if last <= first:
            continue
        at = slice(M.indptr[first], M.indptr[last])
        starts = M.indptr[first : last + 1] - M.indptr[first]
        part = sparse.csr_array(
            (M.data[at] * N.data[at], M.indices[at], starts),
            shape=(last - first, M.shape[1] if by_rows else M.shape[0]),
        )
        if by_rows:
            out += part.T @ g[first:last]
        else:
            out[first:last] = part @ g
        first = last
    return out


def by_level(blocks: Array, X: Array) -> Array:
    """``B_l X_l`` at every level, for blocks (K, K, L) and vectors (K, L, m)."""
    if len(blocks) == 1:
        return np.asarray(blocks[0, 0][:, None] * X[0])[None]
    return np.stack(
        [sum(block[:, None] * x for block, x in zip(row, X, strict=True)) for row in blocks]
    )


def transposed(blocks: Array) -> Array:
    """Transpose of every level's block."""
    return blocks.transpose(1, 0, 2)


def at_all_levels(small: Array, X: Array) -> Array:
    """One matrix times the vectors of every level, (K, L, m)."""
    if len(small) == 1:
        return np.asarray(small[0, 0] * X)
    return np.tensordot(small, X, axes=(1, 0))


@dataclass(frozen=True)
class ProductsMatrix:
    """A block matrix as something to multiply by, ``matrix @ X``."""

    products: BlockProducts
    order: EliminationOrder

    def __matmul__(self, X: Array) -> Array:
        """Multiply (q, ...) vectors."""
        return self.products.all_times(self.order, X)


def sum_over_levels(X: Array, Y: Array) -> Array:
    """``sum_l X_l Y_l'`` of every vector, (K_x, K_y, m), for vectors (K, L, m)."""
    return np.asarray(np.einsum("alm,blm->abm", X, Y))


def split(order: EliminationOrder, factors: Sequence[int], V: Array) -> dict[int, Array]:
    """Vectors of each factor, (K, L, m), from (r, m), which begins with the first of them."""
    layout, first = order.layout, order.starts[factors[0]] if factors else 0
    return {
        f: V[order.starts[f] - first :][: layout.size(f)].reshape(
            layout.width(f), layout.levels(f), -1
        )
        for f in factors
    }
