"""Predictions on the scale of the linear predictor, of the mean, or of the mean over effects.

=====================  ==========================================  =========================
scale                  predicted                                   standard error
=====================  ==========================================  =========================
linear                 eta                                         s
mean                   mean(eta)                                   ``|mean'(eta)| s``
mean over effects      ``m = E mean(eta + v), v ~ N(0, z'Sigma z)`` by the gradient of m
=====================  ==========================================  =========================

``s^2`` is the variance of the error of eta. By Stein's identity m has the derivatives
``E mean'(eta + v)`` by eta and ``E mean''(eta + v) / 2`` by the variance. Confidence limits are
those of the linear predictor ``link(m)``, transformed, so that they stay within the mean's range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.family import Family
from mixedfx.families.links import Identity
from mixedfx.likelihood.prediction_variance import (
    PredictionErrors,
)
from mixedfx.linalg.normal_expectation import expectation

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """Linear predictors with standard deviations, and the mean as their function."""

    eta: Vector
    sd: Vector
    slope: Vector  # derivative of the mean
    mean: Callable[[Vector], Vector]  # of limits, kept in the family's domain

    @property
    def std_error(self) -> Vector:
        """By the delta method."""
        return np.asarray(np.abs(self.slope) * self.sd)

    def limits(self, z: float) -> tuple[Vector, Vector]:
        """Means at the limits of the linear predictor, the lower one first."""
        ends = self.mean(self.eta - z * self.sd), self.mean(self.eta + z * self.sd)
        return np.minimum(*ends), np.maximum(*ends)


@dataclass(frozen=True)
class LinearScale:
    """The linear predictor itself."""

    averages = False

    def predicted(self, eta: Vector, left_out: Vector) -> Vector:
        """The linear predictor."""
        return eta

    def at(
        self,
        eta: Vector,
        left_out: Vector,
        errors: PredictionErrors,
        variance_gradient: Callable[[], Matrix],
    ) -> Predicted:
        """With a slope of one."""
        return Predicted(eta, np.sqrt(errors.variance), np.ones_like(eta), lambda limit: limit)


@dataclass(frozen=True)
class MeanScale:
    """The mean given the effects that are included, others at zero."""

    family: Family

    averages = False

    def predicted(self, eta: Vector, left_out: Vector) -> Vector:
        """``mean(eta)``."""
        return self.family.mean(eta)

    def at(
        self,
        eta: Vector,
        left_out: Vector,
        errors: PredictionErrors,
        variance_gradient: Callable[[], Matrix],
    ) -> Predicted:
        """With the slope of the mean."""
        return self._around(eta, np.sqrt(errors.variance))

    def _around(self, eta: Vector, sd: Vector) -> Predicted:
        slope = self._derivatives(eta)[0]
        return Predicted(eta, sd, slope, lambda limit: self.family.mean_within(limit, eta))

    def _derivatives(self, eta: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        with np.errstate(all="ignore"):
            return self.family.link.mean_derivatives(eta, self.family.mean(eta))


@dataclass(frozen=True)
class AverageScale(MeanScale):
    """The mean over the effects that are not included."""

    averages = True

    def predicted(self, eta: Vector, left_out: Vector) -> Vector:
        """``E mean(eta + v)``."""
        return self._expected(self.family.mean, eta, left_out)

    def at(
        self,
        eta: Vector,
        left_out: Vector,
        errors: PredictionErrors,
        variance_gradient: Callable[[], Matrix],
    ) -> Predicted:
        """By the gradient of the average, about the linear predictor whose mean it is."""
        by_eta = self._expected(lambda at: self._derivatives(at)[0], eta, left_out)
        by_variance = 0.5 * self._expected(lambda at: self._derivatives(at)[1], eta, left_out)
        gradient = by_eta[:, None] * errors.gradient + by_variance[:, None] * variance_gradient()
        of_average = PredictionErrors(by_eta**2 * errors.conditional, gradient, errors.cov)
        with np.errstate(all="ignore"):
            center = self.family.link.link(self.predicted(eta, left_out))
            slope = np.abs(self._derivatives(center)[0])
            return self._around(center, np.sqrt(of_average.variance) / slope)

    def _expected(
        self, function: Callable[[Matrix], Matrix], eta: Vector, left_out: Vector
    ) -> Vector:
        with np.errstate(all="ignore"):
            return expectation(function, eta, np.sqrt(left_out))


Scale = LinearScale | MeanScale


def response_scale(fit: FittedModel, which: str, average: str | None) -> Scale:
    """Scale of predictions."""
    family = fit.spec.family
    if which == "linear":
        return LinearScale()
    return MeanScale(family) if average is None else AverageScale(family)


def check_scale(fit: FittedModel, which: str, average: str | None, interval: str | None) -> None:
    """Refuse what does not exist on a scale."""
    link = fit.spec.family.link
    if isinstance(link, Identity):
        return
    if which == "linear" and average is not None:
        raise ArgumentError(
            "average='population' is an average of means, and which='linear' asks for linear "
            "predictors, whose average is that with random='none': leave out one of the two."
        )
    if which == "linear" and interval == "prediction":
        raise ArgumentError(
            "interval='prediction' is for a new response, which has no linear predictor: leave out "
            "which='linear', or take interval='confidence'."
        )
    if average is not None and link.domain == "nonzero":
        raise ArgumentError(
            f"the mean of the {link.name} link has no average over normal random effects, as a "
            "linear predictor may be zero: predict with random='none', or fit with link='log'."
        )
