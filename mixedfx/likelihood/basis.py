"""Well-conditioned bases of the columns of X and of each random term.

Cross-products of columns far from zero (years, dates) lose digits: a mean of c standard deviations
costs c**2 of them. They are therefore formed in a basis of the same space, an exact change of
variables made on the rows,

    Z~ = (Z - 1 m') R^-1 = Z T        Lambda = T F        b = T b~

with m the means of the columns beside a constant one (a difference is rounded relative to itself,
so subtracting them loses nothing) and R upper triangular. The columns of Z~ have unit root mean
square and, where the covariance structure is invariant to it, are uncorrelated: starting values,
tolerances and Hessians in F do not depend on units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtri

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.covariance.unstructured import lower_triangular_factor
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.linalg.symmetric import eigenvalues

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Above this smallest eigenvalue of centred columns' scaled cross-products, their Cholesky factor
# is as good a basis as that of a QR factorisation, and cheaper.
_WELL_CONDITIONED = 1e-2
# Rounding of a sum of products, relative to their size.
_ROUNDING = 1e-14
# Centred columns with a smaller diagonal entry of R, scaled to unit length, are dependent.
_INDEPENDENT = 1e-10


@dataclass(frozen=True)
class ColumnBasis:
    """Basis ``(M - M_1 means') R^-1`` of the columns of a matrix M, (n, k), M_1 the first."""

    means: Vector  # (k,) zero unless the first column is constant, and of that one
    R: Matrix  # (k, k) upper triangular

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.means, self.R)

    @staticmethod
    def scaling(rms: Vector) -> ColumnBasis:
        """Columns divided by their root mean squares."""
        scale = np.where(rms > 0.0, rms, 1.0)
        basis = ColumnBasis(np.zeros(len(rms)), np.diag(scale))
        basis.__dict__["is_diagonal"] = True
        basis.__dict__["is_identity"] = bool((scale == 1.0).all())
        return basis

    @cached_property
    def is_identity(self) -> bool:
        """Whether the columns are those of M."""
        return self.is_diagonal and bool((self._scale == 1.0).all())

    @cached_property
    def is_diagonal(self) -> bool:
        """Whether columns are scaled only."""
        return not self.means.any() and bool((np.diag(self._scale) == self.R).all())

    @cached_property
    def _scale(self) -> Vector:
        """Divisors of the columns, where they are scaled only."""
        return np.diag(self.R)

    @cached_property
    def _R_inverse(self) -> Matrix:
        inverse, info = dtrtri(self.R)
        if info:
            raise np.linalg.LinAlgError("Singular matrix")
        return np.asarray(inverse)

    @cached_property
    def T(self) -> Matrix:
        """``M T`` are the columns of the basis, (k, k)."""
        if self.is_diagonal:
            T = np.diag(1.0 / self._scale)
        else:
            T = self._R_inverse.copy()
            T[0] -= self.means @ T
        T.setflags(write=False)
        return T

    @cached_property
    def inverse(self) -> Matrix:
        """``T^-1 = R (I + e_1 means')``, (k, k)."""
        inverse = self.R + self.R[:, :1] * self.means
        inverse.setflags(write=False)
        return inverse

    def columns(self, M: Matrix) -> Matrix:
        """``(M - M_1 means') R^-1``, (n, k)."""
        if self.is_identity:
            return M
        if self.is_diagonal:
            return np.asarray(M / self._scale)
        # By the first column, the constant, so that differences of rows transform likewise.
        centred = [M[:, j] - M[:, 0] * m if m else M[:, j] for j, m in enumerate(self.means)]
        upper, out = self._R_inverse, np.empty(M.shape, order="F")
        for j in range(M.shape[1]):  # by columns, which is how they are used
            np.multiply(centred[0], upper[0, j], out=out[:, j])
            for i in range(1, j + 1):
                out[:, j] += centred[i] * upper[i, j]
        return out

    def factor(self, own: Matrix) -> Matrix:
        """Lower triangular factor of the covariance of the effects of M: of ``T F F'T'``."""
        if self.is_identity:
            return lower_triangular_factor(own)
        if self.is_diagonal:
            return _with_signs(lower_triangular_factor(own / self._scale[:, None]))
        changed = self.T @ own
        # A standard deviation of zero is exactly zero in any basis.
        most = _ROUNDING * math.sqrt(np.vdot(self.T, self.T) * np.vdot(own, own))
        if min(map(_largest, changed.tolist())) <= most:
            rounding = _ROUNDING * (np.abs(self.T) @ np.abs(own)).max(axis=1)
            changed[np.abs(changed).max(axis=1) <= rounding] = 0.0
        return _with_signs(lower_triangular_factor(changed))

    def own_factor(self, factor: Matrix) -> Matrix:
        """``T^-1 Lambda``, a factor of the covariance of the basis's effects, of any shape."""
        if self.is_diagonal:
            return factor if self.is_identity else np.asarray(factor * self._scale[:, None])
        return np.asarray(self.inverse @ factor)

    def own_squares(self, products: Matrix) -> Vector:
        """Sums of squares of M's columns, (k,), from the cross-products of the basis's."""
        if self.is_identity:
            return products.diagonal()
        return np.asarray(np.add.reduce((products @ self.inverse) * self.inverse, axis=0))

    def own_squares_by_level(self, products: Array) -> Matrix:
        """The same of each level, (k, levels), from (k, k, levels)."""
        k, _, levels = products.shape
        if k == 1:
            return np.asarray(products[0] * self.inverse.item() ** 2)
        pairs = self.inverse[:, None] * self.inverse
        return np.asarray(pairs.reshape(k * k, k).T @ products.reshape(k * k, levels))

    def effects(self, own: Matrix) -> Matrix:
        """Effects ``T b~`` of M's columns, (k, levels), from those of the basis."""
        return own if self.is_identity else self.T @ own

    def covariances(self, own: Matrix) -> Matrix:
        """Covariances ``T C T'`` of M's effects, (k, k, levels), from those of the basis."""
        if self.is_identity:
            return own
        if self.is_diagonal:
            scale = 1.0 / self._scale
            return np.asarray(own * (scale[:, None] * scale)[:, :, None])
        return np.asarray(np.einsum("ac,cdl,bd->abl", self.T, own, self.T, optimize=True))


def _largest(row: Sequence[float]) -> float:
    """Largest absolute value."""
    return max(map(abs, row), default=0.0)


def _with_signs(lower: Matrix) -> Matrix:
    """Columns with non-negative diagonal entries."""
    if min(lower.diagonal().tolist(), default=0.0) >= 0.0:
        return lower
    return np.asarray(lower * np.where(lower.diagonal() < 0.0, -1.0, 1.0))


# That of an intercept alone, in rows without weights.
_INTERCEPT = ColumnBasis.scaling(np.ones(1))


def well_conditioned(M: Matrix, w: Vector | None) -> ColumnBasis | None:
    """Basis of columns of weighted unit mean square, uncorrelated; None of dependent columns."""
    n, k = M.shape
    means = np.zeros(k)
    total = float(n) if w is None else float(w.sum())
    if k > 1 and (M[:, 0] == 1.0).all():
        means[1:] = (M[:, 0] if w is None else w) @ M[:, 1:] / total
    centred = M - means if means.any() else M
    weighted = centred if w is None else np.sqrt(w)[:, None] * centred
    products = weighted.T @ weighted
    lengths = np.sqrt(products.diagonal())
    if not all(0.0 < length < np.inf for length in lengths.tolist()):
        return None
    products = products / (lengths[:, None] * lengths)
    if eigenvalues(products)[0] > _WELL_CONDITIONED:
        R = np.asarray(dpotrf(products, lower=1)[0]).T
    else:
        R = np.asarray(np.linalg.qr(weighted / lengths, mode="r"))
        R = R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]
    if min(R.diagonal().tolist(), default=1.0) < _INDEPENDENT:
        return None
    return ColumnBasis(means, R * (lengths / np.sqrt(n)))


def term_bases(rows: ModelRows, parametrization: Parametrization) -> tuple[ColumnBasis, ...]:
    """Basis of each random term's columns that leaves its covariance structure as it is."""
    return bases_of_terms(rows.random_terms, rows.weights, parametrization)


def bases_of_terms(
    terms: Sequence[RandomTermRows], weights: Vector | None, parametrization: Parametrization
) -> tuple[ColumnBasis, ...]:
    """The same of some random terms."""
    bases = []
    for term, (structure, _) in zip(terms, parametrization.terms, strict=True):
        if weights is None and term.is_intercept:
            bases.append(_INTERCEPT)
            continue
        basis = None
        if structure.invariance == "linear" and term.model_matrix.shape[1] > 1:
            basis = well_conditioned(term.model_matrix, weights)
        if basis is None:
            rms = _root_mean_squares(term.model_matrix, weights)
            if structure.invariance == "scalar":
                rms = np.full_like(rms, np.sqrt(np.mean(rms**2)))
            basis = ColumnBasis.scaling(rms)
        bases.append(basis)
    return tuple(bases)


def _root_mean_squares(M: Matrix, w: Vector | None) -> Vector:
    """Weighted root mean square of each column."""
    if M.strides[0] == 0:
        mean = 1.0 if w is None else float(w.sum()) / len(M)
        return np.asarray(np.abs(M[0]) * np.sqrt(mean))
    squares = np.einsum("nk,nk->k", M, M) if w is None else w @ np.square(M)
    return np.asarray(np.sqrt(squares / len(M)))


def rows_in_basis(
    terms: Sequence[RandomTermRows], bases: Sequence[ColumnBasis]
) -> tuple[RandomTermRows, ...]:
    """Random terms with the columns of their bases."""
    return tuple(
        term if basis.is_identity else replace(term, model_matrix=basis.columns(term.model_matrix))
        for term, basis in zip(terms, bases, strict=True)
    )
