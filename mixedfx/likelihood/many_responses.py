"""Deviances of many responses of one design, each at its own parameters, for one grouping factor.

Responses share ``Z'WZ``, ``Z'WX`` and ``X'WX``. With the relative factor Lambda_r of response r,
``G = Lambda (Lambda'AL + I)^-1 Lambda'`` of a level's block A of ``Z'WZ`` and ``P = A - A G A``,

    D = sum log|M| + nu (1 + log(2 pi r^2 / nu)) [+ log|X'V^-1X|]
    dD/dLambda = 2 sum_l (P - (nu / r^2) t t' [- T C T']) Lambda,    t = (I - A G)(Z'y - Z'X beta)

with ``T = (I - A G) Z'X`` and ``C = (X'V^-1X)^-1``, the parts in brackets under REML. Arrays have
the responses as their last axis: a sum over levels of what responses share is a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import ModelRows
from mixedfx.likelihood.accumulate import sparse_Z
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import factorize_levels
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ResponsePoint:
    """Values of B responses at their parameters."""

    deviance: Vector  # (B,); inf without residuals
    by_lambda: Array  # (K, K, B) derivative by Lambda
    beta: Matrix  # (p, B) minus least squares, in the basis
    variance: Vector  # (B,) sigma**2
    unscaled_cov: Array  # (B, p, p) cov(beta) / sigma**2 in the basis


@dataclass(frozen=True)
class ManyResponses:
    """Cross-products of R responses with one design of one grouping factor."""

    crossprod: CrossProducts
    reml: bool
    ols: Matrix = field(repr=False)  # (p, R) least squares, in the basis of X
    ZtY: Array = field(repr=False)  # (K, L, R) Z'W of their residuals
    YtY: Vector = field(repr=False)  # (R,) weighted squares of these
    _A: Array = field(repr=False)  # (K, K, L)
    _ZtX: Array = field(repr=False)  # (K, p, L)
    _XX: Array = field(repr=False)  # (K, K, p p, L) products of the rows of Z'WX

    @staticmethod
    def of(crossprod: CrossProducts, rows: ModelRows, Y: Matrix, *, reml: bool) -> ManyResponses:
        """Responses Y (n, R), the offset subtracted."""
        p, w = crossprod.p, rows.weights
        X = combinations_in_basis(rows.X, crossprod.qr_R)
        XtX = crossprod.XytXy[:p, :p]

        def weighted(values: Matrix) -> Matrix:
            return values if w is None else w[:, None] * values

        ols, E = np.zeros((p, Y.shape[1])), Y
        for _ in range(2):  # the second time for the digits that a large mean took
            step = np.linalg.solve(XtX, X.T @ weighted(E)) if p else ols
            ols, E = ols + step, E - X @ step
        WE = weighted(E)
        K, _, L = crossprod.ZtZ.diagonal[0].shape
        ZtY = _by_level(sparse_Z(rows, crossprod).T @ WE, crossprod, K, L)
        ZtX = np.ascontiguousarray(crossprod.ZtXy[0][:, :p])
        XX = (ZtX[:, None, :, None] * ZtX[None, :, None, :]).reshape(K, K, p * p, L)
        parts = (ols, ZtY, np.einsum("nr,nr->r", E, WE))
        return ManyResponses(crossprod, reml, *parts, crossprod.ZtZ.diagonal[0], ZtX, XX)

    @property
    def nu(self) -> int:
        """Denominator of sigma**2."""
        return self.crossprod.nu(reml=self.reml)

    def at(self, lam: Array, which: Codes) -> ResponsePoint:
        """Values of some responses at Lambda (K, K, B) of each."""
        with np.errstate(all="ignore"):
            return self._at(lam, self.ZtY[:, :, which], self.YtY[which])

    def _at(self, lam: Array, Zy: Array, YtY: Vector) -> ResponsePoint:
        p, nu, K = self.crossprod.p, self.nu, len(self._A)
        log_det, G = self._inverse_blocks(lam)
        XtVX, Xty, yty = self._projected(G, Zy, YtY)
        safe = np.asarray(np.isfinite(XtVX).all(axis=(1, 2)))
        XtVX = np.where(safe[:, None, None], XtVX, np.eye(p))
        cov: Array = np.linalg.inv(XtVX).astype(np.float64, copy=False)
        beta = np.einsum("bij,jb->ib", cov, Xty)
        pwrss = yty - np.einsum("ib,ib->b", Xty, beta)
        log_x = np.linalg.slogdet(XtVX)[1] + self.crossprod.log_det_qr if self.reml else 0.0
        deviance = log_det + log_x + nu * (1.0 + np.log(2.0 * np.pi * pwrss / nu))
        deviance = deviance - self.crossprod.log_weights
        bad = ~(safe & np.isfinite(deviance) & (pwrss > 1e-14 * YtY))
        AG = np.einsum("acl,cblr->ablr", self._A, G) if K > 1 else self._A[..., None] * G
        S = (
            self._own_blocks(AG)
            - _squares(self._reduced(AG, self._residual(Zy, beta))) * nu / pwrss
        )
        if self.reml and p:
            S = S - self._of_coefficients(AG, cov)
        by = 2.0 * np.einsum("abr,bcr->acr", S, lam)
        return ResponsePoint(np.where(bad, np.inf, deviance), by, beta, pwrss / nu, cov)

    def _inverse_blocks(self, lam: Array) -> tuple[Vector, Array]:
        """``sum log|M|`` (B,), and G (K, K, L, B)."""
        A = self._A
        if len(A) == 1:
            M = 1.0 + A[0, 0][:, None] * lam[0, 0] ** 2
            return np.log(M).sum(axis=0), (lam[0, 0] ** 2 / M)[None, None]
        log_det, W = factorize_levels(A, lam)
        return log_det, np.einsum("calr,cblr->ablr", W, W)

    def _projected(self, G: Array, Zy: Array, YtY: Vector) -> tuple[Array, Matrix, Vector]:
        """``X'V^-1X`` (B, p, p), ``X'V^-1y`` (p, B) and ``y'V^-1y`` (B,)."""
        p, K, B = self.crossprod.p, len(self._A), Zy.shape[2]
        XtX = np.repeat(self.crossprod.XytXy[:p, :p].reshape(-1, 1), B, axis=1)
        Xty, yty = np.zeros((p, B)), YtY.copy()
        for a in range(K):
            for b in range(K):
                XtX -= self._XX[a, b] @ G[a, b]
                Gy = G[a, b] * Zy[b]
                Xty -= self._ZtX[a] @ Gy
                yty -= np.einsum("lr,lr->r", Zy[a], Gy)
        return XtX.T.reshape(B, p, p), Xty, yty

    def _residual(self, Zy: Array, beta: Matrix) -> Array:
        """``Z'(y - X beta)``, (K, L, B)."""
        return np.asarray(Zy - np.einsum("apl,pr->alr", self._ZtX, beta, optimize=True))

    def _reduced(self, AG: Array, values: Array) -> Array:
        """``(I - A G) v`` of each level, (K, L, B)."""
        return np.asarray(values - np.einsum("ablr,blr->alr", AG, values))

    def _own_blocks(self, AG: Array) -> Array:
        """``sum_l A - A G A``, (K, K, B)."""
        total = self._A.sum(axis=2)[..., None]
        return np.asarray(total - np.einsum("aclr,cbl->abr", AG, self._A))

    def _of_coefficients(self, AG: Array, cov: Array) -> Array:
        """``sum_l T C T'``, (K, K, B)."""
        K, p, B = len(self._A), self.crossprod.p, AG.shape[3]
        total = np.zeros((K, K, B))
        C = cov.reshape(B, p * p).T
        reduced = -AG
        reduced[np.arange(K), np.arange(K)] += 1.0
        for a in range(K):
            for b in range(a + 1):
                for c in range(K):
                    for d in range(K):
                        weights = reduced[a, c] * reduced[b, d]
                        total[a, b] += np.einsum("kr,kr->r", C, self._XX[c, d] @ weights)
                total[b, a] = total[a, b]
        return total

    def coefficients(self, point: ResponsePoint, which: Codes) -> Matrix:
        """Coefficients of X, (p, B)."""
        return solve_upper(self.crossprod.qr_R, self.ols[:, which] + point.beta)

    def variances(self, point: ResponsePoint, rows: Matrix) -> Matrix:
        """Variances of combinations (r, p) of the coefficients of X, (r, B)."""
        own = combinations_in_basis(rows, self.crossprod.qr_R)
        unscaled = np.einsum("jp,bpq,jq->jb", own, point.unscaled_cov, own, optimize=True)
        return np.asarray(point.variance * unscaled)


def _squares(t: Array) -> Array:
    """``sum_l t t'``, (K, K, B)."""
    return np.asarray(np.einsum("alr,blr->abr", t, t))


def _by_level(values: Matrix, crossprod: CrossProducts, K: int, L: int) -> Array:
    """Rows in the order of elimination, (K L, R), by effect and level, (K, L, R)."""
    return np.ascontiguousarray(values[crossprod.symbolic.columns(0)]).reshape(K, L, -1)
