"""Thresholds between ordered categories, as functions of their parameters.

Of K categories there are K - 1 thresholds, ``alpha_1 < alpha_2 < ...``. Coordinates of the search
are unbounded, so that they never cross: one threshold, and the logarithms of the distances between
neighbours. Names and parameters are those of R's ordinal (Christensen 2022).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from mixedfx.families.parameters import ParamScale, from_logs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds(ABC):
    """A parametrisation of the thresholds."""

    name: ClassVar[str]

    @abstractmethod
    def param_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Names of the parameters, given those of the categories."""

    @abstractmethod
    def param_scales(self, n: int) -> tuple[ParamScale, ...]:
        """Scale of each parameter's interval."""

    @abstractmethod
    def design(self, n: int) -> Matrix:
        """Matrix whose product with the parameters is the n thresholds, (n, r)."""

    @abstractmethod
    def coordinates(self, params: Vector) -> Vector:
        """Unbounded coordinates, (r,)."""

    @abstractmethod
    def natural(self, coordinates: Vector) -> Vector:
        """Parameters, (r,)."""

    @abstractmethod
    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Derivatives of the parameters, a row each, by the coordinates."""

    @abstractmethod
    def logarithms(self, n: int) -> npt.NDArray[np.bool_]:
        """Which coordinates are logarithms, (r,); the thresholds are linear in the others."""

    def about(self, number: int) -> Self:
        """Coordinates of which one is a function of that parameter alone."""
        return self

    def nearest(self, alpha: Vector) -> Vector:
        """Parameters of thresholds near some others."""
        return np.asarray(np.linalg.lstsq(self.design(len(alpha)), alpha, rcond=None)[0])


@dataclass(frozen=True)
class Flexible(Thresholds):
    """
    The thresholds themselves.

    Parameters
    ----------
    anchor : int
        The threshold that is a coordinate; the others are log distances from it outwards.
    """

    anchor: int = 0

    name = "flexible"

    def param_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """``1|2``, ``2|3``, ..."""
        return tuple(f"{a}|{b}" for a, b in itertools.pairwise(labels))

    def param_scales(self, n: int) -> tuple[ParamScale, ...]:
        """Symmetric about the thresholds."""
        return tuple("identity" for _ in range(n))

    def design(self, n: int) -> Matrix:
        """The identity."""
        return np.eye(n)

    def nearest(self, alpha: Vector) -> Vector:
        """The thresholds themselves."""
        return alpha

    def coordinates(self, params: Vector) -> Vector:
        """The anchor, and logarithms of distances."""
        c = np.empty(len(params))
        steps, at = np.log(params[1:] - params[:-1]), self.anchor
        c[:at], c[at], c[at + 1 :] = steps[:at], params[at], steps[at:]
        return c

    def natural(self, coordinates: Vector) -> Vector:
        """Sums of distances from the anchor."""
        at, steps = self.anchor, from_logs(coordinates)
        alpha = np.full(len(coordinates), coordinates[at])
        alpha[at + 1 :] += steps[at + 1 :].cumsum()
        if at:
            alpha[:at] -= steps[:at][::-1].cumsum()[::-1]
        return alpha

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Each distance moves all thresholds beyond it."""
        n, at = len(coordinates), self.anchor
        J, steps = np.zeros((n, n)), from_logs(coordinates)
        for j in range(at):
            J[: j + 1, j] = -steps[j]
        J[:, at] = 1.0
        for j in range(at + 1, n):
            J[j:, j] = steps[j]
        return J

    def logarithms(self, n: int) -> npt.NDArray[np.bool_]:
        """All but the anchor."""
        return np.asarray(np.arange(n) != self.anchor)

    def about(self, number: int) -> Self:
        """Anchored at that threshold."""
        return type(self)(number)


@dataclass(frozen=True)
class Equidistant(Thresholds):
    """The first threshold, and the distance between neighbours."""

    name = "equidistant"

    def param_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Two names."""
        return ("threshold.1", "spacing")

    def param_scales(self, n: int) -> tuple[ParamScale, ...]:
        """The distance is positive."""
        return ("identity", "log")

    def design(self, n: int) -> Matrix:
        """``alpha_j = threshold.1 + (j - 1) spacing``."""
        return np.column_stack([np.ones(n), np.arange(n)])

    def coordinates(self, params: Vector) -> Vector:
        """The logarithm of the distance."""
        return np.array([params[0], np.log(params[1])])

    def natural(self, coordinates: Vector) -> Vector:
        """Its exponential."""
        return np.array([coordinates[0], from_logs(coordinates[1:])[0]])

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Diagonal."""
        return np.diag([1.0, from_logs(coordinates[1:])[0]])

    def logarithms(self, n: int) -> npt.NDArray[np.bool_]:
        """The distance."""
        return np.array([False, True])


FLEXIBLE = Flexible()
THRESHOLDS: MappingProxyType[str, Thresholds] = MappingProxyType(
    {kind.name: kind for kind in (FLEXIBLE, Equidistant())}
)
