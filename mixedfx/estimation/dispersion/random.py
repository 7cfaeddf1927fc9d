"""Estimation of a location-scale model: a dispersion model with a random term.

The outer parameters (:class:`~mixedfx.estimation.dispersion.laplace.LocationScaleIndices`) are
covariance factors of the mean's random effects, mean log residual standard deviation, dispersion
coordinates, the standard deviation ``tau`` of the log residual standard deviations, and under ML
the coefficients. The Laplace approximation to the deviance
(:mod:`mixedfx.estimation.dispersion.laplace`) is minimised from the homoscedastic fit, with
derivatives by central differences.

Reference: Hedeker, Mermelstein and Demirtas (2008), Biometrics 64:627.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance.unstructured import lower_triangular_factor
from mixedfx.design.build import Design
from mixedfx.estimation.dispersion.laplace import ConditionalDeviance, LaplaceDeviance
from mixedfx.estimation.location_scale import LocationScaleEstimate, ScaleEffects
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.unidentified import unidentified
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.identifiability import dependences
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import solve_pls_at_factors
from mixedfx.likelihood.residual_directions import StratumVariances
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.differences import jacobian
from mixedfx.linalg.trust_region import TrustRegionResult, minimize
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Steps of first differences, and of second ones; the parameters are of order one.
_STEP, _SECOND_STEP = 1e-4, 3e-3
# Starting value of tau, and least diagonal of the starting factors: zero is stationary.
_START_TAU, _MIN_START = 0.3, 0.1
# Below this tau is reported as zero.
_ZERO_TAU = 1e-3
# Noise of the inner mode: a smaller tolerance is not attained.
_MIN_TOLERANCE = 1e-9


def estimate_location_scale(
    design: Design, model: ResidualModel, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, LocationScaleEstimate]:
    """Estimate all parameters; the design returned has the weights at the modes of ``v``."""
    assert isinstance(model, LocationScale)
    crossprod = sum_by_stratum(design, np.zeros(design.rows.n, dtype=np.intp)).plain
    likelihood = GaussianLikelihood(crossprod, reml)
    factors = estimate_theta(design, likelihood, control=control).factors
    homoscedastic = solve_pls_at_factors(crossprod, factors or (), reml=reml)
    problem = LaplaceDeviance(design, model, homoscedastic, reml=reml)
    params = np.zeros(problem.indices.size)
    params[problem.indices.theta] = _interior_start(problem, homoscedastic.factors)
    params[problem.indices.tau] = _START_TAU
    optimum = _minimize(problem, params, control)
    if abs(optimum.x[problem.indices.tau]) < _ZERO_TAU:
        params = optimum.x.copy()
        params[problem.indices.tau] = 0.0
        value, _ = problem(params)
        optimum = replace(optimum, x=params, value=value)
    return _estimate_at(problem, optimum, control)


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
            value, _ = problem(at)
            return value, _gradient(problem, at)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(at)

    def initial_hessian() -> Matrix:
        values, vectors = np.linalg.eigh(_hessian(problem, params))
        positive = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        return np.asarray((vectors * positive) @ vectors.T)

    return minimize(
        function,
        params,
        initial_hessian=initial_hessian,
        tolerance=max(control.tolerance, _MIN_TOLERANCE),
        max_evaluations=control.max_evaluations,
    )


def _gradient(problem: LaplaceDeviance, params: Vector) -> Vector:
    """Gradient of the approximate deviance, by central differences."""
    return jacobian(lambda at: problem(at)[0], params, np.full(len(params), _STEP), order=2)


def _hessian(problem: LaplaceDeviance, params: Vector) -> Matrix:
    """Hessian by second differences of the value, with two evaluations per pair."""
    steps = _SECOND_STEP * np.eye(len(params))
    value = problem(params)[0]
    sums = [problem(params + step)[0] + problem(params - step)[0] for step in steps]
    H = np.diag([(both - 2.0 * value) / _SECOND_STEP**2 for both in sums])
    for i, j in itertools.combinations(range(len(params)), 2):
        step = steps[i] + steps[j]
        both = problem(params + step)[0] + problem(params - step)[0]
        H[i, j] = H[j, i] = (both - sums[i] - sums[j] + 2.0 * value) / (2.0 * _SECOND_STEP**2)
    return H


@dataclass(frozen=True)
class _Optimum:
    """The approximate deviance at the optimum, and its derivatives by the free parameters."""

    params: Vector
    deviance: float
    conditional: ConditionalDeviance  # at v
    u: Vector  # (levels,) mode
    free: npt.NDArray[np.bool_]  # all parameters but a tau of zero
    gradient: Vector
    hessian: Matrix
    inverse: Matrix  # 2 H^-1, the covariance of the free parameters
    tau: float
    v: Vector  # (levels,) mode, signed tau times u
    unscaled_cov_v: Matrix  # (levels, levels) conditional covariance of v over tau squared

    @property
    def cov_v(self) -> Matrix:
        """Conditional covariance (levels, levels) of ``v`` given data and parameters."""
        return np.asarray(self.tau**2 * self.unscaled_cov_v)

    def covariance(self, indices: range | list[int]) -> Matrix:
        """Covariance of some of the parameters, which are free."""
        rows = np.searchsorted(np.flatnonzero(self.free), list(indices))
        return np.asarray(self.inverse[np.ix_(rows, rows)])


def _evaluate(problem: LaplaceDeviance, params: Vector) -> _Optimum:
    """Evaluate the approximate deviance and its derivatives."""
    signed_tau = params[problem.indices.tau]
    tau = abs(float(signed_tau))
    free = np.ones(problem.indices.size, dtype=bool)
    free[problem.indices.tau] = tau > 0.0
    deviance, conditional = problem(params)
    u = problem.u
    gradient = _gradient(problem, params)[free]
    hessian = _hessian(problem, params)[np.ix_(free, free)]
    inverse = 2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    unscaled_precision = np.eye(len(u)) + 0.5 * tau**2 * conditional.hessian
    return _Optimum(
        params=params,
        deviance=deviance,
        conditional=conditional,
        u=u,
        free=free,
        gradient=gradient,
        hessian=hessian,
        inverse=inverse,
        tau=tau,
        v=signed_tau * u,
        unscaled_cov_v=np.asarray(np.linalg.inv(unscaled_precision), dtype=float),
    )


def _estimate_at(
    problem: LaplaceDeviance, optimum: TrustRegionResult, control: Control
) -> tuple[OptimizerResult, Design, LocationScaleEstimate]:
    """Estimates at the optimum: theta and weights relative to sigma, derivatives, covariances."""
    at, indices = _evaluate(problem, optimum.x), problem.indices
    log_mean = math.log(problem.homoscedastic.sigma) + float(at.params[indices.mean_log_sd])
    coordinates, x = problem.coordinates, at.params[indices.dispersion]
    sigma = math.exp(log_mean + float(coordinates.to_log_sigma[1:] @ x))
    sds = np.exp(problem.log_sds(at.params)[problem.codes] + at.v[problem.random_term.codes])
    weights = problem.design.rows.combined_weights((sigma / sds) ** 2)
    factors = [factor / sigma for factor in problem.cov_factors(at.params)]
    optimizer_result = OptimizerResult(
        theta=problem.crossprod.theta(factors),
        engine="profiled",
        evaluations=problem.evaluations,
        converged=optimum.converged,
        limit_reached=not optimum.converged and optimum.evaluations >= control.max_evaluations,
        message=f"another step would gain {optimum.newton_decrement:.1e}",
        deviance=at.conditional.solution.deviance,
        trace=optimum.trace,
        remarks=_remarks(problem, at.tau),
    )
    estimate = _residual_estimate(problem, at, problem.model.coefficients(log_mean, x))
    return optimizer_result, problem.design.with_weights(weights).with_sigma(sigma), estimate


def _residual_estimate(
    problem: LaplaceDeviance, at: _Optimum, gamma: Vector
) -> LocationScaleEstimate:
    """The residual model at the optimum, with derivatives by the free parameters and ``u``."""
    indices, signed_tau = problem.indices, at.params[problem.indices.tau]
    to_gamma = problem.coordinates.to_gamma
    cov = to_gamma @ at.covariance(range(indices.mean_log_sd, indices.tau)) @ to_gamma.T
    tau_error = 0.0
    if at.tau > 0.0:
        tau_error = math.sqrt(max(float(at.covariance([indices.tau])[0, 0]), 0.0))
    by_u = signed_tau * at.conditional.gradient + 2.0 * at.u
    hessian_u = 2.0 * np.eye(len(at.u)) + at.tau**2 * at.conditional.hessian
    vcov_by_v = problem.vcov_jacobian(at.params, at.v, at.conditional)
    cond_sd = at.tau * np.sqrt(np.diag(at.unscaled_cov_v))
    return LocationScaleEstimate(
        problem.model,
        params=np.append(at.params[indices.dispersion], at.tau),
        coefficients=gamma,
        cov=np.asarray(cov),
        random=ScaleEffects(at.tau, tau_error, at.v, cond_sd),
        integrated_deviance=at.deviance,
        gradient=np.append(at.gradient, by_u),
        hessian=np.asarray(linalg.block_diag(at.hessian, hessian_u)),
        vcov_jacobian=CoefficientCovariance(
            np.concatenate(
                [_vcov_jacobian(problem, at.params)[at.free], signed_tau * vcov_by_v.in_basis]
            ),
            vcov_by_v.qr_R,
        ),
        beta=None if problem.reml else at.conditional.solution.beta,
        vcov_correction=_vcov_correction(problem, at),
        not_identified=_not_identified(problem, at),
    )


def _vcov_correction(problem: LaplaceDeviance, at: _Optimum) -> CoefficientCovariance:
    """
    Covariance (p, p) that the uncertainty of ``v`` adds to that of ``qr_R beta`` given ``v``.

    Under REML ``J Cov(v) J'`` with ``J = d qr_R beta / dv``, by the law of total variance; under ML
    the block of beta of ``2 H^-1`` less the covariance given ``v``.
    """
    if problem.reml:
        J = problem.coef_jacobian(at.conditional)
        return CoefficientCovariance(J @ at.cov_v @ J.T, problem.crossprod.qr_R)
    first, root = len(at.inverse) - problem.crossprod.p, problem.coef_root
    cov = root @ at.inverse[first:, first:] @ root.T
    cov = cov - at.conditional.solution.vcov_in_basis
    return CoefficientCovariance(cov, problem.crossprod.qr_R)


def _not_identified(problem: LaplaceDeviance, at: _Optimum) -> tuple[str, ...]:
    """
    Statements of what the rows do not identify.

    No covariance of the mean's effects equals residual variances at all values of ``v``: with
    differences between the levels only covariances of the effects can be unidentified.
    """
    crossprod, residual = at.conditional.crossprod, None
    if at.tau == 0.0:
        columns = problem.coordinates.stratum_columns[problem.fixed_stratum]
        weights = np.exp(-2.0 * problem.log_sds(at.params))
        crossprod = replace(crossprod, sigma=None)
        residual = StratumVariances.of(problem.strata, weights, columns)
    found = dependences(crossprod, reml=problem.reml, residual=residual)
    return unidentified(problem.design.spec, found)


def _vcov_jacobian(problem: LaplaceDeviance, params: Vector) -> Matrix:
    """Derivatives (m, p, p) of cov(beta) given the mode, in the basis, by central differences."""
    steps = np.full(len(params), _SECOND_STEP)
    return jacobian(lambda at: problem(at)[1].solution.vcov_in_basis, params, steps, order=2)


def _remarks(problem: LaplaceDeviance, tau: float) -> tuple[str, ...]:
    if tau > 0.0:
        return ()
    return (
        f"the levels of '{problem.random_term.group}' show no differences in their residual "
        "standard deviation: that of its logarithm is estimated as zero.",
    )
