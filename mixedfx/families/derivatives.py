"""Derivatives of log densities, as families return them; arrays may share memory, so copy to write.

Every expression broadcasts: ``y`` and ``w`` have shape (n,), ``eta`` (n,) or (nodes, n).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class RowDerivatives(NamedTuple):
    """
    Derivatives of each row's log density by its linear predictor.

    Attributes
    ----------
    value : ndarray
        Log density without the family's ``constants``; -inf where eta is outside the domain.
    first : ndarray
        ``d value / d eta``.
    weight : ndarray
        ``-d2 value / d eta2``: observed information, which can be negative.
    weight_slope : ndarray or None
        ``d weight / d eta``, if the third derivative was asked for.
    """

    value: Array
    first: Array
    weight: Array
    weight_slope: Array | None


class ParamDerivatives(NamedTuple):
    """
    Derivatives of the row derivatives by the coordinates of the family's r parameters.

    Attributes
    ----------
    value, first, weight : ndarray of shape (r, ..., n)
        Derivatives of ``RowDerivatives.value``, ``first`` and ``weight``.
    """

    value: Array
    first: Array
    weight: Array


@dataclass(frozen=True)
class AllDerivatives(ABC):
    """
    Derivatives that Laplace's Hessian needs, in closed form, of eta (n,).

    Those by the linear predictor are there; others are computed from them when they are asked for.

    Attributes
    ----------
    rows : RowDerivatives
        To the third by eta.
    """

    rows: RowDerivatives

    @property
    @abstractmethod
    def by_params(self) -> ParamDerivatives:
        """By the coordinates of the parameters."""

    @property
    @abstractmethod
    def weight_curvature(self) -> Array:
        """``d2 weight / d eta2``, (n,)."""

    @property
    @abstractmethod
    def weight_slope(self) -> Array:
        """Derivatives of ``d weight / d eta`` by the coordinates of the parameters, (r, n)."""

    @abstractmethod
    def by_two(self, a: Array | float, b: Array | float, c: Array | float) -> Array:
        """
        Sums over the rows of derivatives by two coordinates, (r, r).

        Of ``a`` times those of ``value``, ``b`` times those of ``first`` and ``c`` times those of
        ``weight``; a number, or (n,) each.
        """


class RowEnds(NamedTuple):
    """
    Linear functions of coefficients, and perhaps thresholds, towards which densities rise.

    Attributes
    ----------
    X : ndarray of shape (m, p + r)
        Their columns, those of the coefficients first.
    signs : ndarray of shape (m,)
        Direction in which the density does not fall; zero where it falls in both.
    row : ndarray of shape (m,)
        The row that each belongs to.
    """

    X: Array
    signs: Array
    row: npt.NDArray[np.intp]


class LogDerivatives(NamedTuple):
    """Logarithm of a probability and its derivatives by eta; ``third`` only on request."""

    value: Array
    first: Array
    second: Array
    third: Array | None


class MeanDerivatives(NamedTuple):
    """Log density and its derivatives by the mean; ``third`` only on request."""

    value: Array
    first: Array
    second: Array
    third: Array | None


def weighted(rows: RowDerivatives, w: Array | float | None) -> RowDerivatives:
    """Row derivatives of ``w`` times the log density."""
    if w is None:
        return rows
    slope = None if rows.weight_slope is None else w * rows.weight_slope
    return RowDerivatives(w * rows.value, w * rows.first, w * rows.weight, slope)
