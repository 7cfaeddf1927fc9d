"""Ordered categories by their cumulative probabilities: the proportional odds model and its kin.

McCullagh (1980, J. R. Stat. Soc. B 42:109). Of K categories, with the thresholds ``alpha_j`` and a
distribution function F, ``alpha_0`` and ``alpha_K`` being infinite,

    P(y <= j) = F(alpha_j - eta),        l = log(F(alpha_y - eta) - F(alpha_(y-1) - eta)),

so that a positive coefficient moves towards higher categories. The linear predictor has no
intercept, and is the ``mu`` of this family; the mean of the response is the mean class,
``K - sum_j F(alpha_j - eta)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from mixedfx.errors import ResponseError, check_choice
from mixedfx.families.category_curvature import ThresholdCurvature
from mixedfx.families.category_intervals import Intervals, intervals_between
from mixedfx.families.cumulative_links import CumulativeLink
from mixedfx.families.derivatives import (
    AllDerivatives,
    Array,
    ParamDerivatives,
    RowDerivatives,
    RowEnds,
    weighted,
)
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.log_intervals import LogInterval, Width
from mixedfx.families.parameters import Matrix, ParamScale
from mixedfx.families.thresholds import FLEXIBLE, THRESHOLDS, Thresholds

# Steps of the searches for thresholds, and for the predictor of a mean class.
_NEWTON_STEPS, _DOUBLINGS, _BISECTIONS = 20, 60, 100


@dataclass(frozen=True)
class Cumulative(Family):
    """
    Ordered categories, which the response has as 1, ..., K.

    Parameters
    ----------
    link : CumulativeLink
        Whose inverse is F.
    labels : tuple of str
        Names of the categories in their order, which a fit takes from its response.
    thresholds : Thresholds
        Their parametrisation.
    """

    labels: tuple[str, ...] = ()
    thresholds: Thresholds = FLEXIBLE

    name = "cumulative"
    links = ("logit", "probit", "cloglog", "cauchit")
    discrete = True
    ordered = True
    has_intercept = False
    predictions = ("mean", "linear", "probabilities")
    support = "its ordered categories"
    mean_name = "mean class"
    log_concave_links = ("logit", "probit", "cloglog")
    param_range = "must be thresholds in increasing order, or a first one and a spacing above 0"

    # ------------------------------------------------------------ thresholds

    def of_categories(self, labels: tuple[str, ...]) -> Cumulative:
        """Family of categories with these names."""
        return replace(self, labels=labels)

    def with_thresholds(self, name: str) -> Cumulative:
        """Thresholds ``"flexible"`` or ``"equidistant"``."""
        check_choice("thresholds", name, THRESHOLDS)
        return replace(self, thresholds=THRESHOLDS[name])

    @property
    def n_thresholds(self) -> int:
        """K - 1."""
        return len(self.labels) - 1

    @property
    def param_names(self) -> tuple[str, ...]:
        """Of the thresholds: ``1|2``, ``2|3``, ..."""
        return self.thresholds.param_names(self.labels) if self.labels else ()

    @property
    def param_symbols(self) -> tuple[str, ...]:
        """The thresholds."""
        return ("alpha",)

    @property
    def param_scales(self) -> tuple[ParamScale, ...]:
        """Symmetric about the thresholds."""
        return self.thresholds.param_scales(self.n_thresholds)

    def coordinates(self, params: Vector) -> Vector:
        """One threshold, and logarithms of distances."""
        return self.thresholds.coordinates(params)

    def natural(self, coordinates: Vector) -> Vector:
        """Parameters of the thresholds."""
        return self.thresholds.natural(coordinates)

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Of the parametrisation."""
        return self.thresholds.natural_jacobian(coordinates)

    def about(self, number: int) -> Cumulative:
        """With a threshold as its own coordinate."""
        return replace(self, thresholds=self.thresholds.about(number))

    def rescaled(self, params: Vector, factor: float) -> Vector:
        """Thresholds are in the units of the predictor."""
        return factor * params

    def alpha(self, params: Vector) -> Vector:
        """The thresholds, (K - 1,)."""
        return np.asarray(self.thresholds.design(self.n_thresholds) @ params)

    def alpha_jacobian(self, params: Vector) -> Matrix:
        """Derivatives of the thresholds, a row each, by the coordinates."""
        return self._between(params).by_ends[:, 1:-1].T

    def _between(self, params: Vector) -> Intervals:
        """The thresholds with what is computed from them alone."""
        return intervals_between(self.thresholds, self.n_thresholds, params)

    # ------------------------------------------------------------ log density

    @property
    def _link(self) -> CumulativeLink:
        return cast(CumulativeLink, self.link)

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        low, high, width = self._between(params).of_rows(y.astype(np.intp), eta)
        return _of_shift(self._link.log_interval(low, high, width, third=third), w)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        k, between = y.astype(np.intp), self._between(params)
        low, high, width = between.of_rows(k, eta)
        by_ends = self._link.log_interval(low, high, width, third=True).ends()
        value, first, second = between.by_coordinates(k, *by_ends, 1.0 if w is None else w)
        return ParamDerivatives(value, -first, -second)

    @np.errstate(all="ignore")
    def all_derivatives(
        self, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> AllDerivatives | None:
        """Where the link has the derivatives of an interval by both of its ends."""
        link = self._link
        if not link.has_interval_curvature:
            return None
        k, between = y.astype(np.intp), self._between(params)
        low, high, width = between.of_rows(k, eta)
        found = link.log_interval(low, high, width, third=True)
        assert found.curvature is not None
        rows = _of_shift(found, w)
        return ThresholdCurvature(rows, k, w, between, self.thresholds, found.curvature)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """None."""
        return np.zeros(len(y))

    def can_be_large(self, w: Vector | None) -> bool:
        """Without weights their mean is at most the logarithm of the number of categories."""
        return w is not None

    # ------------------------------------------------------------ response

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not numbers of categories."""
        with np.errstate(invalid="ignore"):
            return np.asarray(~((y >= 1) & (y <= len(self.labels)) & (y == np.rint(y))))

    def advice(self, y: Vector) -> str:
        """How to write them."""
        return "Give the categories of the fit, or their numbers from 1 on."

    def check_response(
        self, name: str, y: Vector, w: Vector | None = None, index: pd.Index | None = None
    ) -> None:
        """As of other families; each category must have rows."""
        super().check_response(name, y, w, index)
        counts = np.bincount(y.astype(np.intp), minlength=len(self.labels) + 1)[1:]
        if not counts.all():
            empty = ", ".join(label for label, n in zip(self.labels, counts, strict=True) if not n)
            raise ResponseError(
                f"no row of the response '{name}' is in the category {empty}: a threshold beside "
                "it would be infinite. Join it with a neighbour, or leave it out."
            )

    def unbounded(self, y: Vector) -> Vector:
        """The lowest category downwards, the highest upwards."""
        return np.asarray((y == len(self.labels)).astype(float) - (y == 1.0))

    def ends_of_rows(self, X: Array, y: Vector) -> RowEnds:
        """Predictor below the threshold above a category, and above the one below."""
        D, k = self.thresholds.design(self.n_thresholds), y.astype(np.intp)
        below, above = np.flatnonzero(k < len(self.labels)), np.flatnonzero(k > 1)
        rows = np.concatenate([below, above])
        thresholds = np.concatenate([D[k[below] - 1], D[k[above] - 2]])
        signs = np.repeat([-1.0, 1.0], [len(below), len(above)])
        return RowEnds(np.hstack([X[rows], -thresholds]), signs, rows)

    # ------------------------------------------------------------ starting values

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """Mean of the cumulative probabilities below and above the category, of all rows."""
        p = self._shares(y, w)
        return np.asarray((np.cumsum(p) - 0.5 * p)[y.astype(np.intp) - 1])

    def _shares(self, y: Vector, w: Vector | None) -> Vector:
        """Share of each category, none zero."""
        counts = np.bincount(y.astype(np.intp) - 1, w, len(self.labels)) + 1e-3
        return np.asarray(counts / counts.sum())

    def first_params(self, y: Vector, w: Vector | None) -> Vector:
        """Thresholds of the shares of the categories."""
        return self._valid(self.link.link(np.cumsum(self._shares(y, w))[:-1]))

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Thresholds at which the mean probabilities are the shares, by Newton steps."""
        target = np.cumsum(self._shares(y, w))[:-1]
        alpha = self.alpha(self.first_params(y, w)) + np.average(mu, weights=w)
        for _ in range(_NEWTON_STEPS):
            x = alpha[:, None] - mu
            F = self.link.mean(x)
            f = self.link.mean_derivatives(x, F)[0]
            mean, slope = np.average(F, axis=1, weights=w), np.average(f, axis=1, weights=w)
            step = (target - mean) / np.maximum(slope, 1e-6)
            alpha = alpha + np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-3:
                break
        return self._valid(alpha)

    def _valid(self, alpha: Vector) -> Vector:
        """Parameters of thresholds in order."""
        steps = np.maximum(np.diff(alpha), 1e-3)
        return self.thresholds.nearest(alpha[0] + np.append(0.0, np.cumsum(steps)))

    # ------------------------------------------------------------ distribution

    def mean(self, eta: Array) -> Array:
        """The linear predictor itself."""
        return eta

    def cumulative(self, eta: Array, params: Vector) -> Array:
        """``P(y <= j)`` of all categories but the last, (K - 1, ...)."""
        with np.errstate(all="ignore"):
            return self.link.mean(np.subtract.outer(self.alpha(params), eta))

    def probabilities(self, eta: Array, params: Vector) -> Array:
        """``P(y = j)``, (K, ...)."""
        between, shape = self._between(params), (-1, *(1,) * np.ndim(eta))
        low, high = (np.subtract.outer(e, eta) for e in (between.ends[:-1], between.ends[1:]))
        width = Width(*(of_width.reshape(shape) for of_width in between.width))
        with np.errstate(all="ignore"):
            found = self._link.log_interval(low, high, width, third=False)
            return np.exp(found.by_shift.value)

    def probability_derivatives(self, eta: Array, params: Vector) -> tuple[Array, Array]:
        """Derivatives of ``P(y = j)`` by eta, (K, ...), and by the coordinates, (r, K, ...)."""
        f = self._densities(eta, params)[0]
        none = np.zeros((1, *np.shape(eta)))
        by_eta = -np.diff(np.concatenate([none, f, none]), axis=0)
        J = self.alpha_jacobian(params)
        cumulative = np.einsum("j...,jr->rj...", f, J)
        ends = np.zeros((J.shape[1], 1, *np.shape(eta)))
        return by_eta, np.diff(np.concatenate([ends, cumulative, ends], axis=1), axis=1)

    def probability_curvature(self, eta: Array, params: Vector) -> Array:
        """Second derivatives of ``P(y = j)`` by eta, (K, ...)."""
        slope = self._densities(eta, params)[1]
        none = np.zeros((1, *np.shape(eta)))
        return np.asarray(np.diff(np.concatenate([none, slope, none]), axis=0))

    @np.errstate(all="ignore")
    def _densities(self, eta: Array, params: Vector) -> tuple[Array, Array, Array]:
        """``F'``, ``F''`` and ``F'''`` at ``alpha_j - eta``, (K - 1, ...)."""
        x = np.subtract.outer(self.alpha(params), eta)
        return self.link.mean_derivatives(x, self.link.mean(x))

    def response_mean(self, eta: Array, params: Vector) -> Array:
        """Mean class, from 1 to K."""
        return np.asarray(len(self.labels) - self.cumulative(eta, params).sum(axis=0))

    def response_mean_derivatives(self, eta: Array, params: Vector) -> tuple[Array, Array, Array]:
        """Sums of densities and of their derivatives."""
        first, second, third = (d.sum(axis=0) for d in self._densities(eta, params))
        return first, -second, third

    def response_mean_by_params(self, eta: Array, params: Vector) -> Array:
        """Thresholds that rise lower the mean class."""
        f = self._densities(eta, params)[0]
        return np.asarray(-np.einsum("j...,jr->r...", f, self.alpha_jacobian(params)))

    def predictor_of_mean(self, mean: Vector, params: Vector) -> Vector:
        """By bisection, as the mean class rises with the linear predictor."""
        low, high = (np.full(np.shape(mean), end) for end in (-1.0, 1.0))
        for _ in range(_DOUBLINGS):
            below = self.response_mean(low, params) > mean
            above = self.response_mean(high, params) < mean
            if not (below | above).any():
                break
            low, high = np.where(below, 2.0 * low, low), np.where(above, 2.0 * high, high)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            above = self.response_mean(middle, params) < mean
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.asarray(np.where(np.isnan(mean), np.nan, 0.5 * (low + high)))

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """Variance of the class, over the weight."""
        p = self.probabilities(mu, params)
        classes = np.arange(1.0, len(self.labels) + 1.0)
        mean, squares = (np.tensordot(c, p, axes=1) for c in (classes, classes**2))
        variance = np.maximum(squares - mean**2, 0.0)
        return np.asarray(variance if w is None else variance / w)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Classes whose cumulative probabilities a uniform number exceeds."""
        uniform = rng.random(np.shape(mu))
        return np.asarray(1.0 + (uniform > self.cumulative(mu, params)).sum(axis=0))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Cumulative probabilities of the category below and of this one."""
        alpha = self._between(params).ends
        k = np.clip(np.floor(y), 0, len(self.labels)).astype(np.intp)
        low, high = (self.link.mean(alpha[at] - mu) for at in (np.maximum(k - 1, 0), k))
        return np.asarray(low), np.asarray(high)

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``-2 log P(y)``: a category that is certain has none."""
        return np.asarray(-2.0 * self.derivatives(y, w, mu, params).value)

    # ------------------------------------------------------------ scales

    @property
    def predictor_name(self) -> str:
        """The variable whose thresholds are passed."""
        return "latent variable"

    @property
    def ratio(self) -> str | None:
        """Odds of a higher category; other exponentials are of the lower ones."""
        return self.link.ratio if self.link.name == "logit" else None

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """The variance of the latent distribution."""
        return ("theoretical",)

    def is_special_case_of(self, other: Family) -> bool:
        """Equidistant thresholds are flexible ones."""
        return (
            isinstance(other, Cumulative)
            and (self.link, self.labels) == (other.link, other.labels)
            and other.thresholds.name in (self.thresholds.name, FLEXIBLE.name)
        )


def _of_shift(found: LogInterval, w: Array | None) -> RowDerivatives:
    """Derivatives by the linear predictor, minus which is the shift."""
    value, first, second, slope = found.by_shift
    return weighted(RowDerivatives(value, -first, -second, slope), w)
