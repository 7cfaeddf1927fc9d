"""Deviance, score and Hessian of small models from one dense Cholesky factor.

With S = [Z, X, y]'W[Z, X, y] and T the block-diagonal matrix of the terms' ``F (x) I`` and an
identity for [X, y], the Cholesky factor of

    M = T'S T + diag(I, 0) = L L'

has the deviance on its diagonal (Bates et al. 2015, equation 18), and the last row of its inverse
is ``(-M_1^-1 m, 1) / l``, M_1 the block of Z and X, m the column of y and ``l**2`` the penalised
residual sum of squares: the estimates. With ``H = L^-1 T'S``, of the columns of Z, and n its rows
of Z (ML) or of Z and X (REML),

    K = Z'WZ - H_n'H_n        h = Z'Py = l H_last        S F = (H_n' L^-1_n + h v' / sigma**2)

are what first and second derivatives consist of. Of some hundred random effects at most, these few
products cost less than the elimination of one factor after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.likelihood.dense import DenseCrossProducts
from mixedfx.likelihood.pls import DeferredElimination, Solution
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Step of differences, relative to coordinates above one.
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class DensePoint:
    """The likelihood at one factor F of each term."""

    dense: DenseCrossProducts
    factors: Sequence[Matrix]
    reml: bool
    deviance: float
    pwrss: float
    sigma2: float
    root: Matrix  # (r, r) L
    inverse: Matrix  # (r, r) L^-1
    half: Matrix  # (r, q) H
    h: Vector  # (q,) Z'Py

    @staticmethod
    def of(dense: DenseCrossProducts, factors: Sequence[Matrix], *, reml: bool) -> DensePoint:
        """Factorise; LinAlgError where M is not positive definite."""
        left, M = dense.terms.congruent(factors, dense.matrix)
        return DensePoint._factorize(dense, factors, left, M, reml)

    @staticmethod
    def at_identity(
        dense: DenseCrossProducts, factors: Sequence[Matrix], *, reml: bool
    ) -> DensePoint:
        """The same at factors that are identities."""
        return DensePoint._factorize(dense, factors, dense.matrix, dense.matrix.copy(), reml)

    @staticmethod
    def _factorize(
        dense: DenseCrossProducts, factors: Sequence[Matrix], left: Matrix, M: Matrix, reml: bool
    ) -> DensePoint:
        """Factorise ``M = T'S T + diag(I, 0)``, given ``left = T'S`` and ``T'S T``, overwritten."""
        crossprod, q, r = dense.crossprod, dense.q, len(M)
        M.reshape(-1)[: q * (r + 1) : r + 1] += 1.0
        root, info = dpotrf(M.T, lower=1, clean=1, overwrite_a=1)
        if info != 0:
            raise np.linalg.LinAlgError("the penalised cross-products are not positive definite")
        pivots = root.diagonal()
        last, nu = float(pivots[-1]), crossprod.nu(reml=reml)
        logs = np.log(pivots[: r - 1 if reml else q])
        log_det = 2.0 * float(np.add.reduce(logs)) - crossprod.log_weights
        log_det += crossprod.log_det_qr if reml else 0.0
        pwrss = last * last
        sigma2 = crossprod.sigma_at(pwrss, nu) ** 2
        deviance = log_det + nu * math.log(2.0 * math.pi * sigma2) + pwrss / sigma2
        inverse, _ = dtrtri(root, lower=1)
        half = inverse @ left[:, :q]
        numbers = deviance, pwrss, sigma2
        return DensePoint(dense, factors, reml, *numbers, root, inverse, half, last * half[-1])

    @property
    def solution(self) -> Solution:
        """Coefficients, sigma and their covariance; what else is asked for is eliminated then."""
        crossprod, q, factors = self.dense.crossprod, self.dense.q, tuple(self.factors)
        root, of_X = self.root[q:, q:], self.inverse[q:-1, q:-1]
        vcov_in_basis = of_X.T @ of_X
        coef_vector = self.root[-1, -1] * self.inverse[-1, q:]
        coef_vector[-1] = 1.0
        return Solution(
            factors=factors,
            deviance=self.deviance,
            beta=crossprod.coefficients(-coef_vector[:-1]),
            sigma=crossprod.sigma_at(self.pwrss, crossprod.nu(reml=self.reml)),
            vcov_unscaled=crossprod.vcov_of_coefficients(vcov_in_basis),
            pwrss=self.pwrss,
            schur=DeferredElimination(crossprod, factors, root),
            coef_vector=coef_vector,
            vcov_in_basis=vcov_in_basis,
            crossprod=crossprod,
            reml=self.reml,
        )

    @property
    def _own_rows(self) -> int:
        """Rows n of H of which K consists."""
        return len(self.root) - 1 if self.reml else self.dense.q

    @cached_property
    def score(self) -> list[Matrix]:
        """Derivative of the deviance by every entry of each term's F: ``2 S F``."""
        n, inverse = self._own_rows, self.inverse[:, : self.dense.q]
        v = (self.root[-1, -1] / self.sigma2) * inverse[-1]
        SF = self.half[:n].T @ inverse[:n]
        SF += self.h[:, None] * v
        return [2.0 * by_factor for by_factor in self.dense.terms.blocks(SF)]

    def gradient(self, coordinates: Coordinates, x: Vector) -> Vector:
        """Derivative of the deviance by coordinates ``x`` of the factors, (m,)."""
        return coordinates.pullback(x, self.score)

    def hessian(self, coordinates: Coordinates, x: Vector) -> Matrix:
        """Second derivatives of the deviance by coordinates ``x`` of the factors, (m, m)."""
        # The search and the certificate ask for them in the same coordinates.
        known: tuple[Coordinates, Vector, Matrix] | None = self.__dict__.get("last_hessian")
        if known and known[0].is_of_same_terms(coordinates) and (known[1] == x).all():
            return known[2]
        H = self._hessian(coordinates, x)
        set_readonly(H)
        self.__dict__["last_hessian"] = coordinates, x, H
        return H

    def _hessian(self, coordinates: Coordinates, x: Vector) -> Matrix:
        """
        Compute the second derivatives.

        With ``D_i`` and ``D_ij`` the derivatives of ``Lambda Lambda'``, ``K = Z'V^-1 Z``, or
        ``Z'PZ`` under REML, ``K_P = Z'PZ`` and ``h = Z'Py``, all with V over sigma squared,

            tr(D_ij K) - tr(D_i K D_j K) + (2 h'D_i K_P D_j h - h'D_ij h) / sigma**2
                - (h'D_i h)(h'D_j h) / (nu sigma**4),

        without the last term where sigma is known; ``h h'`` is taken with K and with K_P.
        """
        terms, jacobians = self.dense.terms, coordinates.jacobians(x)
        (K, K_P), h, s2 = self.projected, self.h, self.sigma2
        tangents = terms.tangents(self.factors, jacobians)
        Dh, hh = terms.directions(tangents, h), h[:, None] * h
        if self.dense.crossprod.profiles_sigma:
            K_P = K_P - hh * (0.5 / (self.dense.crossprod.nu(reml=self.reml) * s2))
        hh *= 1.0 / s2
        by_cov = terms.blocks(K - hh)
        H = terms.curvature(jacobians, by_cov) - terms.traces(tangents, K)
        H += (2.0 / s2) * (Dh @ K_P @ Dh.T)
        if not coordinates.is_linear:
            # The second derivatives of the factors, with the derivative by them constant.
            score = self.score
            steps = relative_steps(x, _STEP)
            H += jacobian(lambda z: coordinates.pullback(z, score), x, steps)
        return np.asarray(0.5 * (H + H.T))

    @property
    def projected(self) -> tuple[Matrix, Matrix]:
        """K and K_P, (q, q), as in :meth:`hessian`."""
        q, half, n = self.dense.q, self.half[:-1], self._own_rows
        ZtZ = self.dense.matrix[:q, :q]
        K_P = ZtZ - half.T @ half
        return (K_P if self.reml else ZtZ - half[:n].T @ half[:n]), K_P
