"""The search for a distribution of residual standard deviations, from one fit with a single one.

Outside are the covariances of the mean's effects, the coefficients of the log standard
deviation, and the standard deviation ``tau`` of its random effects; under maximum likelihood the
coefficients of the mean too. Derivatives are central differences of the approximate deviance
(:mod:`mixedfx.estimation.dispersion.laplace`), whose inner minimum is found to rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.design.build import Design
from mixedfx.estimation.dispersion.estimate import DispersionEstimate, DispersionRandomEffects
from mixedfx.estimation.dispersion.fixed import estimate_theta
from mixedfx.estimation.dispersion.laplace import Inner, Laplace
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Steps of differences, in coordinates of order one.
_STEP, _WIDE = 1e-4, 3e-3
# A search begins with this standard deviation of the log residual ones, and no variance of the
# mean below this share of the residual one: zero is stationary for any data.
_START, _LIFT = 0.3, 0.1
# Below this the levels have one residual standard deviation.
_ZERO = 1e-3


def estimate_location_scale(
    design: Design, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """
    Find the distribution of the residual standard deviations, and everything else.

    References
    ----------
    .. [1] Hedeker, Mermelstein and Demirtas (2008), Biometrics 64:627.
    .. [2] Tierney and Kadane (1986), J. Am. Stat. Assoc. 81:82, equation 2.1.
    """
    scale = design.dispersion
    assert scale is not None
    assert scale.random_term is not None
    equal = sum_by_stratum(design, np.zeros(len(design.y), dtype=np.intp)).plain
    plain = estimate_theta(design, equal, reml, control, None)
    start = solve_pls_at_factors(equal, equal.parametrization.lambdas(plain.theta), reml=reml)
    problem = Laplace(design, scale, scale.random_term, start, reml=reml)
    x = np.zeros(problem.place.size)
    x[problem.place.theta] = _lifted(problem, plain.theta)
    x[problem.place.tau] = _START
    end = _descend(problem, x, control)
    if abs(end.x[problem.place.tau]) < _ZERO:
        x = end.x.copy()
        x[problem.place.tau] = 0.0
        value, _ = problem(x)
        end = replace(end, x=x, value=value)
    return _finished(problem, end)


def _lifted(problem: Laplace, theta: Vector) -> Vector:
    """Theta in the frames, its diagonal off zero."""
    parametrization = problem.whole.parametrization
    made = []
    for lam, frame in zip(parametrization.lambdas(theta), problem.whole.term_scaling, strict=True):
        framed = _triangular(np.asarray(np.linalg.solve(frame, lam)))
        framed = framed * np.where(np.diag(framed) < 0.0, -1.0, 1.0)
        at = np.diag_indices_from(framed)
        framed[at] = np.maximum(framed[at], _LIFT)
        made.append(framed)
    return parametrization.to_params(made)


def _descend(problem: Laplace, x: Vector, control: Control) -> TrustRegionResult:
    def function(point: Vector) -> tuple[float, Vector]:
        try:
            value, _ = problem(point)
            return value, _slope(problem, point)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(point)

    def first() -> Matrix:
        values, vectors = np.linalg.eigh(_hessian(problem, x))
        raised = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        return np.asarray((vectors * raised) @ vectors.T)

    return minimize(
        function,
        x,
        initial_hessian=first,
        tolerance=max(control.tolerance, 1e-9),
        max_evaluations=control.max_evaluations,
    )


def _slope(problem: Laplace, point: Vector) -> Vector:
    out = np.empty_like(point)
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _STEP
        out[j] = (problem(point + step)[0] - problem(point - step)[0]) / (2.0 * _STEP)
    return out


def _hessian(problem: Laplace, point: Vector) -> Matrix:
    """Second differences of the value, which cost two evaluations a pair of coordinates."""
    steps = _WIDE * np.eye(len(point))
    here = problem(point)[0]
    sides = [problem(point + step)[0] + problem(point - step)[0] for step in steps]
    H = np.diag([(both - 2.0 * here) / _WIDE**2 for both in sides])
    for i, j in itertools.combinations(range(len(point)), 2):
        step = steps[i] + steps[j]
        both = problem(point + step)[0] + problem(point - step)[0]
        H[i, j] = H[j, i] = (both - sides[i] - sides[j] + 2.0 * here) / (2.0 * _WIDE**2)
    return H


def _finished(
    problem: Laplace, end: TrustRegionResult
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """Refer everything to sigma, and measure the curvature."""
    place, point = problem.place, end.x
    tau = abs(float(point[place.tau]))
    free = np.ones(place.size, dtype=bool)
    free[place.tau] = tau > 0.0
    value, here = problem(point)
    u = problem.u
    v = point[place.tau] * u
    gradient, hessian = _slope(problem, point)[free], _hessian(problem, point)[np.ix_(free, free)]
    inverse = 2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    at = problem.coordinates
    log_mean = math.log(problem.plain.sigma) + float(point[place.level])
    gamma = at.gamma(log_mean, point[place.scale])
    of_scale = np.flatnonzero(free)
    scale_rows = [i for i, j in enumerate(of_scale) if place.level <= j < place.tau]
    cov = at.to_gamma @ inverse[np.ix_(scale_rows, scale_rows)] @ at.to_gamma.T
    tau_error = 0.0
    if tau > 0.0:
        row = int(np.flatnonzero(of_scale == place.tau)[0])
        tau_error = math.sqrt(max(inverse[row, row], 0.0))
    curved = np.linalg.inv(np.eye(len(v)) + 0.5 * tau**2 * here.hessian)
    spread = DispersionRandomEffects(tau, tau_error, v, tau * np.sqrt(np.diag(curved)))
    log_sigma = log_mean + float(at.to_log_sigma[1:] @ point[place.scale])
    sigma = math.exp(log_sigma)
    sds = np.exp(problem.logs(point)[problem.codes] + v[problem.random_term.codes])
    w = problem.design.combined_weights((sigma / sds) ** 2)
    parametrization = problem.whole.parametrization
    absolute = [_triangular(lam) for lam in problem.lambdas(point)]
    theta = canonical_signs(
        parametrization, parametrization.to_params([lam / sigma for lam in absolute])
    )
    beta = None if problem.reml else here.solution.beta
    # What is known of the fixed effects' covariance: the parameters', and the effects' given them.
    given = 2.0 * np.eye(len(v)) + tau**2 * here.hessian
    by_u = point[place.tau] * problem.cov_slopes(point, v, here)
    found = DispersionEstimate(
        problem.scale,
        gamma,
        np.asarray(cov),
        spread,
        value,
        np.append(gradient, point[place.tau] * here.gradient + 2.0 * u),
        np.asarray(linalg.block_diag(hessian, given)),
        np.concatenate([_cov_slopes(problem, point)[free], by_u]),
        beta,
        _extra(problem, here, inverse, np.asarray(tau**2 * curved)),
    )
    optimizer_result = OptimizerResult(
        theta=theta,
        engine="profiled",
        evaluations=problem.evaluations,
        converged=end.converged,
        message=f"another step would gain {end.newton_decrement:.1e}",
        deviance=here.solution.deviance,
        trace=end.trace,
        remarks=_remarks(problem, tau),
    )
    return optimizer_result, replace(problem.design, weights=w, sigma=sigma), found


def _extra(problem: Laplace, here: Inner, inverse: Matrix, cov_v: Matrix) -> Matrix:
    """
    Covariance that the scale's effects, which are not known, add to the fixed effects'.

    Under REML that of the coefficients' mean given ``v`` (the law of total variance); under
    maximum likelihood what the deviance's Hessian says beyond that given ``v``.
    """
    if problem.reml:
        J = problem.beta_slopes(here)
        return np.asarray(J @ cov_v @ J.T)
    p = problem.whole.p
    errors = problem.plain.sigma * np.sqrt(np.diag(problem.plain.vcov_unscaled))
    whole = inverse[len(inverse) - p :, len(inverse) - p :] * np.outer(errors, errors)
    return np.asarray(whole - here.solution.vcov_unscaled)


def _remarks(problem: Laplace, tau: float) -> tuple[str, ...]:
    if tau > 0.0:
        return ()
    return (
        f"the levels of '{problem.random_term.group}' show no differences in their residual "
        "standard deviation: that of its logarithm is estimated as zero.",
    )


def _cov_slopes(problem: Laplace, point: Vector) -> Matrix:
    """Derivatives of the covariance of the fixed effects by all coordinates."""
    p = problem.whole.p
    out = np.empty((len(point), p, p))
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _WIDE
        ends: Sequence[Solution] = [problem(point + s)[1].solution for s in (step, -step)]
        out[j] = (ends[0].vcov_unscaled - ends[1].vcov_unscaled) / (2.0 * _WIDE)
    return out


def _triangular(lam: Matrix) -> Matrix:
    """Lower triangular root of the same covariance."""
    return np.asarray(np.linalg.qr(lam.T, mode="r")).T
