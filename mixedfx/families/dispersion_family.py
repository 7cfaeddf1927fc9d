"""Exponential dispersion families: gaussian, gamma and inverse gaussian.

With the unit deviance d(y, mu) and a scale s, sigma^2 or phi, a row of prior weight w has

    l = K(w, s) - w d(y, mu) / (2 s) + terms of y alone

(Jorgensen 1987, J. R. Stat. Soc. B 49:127), so that all but K is proportional to 1 / s.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mixedfx.families import partials
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Vector
from mixedfx.families.mean_family import MeanFamily

if TYPE_CHECKING:
    from mixedfx.families.partials import Partials


@dataclass(frozen=True)
class DispersionFamily(MeanFamily):
    """
    A family with one parameter, whose power is the scale of its unit deviance.

    Attributes
    ----------
    power : int
        The scale is the parameter to this power: 2 of ``sigma``, 1 of ``phi``.
    """

    power: ClassVar[int] = 1

    @abstractmethod
    def _normalizer(self, w: Array | None, param: float) -> tuple[Array | float, Array | float]:
        """K and its derivative by the logarithm of the parameter."""

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        scale = float(params[0]) ** self.power
        rows = weighted(self._unit(y, eta, third=third), 1.0 / scale if w is None else w / scale)
        return rows._replace(value=rows.value + self._normalizer(w, float(params[0]))[0])

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        rows = self._rows(y, w, eta, params, third=False)
        K, slope = self._normalizer(w, float(params[0]))
        return ParamDerivatives(
            (slope - self.power * (rows.value - K))[np.newaxis],
            (-self.power * rows.first)[np.newaxis],
            (-self.power * rows.weight)[np.newaxis],
        )

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """``K - w d / (2 s)``."""
        at, valid = self._inner(np.asarray(eta.value))
        d = self._unit(y, at, third=True)
        value = d.value if valid is None else np.where(valid, d.value, -np.inf)
        assert d.weight_slope is not None
        unit = eta.compose(value, d.first, -d.weight, -d.weight_slope)
        kernel = partials.exp(-self.power * log_params[0]) * unit
        kernel = kernel if w is None else kernel * w
        return kernel + self._normalizer_of(w, log_params[0])

    def _normalizer_of(self, w: Array | None, log_param: Partials) -> Partials:
        """K as a function of the logarithm of the parameter, in which it is linear."""
        return self._normalizer(w, 1.0)[1] * log_param

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``s V(mu) / w``."""
        variance = params[0] ** self.power * self._variance_function(mu)
        return np.asarray(variance if w is None else variance / w)

    def scale(self, params: Vector) -> float | None:
        """The parameter to its power."""
        return float(params[0]) ** self.power

    @abstractmethod
    def _variance_function(self, mu: Array) -> Array:
        """V(mu)."""

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Mean of the weighted squares over V(mu)."""
        squares = (y - mu) ** 2 / self._variance_function(mu)
        scale = float(np.mean(squares if w is None else w * squares))
        return np.array([max(scale, np.finfo(float).tiny) ** (1.0 / self.power)])
