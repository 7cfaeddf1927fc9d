"""What inference asks of estimates: their derivatives, and estimates without some rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.design.levels import Levels
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]
Number = Callable[[], float]  # computed where it is needed


@dataclass(frozen=True)
class RowInfluence:
    """Influence of single rows."""

    hat: Vector = field(repr=False)  # (n,) derivative of the fitted value by the response
    std_resid: Vector = field(repr=False)  # (n,) residual over its standard deviation
    # (n,) squared change of the fitted values without the row, in the metric of the residuals
    shift: Vector = field(repr=False)


@dataclass(frozen=True)
class Subjects:
    """Grouping factor whose levels have correlated residuals."""

    name: str
    levels: Levels = field(repr=False)
    codes: Codes = field(repr=False)  # (n,)


class LabelledCovariance(NamedTuple):
    """Covariance of the residuals of a subject, by position."""

    stratum: Any  # None where all subjects have one
    position: str  # what the labels are of
    labels: Sequence[Any]
    cov: Matrix


@dataclass(frozen=True)
class PositionProducts:
    """Products of standardised residuals at each two positions of a subject, summed."""

    sums: Array = field(repr=False)  # (strata, k, k)
    numbers: Array = field(repr=False)  # (strata, k, k) of subjects
    distances: Matrix = field(repr=False)  # (k, k)
    name: str  # of the distances


class Deletion(Protocol):
    """Estimates of a fit without some of its rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the estimates: the p coefficients first."""
        ...

    @property
    def estimates(self) -> Vector:
        """Estimates of all rows."""
        ...

    def without(self, keep: Mask, method: str) -> Vector:
        """Estimates of some of the rows, by a step or a search; NaN where there are none."""
        ...

    def held_out_density(self, rows: Codes) -> tuple[float, bool]:
        """Log density of rows given the others, and whether the search for these converged."""
        ...


class Derivatives(Protocol):
    """Derivatives by the m free parameters of a fit but sigma."""

    @property
    def gradient(self) -> Vector:
        """Of the deviance, (m,)."""
        ...

    @property
    def hessian(self) -> Matrix:
        """Of the deviance, (m, m)."""
        ...

    @property
    def vcov_jacobian(self) -> CoefficientCovariance:
        """Of cov(beta), (m, p, p)."""
        ...
