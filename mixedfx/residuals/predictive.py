"""Predictive distributions of responses whose linear predictors are known up to a normal error.

The response of a row has the distribution function

    F(y) = E F_family(y; mean(eta + s x)),    x ~ N(0, 1),

with ``s^2`` the variance of the error of the linear predictor. A normal response with the identity
link has the normal quantiles ``eta + z sqrt(s^2 + sigma^2)``. Otherwise the expectation is the
trapezoidal rule, which converges exponentially for smooth functions (Trefethen and Weideman 2014,
SIAM Rev. 56:385), and quantiles are found by bisection. Scores of an observed response y are the
log density and the continuous ranked probability score (Gneiting and Raftery 2007, J. Am. Stat.
Assoc. 102:359), ``int (F(x) - 1{x >= y})^2 dx``, of categories the sum over these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
# Of a ranked probability score: probability left out, most terms of a sum; quantiles between which
# an integral has so many nodes.
_TAIL, _MOST_TERMS = 1e-7, 2000
_PANELS, _NODES = (_TAIL, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0 - 1e-4, 1.0 - _TAIL), 8
# Relative width of the last interval of a quantile of a continuous response.
_TOLERANCE = 1e-12


class Predictive(Protocol):
    """Distribution of new responses given means and variances of their linear predictors."""

    def quantiles(self, eta: Vector, variance: Vector, shares: Sequence[float]) -> list[Vector]:
        """Quantile of each row at each share."""
        ...

    def moments(self, eta: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """Mean and standard deviation of each row's response."""
        ...

    def log_density(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """Log density of each row's response, all constants included."""
        ...

    def crps(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """Continuous ranked probability score of each row's response."""
        ...

    def at_weights(self, weights: Vector) -> Predictive:
        """The same of rows with prior weights, or numbers of trials."""
        ...


@dataclass(frozen=True)
class NormalPredictive:
    """Normal responses about their linear predictors."""

    variances: Any  # (n,) of the residuals, or one of all

    def quantiles(self, eta: Vector, variance: Vector, shares: Sequence[float]) -> list[Vector]:
        """``eta + z sqrt(s^2 + sigma^2)``."""
        sd = np.sqrt(variance + self.variances)
        return [np.asarray(eta + special.ndtri(share) * sd) for share in shares]

    def moments(self, eta: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """``eta``, and ``sqrt(s^2 + sigma^2)``."""
        return eta, np.sqrt(variance + self.variances)

    def log_density(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """That of the normal distribution."""
        total = variance + self.variances
        return np.asarray(-0.5 * (np.log(2.0 * np.pi * total) + (y - eta) ** 2 / total))

    def crps(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """``s (z (2 Phi(z) - 1) + 2 phi(z) - pi^-1/2)``, s the standard deviation (page 367)."""
        sd = np.sqrt(variance + self.variances)
        z = (y - eta) / sd
        density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        return np.asarray(sd * (z * (2.0 * special.ndtr(z) - 1.0) + 2.0 * density - np.pi**-0.5))

    def at_weights(self, weights: Vector) -> NormalPredictive:
        """Variances over the weights."""
        return NormalPredictive(self.variances / weights)


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
            if known.any():
                with np.errstate(all="ignore"):
                    quantile[known] = self._quantile(eta[known], s, w, share)
            results.append(quantile)
        return results

    def at_weights(self, weights: Vector) -> FamilyPredictive:
        """The weights themselves."""
        return replace(self, weights=weights)

    def moments(self, eta: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """``E m`` and ``sqrt(E v + Var m)`` of the mean m and the variance v given eta."""
        family, params, s = self.family, self.params, np.sqrt(np.maximum(variance, 0.0))
        if family.ordered:
            return self._moments_of_categories(eta, s)

        def mean(at: Matrix) -> Matrix:
            return family.response_mean_within(at, eta, params)

        def variance_given(at: Matrix) -> Matrix:
            mu = family.mean_within(at, eta)
            w = None if self.weights is None else np.broadcast_to(self.weights, mu.shape)
            return np.asarray(family.variance(mu, w, params))

        with np.errstate(all="ignore"):
            first = expectation(mean, eta, s)
            between = expectation(lambda at: (mean(at) - first) ** 2, eta, s)
            return first, np.sqrt(expectation(variance_given, eta, s) + between)

    def _moments_of_categories(self, eta: Vector, s: Vector) -> tuple[Vector, Vector]:
        """Of the categories as numbers from one."""

        def power(k: int, at: Matrix) -> Matrix:
            shares = self.family.probabilities(at, self.params)
            numbers = np.arange(1.0, len(shares) + 1.0) ** k
            return np.asarray(np.tensordot(numbers, shares, axes=1))

        first, second = (expectation(partial(power, k), eta, s) for k in (1, 2))
        return first, np.sqrt(np.maximum(second - first**2, 0.0))

    def log_density(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """``log E f(y; eta + s x)``, scaled by the largest density near."""
        family, w, s = self.family, self.weights, np.sqrt(np.maximum(variance, 0.0))

        def given(at: Matrix) -> Matrix:
            return np.asarray(family.derivatives(y, w, at, self.params).value)

        around = np.linspace(-_END, _END, 25)[:, None]
        near = given(eta + around * s) - 0.5 * around**2
        largest = near.max(axis=0)
        with np.errstate(all="ignore"):
            scaled = expectation(lambda at: np.exp(given(at) - largest), eta, s)
            return np.asarray(largest + np.log(scaled) + family.constants(y, w))

    def crps(self, y: Vector, eta: Vector, variance: Vector) -> Vector:
        """A sum over counts or categories, or an integral between quantiles."""
        s, w = np.sqrt(np.maximum(variance, 0.0)), self.weights
        if not self.family.discrete and not self.family.ordered:
            return self._crps_by_panels(y, eta, variance)
        unit = np.ones(len(y))
        if self.family.takes_trials:
            trials = unit if w is None else np.maximum(w, 1.0)
            unit, terms = 1.0 / trials, trials.max()
        elif self.family.ordered:
            terms = float(len(self.family.labels))
        else:
            largest = self.quantiles(eta, variance, [1.0 - _TAIL])[0]
            terms = max(np.nanmax(largest), y.max()) + 1.0
        total = np.zeros(len(y))
        with np.errstate(all="ignore"):
            for k in np.arange(min(terms, _MOST_TERMS)):
                F = np.minimum(self._cdf(k * unit, eta, s, w), 1.0)
                total += unit * (F - (k * unit >= y * (1.0 - _TAIL))) ** 2
        if terms <= _MOST_TERMS:
            return total
        return total + self._crps_by_panels(y, eta, variance, unit * _MOST_TERMS)

    def _crps_by_panels(
        self, y: Vector, eta: Vector, variance: Vector, first: Vector | None = None
    ) -> Vector:
        """Gauss-Legendre quadrature between quantiles and the response, from ``first`` on."""
        s = np.sqrt(np.maximum(variance, 0.0))
        ends = np.sort([*self.quantiles(eta, variance, _PANELS), y], axis=0)
        if first is not None:
            ends = np.sort([first, *np.maximum(ends, first)], axis=0)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        total = np.zeros(len(y))
        with np.errstate(all="ignore"):
            for low, high in itertools.pairwise(ends):
                for node, weight in zip(nodes, weights, strict=True):
                    at = 0.5 * (low + high) + 0.5 * (high - low) * node
                    F = self._cdf(at, eta, s, self.weights)
                    total += 0.5 * (high - low) * weight * (F - (at >= y)) ** 2
        return total

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
