"""Estimation of a dispersion model without a random term (a variance function in nlme).

Given the coordinates ``x`` of the log standard deviations the model has known weights, and theta
and sigma are profiled out: the deviance ``d(x) = min_theta d(theta, x)`` is minimised in an outer
problem, theta in an inner one that starts at its last optimum. By the envelope theorem the
gradient is that at constant theta,

    dd / dlog w_i = h_i - 1 + w_i e_i^2 / sigma^2,

with ``w_i`` the weight of a row, ``e_i`` its conditional residual and ``h_i`` its leverage: of the
random effects under ML, of random and fixed effects under REML.

References: Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.2; Smyth
(2002), J. Comput. Graph. Stat. 11:836, on REML for dispersion models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.errors import DispersionError
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.estimation.dispersion.degenerate import (
    check_degenerate_strata,
    raise_degenerate_stratum,
)
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.dispersion.parametrization import DispersionCoordinates
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.likelihood.prediction_variance import (
    conditional_residuals,
    prediction_rows,
    unscaled_prediction_variance,
)
from mixedfx.likelihood.scaled import scaled_scores, unscaled_factors
from mixedfx.likelihood.score import score_factors
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# A standard deviation, relative to the mean one, below the first bound is taken to be zero; below
# the second it is if the stratum has fewer residual degrees of freedom than the third.
_ZERO_SD, _SMALL_SD, _MIN_RESIDUAL_DF = 1e-4, 1e-2, 1e-2
# Log standard deviations further from their mean have an infinite deviance.
_MAX_LOG_RATIO = math.log(1e7)
# Bound of the log standard deviation where the dispersion columns are zero, from the mean.
_MAX_SHIFT = 20.0 * _MAX_LOG_RATIO
# Step of the central differences, relative to coordinates above one.
_STEP = 1e-3


class ProfiledDispersionDeviance:
    """Deviance at the best theta and sigma, as a function of the dispersion coordinates."""

    def __init__(self, design: Design, *, reml: bool, control: Control) -> None:
        dispersion = design.rows.dispersion
        assert dispersion is not None
        self.design, self.reml, self.control = design, reml, control
        codes = dispersion.stratum_codes()
        self.strata = sum_by_stratum(design, codes)
        self.coordinates = DispersionCoordinates.from_columns(dispersion.D, codes)
        self.evaluations = 0
        self.inner: OptimizerResult | None = None  # theta at the last evaluation

    def log_sds(self, x: Vector) -> Vector:
        """Log standard deviations (strata,), relative to their mean over the rows."""
        return self.coordinates.stratum_columns @ x

    def crossproducts(self, x: Vector) -> CrossProducts:
        """Cross-products at the weights of ``x``."""
        return self.strata.reweight(np.exp(-2.0 * self.log_sds(x)))

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Profiled deviance and its gradient."""
        if np.abs(self.log_sds(x)).max() > _MAX_LOG_RATIO:
            return np.inf, np.zeros_like(x)
        crossprod = self.crossproducts(x)
        # No warm start on the boundary, where zero is stationary at all weights.
        interior = self.inner is not None and np.isinf(self.inner.boundary_slope)
        start = self.inner.theta if self.inner is not None and interior else None
        self.inner = estimate_theta(
            self.design,
            GaussianLikelihood(crossprod, self.reml),
            control=self.control,
            start=start,
        )
        self.evaluations += self.inner.evaluations
        solution = solve_pls(crossprod, self.inner.theta, reml=self.reml)
        return solution.deviance, self.gradient(x, solution)

    def gradient(self, x: Vector, solution: Solution) -> Vector:
        """Gradient of the deviance by ``x`` at constant theta."""
        log_sds = self.log_sds(x)[self.strata.codes]
        by_log_weight = score_log_weights(self.design.rows, solution, log_sds, reml=self.reml)
        return self.coordinates.pullback(by_log_weight, self.strata.codes)


def score_log_weights(
    rows: ModelRows, solution: Solution, log_sds: Vector, *, reml: bool
) -> Vector:
    """``dd / dlog w_i`` (n,), with ``w_i = exp(-2 log_sd_i)`` times the row's own weight."""
    w = rows.combined_weights(np.exp(-2.0 * log_sds))
    residuals = conditional_residuals(rows, solution)
    leverage = w * unscaled_prediction_variance(solution, prediction_rows(rows), fixed=reml)
    return np.asarray(leverage - 1.0 + w * residuals**2 / solution.sigma**2)


def estimate_dispersion(
    design: Design, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """Estimate gamma and theta; the design returned has the estimated weights."""
    check_degenerate_strata(design, reml=reml)
    problem = ProfiledDispersionDeviance(design, reml=reml, control=control)
    k = problem.coordinates.stratum_columns.shape[1]
    optimum = minimize(
        problem,
        np.zeros(k),
        initial_hessian=lambda: 4.0 * design.rows.n * np.eye(k),
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )
    _check_vanishing_sd(problem, optimum)
    return _estimate_at(problem, optimum)


def _estimate_at(
    problem: ProfiledDispersionDeviance, optimum: TrustRegionResult
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """Estimates at the optimum: theta and weights relative to sigma, derivatives, covariance."""
    x, crossprod = optimum.x, problem.crossproducts(optimum.x)
    start = None if problem.inner is None else problem.inner.theta
    likelihood = GaussianLikelihood(crossprod, problem.reml)
    inner = estimate_theta(problem.design, likelihood, control=problem.control, start=start)
    solution = likelihood.at(inner.theta)
    joint = _joint_derivatives(problem, x, crossprod, solution)
    coordinates, dispersion = problem.coordinates, problem.design.spec.dispersion
    assert dispersion is not None
    # Sigma is reported where the dispersion columns are zero: exp(-shift) times its mean.
    shift = -float(coordinates.to_log_sigma[1:] @ x)
    if abs(shift) > _MAX_SHIFT:
        raise DispersionError(
            f"the columns of the dispersion formula '{dispersion.formula}' are so far from "
            "zero that the standard deviation there leaves double precision; subtract their "
            "means, for example by scale(x)."
        )
    relative = np.exp(-2.0 * (problem.log_sds(x)[problem.strata.codes] + shift))
    design = problem.design.with_weights(problem.design.rows.combined_weights(relative))
    optimizer_result = replace(
        inner,
        theta=crossprod.parametrization.scaled(inner.theta, math.exp(shift)),
        evaluations=problem.evaluations,
        converged=optimum.converged and inner.converged,
        message=f"{inner.message}; "
        f"another step of the dispersion would gain {optimum.newton_decrement:.1e}",
        trace=optimum.trace,
    )
    estimate = DispersionEstimate(
        spec=dispersion,
        gamma=coordinates.gamma(math.log(solution.sigma), x),
        cov=_gamma_covariance(problem, joint, len(x)),
        random=None,
        deviance=None,
        gradient=joint.gradient,
        hessian=joint.hessian,
        vcov_jacobian=joint.vcov_jacobian,
    )
    return optimizer_result, design, estimate


@dataclass(frozen=True)
class _JointDerivatives:
    """Derivatives by the m coordinates of theta and x together, sigma profiled out."""

    gradient: Vector  # (m,) of the deviance
    hessian: Matrix  # (m, m)
    vcov_jacobian: Matrix  # (m, p, p) of cov(beta)
    log_sigma_gradient: Vector  # (m,)


def _joint_derivatives(
    problem: ProfiledDispersionDeviance, x: Vector, crossprod: CrossProducts, solution: Solution
) -> _JointDerivatives:
    """
    Differentiate the deviance, cov(beta) and log sigma by theta and x, by central differences.

    The score by x needs the leverage of every row: it is evaluated for differences along x alone,
    and the block of theta and x follows by symmetry.
    """
    coordinates, theta = rank_reduced_coordinates(crossprod, solution.theta)
    term_scaling, m, p = crossprod.term_scaling, len(theta), crossprod.p
    point = np.concatenate([theta, x])

    def evaluate(at: Vector, *, score_x: bool) -> Vector:
        """Score (m,), covariance (p p,) and log sigma, one after the other."""
        reweighted = problem.crossproducts(at[m:])
        lambdas = unscaled_factors(term_scaling, coordinates.lambdas(at[:m]))
        perturbed = solve_pls_at_factors(reweighted, lambdas, reml=problem.reml)
        scores = scaled_scores(term_scaling, score_factors(perturbed))
        by_theta = coordinates.pullback(at[:m], scores)
        by_x = problem.gradient(at[m:], perturbed) if score_x else np.zeros(len(x))
        cov = perturbed.sigma**2 * perturbed.vcov_unscaled
        return np.concatenate([by_theta, by_x, cov.ravel(), [math.log(perturbed.sigma)]])

    size, steps = len(point), relative_steps(point, _STEP)
    by_theta = jacobian(
        lambda t: evaluate(np.append(t, x), score_x=False), theta, steps[:m]
    ).reshape(m, size + p * p + 1)  # without random terms theta is empty
    by_x = jacobian(lambda s: evaluate(np.append(theta, s), score_x=True), x, steps[m:])
    derivatives = np.concatenate([by_theta, by_x])
    H, vcov_jacobian = derivatives[:, :size], derivatives[:, size:-1].reshape(size, p, p)
    H[:m, m:] = H[m:, :m].T
    gradient = evaluate(point, score_x=True)[:size]
    return _JointDerivatives(gradient, 0.5 * (H + H.T), vcov_jacobian, derivatives[:, -1])


def _gamma_covariance(
    problem: ProfiledDispersionDeviance, joint: _JointDerivatives, k: int
) -> Matrix:
    """Covariance (r, r) of gamma: of the mean log standard deviation and the k coordinates."""
    inverse = 2.0 * np.linalg.pinv(joint.hessian, rcond=1e-10, hermitian=True)
    J = np.zeros((k + 1, len(joint.hessian)))
    J[0] = joint.log_sigma_gradient
    J[1:, len(joint.hessian) - k :] = np.eye(k)
    cov = J @ inverse @ J.T
    n, p = problem.strata.plain.n, problem.strata.plain.p
    cov[0, 0] += 0.5 / (n - p if problem.reml else n)  # of log sigma given theta and x
    to_gamma = problem.coordinates.to_gamma
    return np.asarray(to_gamma @ cov @ to_gamma.T)


def _check_vanishing_sd(problem: ProfiledDispersionDeviance, optimum: TrustRegionResult) -> None:
    """Raise for a stratum whose standard deviation converges to zero."""
    log_sds = problem.log_sds(optimum.x)
    smallest = int(np.argmin(log_sds))
    if log_sds[smallest] > math.log(_SMALL_SD):
        return
    positive = optimum.converged and log_sds[smallest] > math.log(_ZERO_SD)
    if positive and _residual_df(problem, optimum.x, smallest) > _MIN_RESIDUAL_DF:
        return
    row = int(np.argmax(problem.strata.codes == smallest))
    count = int(problem.strata.counts[smallest])
    raise_degenerate_stratum(problem.design, row, count, "is fitted ever more closely")


def _residual_df(problem: ProfiledDispersionDeviance, x: Vector, stratum: int) -> float:
    """Residual degrees of freedom of a stratum: its rows minus the sum of their leverages."""
    assert problem.inner is not None
    crossprod, log_sds = problem.crossproducts(x), problem.log_sds(x)
    solution = solve_pls(crossprod, problem.inner.theta, reml=problem.reml)
    w = problem.design.rows.combined_weights(np.exp(-2.0 * log_sds[problem.strata.codes]))
    unscaled = unscaled_prediction_variance(
        solution, prediction_rows(problem.design.rows), fixed=problem.reml
    )
    return float((1.0 - w * unscaled)[problem.strata.codes == stratum].sum())
