"""Deviance, score and Hessian of small models from one dense Cholesky factor.

With S = [Z, X, y]'W[Z, X, y] and T the block-diagonal matrix of the terms' ``F (x) I`` and an
identity for [X, y], the Cholesky factor of ``M = T'S T + diag(I, 0)`` has the deviance on its
diagonal (Bates et al. 2015, equation 18). The derivative of the deviance by M is

    G = [inverse of M's leading block] + v v' / sigma**2,    v = (-M_1^-1 m, 1)

the block being that of Z (ML) or of Z and X (REML), M_1 that of Z and X and m the column of y; by
T it is ``2 S T G``. With L the factor of M_1 and ``H = L^-1 T'S``, ``S - H'H`` holds ``Z'PZ`` and
``Z'Py``, of which the second derivatives consist. Of some hundred random effects at most, these few
products cost less than the elimination of one factor after the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.likelihood.dense import DenseCrossProducts, times_factor
from mixedfx.linalg.cholesky.batched import WIDE
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Random effects up to which this costs less than the elimination of factors.
MAX_EFFECTS = 60
# Step of differences, relative to coordinates above one.
_STEP = 1e-3


@dataclass(frozen=True)
class DensePoint:
    """The likelihood at one factor F of each term."""

    dense: DenseCrossProducts
    factors: Sequence[Matrix]
    reml: bool
    deviance: float
    pwrss: float
    sigma2: float
    left: Matrix  # (r, r) T'S
    root: Matrix  # (r, r) Cholesky factor of M, lower triangular
    inverse: Matrix  # (r - 1, r - 1) of that of M_1

    @staticmethod
    def of(dense: DenseCrossProducts, factors: Sequence[Matrix], *, reml: bool) -> DensePoint:
        """Factorise; LinAlgError where M is not positive definite."""
        crossprod, q = dense.crossprod, dense.q
        left = dense.multiplied(factors, dense.matrix)
        M = dense.multiplied(factors, left.T)
        r = len(M)
        M.flat[: q * (r + 1) : r + 1] += 1.0
        root, info = dpotrf(M.T, lower=1, clean=1, overwrite_a=1)
        if info != 0:
            raise np.linalg.LinAlgError("the penalised cross-products are not positive definite")
        pivots = root.diagonal()
        nu, pwrss = crossprod.nu(reml=reml), float(pivots[-1]) ** 2
        log_det = 2.0 * float(np.log(pivots[: r - 1 if reml else q]).sum()) - crossprod.log_weights
        log_det += crossprod.log_det_qr if reml else 0.0
        sigma2 = crossprod.sigma_at(pwrss, nu) ** 2
        deviance = log_det + nu * math.log(2.0 * math.pi * sigma2) + pwrss / sigma2
        inverse, _ = dtrtri(root[:-1, :-1], lower=1)
        return DensePoint(dense, factors, reml, deviance, pwrss, sigma2, left, root, inverse)

    @cached_property
    def score(self) -> list[Matrix]:
        """Derivative of the deviance by every entry of each term's F."""
        q, inverse = self.dense.q, self.inverse
        size = len(inverse) if self.reml else q
        v = np.empty(len(inverse) + 1)
        v[:-1], v[-1] = -(self.root[-1, :-1] @ inverse), 1.0
        G = (v[:q, None] / self.sigma2) * v
        G[:, :size] += inverse[:size, :q].T @ inverse[:size, :size]
        by_factor, SF = [], self.left.T[:q].copy()
        for F, part in zip(self.factors, self.dense.columns, strict=True):
            k = len(F)
            by_factor.append(2.0 * SF[part].reshape(k, -1) @ G[part].reshape(k, -1).T)
        return by_factor

    def gradient(self, coordinates: Coordinates, x: Vector) -> Vector:
        """Derivative of the deviance by coordinates ``x`` of the factors, (m,)."""
        return coordinates.pullback(x, self.score)

    def hessian(self, coordinates: Coordinates, x: Vector) -> Matrix:
        """
        Second derivatives of the deviance by coordinates ``x`` of the factors, (m, m).

        With ``D_i`` and ``D_ij`` the derivatives of ``Lambda Lambda'``, ``K = Z'V^-1 Z``, or
        ``Z'PZ`` under REML, ``K_P = Z'PZ`` and ``h = Z'Py``, all with V over sigma squared,

            tr(D_ij K) - tr(D_i K D_j K) + (2 h'D_i K_P D_j h - h'D_ij h) / sigma**2
                - (h'D_i h)(h'D_j h) / (nu sigma**4),

        without the last term where sigma is known.
        """
        K, K_P, h = self._projected
        s2, slices, columns = self.sigma2, coordinates.slices, self.dense.columns
        Dh, H = np.zeros((coordinates.size, len(h))), np.zeros((coordinates.size,) * 2)
        tangents = []
        terms = zip(self.factors, coordinates.jacobians(x), columns, slices, strict=True)
        for F, J, part, rows in terms:
            k, m = len(F), len(J)
            half = J @ F.T
            D = half + half.transpose(0, 2, 1)
            h_t = h[part].reshape(k, -1)
            tangents.append(D)
            Dh[rows, part] = (D @ h_t).reshape(m, h_t.size)
            blocks = K[part, part].reshape(k, h_t.shape[1], k, h_t.shape[1])
            S = np.einsum("albl->ab", blocks) - h_t @ h_t.T / s2  # derivative by Lambda Lambda'
            H[rows, rows] = 2.0 * J.reshape(m, k * k) @ (S @ J).reshape(m, k * k).T
        for t, u in itertools.combinations_with_replacement(range(len(columns)), 2):
            traces = _traces(tangents[t], K[columns[t], columns[u]], tangents[u])
            H[slices[t], slices[u]] -= traces
            if t != u:
                H[slices[u], slices[t]] -= traces.T
        H += (2.0 / s2) * (Dh @ K_P) @ Dh.T
        if self.dense.crossprod.profiles_sigma:
            hDh = (Dh @ h) / s2
            H -= hDh[:, None] * hDh / self.dense.crossprod.nu(reml=self.reml)
        if not coordinates.is_linear:
            # The second derivatives of the factors, with the derivative by them constant.
            score = self.score
            steps = relative_steps(x, _STEP)
            H += jacobian(lambda z: coordinates.pullback(z, score), x, steps)
        return np.asarray(0.5 * (H + H.T))

    @property
    def _projected(self) -> tuple[Matrix, Matrix, Vector]:
        """K and K_P (q, q), and h (q,), as in :meth:`hessian`."""
        q, S = self.dense.q, self.dense.matrix
        half = self.inverse @ self.left[:-1]
        by_P = S[:q] - half[:, :q].T @ half
        K_P, h = by_P[:, :q], by_P[:, -1]
        if self.reml:
            return K_P, K_P, h
        half = half[:q, :q]
        return S[:q, :q] - half.T @ half, K_P, h


def _traces(D: Array, K: Matrix, E: Array) -> Matrix:
    """``tr(D_i K E_j K')`` for K of all levels, (k L, k' L'), the tangents within each level."""
    m, k, n, other = len(D), D.shape[1], len(E), E.shape[1]
    if k == other == 1:
        return np.asarray(np.vdot(K, K) * D[:, 0] * E[:, 0, 0])
    if max(k, other) >= WIDE:
        DK = np.array([times_factor(K.T, d).T for d in D]).reshape(m, K.size)
        KE = np.array([times_factor(K, e) for e in E]).reshape(n, K.size)
        return np.asarray(DK @ KE.T)
    levels, others = len(K) // k, K.shape[1] // other
    blocks = K.reshape(k, levels, other, others).transpose(0, 2, 1, 3).reshape(k * other, -1)
    products = (blocks @ blocks.T).reshape(k, other, k, other).transpose(0, 2, 1, 3)
    return np.asarray(
        D.reshape(m, k * k) @ products.reshape(k * k, other**2) @ E.reshape(n, other**2).T
    )
