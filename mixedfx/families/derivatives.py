"""Derivatives of log densities, as families return them; arrays may share memory, so copy to write.

Every expression broadcasts: ``y`` and ``w`` have shape (n,), ``eta`` (n,) or (nodes, n).
"""

from __future__ import annotations

from collections.abc import Callable
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


class AllDerivatives(NamedTuple):
    """
    Derivatives that Laplace's Hessian needs, in closed form.

    Attributes
    ----------
    rows : RowDerivatives
        To the third by eta.
    by_params : ParamDerivatives
        By the coordinates of the parameters.
    weight_curvature : ndarray of shape (n,)
        ``d2 weight / d eta2``.
    weight_slope : ndarray of shape (r, n)
        Derivatives of ``d weight / d eta`` by the coordinates of the parameters.
    by_two : callable
        Sums over the rows of ``a`` times the second derivatives of ``value`` by two coordinates,
        ``b`` times those of ``first`` and ``c`` times those of ``weight``, (r, r); a number, or
        (n,) each.
    """

    rows: RowDerivatives
    by_params: ParamDerivatives
    weight_curvature: Array
    weight_slope: Array
    by_two: Callable[[Array | float, Array | float, Array | float], Array]


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
