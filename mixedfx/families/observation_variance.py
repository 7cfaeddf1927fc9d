"""Variance of one observation about its mean, on the scale of the linear predictor.

Nakagawa, Johnson and Schielzeth (2017, J. R. Soc. Interface 14:20170213), with ``V`` the variance
of an observation at a typical predictor eta, M its mean there, and c = V / M^2:

================  =========================================  ==================================
``theoretical``   variance of the latent response            links that are distribution functions
``delta``         ``V / (dM / d eta)^2``                     every link
``lognormal``     ``log(1 + c)``                             log link
``trigamma``      ``trigamma(1 / c)``                        log link, gamma and mixtures of Poisson
================  =========================================  ==================================

An observation is one trial of a binomial response, and has the prior weight one. With further
linear predictors V and M are of the response, its zeros included, and c is by delta's: a log link
without truncation has ``dM / d eta = M``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx._cached import cached_property
from mixedfx.families.derivatives import Array
from mixedfx.families.links import Link

Vector = npt.NDArray[np.float64]


class _Family(Protocol):
    @property
    def link(self) -> Link: ...

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array: ...


class Observation(Protocol):
    """An observation at a typical linear predictor."""

    @property
    def link(self) -> Link:
        """Of the mean."""
        ...

    @property
    def delta(self) -> float:
        """``V / (dM / d eta)^2``."""
        ...

    @property
    def squared_variation(self) -> float:
        """``V / M^2``."""
        ...


@dataclass(frozen=True)
class _OneObservation:
    """An observation of a family with one linear predictor."""

    family: _Family
    typical_mean: Callable[[], float]
    params: Vector

    @property
    def link(self) -> Link:
        """The family's."""
        return self.family.link

    @cached_property
    def _mu(self) -> Vector:
        """Its mean, (1,)."""
        return np.array([self.typical_mean()])

    @property
    def _variance(self) -> Vector:
        """``V(mu)``, (1,)."""
        return self.family.variance(self._mu, None, self.params)

    @property
    def delta(self) -> float:
        """By the slope of the inverse link."""
        slope = self.link.mean_derivatives(self.link.link(self._mu), self._mu)[0]
        return float((self._variance / slope**2)[0])

    @property
    def squared_variation(self) -> float:
        """``V(mu) / mu^2``."""
        return float((self._variance / self._mu**2)[0])


def _theoretical(at: Observation) -> float:
    variance = at.link.latent_variance
    assert variance is not None
    return variance


def _delta(at: Observation) -> float:
    return at.delta


def _lognormal(at: Observation) -> float:
    return math.log1p(at.squared_variation)


def _trigamma(at: Observation) -> float:
    return float(special.polygamma(1, 1.0 / at.squared_variation))


_METHODS: Mapping[str, Callable[[Observation], float]] = MappingProxyType(
    {
        "theoretical": _theoretical,
        "delta": _delta,
        "lognormal": _lognormal,
        "trigamma": _trigamma,
    }
)


def observation_variance(
    family: _Family, method: str, mean: Callable[[], float], params: Vector
) -> float:
    """Variance by a method; ``mean`` gives a typical mean where one is needed."""
    return variance_of(_OneObservation(family, mean, params), method)


def variance_of(observation: Observation, method: str) -> float:
    """Variance of an observation by a method."""
    return _METHODS[method](observation)
