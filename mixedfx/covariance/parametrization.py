"""Theta to Lambda and back: how each term's relative covariance is parameterised.

The random effects of a term have covariance ``sigma**2 Lambda Lambda'``, with ``Lambda``
lower triangular. ``theta`` holds the entries of ``Lambda`` that are free, column by column,
term after term: lme4's order. An unstructured term (``us``) has all ``k (k + 1) / 2``, a
diagonal one (``diag``) the ``k`` on the diagonal.

The likelihood depends on ``Lambda Lambda'`` alone, so a column's sign means nothing:
the search runs free of bounds, and :func:`canonical_signs` makes the answer unique at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Relative to a standard deviation of this many residual ones (after scaling the term's
# columns to unit root mean square), a standard deviation is called zero: lme4's isSingular.
ZERO = 1e-4


@dataclass(frozen=True)
class Coordinates:
    """
    Coordinates of the terms' Lambdas: which entries are free, in which order.

    Parameters
    ----------
    widths : tuple of int
        Number of effects ``k`` of each term.
    positions : tuple of (ndarray, ndarray)
        Rows and columns of each term's free entries.
    """

    widths: tuple[int, ...]
    positions: tuple[tuple[Ints, Ints], ...]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Part of the coordinates that belongs to each term."""
        ends = np.cumsum([len(rows) for rows, _ in self.positions], dtype=int).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends], ends, strict=False))

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(len(rows) for rows, _ in self.positions)

    def lambdas(self, theta: Vector) -> list[Matrix]:
        """Build each term's Lambda, of shape (k, k)."""
        result = []
        for (rows, cols), part, k in zip(self.positions, self.slices, self.widths, strict=True):
            lam = np.zeros((k, k))
            lam[rows, cols] = theta[part]
            result.append(lam)
        return result

    def to_params(self, lambdas: Sequence[Matrix]) -> Vector:
        """Read the coordinates from (k, k) matrices; entries that are not free are ignored."""
        parts = [m[rows, cols] for m, (rows, cols) in zip(lambdas, self.positions, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)


@dataclass(frozen=True)
class Parametrization:
    """
    Where each term's parameters stand in theta.

    Parameters
    ----------
    structures : tuple of {"us", "diag"}
        One per term.
    widths : tuple of int
        Number of effects ``k`` of each term.
    """

    structures: tuple[str, ...]
    widths: tuple[int, ...]

    @cached_property
    def coordinates(self) -> Coordinates:
        """The coordinates that are theta."""
        return Coordinates(self.widths, tuple(map(_positions, self.structures, self.widths)))

    @property
    def positions(self) -> tuple[tuple[Ints, Ints], ...]:
        """Rows and columns in Lambda of each term's parameters, in theta's order."""
        return self.coordinates.positions

    @property
    def slices(self) -> tuple[slice, ...]:
        """Part of theta that belongs to each term."""
        return self.coordinates.slices

    @property
    def size(self) -> int:
        """Length of theta."""
        return self.coordinates.size

    @cached_property
    def on_diagonal(self) -> npt.NDArray[np.bool_]:
        """Whether each parameter is a diagonal entry, whose lower bound is zero."""
        parts = [rows == cols for rows, cols in self.positions]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def lambdas(self, theta: Vector) -> list[Matrix]:
        """Build each term's Lambda, of shape (k, k)."""
        return self.coordinates.lambdas(theta)

    def to_params(self, lambdas: Sequence[Matrix]) -> Vector:
        """Read theta from one (k, k) matrix per term; entries that are not free are ignored."""
        return self.coordinates.to_params(lambdas)


def rank_reduced(
    parametrization: Parametrization, roots: Sequence[Matrix]
) -> tuple[Coordinates, Vector]:
    """
    Choose coordinates in which a point on the boundary hides nothing.

    In the lower triangle a singular Lambda can have a derivative of zero though the
    likelihood changes to first order: with a first row of zeros, nothing moves the
    covariances of that effect. With as many columns as the rank, and the rows in an order
    whose first ones are independent, every change of the covariance that keeps its rank is a
    change of the coordinates.
    """
    positions, matrices = [], []
    for structure, root, k in zip(
        parametrization.structures, roots, parametrization.widths, strict=True
    ):
        lam = np.zeros((k, k))
        if structure == "diag":
            lam = np.diag(np.sqrt((root**2).sum(axis=1)))
            live = np.flatnonzero(np.diag(lam))
            positions.append((live, live))
        elif root.shape[1] == 0:
            positions.append((np.arange(0), np.arange(0)))
        else:
            r = root.shape[1]
            T, order = linalg.qr(root.T, mode="r", pivoting=True)
            lam[order, :r] = T[:r].T * np.where(np.diag(T) < 0.0, -1.0, 1.0)
            rows, cols = _positions("us", k)
            inside = cols < r
            positions.append((order[rows[inside]], cols[inside]))
        matrices.append(lam)
    coordinates = Coordinates(parametrization.widths, tuple(positions))
    return coordinates, coordinates.to_params(matrices)


def _positions(structure: str, k: int) -> tuple[Ints, Ints]:
    if structure == "diag":
        return np.arange(k), np.arange(k)
    cols, rows = np.triu_indices(k)  # upper by rows is lower by columns
    return rows, cols


def identity_params(parametrization: Parametrization) -> Vector:
    """Theta at which every Lambda is the identity."""
    return parametrization.on_diagonal.astype(float)


def canonical_signs(parametrization: Parametrization, theta: Vector) -> Vector:
    """Flip the columns of Lambda so that each diagonal entry is non-negative."""
    flipped = []
    for lam in parametrization.lambdas(theta):
        lead = np.argmax(lam != 0.0, axis=0)
        signs = np.where(lam[lead, np.arange(lam.shape[1])] < 0.0, -1.0, 1.0)
        flipped.append(lam * signs)
    return parametrization.to_params(flipped) + 0.0  # no negative zeros


def relative_factor(cov: Matrix) -> Matrix:
    """
    Lower triangular Lambda with ``Lambda Lambda' = cov``, for a semidefinite ``cov``.

    Notes
    -----
    By the QR factorisation of a symmetric square root, which a Cholesky factorisation of a
    singular matrix would not survive.
    """
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    lam = np.asarray(np.linalg.qr(root.T, mode="r")).T
    return np.asarray(lam * np.where(np.diag(lam) < 0.0, -1.0, 1.0))
