"""Profiled engine: minimises the profiled deviance over theta by a trust-region method.

The deviance of theta, with beta and sigma profiled out (Bates et al. 2015, equations 34 and 41), is
minimised in scaled factors (:mod:`mixedfx.likelihood.scaled`) without bounds: it depends on
``Lambda Lambda'`` alone. Moment estimates are the starting values, the expected or the average
information the Hessian, and the gradient is analytic. A covariance that comes out nearly singular
is reduced in rank where that does not raise the deviance, and the boundary is then probed for a
direction of descent (:mod:`mixedfx.estimation.boundary`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import identity_params, rank_reduced
from mixedfx.covariance.structure import ZERO
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.errors import ResponseError
from mixedfx.estimation.boundary import SLOPE_TOLERANCE, full_rank_factors, probe_boundary
from mixedfx.estimation.least_squares import least_squares_result
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.starting_values import (
    expected_hessian,
    floor_eigenvalues,
    moment_estimates,
)
from mixedfx.estimation.starts import grid_minima
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import (
    ScaledLikelihood,
    check_positive_pwrss,
)
from mixedfx.likelihood.score import average_information
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Setting a vanishing variance to zero may raise the deviance by no more than rounding does.
_RANK_REDUCTION_TOLERANCE = 1e-9
# Directions with a scaled standard deviation below this are candidates for a rank reduction.
_NEARLY_ZERO = 10 * ZERO
_MAX_RANK_REDUCTIONS = 5
# Moment estimates are no start where a point of the grid is lower by more than this.
_FAR = 4.0
# With weights this many times their median, root mean squares are those of a few rows, and the
# moment estimates are of no use as starting values.
_DOMINANT_WEIGHT = 1e4
# With fewer random effects an evaluation costs less than an average information matrix.
_MIN_EFFECTS_FOR_INFORMATION = 1000
# A minimisation is restarted if the expected Hessian at its end, in place of the quasi-Newton
# one, predicts a larger gain than this.
_RESTART_GAIN = 1e-8


@dataclass(frozen=True)
class Profiled:
    """Engine for every model: trust-region minimisation of the profiled deviance."""

    name: str = "profiled"
    several_starts: bool = True  # beside a start that is given

    def refusal(self, design: Design) -> str | None:
        """None: every design can be fitted."""
        return None

    def estimate(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        *,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Estimate theta."""
        ends: list[_End] = []
        for x in self._starts(design, likelihood, ends, start):
            if ends and _evaluations(_all_runs(ends)) >= control.max_evaluations:
                break
            try:
                ends.append(_descend(likelihood, x, _remaining(control, _all_runs(ends))))
            except ResponseError:
                # Without residuals at the end of a further start, not of the first.
                if not ends:
                    raise
        best = min(ends, key=lambda end: end.value)
        return _optimizer_result(self.name, best, _all_runs(ends), control)

    def _starts(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        ends: Sequence[_End],
        start: Vector | None,
    ) -> Iterator[Vector]:
        """Starting values; those of the grid only where no descent has ended beside them."""
        crossprod, to_params = likelihood.crossprod, likelihood.parametrization.to_params
        if start is not None:
            yield _scaled_params(crossprod, start)
            if not self.several_starts:
                return
        x, grid = moment_estimates(crossprod), grid_minima(likelihood)
        if start is None and _has_dominant_weight(design.rows):
            x = _best_start(_ScaledDeviance(likelihood, likelihood.parametrization.coordinates), x)
        value, known = -np.inf, min((end.value for end in ends), default=np.inf)
        if grid or ends:
            value = likelihood.at_factors(likelihood.parametrization.lambdas(x)).deviance
        if value < known and (not grid or value <= grid[0].value + _FAR):
            yield x
        for point in grid:
            if not any(point.is_beside(end.scaled) for end in ends):
                yield to_params(point.factors)


@dataclass(frozen=True)
class _End:
    """Where a descent ended, and the minimisations that led there."""

    objective: _ScaledDeviance
    runs: tuple[TrustRegionResult, ...]
    boundary_slope: float

    @property
    def value(self) -> float:
        """The deviance."""
        return self.runs[-1].value

    @property
    def scaled(self) -> list[Matrix]:
        """The scaled factors."""
        return self.objective.scaled(self.runs[-1].x)


def _all_runs(ends: Sequence[_End]) -> list[TrustRegionResult]:
    return [run for end in ends for run in end.runs]


def _descend(likelihood: GaussianLikelihood, x: Vector, control: Control) -> _End:
    """Minimise from one start; reduce the rank and probe the boundary at the end."""
    parametrization, boundary_slope = likelihood.parametrization, np.inf
    objective = _ScaledDeviance(likelihood, parametrization.coordinates)
    runs = [_minimize(objective, x, control)]
    for _ in range(_MAX_RANK_REDUCTIONS):
        boundary_slope = np.inf
        factors = _reduced_rank_factors(objective, runs[-1])
        if tuple(F.shape[1] for F in factors) == parametrization.widths:
            break
        boundary_slope = -np.inf  # not an optimum until the boundary has been probed
        if not _may_continue(control, runs):
            break
        # With the lower triangle of a singular Lambda the gradient can be zero away from an
        # optimum; with the rank fixed it cannot (see rank_reduced).
        objective = _ScaledDeviance(likelihood, *rank_reduced(parametrization, factors))
        runs.append(_minimize(objective, objective.start, _remaining(control, runs)))
        probe = probe_boundary(likelihood, objective.scaled(runs[-1].x))
        boundary_slope = probe.slope
        if probe.descent is None or not _may_continue(control, runs):
            break
        objective = _ScaledDeviance(likelihood, *rank_reduced(parametrization, probe.descent))
        runs.append(_minimize(objective, objective.start, _remaining(control, runs)))
        if runs[-1].converged and runs[-1].value > runs[-2].value - _RANK_REDUCTION_TOLERANCE:
            boundary_slope = np.inf  # interior optimum whose deviance is that of the boundary
            break
    return _End(objective, tuple(runs), boundary_slope)


def estimate_theta(
    design: Design,
    likelihood: GaussianLikelihood,
    *,
    control: Control | None = None,
    start: Vector | None = None,
) -> OptimizerResult:
    """Estimate theta by the profiled engine, without choice of engine or a second one's result."""
    if not design.spec.random_terms:
        return least_squares_result(likelihood)
    with single_threaded_blas(likelihood.crossprod.symbolic.dense_size):
        return Profiled(several_starts=start is None).estimate(
            design, likelihood, control=control or Control(), start=start
        )


def _scaled_params(crossprod: CrossProducts, theta: Vector) -> Vector:
    """Parameters of the scaled factors at theta."""
    return crossprod.parametrization.to_params(crossprod.factors_at(theta))


def _has_dominant_weight(rows: ModelRows) -> bool:
    """Whether a weight exceeds the median so far that it determines the root mean squares."""
    w = rows.weights
    return w is not None and float(w.max()) > _DOMINANT_WEIGHT * float(np.median(w))


def _best_start(objective: _ScaledDeviance, x: Vector) -> Vector:
    """Point of lowest deviance among ``x`` and multiples 1e-3 to 1e7 of the identity."""
    identity = identity_params(objective.crossprod.parametrization)
    candidates = [x, *(identity * 10.0**k for k in range(-3, 8))]
    return min(candidates, key=lambda candidate: objective(candidate)[0])


def _evaluations(runs: Sequence[TrustRegionResult]) -> int:
    return sum(len(run.trace) for run in runs)


def _may_continue(control: Control, runs: Sequence[TrustRegionResult]) -> bool:
    return runs[-1].converged and _evaluations(runs) < control.max_evaluations


def _remaining(control: Control, runs: Sequence[TrustRegionResult]) -> Control:
    """Limits, less the evaluations that have been used."""
    return replace(control, max_evaluations=max(control.max_evaluations - _evaluations(runs), 1))


def _optimizer_result(
    name: str, best: _End, runs: Sequence[TrustRegionResult], control: Control
) -> OptimizerResult:
    """Theta at the lowest end of all runs."""
    objective, end, boundary_slope = best.objective, best.runs[-1], best.boundary_slope
    factors = objective.scaled(end.x)
    trace = tuple(value for run in runs for value in run.trace)
    return OptimizerResult(
        theta=objective.crossprod.theta(factors),
        engine=name,
        evaluations=len(trace),
        converged=end.converged and boundary_slope > -SLOPE_TOLERANCE,
        message=f"after {len(trace)} evaluations a step would gain {end.newton_decrement:.1e}",
        deviance=end.value,
        trace=trace,
        boundary_slope=boundary_slope,
        tolerance=control.tolerance,
        limit_reached=not end.converged and len(trace) >= control.max_evaluations,
        factors=tuple(factors),
    )


class _ScaledDeviance:
    """Deviance and gradient as functions of coordinates of the scaled factors."""

    def __init__(
        self,
        likelihood: GaussianLikelihood,
        coordinates: Coordinates,
        start: Vector | None = None,
    ) -> None:
        self.likelihood, self.coordinates = likelihood, coordinates
        self.function = ScaledLikelihood(likelihood, coordinates)
        self.crossprod = crossprod = likelihood.crossprod
        self.start = np.zeros(coordinates.size) if start is None else start
        # The expected Hessian takes each factor alone; what crossed or nested intercepts have in
        # common needs the average information. For vector-valued terms that is singular at a
        # singular Lambda, where overfitted models spend most iterations, and costs more than it
        # saves.
        self.use_average_information = (
            len(crossprod.ZtZ.diagonal) > 1
            and max(crossprod.parametrization.widths) == 1
            and crossprod.symbolic.size > _MIN_EFFECTS_FOR_INFORMATION
        )
        self.last: tuple[Vector, Vector, Solution] | None = None  # x, gradient, solution

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        try:
            solution = check_positive_pwrss(self.function.at(x))
        except ResponseError:
            raise
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, np.zeros_like(x)
        gradient = self.function.score_at(x, solution)
        self.last = x, gradient, solution
        return solution.deviance, gradient

    def scaled(self, x: Vector) -> list[Matrix]:
        """Scaled factors at ``x``."""
        return self.coordinates.lambdas(x)

    def initial_hessian(self, x: Vector) -> Matrix:
        """Expected Hessian at ``x``; its mean with the average information where that is used."""
        expected = expected_hessian(self.crossprod, self.coordinates, x)
        average = self.hessian()
        return expected if average is None else 0.5 * (expected + average)

    def hessian(self) -> Matrix | None:
        """
        Average information at the last point evaluated; None where it is not used.

        The deviance of a scalar factor is a function of ``x**2``: near zero its second
        derivative is ``(dd/dx) / x``, which no information matrix contains.
        """
        if not self.use_average_information or self.last is None:
            return None
        x, gradient, solution = self.last
        H = average_information(solution, self.function.jacobians(x))
        by_square = np.divide(gradient, x, out=np.zeros_like(x), where=x != 0.0)
        return floor_eigenvalues(H + np.diag(np.maximum(by_square, 0.0)))


def _minimize(objective: _ScaledDeviance, x: Vector, control: Control) -> TrustRegionResult:
    """Minimise, and once more where the expected Hessian at the end predicts a further gain."""
    end = _minimize_once(objective, x, control)
    if not end.converged or not len(x):
        return end
    H = expected_hessian(objective.crossprod, objective.coordinates, end.x)
    gain = float(0.5 * end.gradient @ np.linalg.solve(H, end.gradient))
    if gain < _RESTART_GAIN:
        return end
    restarted = _minimize_once(objective, end.x, _remaining(control, [end]))
    return replace(restarted, trace=end.trace + restarted.trace)


def _minimize_once(objective: _ScaledDeviance, x: Vector, control: Control) -> TrustRegionResult:
    return minimize(
        objective,
        x,
        initial_hessian=lambda: objective.initial_hessian(x),
        hessian=objective.hessian,
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )


def _reduced_rank_factors(objective: _ScaledDeviance, end: TrustRegionResult) -> list[Matrix]:
    """Scaled factors of full column rank, nearly null directions dropped at no cost in deviance."""
    crossprod, scaled = objective.crossprod, objective.scaled(end.x)
    nonzero = full_rank_factors(crossprod.parametrization, scaled, 0.0)
    truncated = full_rank_factors(crossprod.parametrization, scaled, _NEARLY_ZERO)
    if all(a.shape == b.shape for a, b in zip(nonzero, truncated, strict=True)):
        return nonzero
    square = [np.pad(F, ((0, 0), (0, len(F) - F.shape[1]))) for F in truncated]
    deviance = objective.likelihood.at_factors(square).deviance
    return nonzero if deviance > end.value + _RANK_REDUCTION_TOLERANCE else truncated
