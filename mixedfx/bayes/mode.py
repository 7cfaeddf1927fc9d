"""Mode of the posterior density of standard deviations, correlations and sigma.

Fixed and random effects are integrated out; their estimates are the posterior means given the
mode, as the BLUE and BLUPs are given REML's estimates. The density is that of the parameters,
without the Jacobian of their coordinates: with flat priors the mode is the REML estimate
(Chung, Rabe-Hesketh, Dorie, Gelman and Liu 2013, Psychometrika 78:685).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.unconstrained import ParameterTransform
from mixedfx.covariance.components import ZERO
from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.design.build import Design
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.estimation.starts import can_have_several_minima
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.constrained import update_with_normal_prior
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import solve_pls
from mixedfx.linalg import differences
from mixedfx.linalg.trust_region import Function, TrustRegionResult, minimize
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Least starting value of a standard deviation over the residual one, for columns of unit RMS.
_MIN_START = 0.1
# The same of standard deviations that start near zero, and of up to how many in all combinations.
SMALL_START, _MAX_SUBSETS = 0.02, 3
# Logarithm of a standard deviation of zero.
LOG_ZERO = -60.0
# A partial correlation nearer to one than this is one: its coordinate is infinite.
_ONE = 1e-6
# Step of the central differences of the gradient.
_STEP = 1e-4
# Tolerance in -2 log density: a prior can be far steeper than any likelihood.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class PosteriorMode:
    """Mode of the posterior density, as an optimum that a fit is assembled from."""

    optimizer_result: OptimizerResult
    design: Design  # with sigma, and the weights of the residual model, at the mode
    priors: PriorSpecification  # with gradient and Hessian at the mode
    residual: ResidualEstimate


def find_mode(design: Design, priors: PriorSpecification, control: Control) -> PosteriorMode:
    """Maximise the posterior density, and evaluate the model at the maximum."""
    posterior = LogPosterior(design, priors)
    posterior.model.check(design, reml=True)
    starts = _several_starts(posterior, starting_values(posterior, control))
    optima = [
        maximize_posterior(posterior, start, jacobian=False, control=control) for start in starts
    ]
    best = min(optima, key=lambda optimum: optimum.value)
    return _mode_at(posterior, _at_zero(posterior, best), control)


def _at_zero(posterior: LogPosterior, optimum: TrustRegionResult) -> TrustRegionResult:
    """Set standard deviations to zero where that is no lower: their logarithm goes there slowly."""
    for _, _, column in _free_sds(posterior):
        x = optimum.x.copy()
        x[column] = LOG_ZERO
        value, gradient = posterior.objective(x, jacobian=False)
        if value <= optimum.value + TOLERANCE:
            optimum = replace(optimum, x=x, value=value, gradient=gradient)
    return optimum


def _free_sds(posterior: LogPosterior) -> Iterator[tuple[int, int, int]]:
    """Term, effect and coordinate of each standard deviation that is not known."""
    if posterior.transform.known_lambdas is None:
        for t, term in enumerate(posterior.transform.terms):
            for a, column in enumerate(term.sds):
                if isinstance(column, int):
                    yield t, a, column


def _several_starts(posterior: LogPosterior, start: Vector) -> list[Vector]:
    """
    Starting values, with standard deviations near zero too where there can be several modes.

    A prior that is highest at zero has a mode there beside that of the likelihood. Standard
    deviations are made small one by one, all but one and together, and the residual model's
    parameters get a step either way.
    """
    crossprod, starts = posterior.crossprod, [start]
    likelihood = GaussianLikelihood(crossprod, reml=True)
    # Of sums that alone are identified any part can be near zero.
    if not can_have_several_minima(likelihood) or likelihood.dependences:
        return starts
    transform = posterior.transform
    sds = [
        (column, math.log(SMALL_START / crossprod.column_rms[t][a]) + _log_sigma(posterior, start))
        for t, a, column in _free_sds(posterior)
    ]
    sizes = range(1, len(sds) + 1) if len(sds) <= _MAX_SUBSETS else [len(sds)]
    for small in itertools.chain.from_iterable(itertools.combinations(sds, r) for r in sizes):
        other = start.copy()
        for column, value in small:
            other[column] = value
        starts.append(other)
    for j in range(transform.size)[transform.residual][:_MAX_SUBSETS]:
        for step in (-1.0, 1.0):
            other = start.copy()
            other[j] += step
            starts.append(other)
    return starts


def _log_sigma(posterior: LogPosterior, z: Vector) -> float:
    """Logarithm of sigma of the cross-products at a point."""
    return math.log(float(posterior.transform.constrain(z[None]).sigma[0]))


def starting_values(posterior: LogPosterior, control: Control) -> Vector:
    """Coordinates of the homoscedastic REML fit, moved off the boundary."""
    crossprod, transform = posterior.crossprod, posterior.transform
    reml_fit = estimate_theta(
        posterior.design, GaussianLikelihood(crossprod, reml=True), control=control
    )
    solution = solve_pls(crossprod, reml_fit.theta, reml=True)
    z = np.zeros(posterior.size)
    if isinstance(transform.sigma, int):
        z[transform.sigma] = math.log(solution.sigma)
    factors = [solution.sigma * lam for lam in solution.lambdas]
    scales = [rms / solution.sigma for rms in crossprod.column_rms]
    return start_covariances(transform, z, factors, scales)


def start_covariances(
    transform: ParameterTransform, z: Vector, factors: Sequence[Matrix], rms: Sequence[Vector]
) -> Vector:
    """Set the coordinates of covariances, standard deviations being 0.1 of ``1 / rms`` or more."""
    if transform.known_lambdas is not None:
        return z
    for term, factor, scale in zip(transform.terms, factors, rms, strict=True):
        sds = np.maximum(np.linalg.norm(factor, axis=1), _MIN_START / scale)
        for a, column in enumerate(term.sds):
            if isinstance(column, int):
                z[column] = math.log(sds[a])
        if term.partials.stop > term.partials.start:
            z[term.partials] = np.arctanh(_partial_correlations(factor, sds))
    return z


def _partial_correlations(factor: Matrix, sds: Vector) -> Vector:
    """Canonical partial correlations of a covariance, shrunk away from one, row by row."""
    corr = 0.9 * (factor @ factor.T) / np.outer(sds, sds)
    np.fill_diagonal(corr, 1.0)
    root, partials = np.linalg.cholesky(corr), []
    for i in range(len(corr)):
        remaining = 1.0
        for j in range(i):
            partials.append(root[i, j] / math.sqrt(remaining))
            remaining -= root[i, j] ** 2
    return np.asarray(np.clip(np.array(partials), -0.9, 0.9))


def maximize_posterior(
    posterior: LogPosterior, z: Vector, *, jacobian: bool, control: Control
) -> TrustRegionResult:
    """Minimise -2 log posterior density by a trust-region quasi-Newton method."""
    return minimize_objective(
        lambda point: posterior.objective(point, jacobian=jacobian), z, control
    )


def minimize_objective(objective: Function, z: Vector, control: Control) -> TrustRegionResult:
    """Minimise a function that returns -2 log density and its gradient."""

    def first_hessian() -> Matrix:
        values, vectors = np.linalg.eigh(hessian_by_differences(objective, z))
        positive = np.maximum(np.abs(values), 1e-3 * max(1.0, np.abs(values).max(initial=0.0)))
        return np.asarray((vectors * positive) @ vectors.T)

    return minimize(
        objective,
        z,
        initial_hessian=first_hessian,
        tolerance=max(control.tolerance, TOLERANCE),
        max_evaluations=control.max_evaluations,
    )


def objective_hessian(posterior: LogPosterior, z: Vector, *, jacobian: bool) -> Matrix:
    """Hessian of -2 log posterior density."""
    return hessian_by_differences(lambda at: posterior.objective(at, jacobian=jacobian), z)


def hessian_by_differences(objective: Function, z: Vector) -> Matrix:
    """Hessian by central differences of the gradient."""
    H = differences.jacobian(lambda at: objective(at)[1], z, np.full(len(z), _STEP), order=2)
    return 0.5 * (H + H.T)


def _mode_at(
    posterior: LogPosterior, optimum: TrustRegionResult, control: Control
) -> PosteriorMode:
    """Evaluate the model at the optimum: theta relative to sigma, weights, derivatives."""
    params, crossprod = posterior.transform.constrain(optimum.x[None]), posterior.crossprod
    design, priors = posterior.design, posterior.priors
    H = objective_hessian(posterior, optimum.x, jacobian=False)
    sigma = float(posterior.transform.baseline_sigma(params)[0])
    mean_sigma = float(params.sigma[0])
    residual = ResidualEstimate(posterior.model)
    if posterior.model.n_params:
        log_sds = posterior.model.log_sds(params.residual[0])
        relative = (mean_sigma / sigma * np.exp(log_sds)) ** -2.0
        design = design.with_weights(design.rows.combined_weights(relative))
        residual = _residual_estimate(posterior, optimum, H)
    design = design.with_sigma(sigma)
    parametrization = crossprod.parametrization
    lambdas = [factor[:, :, 0] / sigma for factor in params.cov_factors]
    # On the log scale a standard deviation of zero is approached, and never attained.
    for lam, rms in zip(lambdas, crossprod.column_rms, strict=True):
        lam[np.linalg.norm(lam, axis=1) * rms * sigma < ZERO * mean_sigma] = 0.0
    theta = canonical_signs(parametrization, parametrization.to_params(lambdas))
    solution = solve_pls(compute_crossproducts(design), theta, reml=True)
    optimizer_result = OptimizerResult(
        theta=theta,
        engine="profiled",
        evaluations=posterior.evaluations,
        converged=optimum.converged,
        limit_reached=not optimum.converged and optimum.evaluations >= control.max_evaluations,
        message=f"another step would gain {optimum.newton_decrement:.1e}",
        deviance=update_with_normal_prior(solution, priors.coef_mean, priors.coef_sd).deviance,
        trace=optimum.trace,
    )
    free = interior_coordinates(posterior.transform, optimum.x, lambdas)
    priors = replace(priors, gradient=optimum.gradient[free], hessian=H[np.ix_(free, free)])
    return PosteriorMode(optimizer_result, design, priors, residual)


def interior_coordinates(
    transform: ParameterTransform, z: Vector, lambdas: Sequence[Matrix]
) -> npt.NDArray[np.intp]:
    """
    Coordinates that are not on the boundary.

    Left out are the log of a standard deviation of zero, the partial correlations of its effect,
    and those of one.
    """
    free = np.ones(transform.size, dtype=bool)
    if transform.known_lambdas is not None:
        return np.flatnonzero(free)
    for term, lam in zip(transform.terms, lambdas, strict=True):
        partials = np.arange(transform.size)[term.partials]
        free[partials[1.0 - np.abs(np.tanh(z[partials])) < _ONE]] = False
        zero = np.logical_not(np.any(lam, axis=1))
        sds = [c for c, off in zip(term.sds, zero, strict=True) if off and isinstance(c, int)]
        free[sds] = False
        rows, columns = np.tril_indices(len(lam), -1)
        free[partials[(zero[rows] | zero[columns])[: len(partials)]]] = False
    return np.flatnonzero(free)


def _residual_estimate(
    posterior: LogPosterior, optimum: TrustRegionResult, H: Matrix
) -> JointEstimate:
    """Coefficients of the residual model, their covariance from the Hessian at the mode."""
    transform = posterior.transform
    params = transform.constrain(optimum.x[None])
    inverse = 2.0 * np.linalg.pinv(H, rcond=1e-10, hermitian=True)
    sigma = [transform.sigma] if isinstance(transform.sigma, int) else []
    free = [*sigma, *range(transform.size)[transform.residual]]
    to_gamma = transform.to_gamma[:, transform.to_gamma.shape[1] - len(free) :]
    cov = to_gamma @ inverse[np.ix_(free, free)] @ to_gamma.T
    p = posterior.crossprod.p
    # With priors tests are normal: no degrees of freedom are computed from this Jacobian.
    return JointEstimate(
        posterior.model,
        params=params.residual[0],
        coefficients=transform.gamma(params)[0],
        cov=np.asarray(cov),
        gradient=optimum.gradient,
        hessian=H,
        vcov_jacobian=CoefficientCovariance(np.zeros((len(H), p, p)), None),
    )
