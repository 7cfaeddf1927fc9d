"""Residual standard deviations that differ between strata, estimated with everything else.

Given the coefficients ``gamma`` of the log standard deviation the rest is a model with known
weights, and has its own search. So the search is nested: outside gamma, from one stratum of
standard deviation to the next; inside theta, begun where it ended last. The outer gradient is
exact, because at the inner optimum theta's own share of it is zero:

    dd / dlog w_i = h_i - 1 + w_i e_i^2 / sigma^2

with ``w_i`` a row's weight, ``e_i`` its residual given the effects, and ``h_i`` its leverage:
of the effects alone under ML, of effects and coefficients under REML.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Coordinates
from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionDesign
from mixedfx.errors import DispersionError
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.estimation.dispersion.degenerate import (
    check_degenerate_strata,
    raise_degenerate_stratum,
)
from mixedfx.estimation.dispersion.estimate import DispersionEstimate
from mixedfx.estimation.dispersion.parametrization import DispersionCoordinates
from mixedfx.estimation.least_squares import least_squares_result
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.prediction_variance import (
    PredictionRows,
    conditional_residuals,
    design_rows,
    unscaled_prediction_variance,
)
from mixedfx.estimation.profiled import Profiled
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.likelihood.score import score_factors
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# A stratum's standard deviation below this share of the mean one is on its way to zero; below
# the other share it is if the fit uses up all its rows but this part of one.
_VANISHED, _SMALL, _NONE = 1e-4, 1e-2, 1e-2
# Steps beyond this many times smaller or larger than the mean are not tried.
_FARTHEST = math.log(1e7)


class _Problem:
    """The deviance at the best theta, as a function of the scale's coordinates."""

    def __init__(
        self, design: Design, scale: DispersionDesign, *, reml: bool, control: Control
    ) -> None:
        self.design, self.scale, self.reml, self.control = design, scale, reml, control
        codes = scale.stratum_codes()
        self.strata = sum_by_stratum(design, codes)
        self.coordinates = DispersionCoordinates.from_columns(scale.D, codes)
        self.rows = design_rows(design)
        self.evaluations = 0
        self.last: OptimizerResult | None = None

    def logs(self, x: Vector) -> Vector:
        """Log standard deviation of each stratum, about the mean."""
        return self.coordinates.stratum_columns @ x

    def crossprod(self, x: Vector) -> CrossProducts:
        """Cross-products at the weights of a point."""
        return self.strata.reweight(np.exp(-2.0 * self.logs(x)))

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Deviance at the best theta, and its gradient."""
        if np.abs(self.logs(x)).max() > _FARTHEST:
            return np.inf, np.zeros_like(x)
        crossprod = self.crossprod(x)
        start = None
        if self.last is not None and np.isinf(self.last.boundary_slope):
            start = self.last.theta
        self.last = estimate_theta(self.design, crossprod, self.reml, self.control, start)
        self.evaluations += self.last.evaluations
        solution = solve_pls(crossprod, self.last.theta, reml=self.reml)
        return solution.deviance, self.gradient(x, crossprod, solution)

    def gradient(self, x: Vector, crossprod: CrossProducts, solution: Solution) -> Vector:
        """Differentiate the deviance by the scale's coordinates, theta held."""
        by_row = score_log_weights(
            self.design, self.rows, crossprod, solution, self.reml, self.logs(x)[self.strata.codes]
        )
        return self.coordinates.pullback(by_row, self.strata.codes)


def estimate_theta(
    design: Design, crossprod: CrossProducts, reml: bool, control: Control, start: Vector | None
) -> OptimizerResult:
    """Find theta at some weights."""
    if not design.random_terms:
        return least_squares_result(crossprod, reml=reml)
    return Profiled().estimate(design, crossprod, reml=reml, control=control, start=start)


def score_log_weights(
    design: Design,
    rows: PredictionRows,
    crossprod: CrossProducts,
    solution: Solution,
    reml: bool,
    logs: Vector,
) -> Vector:
    """Differentiate the deviance by the logarithm of each row's weight."""
    w = design.combined_weights(np.exp(-2.0 * logs))
    rest = conditional_residuals(design, solution)
    leverage = w * unscaled_prediction_variance(crossprod, solution, rows, fixed=reml)
    return np.asarray(leverage - 1.0 + w * rest**2 / solution.sigma**2)


def estimate_dispersion(
    design: Design, *, reml: bool, control: Control
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """
    Find the standard deviations of the strata, and theta.

    References
    ----------
    .. [1] Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.2.
    .. [2] Smyth (2002), J. Comput. Graph. Stat. 11:836, on REML for dispersions.
    """
    assert design.dispersion is not None
    check_degenerate_strata(design, design.dispersion, reml=reml)
    problem = _Problem(design, design.dispersion, reml=reml, control=control)
    k = problem.coordinates.stratum_columns.shape[1]
    end = minimize(
        problem,
        np.zeros(k),
        initial_hessian=lambda: 4.0 * len(design.y) * np.eye(k),
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )
    _refuse_vanished(problem, end)
    return _finished(problem, end)


def _finished(
    problem: _Problem, end: TrustRegionResult
) -> tuple[OptimizerResult, Design, DispersionEstimate]:
    """Refer everything to sigma, and measure the curvature."""
    x, crossprod = end.x, problem.crossprod(end.x)
    inner = estimate_theta(
        problem.design,
        crossprod,
        problem.reml,
        problem.control,
        None if problem.last is None else problem.last.theta,
    )
    solution = solve_pls(crossprod, inner.theta, reml=problem.reml)
    gradient, hessian, slopes_, log_slopes = _surface(problem, x, crossprod, solution)
    at = problem.coordinates
    gamma = at.gamma(math.log(solution.sigma), x)
    cov = _covariance(problem, hessian, log_slopes, len(x))
    # The reported sigma is the standard deviation where the columns are zero.
    shift = -float(at.to_log_sigma[1:] @ x)
    if abs(shift) > _FARTHEST * 20:
        raise DispersionError(
            f"the columns of the dispersion formula '{problem.scale.formula}' are so far from "
            "zero that the standard deviation there leaves double precision; subtract their "
            "means, for example by scale(x)."
        )
    theta = inner.theta * math.exp(shift)
    relative = np.exp(-2.0 * (problem.logs(x)[problem.strata.codes] + shift))
    w = problem.design.combined_weights(relative)
    optimizer_result = replace(
        inner,
        theta=theta,
        evaluations=problem.evaluations,
        converged=end.converged and inner.converged,
        message=f"{inner.message}; "
        f"another step of the dispersion would gain {end.newton_decrement:.1e}",
        trace=end.trace,
    )
    found = DispersionEstimate(problem.scale, gamma, cov, None, None, gradient, hessian, slopes_)
    return optimizer_result, replace(problem.design, weights=w), found


def _surface(
    problem: _Problem, x: Vector, crossprod: CrossProducts, solution: Solution
) -> tuple[Vector, Matrix, Matrix, Vector]:
    """
    Differentiate the deviance twice by theta and the scale together, sigma profiled out.

    Also the covariance of the fixed effects and log sigma, once. The slope by the scale, which
    needs every row's leverage, is asked for along the scale alone: the rest is symmetry.
    """
    coordinates, at = rank_reduced_coordinates(crossprod, solution.theta)
    term_scaling, m = crossprod.term_scaling, len(at)
    whole = np.concatenate([at, x])

    def look(point: Vector, *, by_scale: bool) -> tuple[Vector, Matrix, float]:
        moved = problem.crossprod(point[m:])
        there = solve_pls_at_factors(
            moved, _natural(term_scaling, coordinates, point[:m]), reml=problem.reml
        )
        by_lambda = score_factors(there, reml=problem.reml)
        by_theta = coordinates.to_params(
            [f.T @ g for f, g in zip(term_scaling, by_lambda, strict=True)]
        )
        rest = problem.gradient(point[m:], moved, there) if by_scale else np.zeros(len(x))
        cov = there.sigma**2 * there.vcov_unscaled
        return np.concatenate([by_theta, rest]), cov, math.log(there.sigma)

    p = crossprod.p
    H, S, s = np.empty((len(whole),) * 2), np.empty((len(whole), p, p)), np.empty(len(whole))
    for j in range(len(whole)):
        step = np.zeros(len(whole))
        step[j] = h = 1e-3 * max(1.0, abs(whole[j]))
        near = [look(whole + k * step, by_scale=j >= m) for k in (1, -1)]
        far = [look(whole + k * step, by_scale=j >= m) for k in (2, -2)]
        H[j], S[j], s[j] = (
            (8.0 * (near[0][i] - near[1][i]) - (far[0][i] - far[1][i])) / (12.0 * h)
            for i in range(3)
        )
    H[:m, m:] = H[m:, :m].T
    return look(whole, by_scale=True)[0], 0.5 * (H + H.T), S, s


def _natural(term_scaling: tuple[Matrix, ...], coordinates: Coordinates, x: Vector) -> list[Matrix]:
    return [f @ m for f, m in zip(term_scaling, coordinates.lambdas(x), strict=True)]


def _covariance(problem: _Problem, hessian: Matrix, log_slopes: Vector, k: int) -> Matrix:
    """Covariance of the coefficients: of the mean log standard deviation and the coordinates."""
    inverse = 2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    J = np.zeros((k + 1, len(hessian)))
    J[0] = log_slopes
    J[1:, len(hessian) - k :] = np.eye(k)
    cov = J @ inverse @ J.T
    n, p = problem.strata.plain.n, problem.strata.plain.p
    cov[0, 0] += 0.5 / (n - p if problem.reml else n)  # of log sigma, all else given
    to_gamma = problem.coordinates.to_gamma
    return np.asarray(to_gamma @ cov @ to_gamma.T)


def _refuse_vanished(problem: _Problem, end: TrustRegionResult) -> None:
    """Refuse a stratum whose standard deviation is on its way to zero."""
    logs = problem.logs(end.x)
    s = int(np.argmin(logs))
    if logs[s] > math.log(_SMALL):
        return
    if end.converged and logs[s] > math.log(_VANISHED) and _free_rows(problem, end.x, s) > _NONE:
        return
    row, count = int(np.argmax(problem.strata.codes == s)), int(problem.strata.counts[s])
    raise_degenerate_stratum(
        problem.design, problem.scale, row, count, "is fitted ever more closely"
    )


def _free_rows(problem: _Problem, x: Vector, s: int) -> float:
    """Rows of a stratum that the fit does not use up: less their leverages."""
    assert problem.last is not None
    crossprod, logs = problem.crossprod(x), problem.logs(x)
    solution = solve_pls(crossprod, problem.last.theta, reml=problem.reml)
    w = problem.design.combined_weights(np.exp(-2.0 * logs[problem.strata.codes]))
    hats = w * unscaled_prediction_variance(crossprod, solution, problem.rows, fixed=problem.reml)
    return float((1.0 - hats)[problem.strata.codes == s].sum())
