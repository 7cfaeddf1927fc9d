"""Mode of the posterior density where the log residual standard deviation has random effects.

The coefficients are integrated out under their normal priors, the effects of the mean in closed
form and those of the scale by Laplace's approximation; what is left is minimised in the outer
parameters of :mod:`mixedfx.estimation.dispersion.laplace`,

    f(x) - 2 log p(sds, correlations, sigma, gamma, sds and correlations of the scale),

the density being of these parameters themselves: with flat priors the mode is the REML estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.mode import PosteriorMode
from mixedfx.design.build import Design
from mixedfx.errors import PriorError
from mixedfx.estimation.dispersion.identified import check_scale_identified
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance, LaplaceValue
from mixedfx.estimation.dispersion.optimum import estimate_at
from mixedfx.estimation.dispersion.prior_rows import NormalPriors
from mixedfx.estimation.dispersion.random import (
    homoscedastic_fit,
    minimize_laplace,
    on_boundary,
    start_of,
)
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.differences import jacobian
from mixedfx.priors.distributions import Constant, Exponential, Gamma, SdPrior
from mixedfx.priors.specification import PriorSpecification
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Step of differences of the log prior density; the parameters are of order one.
_STEP = 1e-4
# A standard deviation of the scale is put to zero where the criterion is no higher by more.
_TOLERANCE = 1e-9


def find_mode(design: Design, priors: PriorSpecification, control: Control) -> PosteriorMode:
    """Maximise the posterior density, and evaluate the model at the maximum."""
    model = residual_model(design)
    assert isinstance(model, LocationScale)
    check_priors(priors)
    check_scale_identified(design, model)
    homoscedastic = homoscedastic_fit(design, reml=True, control=control)
    problem = PenalizedDeviance(design, model, homoscedastic, priors)
    optimum = minimize_laplace(problem, start_of(problem), control)
    at_zero, params = on_boundary(problem, optimum.x)
    if params is not optimum.x and at_zero(params).value <= optimum.value + _TOLERANCE:
        problem, optimum = at_zero, replace(optimum, x=params)
    optimizer_result, weighted, estimate = estimate_at(problem, optimum, control)
    penalty = problem.penalty(optimum.x)
    size = problem.indices.size
    at_mode = replace(
        priors,
        gradient=np.array(estimate.gradient[:size]),
        hessian=np.array(estimate.hessian[:size, :size]),
    )
    estimate = replace(estimate, integrated_deviance=estimate.integrated_deviance - penalty)
    return PosteriorMode(optimizer_result, weighted, at_mode, estimate)


def check_priors(priors: PriorSpecification) -> None:
    """Refuse priors that the search, over factors of covariances through zero, does not take."""
    constant = np.flatnonzero(priors.coef_sd == 0.0)
    if len(constant) or priors.theta is not None:
        raise PriorError(
            "with a random term in dispersion= no parameter can be a constant by its prior; "
            "subtract a known coefficient times its column by offset(), or take a narrow prior."
        )
    for prior in (p for term in (*priors.sd_priors, *priors.scale_sds) for p in term):
        if isinstance(prior, Constant):
            raise PriorError(
                f"with a random term in dispersion= no standard deviation can be known, as {prior} "
                "says; take a narrow prior, such as Gamma(100, 100 / value)."
            )
        if has_corner(prior):
            raise PriorError(
                f"with a random term in dispersion= the density of {prior} has a corner at a "
                "standard deviation of zero, through which the search goes; take HalfNormal, "
                "HalfStudentT, or Gamma with a shape above one."
            )


def has_corner(prior: SdPrior) -> bool:
    """Whether the density has a slope at a standard deviation of zero, or is infinite there."""
    falls = isinstance(prior, Exponential)
    return falls or (isinstance(prior, Gamma) and prior.shape <= 1.0)


class PenalizedDeviance(LaplaceDeviance):
    """Approximate deviance less twice the log prior density."""

    def __init__(
        self,
        design: Design,
        model: LocationScale,
        homoscedastic: Solution,
        priors: PriorSpecification,
    ) -> None:
        of_coefficients = NormalPriors(priors.coef_mean, priors.coef_sd)
        super().__init__(design, model, homoscedastic, reml=True, priors=of_coefficients)
        self.priors = priors

    def __call__(self, params: Vector) -> LaplaceValue:
        """Deviance and penalty."""
        at = super().__call__(params)
        return replace(at, value=at.value + self.penalty(params))

    def gradient(self, params: Vector, at: LaplaceValue) -> Vector:
        """Gradient of both."""
        steps = np.full(len(params), _STEP)
        by_prior = jacobian(lambda x: np.array([self.penalty(x)]), params, steps)[:, 0]
        return super().gradient(params, at) + by_prior

    def penalty(self, params: Vector) -> float:
        """Minus twice the log prior density of all parameters but the coefficients."""
        priors, x = self.priors, params[self.indices.dispersion]
        log_mean = math.log(self.homoscedastic.sigma) + float(params[self.indices.mean_log_sd])
        of_mean = zip(self.crossprod.bases, self.cov_factors(params), strict=True)
        of_scale = zip(self.scale.bases, self.scale_factors(params), strict=True)
        covariances = [
            *zip((b.T @ F for b, F in of_mean), priors.sd_priors, priors.lkj_eta, strict=True),
            *zip((b.T @ F for b, F in of_scale), priors.scale_sds, priors.scale_eta, strict=True),
        ]
        total = sum(_log_density(*covariance) for covariance in covariances)
        gamma = self.model.coefficients(log_mean, x)
        for prior, value in zip(priors.dispersion, gamma.tolist(), strict=True):
            total += float(prior.log_density(value))
        sigma = math.exp(log_mean + float(self.coordinates.to_log_sigma[1:] @ x))
        assert not isinstance(priors.sigma, Constant)
        return -2.0 * (total + float(priors.sigma.log_density(sigma)))


def _log_density(root: Matrix, sd_priors: Sequence[SdPrior], eta: float) -> float:
    """Log density of the standard deviations and the correlations of a covariance ``FF'``."""
    sds, total = np.linalg.norm(root, axis=1), 0.0
    with np.errstate(divide="ignore"):
        for prior, sd in zip(sd_priors, sds, strict=True):
            assert not isinstance(prior, Constant)
            total += float(prior.log_density(sd))
        if eta != 1.0 and len(sds) > 1:
            unit = root / np.where(sds > 0.0, sds, 1.0)[:, None]
            total += (eta - 1.0) * float(np.linalg.slogdet(unit @ unit.T)[1])
    return total
