"""Covariance of the fixed effects, and of their linear combinations.

In X's own columns the covariance of a combination can be a small difference of large entries: with
a column c standard deviations from zero, ``c**2`` of the digits of ``L V L'`` are lost. It is kept
as that of the coefficients of ``X qr_R^-1``, whose columns are nearly orthogonal:

    L V L' = (L qr_R^-1) V~ (L qr_R^-1)'
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def combinations_in_basis(rows: Matrix, qr_R: Matrix | None) -> Matrix:
    """Combinations ``L qr_R^-1`` of the coefficients of ``X qr_R^-1``, (r, p)."""
    # Rows of NaN, where a value is missing, stay so.
    return solve_upper(qr_R, rows.T, transposed=True).T


def orthonormal_rows(rows: Matrix, qr_R: Matrix | None) -> tuple[Matrix, Matrix]:
    """Orthonormal rows Q of coefficients of ``X qr_R^-1``, and T with ``Q qr_R = T rows``."""
    Q, R = np.linalg.qr(combinations_in_basis(rows, qr_R).T)
    return np.asarray(Q.T), solve_upper(R, np.eye(len(rows)), transposed=True)


@dataclass(frozen=True)
class CoefficientCovariance:
    """Covariance of the coefficients of X, or a stack of derivatives of it."""

    in_basis: Matrix = field(repr=False)  # (..., p, p) of the coefficients of X qr_R^-1
    qr_R: Matrix | None = field(repr=False)  # (p, p) upper triangular; None: identity

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.in_basis, self.qr_R)

    @property
    def matrix(self) -> Matrix:
        """Of the coefficients of X, (..., p, p)."""
        if self.qr_R is None:
            return self.in_basis
        return self.of(np.eye(len(self.qr_R)))

    def of(self, rows: Matrix) -> Matrix:
        """``L V L'`` of combinations L, (..., r, r)."""
        own = combinations_in_basis(rows, self.qr_R)
        return np.asarray(own @ self.in_basis @ own.T)

    def variances(self, rows: Matrix) -> Vector:
        """Diagonal of ``L V L'``, (..., r)."""
        own = combinations_in_basis(rows, self.qr_R)
        return np.asarray(np.einsum("rp,...pq,rq->...r", own, self.in_basis, own))

    def less(self, other: CoefficientCovariance) -> CoefficientCovariance:
        """Difference from another one, in the basis of this one."""
        return CoefficientCovariance(self.in_basis - other.in_basis_of(self.qr_R), self.qr_R)

    def in_basis_of(self, qr_R: Matrix | None) -> Matrix:
        """Of the coefficients of X in another basis, (..., p, p)."""
        return self.of(np.eye(self.in_basis.shape[-1]) if qr_R is None else qr_R)
