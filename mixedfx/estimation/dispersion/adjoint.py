"""Derivatives of a combination of the Hessian and the gradient by the log standard deviations.

With ``S`` (Q, Q) of the effects, ``Sigma = Z_v S Z_v'`` and ``c = Z_v s``,

    g = tr(S d2d/dv dv') + s'dd/dv

is a function of the hat matrix M and the residuals r (:mod:`.conditional`), with the derivatives

    Y = dg/dM = -8 Sigma o (M + r r') + diag(4 Sigma_ii - 2 c_i)
    z = dg/dr = -16 (Sigma o M) r + (8 Sigma_ii - 4 c_i) r,

``o`` the product entry by entry. As ``dM/deta`` and ``dr/deta`` are themselves products of
``K = I - M`` and r,

    dg/deta_k = -2 (M Y K)_kk - z_k r_k + 2 r_k (M z)_k
    dg/dG     = sum_l Z_l'[K Y K - (K z r' + r z'K) / 2] Z_l        dg/dbeta = -X'K z,

``Z_l`` being ``W^1/2 Z`` of level l. M is of blocks and ``UU'``; only Y within blocks and ``Y U``
are formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.dispersion.cell_effects import CellEffects
from mixedfx.estimation.dispersion.conditional import BlockHat, ConditionalDeviance, sum_over

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScaleDerivatives:
    """Derivatives of ``g`` by what the deviance depends on."""

    by_log_sds: Vector  # (cells,)
    by_covariances: list[Matrix]  # (k, k) of each term of the mean
    by_coefficients: Vector  # (p,)


@dataclass(frozen=True)
class HessianTrace:
    """``tr(S H)`` at one point; ``s`` is added to it when its derivatives are asked for."""

    at: ConditionalDeviance
    Sigma: tuple[Array, ...] = field(repr=False)  # (blocks, r, r) of each batch
    diagonal: Vector = field(repr=False)  # (cells,) of Sigma
    SMU: Matrix = field(repr=False)  # (R, p') (Sigma o (M + rr')) U
    SMr: Vector = field(repr=False)  # (R,) (Sigma o M) r

    @staticmethod
    def of(at: ConditionalDeviance, effects: CellEffects, S: Matrix) -> HessianTrace:
        """Multiply ``S`` with what does not depend on ``s``."""
        columns, p = at.row_columns, at.U.shape[1]
        Sigma, products = [], np.zeros_like(columns)
        for hat, pairs in zip(at.blocks, effects.within_blocks, strict=True):
            Sigma.append(pairs.entries(S))
            product = (Sigma[-1] * hat.M) @ hat.batch.of(columns)
            products[hat.batch.rows] = product.reshape(-1, p + 1)
        if p:
            first, second = np.triu_indices(p, m=p + 1)
            sums = effects.sum_rows(columns[:, first] * columns[:, second])
            along = np.zeros((p + 1, p + 1, len(columns)))
            along[first, second] = along[second, first] = effects.by_row(S @ sums).T
            products[:, :p] += np.einsum("cjr,rc->rj", along[:, :p], columns)
            products[:, p] += np.einsum("cr,rc->r", along[:p, p], columns[:, :p])
        diagonal = effects.of_cells.entries(S)[:, 0, 0]
        return HessianTrace(at, tuple(Sigma), diagonal, products[:, :p], products[:, p])

    def by_log_sds(self, c: Vector) -> Vector:
        """Derivative by the log standard deviations, with ``c`` (cells,), (cells,)."""
        return self._first(c)[0]

    def derivatives(self, c: Vector) -> ScaleDerivatives:
        """All derivatives, with ``c = Z_v s`` (cells,)."""
        by_log_sds, within, z, YU, UYU = self._first(c)
        at = self.at
        found = [
            hat.batch.level_blocks(self._by_block(hat, Y, z, YU, UYU))
            for hat, Y in zip(at.blocks, within, strict=True)
        ]
        by_coefficients = np.zeros(at.KX.shape[1]) if at.reml else -(at.KX.T @ z)
        return ScaleDerivatives(by_log_sds, sum_over(found), by_coefficients)

    def _first(self, c: Vector) -> tuple[Vector, list[Array], Vector, Matrix, Matrix]:
        """Derivative by the log sds; Y within each block; z; YU; U'YU."""
        at, rows, U, r = self.at, self.at.rows, self.at.U, self.at.r
        on_diagonal = (4.0 * self.diagonal - 2.0 * c)[rows.cell]
        z = -16.0 * self.SMr + 2.0 * on_diagonal * r
        YU = -8.0 * self.SMU + on_diagonal[:, None] * U
        UYU, Uz = U.T @ YU, U.T @ z
        MYK, Mz = (U * YU).sum(axis=1) - ((U @ UYU) * U).sum(axis=1), U @ Uz
        columns, Ys = at.row_columns, []
        for hat, Sigma in zip(at.blocks, self.Sigma, strict=True):
            within, own = hat.batch.of(columns), hat.batch.rows
            Y = -8.0 * Sigma * (hat.M + within @ within.transpose(0, 2, 1))
            np.einsum("bii->bi", Y)[:] += hat.batch.of(on_diagonal)
            NtY = hat.N.transpose(0, 2, 1) @ Y
            inner = NtY @ hat.NC  # N'YN(I + N'N)^-1
            MYM = ((hat.NC @ inner) * hat.N).sum(axis=2)
            MY = (hat.NC * NtY.transpose(0, 2, 1)).sum(axis=2)
            MYK[own] += (MY - MYM).ravel()
            MYK[own] -= 2.0 * (hat.times(YU) * U[own]).sum(axis=1)
            Mz[own] += hat.times(z[:, None])[:, 0]
            Ys.append(Y)
        by_row = -2.0 * MYK - z * r + 2.0 * r * Mz
        by_rest = (4.0 * c - 8.0 * self.diagonal) * at.rest
        return rows.sum_by_cell(by_row) + by_rest, Ys, z, YU, UYU

    def _by_block(self, hat: BlockHat, Y: Array, z: Vector, YU: Matrix, UYU: Matrix) -> Array:
        """``Z'[KYK - (K z r' + r z'K) / 2] Z`` within each block."""
        batch, U = hat.batch, self.at.U
        Zt = hat.Zw.transpose(0, 2, 1)
        ZK = hat.Zw - hat.NC @ (hat.N.transpose(0, 2, 1) @ hat.Zw)
        ZKt = ZK.transpose(0, 2, 1)
        h = Zt @ batch.of(U)  # (blocks, q, p')
        cross = (ZKt @ batch.of(YU)) @ h.transpose(0, 2, 1)
        products = ZKt @ (Y @ ZK) - cross - cross.transpose(0, 2, 1)
        products += h @ UYU @ h.transpose(0, 2, 1)
        Kz = (ZKt @ batch.of(z)[:, :, None])[:, :, 0] - h @ (U.T @ z)
        along = (Zt @ batch.of(self.at.r)[:, :, None])[:, :, 0]
        outer = Kz[:, :, None] * along[:, None]
        return np.asarray(products - 0.5 * (outer + outer.transpose(0, 2, 1)))
