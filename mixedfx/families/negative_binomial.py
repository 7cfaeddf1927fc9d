"""What negative binomial families share: gamma mixtures of Poisson counts.

With the size k = 1 / alpha (``nbinom2``) or mu / alpha (``nbinom1``) and s = mu / k,

    l = C(y, k) + y log mu - (y + k) log(1 + s) - log y!,

where C (:mod:`mixedfx.families.gamma_ratios`) and alpha vanish in the Poisson limit.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.poisson import MAX_MEAN
from mixedfx.families.support import not_counts

# Range of starting values of alpha; at zero its logarithm would have no finite start.
_LEAST_START, _LARGEST_START = 0.01, 1e3
# Mean over size below which the share of the size loses digits.
_NEAR_POISSON = 1e-3


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """Counts with a variance larger than their mean."""

    links = ("log",)
    param_names = ("alpha",)
    discrete = True
    limits = ("poisson",)
    vanishing = ("alpha",)
    dispersion_param = "alpha"
    has_zeros = True
    positive_mean = True
    support = "counts 0, 1, 2, ..."
    mean_name = "expected count"
    log_link_methods = ("lognormal", "delta", "trigamma")

    @abstractmethod
    def _size(self, mu: Array, alpha: Array | float) -> Array:
        """k, the shape of the gamma distribution of a row's Poisson mean."""

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y!``, times the weight."""
        constant = -special.gammaln(y + 1.0)
        return np.asarray(constant if w is None else w * constant)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are negative or fractions."""
        return not_counts(y)

    def unbounded(self, y: Vector) -> Vector:
        """Zeros downwards."""
        return np.where(y == 0.0, -1.0, 0.0)

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """The counts, with 1/6 for zero."""
        return np.asarray(y + (y == 0) / 6.0)

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Excess of the squares over the Poisson variance, over what alpha multiplies."""
        w = np.ones_like(y) if w is None else w
        scale = mu**2 / self._size(mu, 1.0)
        # Each row's excess is over its own scale, or a few large means decide.
        alpha = float(np.average(((y - mu) ** 2 - mu) / scale, weights=w))
        return np.array([min(max(alpha, _LEAST_START), _LARGEST_START)])

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``mu + mu^2 / k``, over the weight."""
        variance = mu + mu**2 / self._size(mu, params[0])
        return variance if w is None else variance / w

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Poisson draws with gamma means."""
        k = np.broadcast_to(self._size(mu, params[0]), np.shape(mu))
        return rng.poisson(np.minimum(rng.gamma(k, mu / k), MAX_MEAN)).astype(float)

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Regularised incomplete beta functions of the counts."""
        k = np.broadcast_to(self._size(mu, params[0]), np.shape(mu))
        y, k = np.broadcast_arrays(y, k)
        below = np.where(y > 0, _at_most(np.maximum(y - 1.0, 0.0), k, mu), 0.0)
        return below, _at_most(y, k, mu)

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``2 w (y log(y / mu) - (y + k) log((y + k) / (mu + k)))``, k at the fitted mean."""
        k = self._size(mu, params[0])
        ratio = np.log1p((y - mu) / (mu + k))
        deviance = 2.0 * (special.xlogy(y, y / mu) - (y + k) * ratio)
        return np.asarray(deviance if w is None else w * deviance)


def _at_most(y: Vector, k: Vector, mu: Vector) -> Vector:
    """``P(Y <= y)`` of the size k."""
    mu = np.broadcast_to(mu, np.shape(k))
    probability = np.asarray(special.betainc(k, y + 1.0, k / (mu + k)), dtype=np.float64)
    # Near the Poisson limit the first argument's complement keeps the digits; it takes eight times
    # as long.
    near = mu < _NEAR_POISSON * k
    if near.any():
        y, k, mu = y[near], k[near], mu[near]
        probability[near] = special.betaincc(y + 1.0, k, mu / (mu + k))
    return probability
