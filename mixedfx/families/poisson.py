"""Poisson distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives
from mixedfx.families.family import Mask, Vector
from mixedfx.families.mean_family import MeanFamily
from mixedfx.families.support import not_counts

# NumPy's largest mean of Poisson draws is that of a 64-bit integer.
MAX_MEAN = 1e18


@dataclass(frozen=True)
class Poisson(MeanFamily):
    """Counts with variance ``mu``."""

    name = "poisson"
    links = ("log", "sqrt", "identity")
    discrete = True
    mergeable = True
    positive_mean = True
    has_zeros = True
    support = "counts 0, 1, 2, ..."
    mean_name = "expected count"
    log_link_methods = ("lognormal", "delta", "trigamma")
    log_concave_links = ("log",)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y!``, times the weight."""
        constant = -special.gammaln(y + 1.0)
        return np.asarray(constant if w is None else w * constant)

    def _unit_log_link(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        mu = np.exp(eta)
        value = y * eta
        value -= mu
        return RowDerivatives(value, y - mu, mu, mu if third else None)

    def _unit_by_mean(self, y: Array, mu: Array, *, third: bool) -> MeanDerivatives:
        z = y / mu
        d2 = -z / mu
        return MeanDerivatives(
            special.xlogy(y, mu) - mu, z - 1.0, d2, -2.0 * d2 / mu if third else None
        )

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are negative or fractions."""
        return not_counts(y)

    def unbounded(self, y: Vector) -> Vector:
        """Zeros downwards, where the link has no end there."""
        return np.where((y == 0.0) & (self.link.name == "log"), -1.0, 0.0)

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """``y + 0.1``."""
        return y + 0.1

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``mu / w``."""
        return mu if w is None else mu / w

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Poisson draws."""
        return rng.poisson(np.minimum(mu, MAX_MEAN)).astype(float)

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Regularised incomplete gamma functions of ``y`` and ``y + 1``."""
        return special.gammaincc(y, mu), special.gammaincc(y + 1.0, mu)

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``2 w (y log(y / mu) - (y - mu))``."""
        deviance = 2.0 * (special.xlogy(y, y / mu) - (y - mu))
        return np.asarray(deviance if w is None else w * deviance)
