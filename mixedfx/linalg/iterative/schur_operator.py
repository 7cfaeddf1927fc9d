"""Schur complement of the first factor as an operator, preconditioned by its diagonal blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right, penalized_inverse
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.iterative.block_products import (
    BlockProducts,
    at_all_levels,
    by_level,
    split,
    transposed,
)


@dataclass(frozen=True)
class SchurOperator:
    """``S = I + Lambda_2' (A_22 - A_21 G_1 A_12) Lambda_2`` and ``P = L^-1 S L^-T``."""

    products: BlockProducts = field(repr=False)
    order: EliminationOrder = field(repr=False)
    lambdas: Sequence[Array]  # one (K, K) per factor
    G: Array = field(repr=False)  # (K, K, L) of the first factor
    lam_M_inv: Array = field(repr=False)  # (K, K, L), Lambda M^-1 of the first factor
    # Of each other factor: blocks A - sum A_1' G A_1 (K, K, L), L of L L' = D, and L^-1
    reduced: Mapping[int, Array] = field(repr=False)
    roots: Mapping[int, Array] = field(repr=False)
    inverse_roots: Mapping[int, Array] = field(repr=False)
    log_det_blocks: float  # log|M_11| + sum log|D|

    @staticmethod
    def at(
        products: BlockProducts, order: EliminationOrder, lambdas: Sequence[Array]
    ) -> SchurOperator:
        """Eliminate the first factor, and factorise the diagonal blocks."""
        first, diagonal = order.order[0], products.matrix.diagonal
        G, lam_M_inv, log_det = penalized_inverse(diagonal[first], lambdas[first])
        reduced, roots, inverse_roots = {}, {}, {}
        for f in order.order[1:]:
            lam = lambdas[f]
            reduced[f] = diagonal[f] - products.weighted_squares(first, f, G)
            D = matmul_left(lam.T, matmul_right(reduced[f], lam))
            D[np.diag_indices(len(D))] += 1.0
            roots[f], inverse_roots[f] = _roots(D)
            log_det += 2.0 * float(np.log(np.einsum("aal->al", roots[f])).sum())
        return SchurOperator(
            products, order, tuple(lambdas), G, lam_M_inv, reduced, roots, inverse_roots, log_det
        )

    @property
    def first(self) -> int:
        """The factor that is eliminated."""
        return self.order.order[0]

    @property
    def rest(self) -> tuple[int, ...]:
        """The other factors."""
        return self.order.order[1:]

    @property
    def size(self) -> int:
        """Scalar columns of the other factors, r."""
        return self.order.size - self.order.layout.size(self.first)

    def split(self, V: Array) -> dict[int, Array]:
        """Vectors of each of the other factors, (K, L, m), from (r, m)."""
        return split(self.order, self.rest, V)

    def join(self, parts: Mapping[int, Array]) -> Array:
        """Inverse of :meth:`split`."""
        return np.concatenate([parts[f].reshape(-1, parts[f].shape[2]) for f in self.rest])

    def effects(self, parts: Mapping[int, Array]) -> dict[int, Array]:
        """``Lambda_2 u``."""
        return {f: at_all_levels(self.lambdas[f], part) for f, part in parts.items()}

    def from_root(self, V: Array) -> dict[int, Array]:
        """``u = L^-T v``."""
        parts = self.split(V)
        return {f: by_level(transposed(self.inverse_roots[f]), parts[f]) for f in self.rest}

    def to_root(self, parts: Mapping[int, Array]) -> Array:
        """``L^-1 v``, (r, m)."""
        return self.join({f: by_level(self.inverse_roots[f], parts[f]) for f in self.rest})

    def with_first(self, effects: Mapping[int, Array]) -> Array:
        """``A_12 b``, (K, L, m) of the first factor."""
        return np.asarray(sum(self.products.times(self.first, f, effects[f]) for f in self.rest))

    def reduced_times(self, effects: Mapping[int, Array], with_first: Array) -> dict[int, Array]:
        """``(A_22 - A_21 G_1 A_12) b``, given ``A_12 b``."""
        eliminated, out = by_level(self.G, with_first), {}
        for f in self.rest:
            total = by_level(self.products.matrix.diagonal[f], effects[f])
            total -= self.products.times(f, self.first, eliminated)
            for g in self.rest:
                if g != f:
                    total += self.products.times(f, g, effects[g])
            out[f] = total
        return out

    def penalized(
        self, spherical: Mapping[int, Array], reduced_times: Mapping[int, Array]
    ) -> dict[int, Array]:
        """``S u = u + Lambda_2' (...) Lambda_2 u``, given the product with the reduced blocks."""
        return {
            f: spherical[f] + at_all_levels(self.lambdas[f].T, reduced_times[f]) for f in self.rest
        }

    def direct(self, V: Array) -> Array:
        """``B v``, B the blocks of P between the other factors but for those by the first."""
        effects, out = self.effects(self.from_root(V)), {}
        for f in self.rest:
            total = np.zeros_like(effects[f])
            for g in self.rest:
                if g != f:
                    total += self.products.times(f, g, effects[g])
            out[f] = at_all_levels(self.lambdas[f].T, total)
        return self.to_root(out)

    def scaled_identity(self, f: int) -> Array:
        """``Lambda D^-1 Lambda'``, (K, K, L)."""
        N, lam = self.inverse_roots[f], self.lambdas[f]
        return matmul_left(lam, matmul_right(matmul(transposed(N), N), lam.T))

    def multiply(self, V: Array) -> Array:
        """``P v``, (r, m)."""
        spherical = self.from_root(V)
        effects = self.effects(spherical)
        reduced = self.reduced_times(effects, self.with_first(effects))
        return self.to_root(self.penalized(spherical, reduced))


def _roots(D: Array) -> tuple[Array, Array]:
    """Cholesky factors of the blocks (K, K, L), and their inverses."""
    if len(D) == 1:
        root = np.sqrt(D)
        return root, 1.0 / root
    root = np.linalg.cholesky(D.transpose(2, 0, 1))
    inverse = np.linalg.inv(root)
    return (
        np.ascontiguousarray(root.transpose(1, 2, 0)),
        np.ascontiguousarray(inverse.transpose(1, 2, 0)),
    )


def symmetrized(blocks: Array) -> Array:
    """Half the sum of every block and its transpose."""
    return np.asarray(0.5 * (blocks + transposed(blocks)))
