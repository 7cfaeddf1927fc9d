"""Zero-truncated counts: the positive part of a hurdle model.

With the probability ``P0 = exp(-m)`` of a zero of the counts before truncation, where m is ``mu``
(Poisson) or ``log(1 + alpha mu) / alpha`` (negative binomial), a positive count has the log density
``l(y) - log(1 - exp(-m))`` of l before truncation. The link is of ``mu``, the mean before
truncation; the mean of the counts themselves is ``mu / (1 - P0)``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from mixedfx.families import partials
from mixedfx.families.cumulative_links import CLogLog
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.nbinom2 import NegativeBinomial2
from mixedfx.families.partials import Partials, Variables
from mixedfx.families.poisson import MAX_MEAN, Poisson
from mixedfx.families.support import not_counts

_LOG_CDF = CLogLog().log_cdf
_POISSON = Poisson.with_link("log")
_NEGATIVE_BINOMIAL = NegativeBinomial2.with_link("log")
# Steps of the search for a mean; the least linear predictor, whose mean is one to rounding.
_STEPS, _LEAST = 60, -40.0
_FIRST_ALPHA = 0.5
# A search is stopped at this alpha: but for terms of 1 / alpha the counts have the logarithmic
# distribution there, and only the product of alpha and the mean is identified.
_LARGEST_LOG_ALPHA = math.log(1e8)


@dataclass(frozen=True)
class ZeroTruncated(Family):
    """
    Counts 1, 2, ...

    Parameters
    ----------
    link : Link
        Of the mean before truncation.
    zeros_apart : bool
        Whether the response has zeros, with a probability of their own: a hurdle model.
    """

    zeros_apart: bool = False

    links = ("log",)
    discrete = True
    positive_mean = True
    has_zeros = True
    truncated = True
    mean_name = "expected count before truncation"

    @property
    def support(self) -> str:  # type: ignore[override]
        """Values that a response can have."""
        return "counts 0, 1, 2, ..." if self.zeros_apart else "positive counts 1, 2, ..."

    def beside_zeros(self) -> ZeroTruncated:
        """The family in a hurdle model, whose zeros have a probability of their own."""
        return replace(self, zeros_apart=True)

    @abstractmethod
    def _log_zero(self, mu: Array, params: Vector) -> Array:
        """``m = -log P0`` before truncation."""

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        variables = Variables(1, 3 if third else 2)
        found = self._unit(y, variables.variable(0, eta), variables.log_params(params))
        parts = (found.parts.get((0,) * k, np.zeros_like(eta)) for k in range(4))
        value, first, second, slope = (np.broadcast_to(p, np.shape(eta)) for p in parts)
        rows = RowDerivatives(value, first, -second, -slope if third else None)
        return weighted(rows, w)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        if not len(params):
            return super()._by_params(y, w, eta, params)
        variables = Variables(1, 2, 1)
        found = self._unit(y, variables.variable(0, eta), variables.log_params(params))
        scale = 1.0 if w is None else w
        parts = (
            scale * found.by_param(0, k, np.shape(eta)).reshape(1, *np.shape(eta)) for k in range(3)
        )
        value, first, second = parts
        return ParamDerivatives(value, first, -second)

    @abstractmethod
    def _unit(self, y: Array, eta: Partials, log_params: list[Partials]) -> Partials:
        """Log density of weight one."""

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y!``, times the weight."""
        return _POISSON.constants(y, w)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are no counts, and zeros where these are not modelled apart."""
        zero = np.zeros(len(y), dtype=bool) if self.zeros_apart else y == 0.0
        return np.asarray(not_counts(y) | zero)

    def advice(self, y: Vector) -> str:
        """What takes zeros."""
        if not_counts(y).any():
            return ""
        return (
            "Give the zeros a probability of their own by zero_inflation='~ 1', or another "
            f"formula: a hurdle model; or take family='{self.name.removeprefix('truncated_')}', "
            "whose counts have zeros."
        )

    def unbounded(self, y: Vector) -> Vector:
        """Ones downwards."""
        return np.where(y == 1.0, -1.0, 0.0)

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """The counts, with 1/2 for the ones, and one for zeros."""
        return np.where(y == 0.0, 1.0, y - 0.5 * (y == 1.0))

    @property
    def response_mean_name(self) -> str:
        """That of the positive counts."""
        return "expected positive count"

    def response_mean(self, eta: Array, params: Vector) -> Array:
        """``mu / (1 - P0)``."""
        with np.errstate(all="ignore"):
            mu = self.mean(eta)
            return np.where(mu > 0.0, mu / -np.expm1(-self._log_zero(mu, params)), 1.0)

    def response_mean_derivatives(self, eta: Array, params: Vector) -> tuple[Array, Array, Array]:
        """Derivatives of the mean by eta, from those of its logarithm."""
        variables = Variables(1, 3)
        with np.errstate(all="ignore"):
            log_mean = self._log_mean(variables.variable(0, eta), variables.log_params(params))
            found = partials.exp(log_mean)
        return tuple(  # type: ignore[return-value]
            np.broadcast_to(found.parts.get((0,) * k, 0.0), np.shape(eta)) for k in (1, 2, 3)
        )

    def response_mean_by_params(self, eta: Array, params: Vector) -> Array | None:
        """Through the probability of a zero."""
        if not len(params):
            return None
        variables = Variables(2, 1)
        with np.errstate(all="ignore"):
            log_alpha = variables.variable(1, np.broadcast_to(np.log(params[0]), np.shape(eta)))
            log_mean = self._log_mean(variables.variable(0, eta), [log_alpha])
            found = partials.exp(log_mean).parts.get((1,), 0.0)
        return np.broadcast_to(found, (1, *np.shape(eta)))

    def predictor_of_mean(self, mean: Array, params: Vector) -> Array:
        """Linear predictor with a mean of the counts, by Newton's method in its logarithm."""
        eta = np.log(np.maximum(mean - 0.999, 1e-3))
        with np.errstate(all="ignore"):
            for _ in range(_STEPS):
                error = self.response_mean(eta, params) - mean
                step = error / self.response_mean_derivatives(eta, params)[0]
                eta = np.maximum(eta - np.clip(step, -2.0, 2.0), _LEAST)
        return np.asarray(eta)

    def _log_mean(self, eta: Partials, log_params: list[Partials]) -> Partials:
        return eta - self._log_positive(eta, log_params)

    @abstractmethod
    def _log_positive(self, eta: Partials, log_params: list[Partials]) -> Partials:
        """``log(1 - P0)``."""

    @abstractmethod
    def _variance_before(self, mu: Array, params: Vector) -> Array:
        """Variance before truncation."""

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``(V + mu^2) / (1 - P0) - (mu / (1 - P0))^2``, over the weight."""
        with np.errstate(all="ignore"):
            positive = -np.expm1(-self._log_zero(mu, params))
            mean = mu / positive
            variance = (self._variance_before(mu, params) + mu**2) / positive - mean**2
        variance = np.maximum(variance, 0.0)
        return np.asarray(variance if w is None else variance / w)

    @abstractmethod
    def _cdf_before(self, y: Vector, mu: Vector, params: Vector) -> tuple[Vector, Vector]:
        """``P(Y < y)`` and ``P(Y <= y)`` before truncation."""

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Of the counts before truncation, given that they are positive."""
        below, up_to = self._cdf_before(y, mu, params)
        log_zero = -self._log_zero(mu, params)
        zero, positive = np.exp(log_zero), -np.expm1(log_zero)
        return tuple(  # type: ignore[return-value]
            np.clip((p - zero) / positive, 0.0, 1.0) for p in (below, up_to)
        )

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """Twice the log density at the mean y, less that at ``mu``."""
        with np.errstate(all="ignore"):
            best = np.where(y > 1.0, self.predictor_of_mean(y, params), _LEAST)
            largest = self.derivatives(y, w, best, params).value
            deviance = 2.0 * (largest - self.derivatives(y, w, np.log(mu), params).value)
        return np.asarray(np.maximum(deviance, 0.0))


@dataclass(frozen=True)
class TruncatedPoisson(ZeroTruncated):
    """Poisson counts without zeros."""

    name = "truncated_poisson"

    def _log_zero(self, mu: Array, params: Vector) -> Array:
        return mu

    def _log_positive(self, eta: Partials, log_params: list[Partials]) -> Partials:
        d = _LOG_CDF(np.asarray(eta.value), third=True)
        return eta.compose(d.value, d.first, d.second, d.third)

    def _unit(self, y: Array, eta: Partials, log_params: list[Partials]) -> Partials:
        mu = partials.exp(eta)
        return y * eta - mu - self._log_positive(eta, log_params)

    def _variance_before(self, mu: Array, params: Vector) -> Array:
        return mu

    def _cdf_before(self, y: Vector, mu: Vector, params: Vector) -> tuple[Vector, Vector]:
        return _POISSON.cdf(y, mu, None, params)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """One, and Poisson draws after the first event, whose time is drawn in (0, 1)."""
        mu = np.minimum(mu, MAX_MEAN)
        first = -np.log1p(rng.random(np.shape(mu)) * np.expm1(-mu))
        return np.asarray(1.0 + rng.poisson(np.maximum(mu - first, 0.0)))


@dataclass(frozen=True)
class TruncatedNegativeBinomial2(ZeroTruncated):
    """Counts without zeros, before truncation of variance ``mu + alpha mu^2``."""

    name = "truncated_nbinom2"
    param_names = ("alpha",)
    limits = ("truncated_poisson",)
    vanishing = ("alpha",)
    dispersion_param = "alpha"
    rises_at_end = (
        "it rises without end as alpha goes to infinity and the mean before truncation to zero, "
        "where the counts have the logarithmic distribution: no other of this family is as "
        "dispersed as they are. Predictions and the other coefficients are those of that limit; "
        "family='truncated_poisson' with (1 | row), of a level for each row, has a maximum"
    )

    def distance_to_end(self, coordinates: Vector) -> float:
        """Of the logarithm of alpha."""
        return _LARGEST_LOG_ALPHA - float(coordinates[0])

    def _log_zero(self, mu: Array, params: Vector) -> Array:
        return np.asarray(np.log1p(params[0] * mu) / params[0])

    def _log_positive(self, eta: Partials, log_params: list[Partials]) -> Partials:
        log_m = partials.log(partials.softplus(eta + log_params[0])) - log_params[0]
        d = _LOG_CDF(np.asarray(log_m.value), third=True)
        return log_m.compose(d.value, d.first, d.second, d.third)

    def _unit(self, y: Array, eta: Partials, log_params: list[Partials]) -> Partials:
        before = _NEGATIVE_BINOMIAL.several(y, None, eta, log_params)
        return before - self._log_positive(eta, log_params)

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """Log density as a function of the linear predictor and of log alpha."""
        found = self._unit(y, eta, log_params)
        return found if w is None else found * w

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """One half."""
        return np.array([_FIRST_ALPHA])

    def _variance_before(self, mu: Array, params: Vector) -> Array:
        return np.asarray(mu + params[0] * mu**2)

    def _cdf_before(self, y: Vector, mu: Vector, params: Vector) -> tuple[Vector, Vector]:
        return _NEGATIVE_BINOMIAL.cdf(y, mu, None, params)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """
        One, and the events of a mixed Poisson process after the first, whose time t is drawn.

        Given t, the rate has a gamma distribution of shape ``1 / alpha + 1`` and rate ``1 / (alpha
        mu) + t``.
        """
        alpha, mu = params[0], np.minimum(mu, MAX_MEAN)
        m = self._log_zero(mu, params)
        # -log of the probability of no event until t
        until = -np.log1p(rng.random(np.shape(mu)) * np.expm1(-m))
        t = np.clip(np.expm1(alpha * until) / (alpha * mu), 0.0, 1.0)
        rate = rng.gamma(np.broadcast_to(1.0 / alpha + 1.0, np.shape(mu)), 1.0)
        rate = rate / (1.0 / (alpha * mu) + t)
        return np.asarray(1.0 + rng.poisson(np.minimum(rate * (1.0 - t), MAX_MEAN)))
