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

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.unstructured import lower_triangular_factor
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.dispersion.identified import check_scale_identified
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance
from mixedfx.estimation.dispersion.optimum import estimate_at
from mixedfx.estimation.location_scale import LocationScaleEstimate
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import solve_pls_at_factors
from mixedfx.linalg.trust_region import TrustRegionResult, minimize
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

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
    optimum = _minimize(problem, _start(problem), control)
    problem, params = _on_boundary(problem, optimum.x)
    return estimate_at(problem, replace(optimum, x=params), control)


def laplace_problem(
    design: Design, model: LocationScale, *, reml: bool, control: Control | None = None
) -> LaplaceDeviance:
    """Approximate deviance in the units of the homoscedastic fit."""
    crossprod = compute_crossproducts(design)
    likelihood = GaussianLikelihood(crossprod, reml)
    factors = estimate_theta(design, likelihood, control=control or Control()).factors
    homoscedastic = solve_pls_at_factors(crossprod, factors or (), reml=reml)
    return LaplaceDeviance(design, model, homoscedastic, reml=reml)


def _start(problem: LaplaceDeviance) -> Vector:
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


def _minimize(problem: LaplaceDeviance, params: Vector, control: Control) -> TrustRegionResult:
    """Minimise the approximate deviance; points with singular matrices have an infinite one."""

    def function(at: Vector) -> tuple[float, Vector]:
        try:
            found = problem(at)
            if np.isfinite(found.value):
                return found.value, problem.gradient(at, found)
        except np.linalg.LinAlgError:
            pass
        return np.inf, np.zeros_like(at)

    def initial_hessian() -> Matrix:
        at_start, H = function(params)[1], []
        for step in _STEP * np.eye(len(params)):
            value, gradient = function(params + step)
            H.append((gradient - at_start) / _STEP if np.isfinite(value) else step)
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


def _on_boundary(problem: LaplaceDeviance, params: Vector) -> tuple[LaplaceDeviance, Vector]:
    """Parameters with the scale's standard deviations of nearly zero at zero."""
    factors, roots = problem.scale_factors(params), []
    for factor in factors:
        left, values, _ = np.linalg.svd(factor)
        kept = values > _ZERO_SCALE
        roots.append(factor if kept.all() else left[:, kept] * values[kept])
    if all(root is factor for root, factor in zip(roots, factors, strict=True)):
        return problem, params
    return problem.with_scale_ranks(params, roots)
