"""Priors and data to the mode of the posterior: a fit whose estimates are pulled by priors.

The mode is that of standard deviations and correlations, fixed and random effects integrated
out; theirs are then the means given it. With flat priors that is REML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.log_posterior import Target
from mixedfx.covariance.parametrization import ZERO, canonical_signs
from mixedfx.design.build import Design
from mixedfx.estimation.dispersion.degenerate import check_degenerate_strata
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.dispersion.fixed import estimate_theta
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.constrained import update_with_normal_prior
from mixedfx.likelihood.pls import solve_pls_at_factors
from mixedfx.linalg.trust_region import TrustRegionResult, minimize
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# No standard deviation starts below this share of the residual one, in unit-free columns.
_LIFT = 0.1
_STEP = 1e-4
# Of minus twice a log density; a prior may be far steeper than any likelihood.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Mode:
    """
    Where the posterior density is highest.

    Parameters
    ----------
    search : Search
        Theta relative to sigma, and how it was found.
    design : Design
        With the sigma, and the weights of a dispersion, that were found.
    beliefs : Beliefs
        The priors, and the density's derivatives at the mode.
    dispersion : Dispersion or None
        What was found of the residual standard deviations.
    """

    optimizer_result: OptimizerResult
    design: Design
    priors: PriorSpecification
    dispersion: DispersionEstimate | None


def find_mode(design: Design, priors: PriorSpecification, control: Control) -> Mode:
    """Find the mode of the posterior."""
    if design.dispersion is not None:
        check_degenerate_strata(design, design.dispersion, reml=True)
    target = Target(design, priors)
    end = climb(target, start(target, control), jacobian=False, control=control)
    return _finished(target, end)


def start(target: Target, control: Control) -> Vector:
    """Begin at the REML fit, off the boundary."""
    design, plain, at = target.design, target.crossprod, target.chart
    found = estimate_theta(design, plain, True, control, None)
    solution = solve_pls_at_factors(plain, plain.parametrization.lambdas(found.theta), reml=True)
    z = np.zeros(target.size)
    if isinstance(at.sigma, int):
        z[at.sigma] = math.log(solution.sigma)
    for term, lam, scale in zip(at.terms, solution.lambdas, plain.column_rms, strict=True):
        if at.theta is not None:
            break
        sds = solution.sigma * np.maximum(np.linalg.norm(lam, axis=1), _LIFT / scale)
        for a, place in enumerate(term.sds):
            if isinstance(place, int):
                z[place] = math.log(sds[a])
        pairs = term.partials.stop - term.partials.start
        if pairs:
            z[term.partials] = np.arctanh(_partials(solution.sigma * lam, sds))
    return z


def _partials(root: Matrix, sds: Vector) -> Vector:
    """Partial correlations of a covariance, not too near one, row by row."""
    corr = 0.9 * (root @ root.T) / np.outer(sds, sds)
    np.fill_diagonal(corr, 1.0)
    lower, out = np.linalg.cholesky(corr), []
    for i in range(len(corr)):
        left = 1.0
        for j in range(i):
            out.append(lower[i, j] / math.sqrt(left))
            left -= lower[i, j] ** 2
    return np.asarray(np.clip(np.array(out), -0.9, 0.9))


def climb(target: Target, z: Vector, *, jacobian: bool, control: Control) -> TrustRegionResult:
    """Climb to the mode of the posterior density."""

    def first() -> Matrix:
        values, vectors = np.linalg.eigh(hessian(target, z, jacobian=jacobian))
        raised = np.maximum(np.abs(values), 1e-3 * max(1.0, np.abs(values).max()))
        return np.asarray((vectors * raised) @ vectors.T)

    return minimize(
        lambda point: target.minus_twice(point, jacobian=jacobian),
        z,
        initial_hessian=first,
        tolerance=max(control.tolerance, _TOLERANCE),
        max_evaluations=control.max_evaluations,
    )


def hessian(target: Target, z: Vector, *, jacobian: bool) -> Matrix:
    """Differentiate minus twice the log density twice, by differences of its gradient."""
    H = np.empty((len(z), len(z)))
    for j in range(len(z)):
        step = np.zeros(len(z))
        step[j] = _STEP
        ends = [target.minus_twice(z + s, jacobian=jacobian)[1] for s in (step, -step)]
        H[j] = (ends[0] - ends[1]) / (2.0 * _STEP)
    return 0.5 * (H + H.T)


def _finished(target: Target, end: TrustRegionResult) -> Mode:
    """Turn the mode's coordinates into theta and sigma."""
    points, plain = target.chart.points(end.x[None]), target.crossprod
    design, priors = target.design, target.priors
    H = hessian(target, end.x, jacobian=False)
    sigma = float(target.chart.sigmas(points)[0])
    mean_sigma = float(points.sigma[0])
    dispersion = None
    if target.coordinates is not None:
        at = target.coordinates
        weights = (mean_sigma / sigma * np.exp(at.by_stratum @ points.scale[0])) ** -2.0
        design = replace(design, weights=design.combined_weights(weights[target.strata.codes]))
        dispersion = _dispersion(target, end, H)
    design = replace(design, sigma=sigma)
    parametrization = plain.parametrization
    lambdas = [root[:, :, 0] / sigma for root in points.roots]
    # A standard deviation that went to zero is set to zero.
    for lam, scale in zip(lambdas, plain.column_rms, strict=True):
        lam[np.linalg.norm(lam, axis=1) * scale * sigma < ZERO * mean_sigma] = 0.0
    theta = canonical_signs(parametrization, parametrization.to_params(lambdas))
    reduced = compute_crossproducts(design)
    there = solve_pls_at_factors(reduced, parametrization.lambdas(theta), reml=True)
    optimizer_result = OptimizerResult(
        theta=theta,
        engine="profiled",
        evaluations=target.evaluations,
        converged=end.converged,
        message=f"another step would gain {end.newton_decrement:.1e}",
        deviance=update_with_normal_prior(there, priors.coef_mean, priors.coef_sd).deviance,
        trace=end.trace,
    )
    return Mode(
        optimizer_result, design, replace(priors, gradient=end.gradient, hessian=H), dispersion
    )


def _dispersion(target: Target, end: TrustRegionResult, H: Matrix) -> DispersionEstimate:
    at, scale = target.chart, target.design.dispersion
    assert scale is not None
    assert at.to_gamma is not None
    points = at.points(end.x[None])
    inverse = 2.0 * np.linalg.pinv(H, rcond=1e-10, hermitian=True)
    columns = [*([at.sigma] if isinstance(at.sigma, int) else []), *range(at.size)[at.scale]]
    mine = at.to_gamma[:, len(at.to_gamma) - len(columns) :]
    cov = mine @ inverse[np.ix_(columns, columns)] @ mine.T
    p = target.crossprod.p
    none = np.zeros((len(H), p, p))
    return DispersionEstimate(
        scale, at.gammas(points)[0], np.asarray(cov), None, None, end.gradient, H, none
    )
