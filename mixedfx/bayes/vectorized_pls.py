"""Many covariances at once, for a single grouping factor.

What the criterion does level by level for one Lambda is done here for thousands: arrays get
one more axis, of shape ``(k, k, levels, points)``, and a sum over levels becomes a matrix
product. A point costs microseconds instead of the tenth of a millisecond that numpy takes to
be called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.unconstrained import Points
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Numbers in one array of a portion of points.
_PORTION = 1_000_000
# A smaller eigenvalue of a matrix with ones on its diagonal is rounding.
_SINGULAR = 4e-16


@dataclass(frozen=True)
class Given:
    """
    Fixed effects given each point's covariances.

    Parameters
    ----------
    deviance : ndarray of shape (points,)
        -2 log of the response's density.
    beta : ndarray of shape (points, p)
        Mean, about the cross-products' centre and in their basis.
    cov : ndarray of shape (points, p, p)
        Covariance.
    """

    deviance: Vector
    beta: Matrix
    cov: Matrix


@dataclass(frozen=True)
class Batch:
    """
    Cross-products of a single grouping factor, or none, ready for many points; :meth:`of`.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    beliefs : Beliefs
        Priors of the fixed effects.
    """

    crossprod: CrossProducts
    priors: PriorSpecification
    _squares: Matrix | None = field(repr=False)  # products of the border, (K, K, m m, L)

    @staticmethod
    def of(crossprod: CrossProducts, priors: PriorSpecification) -> Batch | None:
        """Prepare a model; None where it has several grouping factors."""
        if len(crossprod.ZtZ.diagonal) > 1:
            return None
        if not crossprod.ZtXy:
            return Batch(crossprod, priors, None)
        F = crossprod.ZtXy[0]
        K, m, L = F.shape
        if K * K * m * m * L > _PORTION:
            return None
        squares = (F[:, None, :, None] * F[None, :, None, :]).reshape(K, K, m * m, L)
        return Batch(crossprod, priors, squares)

    def portions(self, count: int) -> Iterator[slice]:
        """Points whose arrays are of a moderate size."""
        ZtZ = self.crossprod.ZtZ
        each = ZtZ.size(0) * ZtZ.width(0) if ZtZ.diagonal else 1
        step = max(1, _PORTION // max(each, 1))
        return (slice(i, min(i + step, count)) for i in range(0, count, step))

    def deviances(self, points: Points) -> Vector:
        """-2 log of the response's density at many points."""
        parts = [self.given(points, at).deviance for at in self.portions(len(points.sigma))]
        return np.concatenate([np.zeros(0), *parts])

    def given(self, points: Points, at: slice) -> Given:
        """Solve for the fixed effects."""
        crossprod, p, s2 = self.crossprod, self.crossprod.p, points.sigma[at] ** 2
        log_det, C = self._eliminated(points, at)
        X, c = C[:, :p, :p], C[:, :p, p]
        _, root, good = _roots(X)
        inverse = _inverses(root)
        solved = np.einsum("bij,bj->bi", inverse, c)
        pwrss = C[:, p, p] - np.einsum("bi,bi->b", c, solved)
        nu = crossprod.n - p
        log_x = 2.0 * np.log(np.einsum("bii->bi", root)).sum(axis=1) + crossprod.log_det_RtR
        deviance = (
            log_det + log_x - crossprod.log_weights + nu * np.log(2.0 * np.pi * s2) + pwrss / s2
        )
        return self._believed(np.where(good, deviance, np.nan), solved, s2[:, None, None] * inverse)

    def _believed(self, deviance: Vector, beta: Matrix, cov: Matrix) -> Given:
        """Take normal priors into account, as :func:`mixedfx.likelihood.believe` does."""
        known = np.isfinite(self.priors.coef_sd)
        if not known.any():
            return Given(deviance, beta, cov)
        crossprod = self.crossprod
        # Rows that read the coefficients with priors off those of the basis.
        to_natural = (
            np.eye(crossprod.p) if crossprod.qr_R is None else np.linalg.inv(crossprod.qr_R)
        )
        rows, m = to_natural[known], (self.priors.coef_mean - crossprod.ols_coef)[known]
        seen = np.einsum("ki,bij->bkj", rows, cov)
        spread = np.einsum("bkj,lj->bkl", seen, rows) + np.diag(self.priors.coef_sd[known] ** 2)
        spread, root, good = _roots(spread)
        away = m - beta @ rows.T
        scaled = np.linalg.solve(spread, away[:, :, None])[:, :, 0]
        more = 2.0 * np.log(np.einsum("bii->bi", root)).sum(axis=1)
        more += np.einsum("bk,bk->b", away, scaled) + int(known.sum()) * np.log(2.0 * np.pi)
        after = cov - np.einsum("bki,bkj->bij", seen, np.linalg.solve(spread, seen))
        moved = beta + np.einsum("bki,bk->bi", seen, scaled)
        return Given(np.where(good, deviance + more, np.nan), moved, after)

    def _eliminated(self, points: Points, at: slice) -> tuple[Vector, Matrix]:
        """``log |M|`` and what is left of the fixed columns and the response."""
        B, XytXy = len(points.sigma[at]), self.crossprod.XytXy
        if self._squares is None:
            return np.zeros(B), np.repeat(XytXy[None], B, axis=0)
        log_det, W = self.whitened(points, at)
        K, m = len(W), len(XytXy)
        left = np.zeros((m * m, B))
        for a in range(K):
            for b in range(K):
                G = np.einsum("clb,clb->lb", W[:, a], W[:, b])
                left += self._squares[a, b] @ G
        C = XytXy - left.T.reshape(B, m, m)
        good = np.isfinite(log_det) & np.isfinite(C).all(axis=(1, 2))
        return np.where(good, log_det, np.nan), np.where(good[:, None, None], C, 0.0)

    def whitened(self, points: Points, at: slice) -> tuple[Vector, Matrix]:
        """Eliminate the random effects."""
        A, lam = self.crossprod.ZtZ.diagonal[0], self._lambda(points, at)
        K, L, B = len(A), A.shape[2], lam.shape[2]
        half = np.zeros((K, K, L, B))
        for c in range(K):
            for i in range(K):
                half[:, i] += A[:, c, :, None] * lam[c, i]
        M = np.zeros((K, K, L, B))
        for c in range(K):
            for i in range(K):
                M[i] += lam[c, i] * half[c]
        for a in range(K):
            M[a, a] += 1.0
        W = np.repeat(lam.transpose(1, 0, 2)[:, :, None], L, axis=2)
        log_det = np.zeros(B)
        for j in range(K):  # M = L L' in place, and W = L^-1 Lambda'
            root = np.sqrt(M[j, j])
            log_det += 2.0 * np.log(root).sum(axis=0)
            W[j] /= root
            column = M[j + 1 :, j] / root
            M[j + 1 :, j + 1 :] -= column[:, None] * column[None, :]
            W[j + 1 :] -= column[:, None] * W[j]
        return log_det, W

    def _lambda(self, points: Points, at: slice) -> Matrix:
        """The factor's relative Lambda: those of its terms on the diagonal."""
        sigma = points.sigma[at]
        K = self.crossprod.ZtZ.width(0)
        lam = np.zeros((K, K, len(sigma)))
        for position, root in zip(self.crossprod.term_positions, points.roots, strict=True):
            part = slice(position.start, position.start + position.width)
            lam[part, part] = root[:, :, at] / sigma
        return lam


def _roots(A: Matrix) -> tuple[Matrix, Matrix, npt.NDArray[np.bool_]]:
    """Matrices, the identity for those without a Cholesky factor; the factors; which have one."""
    p = A.shape[1]
    if not p:
        return A, A, np.ones(len(A), dtype=bool)
    diagonal = np.einsum("bii->bi", A)
    good = np.isfinite(A).all(axis=(1, 2)) & (diagonal > 0.0).all(axis=1)
    size = np.sqrt(np.where(good[:, None], diagonal, 1.0))
    unit = np.where(good[:, None, None], A, np.eye(p)) / size[:, :, None] / size[:, None, :]
    good &= np.linalg.eigvalsh(unit)[:, 0] > p * _SINGULAR
    safe = np.where(good[:, None, None], A, np.eye(p))
    return safe, np.linalg.cholesky(safe), good


def _inverses(root: Matrix) -> Matrix:
    """Inverses of the matrices of which these are Cholesky factors."""
    p = root.shape[1]
    if not p:
        return root
    half = np.linalg.solve(root, np.broadcast_to(np.eye(p), root.shape))
    return np.asarray(np.einsum("bki,bkj->bij", half, half))
