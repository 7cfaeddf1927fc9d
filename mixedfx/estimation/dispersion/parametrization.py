"""Columns of the log standard deviation to coordinates that a search likes.

Without the constant, which is sigma, centred and orthonormal over the rows: in these the expected
Hessian of the deviance is ``4 n`` in each, whatever the columns' units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class DispersionCoordinates:
    """
    Coordinates of the log standard deviations.

    Parameters
    ----------
    constant : ndarray of shape (r,)
        ``D @ constant == 1``.
    place : int
        The column whose coefficient stands for log sigma.
    centre : ndarray of shape (r - 1,)
        Means of the other columns.
    change : ndarray of shape (r - 1, r - 1)
        Turns the coordinates into coefficients of those.
    by_stratum : ndarray of shape (strata, r - 1)
        Log standard deviations by the coordinates, about their mean.
    """

    constant: Vector
    place: int
    centre: Vector
    change: Matrix
    by_stratum: Matrix

    @staticmethod
    def of(D: Matrix, codes: Codes) -> DispersionCoordinates:
        """Take them from the columns, and each row's stratum."""
        n = len(D)
        constant: Vector = np.asarray(np.linalg.lstsq(D, np.ones(n), rcond=None)[0], dtype=float)
        constant[np.abs(constant) < 1e-9] = 0.0
        place = int(np.argmax(np.abs(constant)))
        rest = np.delete(D, place, axis=1)
        centre = rest.mean(axis=0)
        R = np.linalg.qr(rest - centre, mode="r")
        change = math.sqrt(n) * np.linalg.inv(R)
        first = np.unique(codes, return_index=True)[1]
        return DispersionCoordinates(
            constant, place, centre, change, (rest[first] - centre) @ change
        )

    def gamma(self, log_sigma: float, x: Vector) -> Vector:
        """Coefficients of all columns, from the mean log standard deviation."""
        return np.asarray(self.map @ np.append(log_sigma, x))

    def pull_back(self, by_row: Vector, codes: Codes) -> Vector:
        """Turn derivatives by the rows' log weights into those by the coordinates."""
        by_stratum = np.bincount(codes, by_row, len(self.by_stratum))
        return np.asarray(-2.0 * self.by_stratum.T @ by_stratum)

    @cached_property
    def map(self) -> Matrix:
        """Turns the mean log standard deviation and the coordinates into coefficients, (r, r)."""
        r = len(self.constant)
        at_zero = np.append(1.0, -self.centre @ self.change)  # log sigma: where columns are zero
        out = np.outer(self.constant, at_zero)
        out[np.arange(r) != self.place, 1:] += self.change
        return out
