"""Penalised least squares, vectorised over points.

:func:`~mixedfx.likelihood.pls.solve_pls` factorises ``M = Lambda' Z'WZ Lambda + I`` at one Lambda.
Here arrays have one more axis, for B points (:mod:`mixedfx.bayes.elimination`): with one grouping
factor a point costs microseconds, instead of the 0.1 ms of numpy's call overhead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.dense_elimination import SeveralFactors
from mixedfx.bayes.elimination import (
    CHUNK_SIZE,
    Eliminated,
    Elimination,
    NoRandomEffects,
    OneFactor,
)
from mixedfx.bayes.unconstrained import ConstrainedParameters
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.wide import WideTerm
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# An eigenvalue of a matrix with unit diagonal below this, times its order, is rounding.
_SINGULAR = 4e-16


@dataclass(frozen=True)
class ConditionalCoefficients:
    """Normal distribution of the fixed effects given the covariances of each of B points."""

    deviance: Vector  # (B,) -2 log density of the response
    mean: Matrix  # (B, p) minus the OLS coefficients, in the basis of the cross-products
    cov: Matrix  # (B, p, p)
    eliminated: Eliminated  # the random effects


@dataclass(frozen=True)
class VectorizedPLS:
    """Cross-products and priors of a model whose effects are eliminated at many points at once."""

    crossprod: CrossProducts
    priors: PriorSpecification
    elimination: Elimination

    @staticmethod
    def prepare(crossprod: CrossProducts, priors: PriorSpecification) -> VectorizedPLS | None:
        """Prepare a model; None where points are better evaluated one by one."""
        elimination = _elimination(crossprod)
        return None if elimination is None else VectorizedPLS(crossprod, priors, elimination)

    def chunks(self, count: int) -> Iterator[slice]:
        """Split ``count`` points into slices whose arrays have a moderate size."""
        step = max(1, CHUNK_SIZE // self.elimination.elements)
        return (slice(i, min(i + step, count)) for i in range(0, count, step))

    def deviances(self, params: ConstrainedParameters) -> Vector:
        """-2 log density (B,) of the response; NaN where a matrix is singular."""
        chunks = self.chunks(len(params.sigma))
        parts = [self.solve(params, chunk, keep=False).deviance for chunk in chunks]
        return np.concatenate([np.zeros(0), *parts])

    def solve(
        self, params: ConstrainedParameters, chunk: slice, *, keep: bool = True
    ) -> ConditionalCoefficients:
        """Solve for the fixed effects, priors included, at a slice of the points."""
        s2 = params.sigma[chunk] ** 2
        lambdas = self._lambdas(params, chunk)
        eliminated = self.elimination.eliminate(lambdas, len(s2), keep=keep)
        log_det, schur = eliminated.log_det, eliminated.schur
        finite = np.isfinite(log_det) & np.isfinite(schur).all(axis=(1, 2))
        schur = np.where(finite[:, None, None], schur, 0.0)
        crossprod, p = self.crossprod, self.crossprod.p
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
        deviance = np.where(regular & finite, deviance, np.nan)
        cov = s2[:, None, None] * inverse
        return self._update_with_normal_prior(
            ConditionalCoefficients(deviance, beta, cov, eliminated)
        )

    def _update_with_normal_prior(self, flat: ConditionalCoefficients) -> ConditionalCoefficients:
        """As :func:`mixedfx.likelihood.constrained.update_with_normal_prior`, for all points."""
        informative = np.isfinite(self.priors.coef_sd)
        if not informative.any():
            return flat
        crossprod, beta, cov = self.crossprod, flat.mean, flat.cov
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
        deviance = np.where(regular, flat.deviance + added, np.nan)
        return ConditionalCoefficients(deviance, updated, updated_cov, flat.eliminated)

    def _lambdas(self, params: ConstrainedParameters, chunk: slice) -> list[Array]:
        """Relative factor (K, K, B) of each grouping factor in the bases, block-diagonal."""
        crossprod, sigma = self.crossprod, params.sigma[chunk]
        lambdas = [np.zeros((*d.shape[:2], len(sigma))) for d in crossprod.ZtZ.diagonal]
        terms = zip(crossprod.term_positions, crossprod.bases, params.cov_factors, strict=True)
        for position, basis, factor in terms:
            block = position.columns
            relative = factor[:, :, chunk] / sigma
            lambdas[position.group][block, block] = np.tensordot(
                basis.inverse, relative, axes=(1, 0)
            )
        return lambdas


def _elimination(crossprod: CrossProducts) -> Elimination | None:
    """How the effects are eliminated; None where levels have a precision, or many columns."""
    if not crossprod.ZtXy:
        return NoRandomEffects(crossprod.XytXy)
    if crossprod.has_precision or WideTerm.of(crossprod) is not None:
        return None
    if len(crossprod.ZtXy) == 1:
        return None if crossprod.ZtZ.within else OneFactor.prepare(crossprod)
    return SeveralFactors.prepare(crossprod)


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
