"""The profiled parameter of a fit, by the maximum of the likelihood that the fit has."""

from __future__ import annotations

from mixedfx.errors import SearchError
from mixedfx.estimation.fitted_model import FittedModel, check_curvature
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.marginal import profile_marginal_parameter
from mixedfx.inference.profile.marginal_optimum import MarginalOptimum
from mixedfx.inference.profile.parametrization import profile_parameter_of_linear
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter
from mixedfx.inference.profile.residual_optimum import ResidualOptimum
from mixedfx.inference.profile.residual_parameter import profile_with_residual
from mixedfx.inference.profile.root import DEVIANCE_TOLERANCE
from mixedfx.inference.profile.several_optimum import SeveralOptimum
from mixedfx.likelihood.pls import Solution

Optimum = Solution | MarginalOptimum | ResidualOptimum

# Advice where a profile is refused.
_ALTERNATIVE = "take conf_int(method='bootstrap'), or Wald intervals of the coefficients"


def optimum_of(fit: FittedModel, predictor: str = "") -> Optimum:
    """The maximum of the likelihood, from a fit by either criterion; for one of its predictors."""
    estimator = fit.residual.model.estimator
    if estimator in ("marginal", "several"):
        check_curvature(fit, "a profile needs its maximum")
    if estimator == "marginal":
        return MarginalOptimum(fit)
    if estimator == "several":
        return SeveralOptimum(fit, predictor)
    if estimator == "laplace":
        fit.spec.residual.check_one_variance("a profile", _ALTERNATIVE)
    optimum = ResidualOptimum.of(fit) if estimator == "nested" else _linear_optimum(fit)
    if not fit.reml and optimum.deviance < fit.deviance - DEVIANCE_TOLERANCE:
        raise SearchError(
            f"the fit's deviance {fit.deviance:.10g} is not the smallest: a search from "
            f"its estimates ends at {optimum.deviance:.10g}. Fit again with other start= values."
        )
    return optimum


def _linear_optimum(fit: FittedModel) -> Solution:
    """Maximise the profiled likelihood; that of REML has another maximum."""
    likelihood, theta = fit.likelihood.maximum_likelihood(), fit.solution.theta
    if len(theta):
        result = estimate_theta(fit.design, likelihood, start=theta)
        if not result.converged:
            raise SearchError(
                "a profile needs the maximum of the likelihood, and the search for it did not "
                f"converge: {result.message}."
            )
        theta = result.theta
    return likelihood.at(theta)


def profile_parameter(
    fit: FittedModel, optimum: Optimum, parameter: Parameter
) -> ProfiledParameter | None:
    """Parametrise the deviance for one parameter; None for one without estimate or coordinate."""
    if isinstance(optimum, MarginalOptimum):
        return profile_marginal_parameter(fit, optimum, parameter)
    if isinstance(optimum, ResidualOptimum):
        return profile_with_residual(fit, optimum, parameter)
    likelihood = fit.likelihood.maximum_likelihood()
    return profile_parameter_of_linear(fit, likelihood, optimum, parameter)
