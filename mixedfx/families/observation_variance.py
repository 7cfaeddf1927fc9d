"""Variance of one observation about its mean, on the scale of the linear predictor.

Nakagawa, Johnson and Schielzeth (2017, J. R. Soc. Interface 14:20170213), with ``V(mu)`` the
variance of an observation at a typical mean mu, and c = V(mu) / mu^2:

================  =========================================  ==================================
``theoretical``   variance of the latent response            links that are distribution functions
``delta``         ``V(mu) / (d mu / d eta)^2``               every link
``lognormal``     ``log(1 + c)``                             log link
``trigamma``      ``trigamma(1 / c)``                        log link, gamma and mixtures of Poisson
================  =========================================  ==================================

An observation is one trial of a binomial response, and has the prior weight one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.families.derivatives import Array
from mixedfx.families.links import Link

Vector = npt.NDArray[np.float64]


class _Family(Protocol):
    @property
    def link(self) -> Link: ...

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array: ...


@dataclass(frozen=True)
class _Observation:
    """An observation of a family."""

    family: _Family
    typical_mean: Callable[[], float]
    params: Vector

    @cached_property
    def mu(self) -> Vector:
        """Its mean, (1,)."""
        return np.array([self.typical_mean()])

    @property
    def variance(self) -> Vector:
        """``V(mu)``, (1,)."""
        return self.family.variance(self.mu, None, self.params)

    @property
    def squared_variation(self) -> float:
        """``V(mu) / mu^2``."""
        return float((self.variance / self.mu**2)[0])


def _theoretical(at: _Observation) -> float:
    variance = at.family.link.latent_variance
    assert variance is not None
    return variance


def _delta(at: _Observation) -> float:
    link = at.family.link
    slope = link.mean_derivatives(link.link(at.mu), at.mu)[0]
    return float((at.variance / slope**2)[0])


def _lognormal(at: _Observation) -> float:
    return math.log1p(at.squared_variation)


def _trigamma(at: _Observation) -> float:
    return float(special.polygamma(1, 1.0 / at.squared_variation))


_METHODS: Mapping[str, Callable[[_Observation], float]] = MappingProxyType(
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
    return _METHODS[method](_Observation(family, mean, params))
