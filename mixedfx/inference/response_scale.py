"""Predictions on the scale of the linear predictor, of the mean, or of the mean over effects.

=====================  ==========================================  =========================
scale                  predicted                                   standard error
=====================  ==========================================  =========================
linear                 eta                                         s
mean                   mean(eta)                                   ``|mean'(eta)| s``
probabilities          those of ordered categories                 by the gradient of each
mean over effects      ``m = E mean(eta + v), v ~ N(0, z'Sigma z)`` by the gradient of m
=====================  ==========================================  =========================

``s^2`` is the variance of the error of eta. By Stein's identity m has the derivatives
``E mean'(eta + v)`` by eta and ``E mean''(eta + v) / 2`` by the variance. Confidence limits are
those of the linear predictor ``link(m)``, transformed, so that they stay within the mean's range;
those of probabilities are of their logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.family import Family
from mixedfx.families.links import Identity
from mixedfx.likelihood.prediction_variance import PredictionErrors
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
class RowErrors:
    """Linear predictors of rows, and their errors."""

    index: pd.Index
    eta: Vector
    left_out: Vector  # variance of the effects that are not included
    errors: PredictionErrors
    variance_gradient: Callable[[], Matrix]  # of ``left_out`` by the parameters, (n, m)


@dataclass(frozen=True)
class LinearScale:
    """The linear predictor itself."""

    averages = False

    def table(self, eta: Vector, left_out: Vector, index: pd.Index) -> pd.Series | pd.DataFrame:
        """What is predicted of rows with these labels."""
        return pd.Series(self.predicted(eta, left_out), index=index, name="predicted")

    def with_errors(self, rows: RowErrors, *, se: bool, conf_level: float | None) -> pd.DataFrame:
        """What is predicted, with standard errors and confidence limits if asked for."""
        eta, left_out = rows.eta, rows.left_out
        at = self.at(eta, left_out, rows.errors, rows.variance_gradient)
        table = pd.DataFrame({"predicted": self.table(eta, left_out, rows.index)})
        if se:
            table["std_error"] = np.where(np.isnan(eta), np.nan, at.std_error)
        if conf_level is not None:
            z = special.ndtri(0.5 + conf_level / 2)
            table["conf_low"], table["conf_high"] = at.limits(z)
        return table

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
class MeanScale(LinearScale):
    """The mean given the effects that are included, others at zero."""

    family: Family
    params: Vector  # (r,) of the family

    averages = False

    def predicted(self, eta: Vector, left_out: Vector) -> Vector:
        """``mean(eta)``."""
        return self._mean(eta)

    def at(
        self,
        eta: Vector,
        left_out: Vector,
        errors: PredictionErrors,
        variance_gradient: Callable[[], Matrix],
    ) -> Predicted:
        """With the slope of the mean, and what the family's parameters add to its error."""
        by_params = self.family.response_mean_by_params(eta, self.params)
        if by_params is None:
            return self._around(eta, np.sqrt(errors.variance))
        return self._about_mean(eta, self._derivatives(eta)[0], errors, by_params)

    def _about_mean(
        self, eta: Vector, by_eta: Vector, errors: PredictionErrors, by_params: Matrix
    ) -> Predicted:
        """About the linear predictor of the mean, the error of the mean over its slope."""
        gradient = by_eta[:, None] * errors.gradient
        gradient[:, gradient.shape[1] - len(by_params) :] += by_params.T
        of_mean = PredictionErrors(by_eta**2 * errors.conditional, gradient, errors.cov)
        with np.errstate(all="ignore"):
            return self._around(eta, np.sqrt(of_mean.variance) / np.abs(by_eta))

    def _around(self, eta: Vector, sd: Vector) -> Predicted:
        slope = self._derivatives(eta)[0]
        return Predicted(
            eta,
            sd,
            slope,
            lambda limit: self.family.response_mean_within(limit, eta, self.params),
        )

    def _mean(self, eta: Matrix) -> Matrix:
        return self.family.response_mean(eta, self.params)

    def _derivatives(self, eta: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        return self.family.response_mean_derivatives(eta, self.params)


@dataclass(frozen=True)
class AverageScale(MeanScale):
    """The mean over the effects that are not included."""

    averages = True

    def predicted(self, eta: Vector, left_out: Vector) -> Vector:
        """``E mean(eta + v)``."""
        return self._expected(self._mean, eta, left_out)

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
        for i in range(self._n_mean_params(eta)):
            column = gradient.shape[1] - len(self.params) + i
            gradient[:, column] += self._expected(partial(self._by_param, i), eta, left_out)
        of_average = PredictionErrors(by_eta**2 * errors.conditional, gradient, errors.cov)
        with np.errstate(all="ignore"):
            center = self.family.predictor_of_mean(self.predicted(eta, left_out), self.params)
            slope = np.abs(self._derivatives(center)[0])
            return self._around(center, np.sqrt(of_average.variance) / slope)

    def _n_mean_params(self, eta: Vector) -> int:
        """Number of parameters that the mean depends on: all of the family's, or none."""
        none = self.family.response_mean_by_params(eta[:1], self.params) is None
        return 0 if none else len(self.params)

    def _by_param(self, i: int, eta: Matrix) -> Matrix:
        by_params = self.family.response_mean_by_params(eta, self.params)
        assert by_params is not None
        return np.asarray(by_params[i])

    def _expected(
        self, function: Callable[[Matrix], Matrix], eta: Vector, left_out: Vector
    ) -> Vector:
        with np.errstate(all="ignore"):
            return expectation(function, eta, np.sqrt(left_out))


@dataclass(frozen=True)
class ProbabilityScale(AverageScale):
    """Probability of each category, given the effects that are included or over the others."""

    averages: bool

    def table(self, eta: Vector, left_out: Vector, index: pd.Index) -> pd.Series | pd.DataFrame:
        """A column a category."""
        categories = range(len(self.family.labels))
        columns = [self._expected(partial(self._of, j), eta, left_out) for j in categories]
        return pd.DataFrame(np.array(columns).T, index=index, columns=list(self.family.labels))

    def with_errors(self, rows: RowErrors, *, se: bool, conf_level: float | None) -> pd.DataFrame:
        """Tables of all categories side by side, limits by the logits."""
        predicted = self.table(rows.eta, rows.left_out, rows.index)
        assert isinstance(predicted, pd.DataFrame)
        found, labels = {"predicted": predicted}, predicted.columns
        gradient = rows.variance_gradient() if self.averages else None
        sds = [self._sd(j, rows, gradient) for j in range(len(labels))]
        sd = pd.DataFrame(np.array(sds).T, index=rows.index, columns=labels)
        if se:
            found["std_error"] = sd
        if conf_level is not None:
            z, p = special.ndtri(0.5 + conf_level / 2), predicted.to_numpy()
            with np.errstate(all="ignore"):
                center, of_logit = special.logit(p), sd.to_numpy() / (p * (1.0 - p))
            for name, sign in (("conf_low", -1.0), ("conf_high", 1.0)):
                limits = special.expit(center + sign * z * of_logit)
                found[name] = pd.DataFrame(limits, index=rows.index, columns=labels)
        return pd.concat(found, axis=1)

    def _sd(self, j: int, rows: RowErrors, variance_gradient: Matrix | None) -> Vector:
        """Standard error of the probability of one category, (n,)."""
        eta, left_out, errors = rows.eta, rows.left_out, rows.errors
        by_eta = self._expected(partial(self._by_eta, j), eta, left_out)
        gradient = by_eta[:, None] * errors.gradient
        if variance_gradient is not None:
            curvature = self._expected(partial(self._curvature, j), eta, left_out)
            gradient += 0.5 * curvature[:, None] * variance_gradient
        r = len(self.params)
        for i in range(r):
            by_param = self._expected(partial(self._by_coordinate, i, j), eta, left_out)
            gradient[:, gradient.shape[1] - r + i] += by_param
        of_category = PredictionErrors(by_eta**2 * errors.conditional, gradient, errors.cov)
        return np.sqrt(of_category.variance)

    def _of(self, j: int, eta: Matrix) -> Matrix:
        return np.asarray(self.family.probabilities(eta, self.params)[j])

    def _by_eta(self, j: int, eta: Matrix) -> Matrix:
        return np.asarray(self.family.probability_derivatives(eta, self.params)[0][j])

    def _by_coordinate(self, i: int, j: int, eta: Matrix) -> Matrix:
        return np.asarray(self.family.probability_derivatives(eta, self.params)[1][i, j])

    def _curvature(self, j: int, eta: Matrix) -> Matrix:
        return np.asarray(self.family.probability_curvature(eta, self.params)[j])


def response_scale(fit: FittedModel, which: str, average: str | None) -> LinearScale:
    """Scale of predictions."""
    family = fit.spec.family
    if which == "linear":
        return LinearScale()
    params = fit.residual.distribution_params
    if which == "probabilities":
        return ProbabilityScale(family, params, average is not None)
    return MeanScale(family, params) if average is None else AverageScale(family, params)


def check_scale(fit: FittedModel, which: str, average: str | None, interval: str | None) -> None:
    """Refuse what does not exist on a scale."""
    if which == "probabilities" and interval == "prediction":
        raise ArgumentError(
            "interval='prediction' is for a new response, and the probabilities of its categories "
            "are all that is known of it: take interval='confidence', or leave interval= out."
        )
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
