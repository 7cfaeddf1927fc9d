"""Penalised least squares for one grouping factor, vectorised over points.

:func:`~mixedfx.likelihood.pls.solve_pls` factorises ``M = Lambda' Z'WZ Lambda + I`` level by level
at one Lambda. Here arrays have one more axis, ``(k, k, levels, B)``, for B points, and a sum over
levels is a matrix product. One point costs microseconds, instead of the 0.1 ms of numpy's call
overhead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.unconstrained import ConstrainedParameters
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import factorize_levels
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Largest number of elements of one array of a chunk of points.
_CHUNK_SIZE = 1_000_000
# An eigenvalue of a matrix with unit diagonal below this, times its order, is rounding.
_SINGULAR = 4e-16


@dataclass(frozen=True)
class ConditionalCoefficients:
    """Normal distribution of the fixed effects given the covariances of each of B points."""

    deviance: Vector  # (B,) -2 log density of the response
    mean: Matrix  # (B, p) minus the OLS coefficients, in the basis of the cross-products
    cov: Matrix  # (B, p, p)


@dataclass(frozen=True)
class VectorizedPLS:
    """Cross-products and priors of a model with at most one grouping factor."""

    crossprod: CrossProducts
    priors: PriorSpecification
    _outer_products: Matrix | None = field(repr=False)  # of the rows of Z'W[X y], (K, K, m m, L)

    @staticmethod
    def prepare(crossprod: CrossProducts, priors: PriorSpecification) -> VectorizedPLS | None:
        """Prepare a model; None with several factors, levels that share rows, or many columns."""
        if len(crossprod.ZtZ.diagonal) > 1 or crossprod.ZtZ.within or crossprod.has_precision:
            return None
        if not crossprod.ZtXy:
            return VectorizedPLS(crossprod, priors, None)
        ZtXy = crossprod.ZtXy[0]
        K, m, L = ZtXy.shape
        if K * K * m * m * L > _CHUNK_SIZE:
            return None
        products = (ZtXy[:, None, :, None] * ZtXy[None, :, None, :]).reshape(K, K, m * m, L)
        return VectorizedPLS(crossprod, priors, products)

    def chunks(self, count: int) -> Iterator[slice]:
        """Split ``count`` points into slices whose arrays have a moderate size."""
        ZtZ = self.crossprod.ZtZ
        per_point = ZtZ.layout.size(0) * ZtZ.layout.width(0) if ZtZ.diagonal else 1
        step = max(1, _CHUNK_SIZE // max(per_point, 1))
        return (slice(i, min(i + step, count)) for i in range(0, count, step))

    def deviances(self, params: ConstrainedParameters) -> Vector:
        """-2 log density (B,) of the response; NaN where a matrix is singular."""
        parts = [self.solve(params, chunk).deviance for chunk in self.chunks(len(params.sigma))]
        return np.concatenate([np.zeros(0), *parts])

    def solve(self, params: ConstrainedParameters, chunk: slice) -> ConditionalCoefficients:
        """Solve for the fixed effects, priors included, at a slice of the points."""
        crossprod, p, s2 = self.crossprod, self.crossprod.p, params.sigma[chunk] ** 2
        log_det, schur = self._schur_complement(params, chunk)
        XtVX, XtVy = schur[:, :p, :p], schur[:, :p, p]
        _, root, regular = _cholesky_or_identity(XtVX)
        inverse = _inverse_from_cholesky(root)
        beta = np.einsum("bij,bj->bi", inverse, XtVy)
        pwrss = schur[:, p, p] - np.einsum("bi,bi->b", XtVy, beta)
        nu = crossprod.n - p
        log_x = 2.0 * np.log(np.einsum("bii->bi", root)).sum(axis=1) + crossprod.log_det_qr
        deviance = (
            log_det + log_x - crossprod.log_weights + nu * np.log(2.0 * np.pi * s2) + pwrss / s2
        )
        return self._update_with_normal_prior(
            np.where(regular, deviance, np.nan), beta, s2[:, None, None] * inverse
        )

    def _update_with_normal_prior(
        self, deviance: Vector, beta: Matrix, cov: Matrix
    ) -> ConditionalCoefficients:
        """As :func:`mixedfx.likelihood.constrained.update_with_normal_prior`, for all points."""
        informative = np.isfinite(self.priors.coef_sd)
        if not informative.any():
            return ConditionalCoefficients(deviance, beta, cov)
        crossprod = self.crossprod
        # Rows that map coefficients in the basis to the natural ones with a proper prior.
        from_basis = (
            np.eye(crossprod.p) if crossprod.qr_R is None else np.linalg.inv(crossprod.qr_R)
        )
        rows = from_basis[informative]
        prior_mean = (self.priors.coef_mean - crossprod.ols_coef)[informative]
        rows_cov = np.einsum("ki,bij->bkj", rows, cov)
        marginal_cov = np.einsum("bkj,lj->bkl", rows_cov, rows)
        marginal_cov = marginal_cov + np.diag(self.priors.coef_sd[informative] ** 2)
        marginal_cov, root, regular = _cholesky_or_identity(marginal_cov)
        residual = prior_mean - beta @ rows.T
        scaled = np.linalg.solve(marginal_cov, residual[:, :, None])[:, :, 0]
        added = 2.0 * np.log(np.einsum("bii->bi", root)).sum(axis=1)
        added += np.einsum("bk,bk->b", residual, scaled)
        added += int(informative.sum()) * np.log(2.0 * np.pi)
        updated_cov = cov - np.einsum(
            "bki,bkj->bij", rows_cov, np.linalg.solve(marginal_cov, rows_cov)
        )
        updated = beta + np.einsum("bki,bk->bi", rows_cov, scaled)
        return ConditionalCoefficients(
            np.where(regular, deviance + added, np.nan), updated, updated_cov
        )

    def _schur_complement(
        self, params: ConstrainedParameters, chunk: slice
    ) -> tuple[Vector, Matrix]:
        """``log |M|`` (B,), and ``[X y]'V^-1[X y]`` (B, p + 1, p + 1) over sigma squared."""
        B, XytXy = len(params.sigma[chunk]), self.crossprod.XytXy
        if self._outer_products is None:
            return np.zeros(B), np.repeat(XytXy[None], B, axis=0)
        log_det, W = self.factorize(params, chunk)
        K, m = len(W), len(XytXy)
        explained = np.zeros((m * m, B))
        for a in range(K):
            for b in range(K):
                inverse = np.einsum("clb,clb->lb", W[:, a], W[:, b])  # of Lambda M^-1 Lambda'
                explained += self._outer_products[a, b] @ inverse
        schur = XytXy - explained.T.reshape(B, m, m)
        finite = np.isfinite(log_det) & np.isfinite(schur).all(axis=(1, 2))
        return np.where(finite, log_det, np.nan), np.where(finite[:, None, None], schur, 0.0)

    def factorize(self, params: ConstrainedParameters, chunk: slice) -> tuple[Vector, Matrix]:
        """``log |M|`` (B,), and ``L^-1 Lambda'`` (K, K, levels, B) with ``M = L L'``."""
        return factorize_levels(self.crossprod.ZtZ.diagonal[0], self._lambda(params, chunk))

    def _lambda(self, params: ConstrainedParameters, chunk: slice) -> Matrix:
        """Relative factor (K, K, B) in the bases, block-diagonal over the terms."""
        sigma = params.sigma[chunk]
        K = self.crossprod.ZtZ.layout.width(0)
        lam = np.zeros((K, K, len(sigma)))
        crossprod = self.crossprod
        terms = zip(crossprod.term_positions, crossprod.bases, params.cov_factors, strict=True)
        for position, basis, factor in terms:
            block = position.columns
            relative = factor[:, :, chunk] / sigma
            lam[block, block] = np.tensordot(basis.inverse, relative, axes=(1, 0))
        return lam


def _cholesky_or_identity(A: Matrix) -> tuple[Matrix, Matrix, npt.NDArray[np.bool_]]:
    """Matrices (B, p, p), singular ones replaced by the identity; their factors; a mask."""
    p = A.shape[1]
    if not p:
        return A, A, np.ones(len(A), dtype=bool)
    diagonal = np.einsum("bii->bi", A)
    regular = np.isfinite(A).all(axis=(1, 2)) & (diagonal > 0.0).all(axis=1)
    size = np.sqrt(np.where(regular[:, None], diagonal, 1.0))
    scaled = np.where(regular[:, None, None], A, np.eye(p)) / size[:, :, None] / size[:, None, :]
    regular &= np.linalg.eigvalsh(scaled)[:, 0] > p * _SINGULAR
    safe = np.where(regular[:, None, None], A, np.eye(p))
    return safe, np.linalg.cholesky(safe), regular


def _inverse_from_cholesky(root: Matrix) -> Matrix:
    """``(L L')^-1`` (B, p, p) from lower Cholesky factors ``L``."""
    p = root.shape[1]
    if not p:
        return root
    half = np.linalg.solve(root, np.broadcast_to(np.eye(p), root.shape))
    return np.asarray(np.einsum("bki,bkj->bij", half, half))
