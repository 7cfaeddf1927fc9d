"""Centred, orthonormal coordinates of a log-linear dispersion model.

The log standard deviations ``D gamma`` are written as ``mu + C x``: ``mu`` is their mean over
the rows and ``C`` the columns of ``D`` without the constant, centred and with ``C'C = n I``. The
expected Hessian of the deviance in ``x`` is then ``4 n I``, whatever the units of the columns
(Smyth 2002, J. Comput. Graph. Stat. 11:836).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class DispersionCoordinates:
    """Coordinates ``(mu, x)`` of the log residual standard deviations."""

    constant: Vector  # (r,) D @ constant == 1
    dropped: int  # column of D that mu replaces
    column_means: Vector  # (r - 1,) of the other columns
    to_coefficients: Matrix  # (r - 1, r - 1) x to the coefficients of the other columns
    stratum_columns: Matrix  # (strata, r - 1) rows of C, one per stratum

    @staticmethod
    def from_columns(D: Matrix, codes: Codes) -> DispersionCoordinates:
        """Orthonormalise the columns ``D`` (n, r) by QR, given each row's stratum."""
        first = np.unique(codes, return_index=True)[1]
        return DispersionCoordinates.from_strata(D[first], np.bincount(codes).astype(float))

    @staticmethod
    def from_strata(D: Matrix, counts: Vector) -> DispersionCoordinates:
        """Orthonormalise the columns ``D`` (strata, r), given each stratum's number of rows."""
        ones = np.ones(len(D))
        constant: Vector = np.asarray(np.linalg.lstsq(D, ones, rcond=None)[0], dtype=float)
        constant[np.abs(constant) < 1e-9] = 0.0
        dropped = int(np.argmax(np.abs(constant)))
        others = np.delete(D, dropped, axis=1)
        means = np.average(others, axis=0, weights=counts)
        centred = others - means
        R = np.linalg.qr(np.sqrt(counts)[:, None] * centred, mode="r")
        to_coefficients = math.sqrt(counts.sum()) * np.linalg.inv(R)
        return DispersionCoordinates(
            constant, dropped, means, to_coefficients, centred @ to_coefficients
        )

    @cached_property
    def to_log_sigma(self) -> Vector:
        """Row (r,) that maps ``(mu, x)`` to the log standard deviation where ``D`` is zero."""
        return np.append(1.0, -self.column_means @ self.to_coefficients)

    @cached_property
    def to_gamma(self) -> Matrix:
        """Matrix (r, r) that maps ``(mu, x)`` to ``gamma``."""
        r = len(self.constant)
        out = np.outer(self.constant, self.to_log_sigma)
        out[np.arange(r) != self.dropped, 1:] += self.to_coefficients
        return out
