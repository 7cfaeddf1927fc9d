"""Links of probabilities: distribution functions F, through log F and log(1 - F).

A binomial row has the log density ``y log F(eta) + (1 - y) log(1 - F(eta))``, a cumulative model
the logarithm of a difference of two F. Neither is computed from the mean, which is 0 or 1 in the
tails; each link gives log F and log(1 - F) with three derivatives by closed forms.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, LogDerivatives, RowDerivatives
from mixedfx.families.links import Link, Mask, bounded_exp
from mixedfx.families.log_intervals import (
    LogInterval,
    Width,
    of_logistic,
    of_survival,
    of_symmetric,
)

_SQRT_HALF, _SQRT_2_OVER_PI = math.sqrt(0.5), math.sqrt(2.0 / math.pi)
_DENSITY_0 = 1.0 / math.sqrt(2.0 * math.pi)  # of the normal distribution
_ONE = np.ones(1)
_ONE.flags.writeable = False
# Third powers of 1 / eta stay finite.
_NEAREST_TO_ZERO = 1e-100


@dataclass(frozen=True)
class CumulativeLink(Link):
    """
    A link whose inverse is a distribution function F.

    Attributes
    ----------
    symmetric : bool
        Whether ``1 - F(eta) = F(-eta)``.
    """

    symmetric: ClassVar[bool] = False
    # Whether log_interval has the derivatives by both ends in closed form
    has_interval_curvature: ClassVar[bool] = False

    @abstractmethod
    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """``log F(eta)`` with its derivatives."""

    def log_sf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """``log(1 - F(eta))`` with its derivatives; of a symmetric F by reflection."""
        reflected = self.log_cdf(-eta, third=third)
        d3 = None if reflected.third is None else -reflected.third
        return LogDerivatives(reflected.value, -reflected.first, reflected.second, d3)

    def _from_bernoulli(self, eta: Array, *, third: bool) -> LogDerivatives:
        """``log F(eta)`` of a link that writes ``log_bernoulli``."""
        value, first, weight, slope = self.log_bernoulli(_ONE, eta, third=third)
        return LogDerivatives(value, first, -weight, None if slope is None else -slope)

    def probability_valid(self, eta: Array) -> Mask | None:
        """Where ``0 < F(eta) < 1`` in exact arithmetic; None: everywhere."""
        return None

    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """Derivatives of F from those of log F: ``F L1, F (L2 + L1^2), ...``."""
        d = self.log_cdf(eta, third=True)
        assert d.third is not None
        return (
            mu * d.first,
            mu * (d.second + d.first**2),
            mu * (d.third + 3.0 * d.first * d.second + d.first**3),
        )

    def log_interval(self, low: Array, high: Array, width: Width, *, third: bool) -> LogInterval:
        """``log(F(high) - F(low))`` of ends ``width`` apart, with its derivatives."""
        of_ends = of_symmetric if self.symmetric else of_survival
        return of_ends(self.log_sf, low, high, third=third)

    def log_bernoulli(self, y: Array, eta: Array, *, third: bool = False) -> RowDerivatives:
        """Derivatives of ``y log F(eta) + (1 - y) log(1 - F(eta))``."""
        if self.symmetric and np.array_equal(y, y * y):  # 0 or 1: one tail is enough
            sign = 2.0 * y - 1.0
            tail = self.log_cdf(sign * eta, third=third)
            slope = None if tail.third is None else -sign * tail.third
            return RowDerivatives(tail.value, sign * tail.first, -tail.second, slope)
        low, up, z = self.log_cdf(eta, third=third), self.log_sf(eta, third=third), 1.0 - y
        return RowDerivatives(
            y * low.value + z * up.value,
            y * low.first + z * up.first,
            -(y * low.second + z * up.second),
            None if low.third is None or up.third is None else -(y * low.third + z * up.third),
        )


@dataclass(frozen=True)
class Logit(CumulativeLink):
    """Logistic distribution."""

    name = "logit"
    ratio = "odds ratio"
    symmetric = True
    has_interval_curvature = True
    latent_variance = math.pi**2 / 3.0

    def predictor_name(self, mean: str) -> str:
        """Log odds."""
        return "log odds"

    def marginal_mean(self, eta: float, variance: float) -> float:
        """
        Mean by the approximation of McCulloch, Searle and Neuhaus, for variances to about 2.

        ``F(eta - v/2 tanh(eta (1 + 2 exp(-v/2)) / 6))``: Nakagawa, Johnson and Schielzeth (2017,
        J. R. Soc. Interface 14:20170213), equation 6.8.
        """
        slope = (1.0 + 2.0 * math.exp(-0.5 * variance)) / 6.0
        return float(special.expit(eta - 0.5 * variance * math.tanh(eta * slope)))

    def link(self, mu: Array) -> Array:
        """``log(mu / (1 - mu))``."""
        return np.asarray(special.logit(mu))

    def mean(self, eta: Array) -> Array:
        """``1 / (1 + exp(-eta))``."""
        return np.asarray(special.expit(eta))

    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """
        ``-log(1 + exp(-eta))``, with ``F1 = 1 - F``, ``F2 = -F (1 - F)``, ``F3 = F2 (2 F1 - 1)``.

        By one exponential, as ``log_bernoulli``.
        """
        t = np.exp(-np.abs(eta))
        d = 1.0 / (1.0 + t)
        value = np.minimum(eta, 0.0)
        value -= np.log1p(t)
        t *= d  # the smaller one of F and 1 - F
        second = t * -d
        first = np.where(eta > 0.0, t, d)
        return LogDerivatives(value, first, second, second * (2.0 * first - 1.0) if third else None)

    def log_interval(self, low: Array, high: Array, width: Width, *, third: bool) -> LogInterval:
        """A product of two probabilities and of a function of the width."""
        return of_logistic(self.log_cdf, low, high, width, third=third)

    def log_bernoulli(self, y: Array, eta: Array, *, third: bool = False) -> RowDerivatives:
        """
        ``y eta - log(1 + exp(eta))`` from one exponential, ``t = exp(-|eta|)``.

        With s = 1 where eta is positive, else 0, the value is ``(y - s) eta - log(1 + t)``, and
        what is left of the mean to 0 or 1 is ``t / (1 + t)``: no digit is lost in either tail.
        """
        t = np.abs(eta)
        np.negative(t, out=t)
        np.exp(t, out=t)
        d = 1.0 + t
        np.reciprocal(d, out=d)
        beyond = y - ~np.signbit(eta)
        value = beyond * eta
        tail = np.log1p(t)
        value -= tail
        np.multiply(t, d, out=tail)
        first = np.copysign(tail, eta)
        first += beyond
        weight = np.multiply(tail, d, out=tail)
        if not third:
            return RowDerivatives(value, first, weight, None)
        t -= 1.0
        t *= d
        t *= weight
        return RowDerivatives(value, first, weight, np.copysign(t, -eta, out=t))


@dataclass(frozen=True)
class Probit(CumulativeLink):
    """Normal distribution."""

    name = "probit"
    symmetric = True
    latent_variance = 1.0

    def marginal_mean(self, eta: float, variance: float) -> float:
        """``F(eta / sqrt(1 + v))``."""
        return float(special.ndtr(eta / math.sqrt(1.0 + variance)))

    def link(self, mu: Array) -> Array:
        """Normal quantile."""
        return np.asarray(special.ndtri(mu))

    def mean(self, eta: Array) -> Array:
        """Normal distribution function."""
        return np.asarray(special.ndtr(eta))

    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """``log Phi(eta)``."""
        return self._from_bernoulli(eta, third=third)

    def log_bernoulli(self, y: Array, eta: Array, *, third: bool = False) -> RowDerivatives:
        """
        ``y log Phi(eta) + (1 - y) log Phi(-eta)`` from one scaled error function, at |eta|.

        With x = -|eta|, Phi(x) = exp(-x^2 / 2) E / 2 where E = erfcx(-x / sqrt(2)). With r the
        density over Phi(x), log Phi(x) has the derivatives r and -r (x + r); with v the density
        over 1 - Phi(x), log(1 - Phi(x)) has -v and -v (v - x). Either tail keeps its digits.
        """
        up = eta > 0
        x = -np.abs(eta)
        of_tail = np.abs(up - y)  # of the event whose probability is Phi(x)
        rest = 1.0 - of_tail
        E = special.erfcx(-_SQRT_HALF * x)
        half_square = 0.5 * x * x
        h = np.exp(-half_square)
        far = 0.5 * E * h
        value = of_tail * (np.log(0.5 * E) - half_square) + rest * np.log1p(-far)
        r, v = _SQRT_2_OVER_PI / E, _DENSITY_0 * h / (1.0 - far)
        x_r, v_x = x + r, v - x
        d2, e2 = r * x_r, v * v_x  # minus the second derivatives
        sign = 1.0 - 2.0 * up  # dx / deta
        first = sign * (of_tail * r - rest * v)
        weight = of_tail * d2 + rest * e2
        if not third:
            return RowDerivatives(value, first, weight, None)
        slope = of_tail * (r * (1.0 - d2) - d2 * x_r) + rest * (e2 * v_x + v * (e2 - 1.0))
        return RowDerivatives(value, first, weight, sign * slope)


@dataclass(frozen=True)
class Cauchit(CumulativeLink):
    """Cauchy distribution."""

    name = "cauchit"
    symmetric = True
    latent_variance = math.nan

    def link(self, mu: Array) -> Array:
        """Cauchy quantile."""
        return np.asarray(-1.0 / np.tan(np.pi * mu))

    def mean(self, eta: Array) -> Array:
        """``1/2 + arctan(eta) / pi``, without cancellation in the lower tail."""
        return np.asarray(np.arctan2(1.0, -eta) / np.pi)

    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """With r the density over the probability and c = 2 eta / (1 + eta^2), L2 = -r (c + r)."""
        F = self.mean(eta)
        v = 1.0 / (1.0 + eta * eta)
        r = v / (np.pi * F)
        c = 2.0 * eta * v
        sum_ = c + r
        second = -r * sum_
        d3 = -second * sum_ - r * (2.0 * v - c * c + second) if third else None
        return LogDerivatives(np.log(F), r, second, d3)


@dataclass(frozen=True)
class CLogLog(CumulativeLink):
    """Gompertz (smallest extreme value) distribution: the link of proportional hazards."""

    name = "cloglog"
    ratio = "hazard ratio"
    latent_variance = math.pi**2 / 6.0

    def link(self, mu: Array) -> Array:
        """``log(-log(1 - mu))``."""
        return np.asarray(np.log(-np.log1p(-mu)))

    def mean(self, eta: Array) -> Array:
        """``1 - exp(-exp(eta))``."""
        return np.asarray(-np.expm1(-bounded_exp(eta)))

    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """With e = exp(eta) and r = e / (exp(e) - 1): L1 = r, L2 = r (1 - e - r)."""
        e = bounded_exp(eta)
        r = e / np.expm1(e)
        rest = 1.0 - e - r
        second = r * rest
        d3 = second * rest - r * (e + second) if third else None
        return LogDerivatives(np.log(-np.expm1(-e)), r, second, d3)

    def log_sf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """``-exp(eta)``, as all of its derivatives."""
        e = -bounded_exp(eta)
        return LogDerivatives(e, e, e, e if third else None)


@dataclass(frozen=True)
class Log(CumulativeLink):
    """``mu = exp(eta)``; a probability for ``eta < 0``."""

    name = "log"
    ratio = "ratio"

    def predictor_name(self, mean: str) -> str:
        """Log of the mean."""
        return f"log {mean}"

    def marginal_mean(self, eta: float, variance: float) -> float:
        """``exp(eta + v/2)``."""
        return math.exp(eta + 0.5 * variance)

    def link(self, mu: Array) -> Array:
        """``log(mu)``."""
        return np.asarray(np.log(mu))

    def mean(self, eta: Array) -> Array:
        """``exp(eta)``."""
        return np.asarray(np.exp(eta))

    def mean_derivatives(self, eta: Array, mu: Array) -> tuple[Array, Array, Array]:
        """``mu, mu, mu``."""
        return mu, mu, mu

    def probability_valid(self, eta: Array) -> Mask | None:
        """``eta < 0``."""
        return np.asarray(eta < 0)

    def log_cdf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """``eta``."""
        zero = np.zeros_like(eta)
        return LogDerivatives(eta, np.ones_like(eta), zero, zero if third else None)

    def log_sf(self, eta: Array, *, third: bool = False) -> LogDerivatives:
        """With t = 1 / (exp(-eta) - 1): L1 = -t, L2 = -t (1 + t), L3 = (1 + 2 t) L2."""
        eta = np.minimum(eta, -_NEAREST_TO_ZERO)
        t = 1.0 / np.expm1(-eta)
        second = -t * (1.0 + t)
        d3 = (1.0 + 2.0 * t) * second if third else None
        return LogDerivatives(np.log(-np.expm1(eta)), -t, second, d3)
