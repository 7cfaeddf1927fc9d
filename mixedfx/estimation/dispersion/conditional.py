"""Deviance given the log residual standard deviations, with its derivatives by these.

With ``W`` the inverse residual variances, ``V = W^-1 + Z G Z'`` and P its inverse, under REML
projected off the fixed columns, let

    M = I - W^-1/2 P W^-1/2        r = W^-1/2 P y,

the hat matrix and the residuals of the rows divided by their standard deviations. M is a matrix of
blocks, from the random effects, and ``U U'``, from the coefficients that REML integrates out. Of
log standard deviations ``eta``,

    dd/deta_i         = 2 (1 - M_ii) - 2 r_i^2
    d2d/deta_i deta_j = -4 M_ij^2 - 8 r_i M_ij r_j + [i = j] (4 M_ii + 4 r_i^2),

which is summed over rows of compressed cells (:mod:`mixedfx.estimation.dispersion.cells`), with no
matrix of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.estimation.dispersion.cell_effects import CellEffects
from mixedfx.estimation.dispersion.cells import Batch, CellRows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockHat:
    """Part of M that lies within the blocks of a batch."""

    batch: Batch
    Zw: Array = field(repr=False)  # W^1/2 Z
    N: Array = field(repr=False)  # W^1/2 Z Lambda
    NC: Array = field(repr=False)  # N (I + N'N)^-1
    M: Array = field(repr=False)  # (blocks, r, r) N (I + N'N)^-1 N'

    def times(self, values: Matrix) -> Array:
        """``M x`` of an array (R, m) of all compressed rows, (blocks * r, m)."""
        own = values[self.batch.rows]
        return np.asarray((self.M @ self.batch.of(values)).reshape(own.shape))


@dataclass(frozen=True)
class ConditionalDeviance:
    """Deviance, hat matrix and residuals at given log standard deviations."""

    rows: CellRows
    reml: bool
    deviance: float
    blocks: tuple[BlockHat, ...] = field(repr=False)
    weighted_X: Matrix = field(repr=False)  # (R, p) W^1/2 X
    KX: Matrix = field(repr=False)  # (R, p) (I - M) W^1/2 X, M of the blocks
    U: Matrix = field(repr=False)  # (R, p) under REML, else (R, 0)
    r: Vector = field(repr=False)  # (R,)
    rest: Vector = field(repr=False)  # (cells,) w of the rest of y'y
    coef: Vector = field(repr=False)  # (p,) of X, from the least-squares fit's
    precision_root: Matrix = field(repr=False)  # (p, p) L with LL' = X'V^-1 X

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.KX, self.U, self.r, self.rest, self.coef, self.precision_root)

    @cached_property
    def diagonal(self) -> Vector:
        """``M_ii`` of the compressed rows, (R,)."""
        parts = [np.einsum("bii->bi", hat.M).ravel() for hat in self.blocks]
        return np.asarray(np.concatenate([np.zeros(0), *parts]) + (self.U**2).sum(axis=1))

    @cached_property
    def leverages(self) -> Vector:
        """Sum of ``M_ii`` over each cell, (cells,)."""
        return self.rows.sum_by_cell(self.diagonal)

    @cached_property
    def squares(self) -> Vector:
        """Sum of ``r_i^2`` over each cell, (cells,)."""
        return self.rows.sum_by_cell(self.r**2) + self.rest

    @cached_property
    def gradient(self) -> Vector:
        """Derivative by the log standard deviation of each cell, (cells,)."""
        return np.asarray(2.0 * (self.rows.counts - self.leverages) - 2.0 * self.squares)

    @cached_property
    def vcov_in_basis(self) -> Matrix:
        """Covariance (p, p) of the coefficients."""
        root = np.linalg.inv(self.precision_root)
        return np.asarray(root.T @ root)

    @cached_property
    def KXQ(self) -> Matrix:
        """``W^-1/2 V^-1 X cov(beta)`` of the compressed rows, (R, p)."""
        return np.asarray(self.KX @ self.vcov_in_basis)

    @cached_property
    def row_columns(self) -> Matrix:
        """``[U r]``, (R, ...)."""
        return np.column_stack([self.U, self.r])

    def by_covariances(self) -> list[Matrix]:
        """Derivative by the covariance of each term's effects, (k, k)."""
        return sum_over([h.batch.level_blocks(self._block_products(h)) for h in self.blocks])

    def _block_products(self, hat: BlockHat) -> Array:
        """``Z'PZ - (Z'Pe)(Z'Pe)'`` of each block."""
        Zt = hat.Zw.transpose(0, 2, 1)
        products = Zt @ hat.Zw - (Zt @ hat.NC) @ (hat.N.transpose(0, 2, 1) @ hat.Zw)
        h = Zt @ hat.batch.of(self.U)
        a = (Zt @ hat.batch.of(self.r)[:, :, None])[:, :, 0]
        return np.asarray(products - h @ h.transpose(0, 2, 1) - a[:, :, None] * a[:, None])

    def by_coefficients(self) -> Vector:
        """Derivative by the coefficients, where they are given, (p,)."""
        return np.asarray(-2.0 * self.weighted_X.T @ self.r)

    def hessian(self, effects: CellEffects) -> Matrix:
        """Hessian by the random effects of the log standard deviations, (Q, Q)."""
        columns, p = self.row_columns, self.U.shape[1]
        H = effects.of_cells.sum(4.0 * (self.leverages + self.squares)[:, None, None])
        for hat, own in zip(self.blocks, effects.within_blocks, strict=True):
            within = math.sqrt(8.0) * hat.batch.of(columns)
            B = within @ within.transpose(0, 2, 1)
            B += 4.0 * hat.M
            B *= hat.M
            H -= own.sum(B)
        if p:
            # 4 (UU')^2 + 8 UU' o rr', entry by entry, as sums of squares.
            first, second = np.triu_indices(p, m=p + 1)
            times = np.where(first == second, 2.0, math.sqrt(8.0))
            E = effects.sum_rows(columns[:, first] * columns[:, second] * times)
            H -= E @ E.T
        return np.asarray(0.5 * (H + H.T))


def sum_over(batches: Sequence[list[Matrix]]) -> list[Matrix]:
    """Sum over the batches of matrices of each term."""
    return [np.sum(of_term, axis=0) for of_term in zip(*batches, strict=True)]


def conditional_deviance(
    rows: CellRows,
    log_sds: Vector,
    factors: Sequence[Matrix],
    *,
    coef: Vector | None,
    log_det_qr: float = 0.0,
) -> ConditionalDeviance:
    """Evaluate at log standard deviations (cells,); REML unless the coefficients are given."""
    root = np.exp(-log_sds)
    root_w = root[rows.cell]
    X, y = np.asarray(rows.X * root_w[:, None]), rows.y * root_w
    log_det = 2.0 * float(rows.counts @ log_sds) - rows.log_weights
    blocks: list[BlockHat] = []
    U: Matrix
    KX, Ky = np.empty_like(X), np.empty_like(y)
    for batch in rows.batches:
        hat, of_block = _block_hat(batch, batch.of(root_w), factors)
        blocks.append(hat)
        log_det += of_block
        KX[batch.rows] = X[batch.rows] - hat.times(X)
        Ky[batch.rows] = y[batch.rows] - hat.times(y[:, None])[:, 0]
    L: Matrix = np.asarray(np.linalg.cholesky(X.T @ KX), dtype=float)
    p, n = X.shape[1], float(rows.counts.sum())
    if coef is None:
        halves = np.linalg.solve(L, np.column_stack([KX.T, KX.T @ y]))
        U, found = np.asarray(halves[:, :-1].T, dtype=float), halves[:, -1]
        log_det += 2.0 * float(np.log(np.diag(L)).sum()) + log_det_qr
        r, n = Ky - U @ found, n - p
        coef, squares = np.linalg.solve(L.T, found), float(y @ r)
        reml = True
    else:
        U, reml = np.zeros((len(y), 0), dtype=np.float64), False
        r = Ky - KX @ coef
        squares = float((y - X @ coef) @ r)
    rest = root**2 * rows.rest
    deviance = log_det + squares + float(rest.sum()) + n * math.log(2.0 * math.pi)
    return ConditionalDeviance(rows, reml, deviance, tuple(blocks), X, KX, U, r, rest, coef, L)


def _block_hat(batch: Batch, root_w: Matrix, factors: Sequence[Matrix]) -> tuple[BlockHat, float]:
    """``M`` of each block, and ``log|I + N'N|`` of all."""
    Zw = batch.Z * root_w[:, :, None]
    N = batch.times_factors(Zw, factors)
    q = N.shape[2]
    Nt = N.transpose(0, 2, 1)
    if q == 1:
        inner = 1.0 + (Nt @ N)
        return BlockHat(batch, Zw, N, N / inner, (N / inner) @ Nt), float(np.log(inner).sum())
    L = np.linalg.cholesky(Nt @ N + np.eye(q))
    log_det = 2.0 * float(np.log(np.einsum("bii->bi", L)).sum())
    half = np.linalg.solve(L, Nt)  # (blocks, q, r)
    NC = np.linalg.solve(L.transpose(0, 2, 1), half).transpose(0, 2, 1)
    return BlockHat(batch, Zw, N, NC, half.transpose(0, 2, 1) @ half), log_det
