"""What the beta and beta-binomial families share: the shapes ``mu phi`` and ``(1 - mu) phi``.

With these called a and b, the log density is a sum of functions of each one. Derivatives by eta
come by the chain rule from ``log a = log F(eta) + log phi`` and ``log b = log(1 - F(eta)) + log
phi``, F the inverse link, which keep their digits where the mean is close to 0 or 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from scipy import special

from mixedfx.families.cumulative_links import CumulativeLink
from mixedfx.families.derivatives import (
    Array,
    LogDerivatives,
    ParamDerivatives,
    RowDerivatives,
    weighted,
)
from mixedfx.families.family import Family, Vector
from mixedfx.families.partials import Partials

# Largest and smallest shape: their logarithms are searched, and their gamma functions are finite.
MIN_SHAPE, MAX_SHAPE = 1e-100, 1e100
# Range of the logit of a mean that differs from 0 and 1, and steps of its search.
_LOWEST, _HIGHEST, _STEPS = -700.0, 36.0, 40


class ShapePart(NamedTuple):
    """A function of the logarithm of a shape, with three derivatives by it."""

    value: Array
    first: Array
    second: Array
    third: Array

    def along(self, x: LogDerivatives) -> RowDerivatives:
        """Derivatives by eta, of which x, the logarithm of the shape, is a function."""
        first = self.first * x.first
        second = self.second * x.first**2 + self.first * x.second
        slope = None
        if x.third is not None:
            slope = -(
                self.third * x.first**3
                + 3.0 * self.second * x.first * x.second
                + self.first * x.third
            )
        return RowDerivatives(self.value, first, -second, slope)

    def slope_along(self, x: LogDerivatives) -> RowDerivatives:
        """The same of its derivative by the logarithm of phi."""
        derivative = ShapePart(self.first, self.second, self.third, self.third)
        return derivative.along(x._replace(third=None))


@dataclass(frozen=True)
class BetaShapes(Family):
    """A family of the shapes of a beta distribution, with the parameter ``phi`` = a + b."""

    param_names = ("phi",)
    dispersion_param = "phi"
    positive_mean = True
    log_link_methods = ("delta",)

    @abstractmethod
    def _parts(
        self, y: Array, w: Array | None, a: Array, b: Array, phi: Array | float
    ) -> tuple[ShapePart, ShapePart, ShapePart]:
        """Parts of the log density of a row of weight one: of a, of b, and of phi alone."""

    def _shapes(
        self, eta: Array, phi: Array | float, *, third: bool
    ) -> tuple[LogDerivatives, LogDerivatives, Array, Array]:
        """``log F`` and ``log(1 - F)`` with their derivatives, and the shapes."""
        link = cast(CumulativeLink, self.link)
        low, up = link.log_cdf(eta, third=third), link.log_sf(eta, third=third)
        a, b = (np.clip(phi * np.exp(x.value), MIN_SHAPE, MAX_SHAPE) for x in (low, up))
        return low, up, a, b

    def _row_weight(self, w: Array | None) -> Array | None:
        """What multiplies the log density of a row."""
        return w

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        phi = float(params[0])
        low, up, a, b = self._shapes(eta, phi, third=third)
        of_a, of_b, of_phi = self._parts(y, w, a, b, phi)
        one, other = of_a.along(low), of_b.along(up)
        slope = None
        if one.weight_slope is not None and other.weight_slope is not None:
            slope = one.weight_slope + other.weight_slope
        rows = RowDerivatives(
            one.value + other.value + of_phi.value,
            one.first + other.first,
            one.weight + other.weight,
            slope,
        )
        return weighted(rows, self._row_weight(w))

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        phi = float(params[0])
        low, up, a, b = self._shapes(eta, phi, third=False)
        of_a, of_b, of_phi = self._parts(y, w, a, b, phi)
        one, other = of_a.slope_along(low), of_b.slope_along(up)
        rows = RowDerivatives(
            one.value + other.value + of_phi.first,
            one.first + other.first,
            one.weight + other.weight,
            None,
        )
        rows = weighted(rows, self._row_weight(w))
        return ParamDerivatives(*(part[np.newaxis] for part in rows[:3]))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """Sum of functions of log a, log b and log phi."""
        phi, (at, valid) = np.exp(log_params[0].value), self._inner(np.asarray(eta.value))
        low, up, a, b = self._shapes(at, phi, third=True)
        assert low.third is not None
        assert up.third is not None
        log_a, log_b = (
            eta.compose(x.value, x.first, x.second, x.third) + log_params[0] for x in (low, up)
        )
        of_a, of_b, of_phi = self._parts(y, w, a, b, phi)
        found = log_a.compose(*of_a) + log_b.compose(*of_b) + log_params[0].compose(*of_phi)
        if valid is not None:
            found = found + np.where(valid, 0.0, -np.inf)
        scale = self._row_weight(w)
        return found if scale is None else found * scale

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """Twice the log density at the mean that makes it largest, less that at ``mu``."""
        by_logit = self.with_link("logit")
        with np.errstate(all="ignore"):
            best = by_logit._best_eta(y, w, params)
            at_mean = by_logit.derivatives(y, w, special.logit(mu), params).value
            deviance = 2.0 * (by_logit.derivatives(y, w, best, params).value - at_mean)
        return np.asarray(np.maximum(deviance, 0.0))

    def _best_eta(self, y: Vector, w: Vector | None, params: Vector) -> Vector:
        """
        Logit of the mean with the largest log density of each row, or the end it rises towards.

        The log density is concave in the mean: Newton steps, bisected where they leave what is
        left of the interval.
        """
        low, high = np.full(len(y), _LOWEST), np.full(len(y), _HIGHEST)
        eta = np.clip(special.logit(y), 0.5 * _LOWEST, 0.5 * _HIGHEST)
        for _ in range(_STEPS):
            at = self.derivatives(y, w, eta, params)
            low, high = np.where(at.first > 0.0, eta, low), np.where(at.first > 0.0, high, eta)
            tried = eta + at.first / at.weight
            eta = np.where((tried > low) & (tried < high), tried, 0.5 * (low + high))
        return eta
