"""Derivatives by Lambda of ``y'dP z`` and of ``log|D|``, for many pairs of vectors.

With ``a = L^-T y``, ``b = L^-T z``, ``E = L^-1 dD L^-T`` and Phi, the lower triangle with half the
diagonal, ``d(L^-1) = -Phi(E) L^-1``, so that

    y'dP z = a'dS b - y'Phi(E) P z - z'Phi(E) P y.

``dS`` follows from ``dG_1 = (I - G_1 A_11) dLambda_1 (Lambda_1 M_11^-1)' + its transpose``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.iterative.block_products import by_level, sum_over_levels, transposed
from mixedfx.linalg.iterative.schur_operator import SchurOperator

ByLambda = dict[int, Array]  # (K, K, m) of each factor


@dataclass(frozen=True)
class OperatorDerivatives:
    """Derivatives of functions of the Schur complement at one Lambda."""

    operator: SchurOperator

    @cached_property
    def _left(self) -> Array:
        """``I - G_1 A_11``, (K, K, L)."""
        op = self.operator
        left = -matmul(op.G, op.products.matrix.diagonal[op.first])
        left[np.diag_indices(len(left))] += 1.0
        return left

    @cached_property
    def _squares_by_first(self) -> dict[int, list[list[Array]]]:
        """``sum A_1' dG_1 A_1`` of each other factor by each entry of the first's Lambda."""
        op, K = self.operator, len(self._left)
        found: dict[int, list[list[Array]]] = {f: [[] for _ in range(K)] for f in op.rest}
        for c in range(K):
            for i in range(K):
                half = self._left[:, c, None] * op.lam_M_inv[None, :, i]
                change = half + transposed(half)
                for f in op.rest:
                    squares = op.products.weighted_squares(op.first, f, change)
                    found[f][c].append(squares)
        return found

    def of_forms(self, Y: Array, Z: Array) -> ByLambda:
        """Derivatives of ``y'P z`` for each pair of columns, y and z held constant."""
        op = self.operator
        spherical = op.from_root(Y), op.from_root(Z)
        effects = op.effects(spherical[0]), op.effects(spherical[1])
        first = op.with_first(effects[0]), op.with_first(effects[1])
        reduced = op.reduced_times(effects[0], first[0]), op.reduced_times(effects[1], first[1])
        by_lambda = {
            f: sum_over_levels(reduced[1][f], spherical[0][f])
            + sum_over_levels(reduced[0][f], spherical[1][f])
            for f in op.rest
        }
        by_lambda[op.first] = -self._eliminated(*first)
        P_Y, P_Z = (
            op.split(op.to_root(op.penalized(u, times)))
            for u, times in zip(spherical, reduced, strict=True)
        )
        Y_parts, Z_parts = op.split(Y), op.split(Z)
        for f in op.rest:
            scaled = self._lower(f, Y_parts[f], P_Z[f]) + self._lower(f, Z_parts[f], P_Y[f])
            self._subtract_blocks(f, scaled, by_lambda)
        return by_lambda

    def of_log_det_blocks(self) -> ByLambda:
        """Derivatives of ``log|M_11| + sum log|D|``, (K, K, 1)."""
        op = self.operator
        A = op.products.matrix.diagonal[op.first]
        by_lambda = {f: np.zeros((*op.lambdas[f].shape, 1)) for f in op.rest}
        by_lambda[op.first] = 2.0 * matmul(A, op.lam_M_inv).sum(axis=2)[..., None]
        for f in op.rest:
            N = op.inverse_roots[f]
            inverse = matmul(transposed(N), N)
            self._subtract_blocks(f, -inverse[..., None], by_lambda)
        return by_lambda

    def _eliminated(self, p: Array, q: Array) -> Array:
        """``sum_l p'dG_1 q`` by the first factor's Lambda, (K, K, m)."""
        left = transposed(self._left)
        right = transposed(self.operator.lam_M_inv)
        return sum_over_levels(by_level(left, p), by_level(right, q)) + sum_over_levels(
            by_level(left, q), by_level(right, p)
        )

    def _lower(self, f: int, Y: Array, PZ: Array) -> Array:
        """``L^-T sym(Phi' (y (Pz)')) L^-1`` level by level, (K, K, L, m)."""
        outer = Y[:, None] * PZ[None, :]
        if len(Y) == 1:
            N = self.operator.inverse_roots[f]
            return np.asarray(0.5 * outer * (N * N)[..., None])
        K = len(Y)
        phi = np.tril(np.ones((K, K)), -1) + 0.5 * np.eye(K)
        kept = phi[:, :, None, None] * outer
        kept = 0.5 * (kept + kept.transpose(1, 0, 2, 3))
        N = self.operator.inverse_roots[f]
        return np.asarray(np.einsum("cal,cdlm,dbl->ablm", N, kept, N, optimize=True))

    def _subtract_blocks(self, f: int, weights: Array, by_lambda: ByLambda) -> None:
        """Subtract derivatives of ``sum_l tr(weights_l D_l)``, weights (K, K, L, m) symmetric."""
        op, lam, K = self.operator, self.operator.lambdas[f], len(weights)
        A_lam = matmul_right(op.reduced[f], lam)
        by_lambda[f] = by_lambda[f] - 2.0 * np.einsum("cal,ailm->cim", A_lam, weights)
        for c, row in enumerate(self._squares_by_first[f]):
            for i, squares in enumerate(row):
                scaled = matmul_left(lam.T, matmul_right(squares, lam)).reshape(K * K, -1)
                change = np.einsum("al,alm->m", scaled, weights.reshape(K * K, *weights.shape[2:]))
                by_lambda[op.first][c, i] += change


def add_scaled(total: ByLambda, more: Mapping[int, Array], scale: float) -> None:
    """Add the sums over all vectors of derivatives, in place."""
    for f, values in more.items():
        total[f] = total[f] + scale * values.sum(axis=2)
