"""Coordinates of a residual model's parameters, one of which determines a reported parameter.

With ``u`` the profiled parameter and ``y`` the others, unconstrained:

- a parameter of a structure that alone determines it: ``u`` is that parameter;
- a correlation that several determine, and that increases with its own, as those of ``toep`` do:
  ``u`` its inverse hyperbolic tangent, at which its own parameter is solved for;
- a correlation of ``us``: with the two positions first, the second row of the factor is
  ``(l sinh u, l)``, so that the correlation is ``tanh u``;
- a coefficient ``a'x`` of log standard deviations: ``x = a u / a'a + N y``, N orthogonal to a.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance.components import Component
from mixedfx.covariance.correlation import CorrelationStructure
from mixedfx.residuals.reported import LinearInParams, OfStructure

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
StructureParams = Callable[[Vector], Matrix]  # of all searched ones, (strata, m)

# Parameters at which a correlation, range or rate is at its limit, the largest that is regular.
_FAR = (10.0, 8.0, 6.0, 5.0, 4.0, 3.0)
# A parameter is solved for by its hyperbolic tangent, within this.
_END = 1.0 - 1e-15


class ParamsCoordinates(Protocol):
    """Coordinates ``(u, y)`` of the k parameters."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Of ``u``."""
        ...

    @property
    def u_hat(self) -> float:
        """At the estimates."""
        ...

    @property
    def y_hat(self) -> Vector:
        """At the estimates, (k - 1,)."""
        ...

    def value(self, u: float) -> float:
        """The reported parameter."""
        ...

    def params(self, u: float, y: Vector) -> Vector:
        """The parameters, (k,); ArithmeticError where there are none."""
        ...

    def pull_back(self, params: Vector, by_params: Vector) -> tuple[float, Vector]:
        """Derivatives by ``u`` and ``y``, from those by the parameters."""
        ...


@dataclass(frozen=True)
class OwnParameter:
    """The parameter that alone determines the reported one."""

    reported: OfStructure
    structure_params: StructureParams
    params_hat: Vector
    bounds: tuple[float, float]

    @staticmethod
    def of(
        reported: OfStructure,
        structure_params: StructureParams,
        params_hat: Vector,
        contains: Callable[[Vector], bool],
    ) -> OwnParameter:
        """With bounds where the covariance is regular yet."""
        assert reported.own is not None
        own = reported.own

        def end(sign: float) -> float:
            regular = (far for far in _FAR if contains(_set(params_hat, own, sign * far)))
            return sign * next(regular, math.inf)

        return OwnParameter(reported, structure_params, params_hat, (end(-1.0), end(1.0)))

    @property
    def _own(self) -> int:
        own = self.reported.own
        assert own is not None
        return own

    @property
    def u_hat(self) -> float:
        """The estimated parameter."""
        return float(self.params_hat[self._own])

    @property
    def y_hat(self) -> Vector:
        """All others."""
        return np.delete(self.params_hat, self._own)

    def value(self, u: float) -> float:
        """The component, its limits at the bounds."""
        c = self._component(self.u_hat)
        if u in self.bounds:
            return c.limits[self.bounds.index(u)]
        return self._component(u).value

    def _component(self, u: float) -> Component:
        reported = self.reported
        x = self.structure_params(_set(self.params_hat, self._own, u))[reported.stratum]
        return reported.structure.components_at(x, reported.at)[reported.number]

    def params(self, u: float, y: Vector) -> Vector:
        """The parameter among the others."""
        return np.insert(y, self._own, u)

    def pull_back(self, params: Vector, by_params: Vector) -> tuple[float, Vector]:
        """Of the parameter, and of all others."""
        return float(by_params[self._own]), np.delete(by_params, self._own)


def _set(params: Vector, index: int, value: float) -> Vector:
    changed = params.copy()
    changed[index] = value
    return changed


@dataclass(frozen=True)
class SolvedCorrelation:
    """A correlation of a structure that increases with its own parameter, others given."""

    structure: CorrelationStructure
    reported: OfStructure
    params_hat: Vector

    bounds = (-_FAR[0], _FAR[0])

    @property
    def _first(self) -> int:
        """Number of standard deviations before the parameters of correlations."""
        return len(self.structure.sds(self.reported.at))

    @property
    def _searched(self) -> npt.NDArray[np.intp]:
        return self.reported.searched[self._first :]

    @property
    def _number(self) -> int:
        return self.reported.number - self._first

    @property
    def u_hat(self) -> float:
        """Of the estimated correlation."""
        return math.atanh(self.reported_value(self.params_hat))

    @property
    def y_hat(self) -> Vector:
        """All parameters but its own."""
        return np.delete(self.params_hat, self._searched[self._number])

    def reported_value(self, params: Vector) -> float:
        """The correlation at parameters."""
        c = self.structure.bounded(params[self._searched], self.reported.at)
        return float(c[self._number])

    def value(self, u: float) -> float:
        """``tanh(u)``, one at the bounds."""
        if u in self.bounds:
            return math.copysign(1.0, u)
        return math.tanh(u)

    def params(self, u: float, y: Vector) -> Vector:
        """Solve for its own parameter."""
        own = int(self._searched[self._number])
        from scipy.optimize import brentq

        params, target = np.insert(y, own, 0.0), math.tanh(u)

        def miss(t: float) -> float:
            return self.reported_value(_set(params, own, math.atanh(t))) - target

        if miss(-_END) > 0.0 or miss(_END) < 0.0:
            raise ArithmeticError("the other correlations allow no such one")
        # A correlation of toep is linear in t, so that few steps are needed.
        root = brentq(miss, -_END, _END, xtol=1e-15, rtol=1e-14)
        return _set(params, own, math.atanh(float(root)))

    def pull_back(self, params: Vector, by_params: Vector) -> tuple[float, Vector]:
        """By the implicit function that its own parameter is."""
        own, searched = int(self._searched[self._number]), self._searched
        by_x = self.structure.bounded_jacobian(params[searched], self.reported.at)[self._number]
        gradient = np.zeros(len(params))
        gradient[searched] = by_x
        slope, of_own = gradient[own], by_params[own]
        c = self.reported_value(params)
        by_y = by_params - of_own * gradient / slope
        return float(of_own * (1.0 - c * c) / slope), np.delete(by_y, own)


@dataclass(frozen=True)
class FirstTwoPositions:
    """The correlation of the first two positions of an unstructured covariance."""

    params_hat: Vector
    below: int  # searched parameter of the second row's first entry
    diagonal: int  # of the logarithm of its second

    bounds = (-_FAR[0], _FAR[0])

    @property
    def u_hat(self) -> float:
        """Of the estimated correlation."""
        return math.asinh(self.params_hat[self.below] / math.exp(self.params_hat[self.diagonal]))

    @property
    def y_hat(self) -> Vector:
        """All parameters but the entry below the diagonal."""
        return np.delete(self.params_hat, self.below)

    def value(self, u: float) -> float:
        """``tanh(u)``, one at the bounds."""
        return math.copysign(1.0, u) if u in self.bounds else math.tanh(u)

    def params(self, u: float, y: Vector) -> Vector:
        """``l sinh(u)`` below the diagonal."""
        params = np.insert(y, self.below, 0.0)
        params[self.below] = math.exp(params[self.diagonal]) * math.sinh(u)
        return params

    def pull_back(self, params: Vector, by_params: Vector) -> tuple[float, Vector]:
        """That entry depends on ``u`` and on the diagonal one."""
        l21, l22 = params[self.below], math.exp(params[self.diagonal])
        by_y = by_params.copy()
        by_y[self.diagonal] += by_params[self.below] * l21
        return float(by_params[self.below]) * math.hypot(l22, l21), np.delete(by_y, self.below)


@dataclass(frozen=True)
class LinearCombination:
    """A linear combination of the parameters."""

    row: Vector
    params_hat: Vector

    bounds = (-math.inf, math.inf)

    @staticmethod
    def of(reported: LinearInParams, params_hat: Vector) -> LinearCombination:
        """That of a reported coefficient."""
        return LinearCombination(reported.row, params_hat)

    @property
    def _others(self) -> Matrix:
        return np.asarray(linalg.null_space(self.row[None]))

    @property
    def _along(self) -> Vector:
        return np.asarray(self.row / (self.row @ self.row))

    @property
    def u_hat(self) -> float:
        """The estimated combination."""
        return float(self.row @ self.params_hat)

    @property
    def y_hat(self) -> Vector:
        """Coordinates in the space orthogonal to it."""
        return np.asarray(self._others.T @ self.params_hat)

    def value(self, u: float) -> float:
        """The combination itself."""
        return u

    def params(self, u: float, y: Vector) -> Vector:
        """Along the row, and orthogonal to it."""
        return np.asarray(u * self._along + self._others @ y)

    def pull_back(self, params: Vector, by_params: Vector) -> tuple[float, Vector]:
        """Projections."""
        return float(self._along @ by_params), np.asarray(self._others.T @ by_params)
