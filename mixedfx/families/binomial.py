"""Binomial distribution: ``w`` trials, ``y`` the proportion of successes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from scipy import special

from mixedfx.families.cumulative_links import CumulativeLink
from mixedfx.families.derivatives import Array, RowDerivatives, weighted
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.support import (
    check_support,
    check_varies,
    is_whole,
)


@dataclass(frozen=True)
class Binomial(Family):
    """Successes of ``w`` trials each, as the proportion ``y``; without ``w``, 0 or 1."""

    name = "binomial"
    links = ("logit", "probit", "cloglog", "cauchit", "log")
    discrete = True
    mergeable = True
    positive_mean = True
    takes_trials = True
    has_zeros = True
    support = "0 and 1, or whole numbers of successes of whole numbers of trials"
    mean_name = "probability"
    log_link_methods = ("delta",)
    log_concave_links = ("logit", "probit", "cloglog")
    _inner_eta = -1.0

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        link = cast(CumulativeLink, self.link)
        return weighted(link.log_bernoulli(y, eta, third=third), w)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """Logarithm of the binomial coefficient."""
        if w is None:
            return np.zeros(len(y))
        k = y * w
        return np.asarray(
            special.gammaln(w + 1.0) - special.gammaln(k + 1.0) - special.gammaln(w - k + 1.0)
        )

    def valid(self, eta: Array) -> Mask | None:
        """Where the probability is between 0 and 1; None: everywhere."""
        return cast(CumulativeLink, self.link).probability_valid(eta)

    def check_response(
        self, name: str, y: Vector, w: Vector | None = None, index: pd.Index | None = None
    ) -> None:
        """Raise unless ``y w`` successes of ``w`` trials are whole numbers, not all 0 or all 1."""
        check_support(self, name, y, w, index)
        check_varies(name, y, trials=w)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values other than 0 and 1, or other than k of n for whole k and n."""
        if w is None:
            return ~np.isin(y, (0.0, 1.0))
        good = (y >= 0) & (y <= 1) & is_whole(y * w) & is_whole(w) & (w >= 0)
        return ~good

    def unbounded(self, y: Vector) -> Vector:
        """Zeros downwards, and ones upwards where the link has no end there."""
        one = 0.0 if self.link.name == "log" else 1.0
        return np.where(y == 0.0, -1.0, np.where(y == 1.0, one, 0.0))

    def seen(self, y: float, w: float | None) -> str:
        """Successes of trials."""
        if w is None:
            return f"{y:g}"
        return f"{y * w:.6g} of {w:.6g} trials"

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """``(k + 1/2) / (n + 1)``."""
        return (y + 0.5) / 2.0 if w is None else (w * y + 0.5) / (w + 1.0)

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``mu (1 - mu) / w``."""
        variance = mu * (1.0 - mu)
        return variance if w is None else variance / w

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Binomial draws, as proportions."""
        trials = np.ones(np.shape(mu)) if w is None else np.rint(w)
        k = rng.binomial(trials.astype(np.int64), np.clip(mu, 0.0, 1.0))
        return np.asarray(k / np.maximum(trials, 1.0))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Regularised incomplete beta functions of the successes."""
        n = np.ones(np.shape(y)) if w is None else w
        k = np.rint(y * n)
        return _binomial_cdf(k - 1.0, n, mu), _binomial_cdf(k, n, mu)

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``2 w (y log(y / mu) + (1 - y) log((1 - y) / (1 - mu)))``."""
        z, nu = 1.0 - y, 1.0 - mu
        deviance = 2.0 * (special.xlogy(y, y) - special.xlogy(y, mu))
        deviance += 2.0 * (special.xlogy(z, z) - special.xlogy(z, nu))
        return np.asarray(deviance if w is None else w * deviance)


def _binomial_cdf(k: Vector, n: Vector, mu: Vector) -> Vector:
    """``P(K <= k)`` of n trials, 0 below 0 and 1 from n on."""
    inside = (k >= 0) & (k < n)
    safe = np.where(inside, k, 0.0)
    p = special.betaincc(safe + 1.0, np.maximum(n - safe, 1.0), mu)
    return np.where(inside, p, (k >= 0).astype(float))
