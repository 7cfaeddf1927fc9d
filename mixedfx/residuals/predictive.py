"""Predictive distributions of responses whose linear predictors are known up to a normal error.

The response of a row has the distribution function

    F(y) = E F_family(y; mean(eta + s x)),    x ~ N(0, 1),

with ``s^2`` the variance of the error of the linear predictor. A normal response with the identity
link has the normal quantiles ``eta + z sqrt(s^2 + sigma^2)``. Otherwise the expectation is the
trapezoidal rule, which converges exponentially for smooth functions (Trefethen and Weideman 2014,
SIAM Rev. 56:385), and quantiles are found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.families.family import Family
from mixedfx.linalg.normal_expectation import expectation

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_MAX_DOUBLINGS = 200
_MAX_BISECTIONS = 100
# Step and end of the rule: quantiles are not asked for to the last digit.
_STEP, _END = 1 / 4, 6.0
# Relative width of the last interval of a quantile of a continuous response.
_TOLERANCE = 1e-12


class Predictive(Protocol):
    """Distribution of new responses given means and variances of their linear predictors."""

    def quantiles(self, eta: Vector, variance: Vector, shares: Sequence[float]) -> list[Vector]:
        """Quantile of each row at each share."""
        ...


@dataclass(frozen=True)
class NormalPredictive:
    """Normal responses about their linear predictors."""

    variances: Any  # (n,) of the residuals, or one of all

    def quantiles(self, eta: Vector, variance: Vector, shares: Sequence[float]) -> list[Vector]:
        """``eta + z sqrt(s^2 + sigma^2)``."""
        sd = np.sqrt(variance + self.variances)
        return [np.asarray(eta + special.ndtri(share) * sd) for share in shares]


@dataclass(frozen=True)
class FamilyPredictive:
    """Responses of a family."""

    family: Family
    params: Vector  # (r,)
    weights: Vector | None  # (n,) trials or prior weights

    def quantiles(self, eta: Vector, variance: Vector, shares: Sequence[float]) -> list[Vector]:
        """Smallest responses at which the distribution function reaches the shares."""
        known = np.isfinite(eta) & np.isfinite(variance)
        w = None if self.weights is None else self.weights[known]
        s = np.sqrt(np.maximum(variance[known], 0.0))
        results = []
        for share in shares:
            quantile = np.full(len(eta), np.nan)
            with np.errstate(all="ignore"):
                quantile[known] = self._quantile(eta[known], s, w, share)
            results.append(quantile)
        return results

    def _quantile(self, eta: Vector, s: Vector, w: Vector | None, share: float) -> Vector:
        unit = np.ones(len(eta))
        if self.family.takes_trials and w is not None:
            unit = 1.0 / np.maximum(w, 1.0)

        def reached(y: Vector) -> npt.NDArray[np.bool_]:
            return self._cdf(y, eta, s, w) >= share

        center = self.family.mean(eta)
        if self.family.discrete:
            return _discrete_quantile(reached, center, unit)
        positive, at_most = (bool(self.family.outside(np.array([y]), None)[0]) for y in (-1.0, 2.0))
        sd = np.sqrt(self.family.variance(center, w, self.params))
        sd = np.where(np.isfinite(sd), sd, 1.0 + np.abs(center))
        low = np.zeros_like(center) if positive else center - sd
        high = np.ones_like(center) if at_most else center + sd
        return _continuous_quantile(reached, low, high, ends=(positive, at_most))

    def _cdf(self, y: Vector, eta: Vector, s: Vector, w: Vector | None) -> Vector:
        """``E F(y; mean(eta + s x))`` of each row."""

        def given(at: Matrix) -> Matrix:
            mu = self.family.mean_within(at, eta)
            trials = None if w is None else np.broadcast_to(w, mu.shape)
            return self.family.cdf(np.broadcast_to(y, mu.shape), mu, trials, self.params)[1]

        return expectation(given, eta, s, step=_STEP, end=_END)


def _discrete_quantile(
    reached: Callable[[Vector], npt.NDArray[np.bool_]], center: Vector, unit: Vector
) -> Vector:
    """Smallest multiple of the unit that reaches the share, from 0 on."""
    low = np.full(len(center), -1.0)
    high = np.ceil(np.maximum(center, 0.0) / unit) + 1.0
    for _ in range(_MAX_DOUBLINGS):
        short = ~reached(high * unit)
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    while (high - low > 1.0).any():
        middle = np.floor(0.5 * (low + high))
        at = reached(middle * unit)
        low, high = np.where(at, low, middle), np.where(at, middle, high)
    return np.asarray(high * unit)


def _continuous_quantile(
    reached: Callable[[Vector], npt.NDArray[np.bool_]],
    low: Vector,
    high: Vector,
    *,
    ends: tuple[bool, bool],
) -> Vector:
    """Point at which the share is reached, by bisection; ``ends`` are those of the support."""
    at_least, at_most = ends
    for _ in range(_MAX_DOUBLINGS):
        short, beyond = ~reached(high) & (not at_most), reached(low) & (not at_least)
        if not (short | beyond).any():
            break
        width = high - low
        high, low = np.where(short, high + width, high), np.where(beyond, low - width, low)
    for _ in range(_MAX_BISECTIONS):
        middle = 0.5 * (low + high)
        at = reached(middle)
        low, high = np.where(at, low, middle), np.where(at, middle, high)
        if (high - low <= _TOLERANCE * np.abs(high)).all():
            break
    return np.asarray(0.5 * (low + high))
