"""Estimation of a location-scale model: a dispersion model with random terms.

The outer parameters (:class:`~mixedfx.estimation.dispersion.laplace.LocationScaleIndices`) are
covariance factors of the mean's random effects, mean log residual standard deviation, dispersion
coordinates, the covariance factors of the log residual standard deviation's random effects, and
under ML the coefficients. The Laplace approximation to the deviance
(:mod:`mixedfx.estimation.dispersion.laplace`) is minimised from the homoscedastic fit by its
gradient; its Hessian is that of differences of the gradient.

Reference: Hedeker, Mermelstein and Demirtas (2008), Biometrics 64:627.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.unstructured import lower_triangular_factor
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.dispersion.identified import check_scale_identified
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance
from mixedfx.estimation.dispersion.optimum import estimate_at
from mixedfx.estimation.dispersion.prior_rows import NormalPriors
from mixedfx.estimation.location_scale import LocationScaleEstimate
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.linalg.trust_region import TrustRegionResult, minimize
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Problem = TypeVar("Problem", bound=LaplaceDeviance)

# Step of differences of the gradient at the start; the parameters are of order one.
_STEP = 1e-4
# Starting standard deviations of the scale's effects in columns of unit root mean square, and least
# diagonal of the starting factors of the mean's: zero is stationary.
_START_SCALE, _MIN_START = 0.3, 0.1
# Below this a standard deviation of the scale's effects is reported as zero.
_ZERO_SCALE = 1e-3
# Noise of the inner mode: a smaller tolerance is not attained.
_MIN_TOLERANCE = 1e-9


def estimate_location_scale(
    design: Design, model: ResidualModel, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, LocationScaleEstimate]:
    """Estimate all parameters; the design returned has the weights at the modes of ``v``."""
    assert isinstance(model, LocationScale)
    check_scale_identified(design, model)
    problem = laplace_problem(design, model, reml=reml, control=control)
    optimum = minimize_laplace(problem, start_of(problem), control)
    problem, params = on_boundary(problem, optimum.x)
    return estimate_at(problem, replace(optimum, x=params), control)


def laplace_problem(
    design: Design,
    model: LocationScale,
    *,
    reml: bool,
    control: Control | None = None,
    priors: NormalPriors | None = None,
) -> LaplaceDeviance:
    """Approximate deviance in the units of the homoscedastic fit."""
    homoscedastic = homoscedastic_fit(design, reml=reml, control=control or Control())
    return LaplaceDeviance(design, model, homoscedastic, reml=reml, priors=priors)


def homoscedastic_fit(design: Design, *, reml: bool, control: Control) -> Solution:
    """Fit with equal residual variances."""
    crossprod = compute_crossproducts(design)
    likelihood = GaussianLikelihood(crossprod, reml)
    factors = estimate_theta(design, likelihood, control=control).factors
    return solve_pls_at_factors(crossprod, factors or (), reml=reml)


def start_of(problem: LaplaceDeviance) -> Vector:
    """Parameters of the homoscedastic fit, and of small effects of the scale."""
    params = np.zeros(problem.indices.size)
    params[problem.indices.theta] = _interior_start(problem, problem.homoscedastic.factors)
    scale = problem.scale.parametrization
    factors = [_START_SCALE / math.sqrt(k) * np.eye(k) for k in scale.widths]
    params[problem.indices.scale] = scale.to_params(factors)
    return params


def _interior_start(problem: LaplaceDeviance, scaled_factors: Sequence[Matrix]) -> Vector:
    """Parameters of scaled factors, their diagonals bounded away from zero."""
    parametrization = problem.crossprod.parametrization
    factors = []
    for scaled in scaled_factors:
        factor = lower_triangular_factor(scaled)
        factor = factor * np.where(np.diag(factor) < 0.0, -1.0, 1.0)
        diagonal = np.diag_indices_from(factor)
        factor[diagonal] = np.maximum(factor[diagonal], _MIN_START)
        factors.append(factor)
    return parametrization.to_params(factors)


def minimize_laplace(
    problem: LaplaceDeviance, params: Vector, control: Control
) -> TrustRegionResult:
    """Minimise the approximate deviance; points with singular matrices have an infinite one."""
    at_start: list[Vector] = []

    def function(at: Vector) -> tuple[float, Vector]:
        value, gradient = evaluate(at)
        if not at_start:
            at_start.append(gradient)
        return value, gradient

    def evaluate(at: Vector) -> tuple[float, Vector]:
        try:
            found = problem(at)
            if np.isfinite(found.value):
                return found.value, problem.gradient(at, found)
        except np.linalg.LinAlgError:
            pass
        return np.inf, np.zeros_like(at)

    def initial_hessian() -> Matrix:
        H = []
        for step in _STEP * np.eye(len(params)):
            value, gradient = evaluate(params + step)
            H.append((gradient - at_start[0]) / _STEP if np.isfinite(value) else step)
        values, vectors = np.linalg.eigh(0.5 * (np.array(H) + np.array(H).T))
        positive = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        return np.asarray((vectors * positive) @ vectors.T)

    found = minimize(
        function,
        params,
        initial_hessian=initial_hessian,
        tolerance=max(control.tolerance, _MIN_TOLERANCE),
        max_evaluations=control.max_evaluations,
    )
    if not np.isfinite(found.value):
        raise EngineRefusal(
            "the likelihood of a random term in dispersion= cannot be computed for these data: "
            "their residual variances differ by more than double precision holds."
        )
    return found


def on_boundary(problem: Problem, params: Vector) -> tuple[Problem, Vector]:
    """Parameters with the scale's standard deviations of nearly zero at zero."""
    factors, roots = problem.scale_factors(params), []
    for factor in factors:
        left, values, _ = np.linalg.svd(factor)
        kept = values > _ZERO_SCALE
        roots.append(factor if kept.all() else left[:, kept] * values[kept])
    if all(root is factor for root, factor in zip(roots, factors, strict=True)):
        return problem, params
    return problem.with_scale_ranks(params, roots)
