"""Profiled engine: minimises the profiled deviance over theta by a trust-region method.

The deviance of theta, with beta and sigma profiled out (Bates et al. 2015, equations 34 and 41), is
minimised without bounds, as it depends on ``Lambda Lambda'`` alone, from moment estimates
(:mod:`mixedfx.estimation.descent`) and, where there can be several minima, from the points of a
grid (:mod:`mixedfx.estimation.starts`). From the lowest end Newton steps follow where its
derivatives say that it is no minimum yet (:mod:`mixedfx.estimation.refinement`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import identity_params
from mixedfx.design.build import Design
from mixedfx.errors import ResponseError
from mixedfx.estimation.balanced import balanced_estimates
from mixedfx.estimation.boundary import SLOPE_TOLERANCE
from mixedfx.estimation.correlation_starts import other_correlations
from mixedfx.estimation.curvature import HessianAtOptimum
from mixedfx.estimation.descent import (
    Descent,
    ScaledDeviance,
    count_evaluations,
    descend,
    is_interior,
    remaining,
)
from mixedfx.estimation.least_squares import least_squares_result
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.refinement import refine
from mixedfx.estimation.starting_values import moment_estimates
from mixedfx.estimation.starts import GridPoint, can_have_several_minima, grid_minima
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import check_positive_pwrss
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.trust_region import TrustRegionResult

Vector = npt.NDArray[np.float64]

# Moment estimates are the last start where a point of the grid is lower by more than this; of
# scalar terms no start where it is lower at all.
_FAR = 4.0
# With weights this many times their median, root mean squares are those of a few rows, and the
# moment estimates are of no use as starting values.
_DOMINANT_WEIGHT = 1e4
# A search that ends without an optimum where the residual sum of squares is rounding but for this
# factor was on its way to zero.
_FEW_DIGITS = 100.0


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
        ends: list[Descent] = []
        for objective in self._starts(design, likelihood, ends, start):
            if ends and count_evaluations(_all_runs(ends)) >= control.max_evaluations:
                break
            try:
                ends.append(descend(objective, remaining(control, _all_runs(ends))))
            except ResponseError:
                # Without residuals at the end of a further start, not of the first.
                if not ends:
                    raise
        best = min(ends, key=lambda end: end.value)
        if not self.several_starts:
            return _optimizer_result(self.name, best, _all_runs(ends), control, None)
        refined, derivatives = refine(best, remaining(control, _all_runs(ends)))
        if not refined.runs[-1].converged:
            # Rounding ends a search on its way to a residual variance of zero.
            pwrss = likelihood.at(likelihood.crossprod.theta(refined.scaled)).pwrss
            check_positive_pwrss(likelihood.crossprod, pwrss, factor=_FEW_DIGITS)
        runs = [*_all_runs(ends), *refined.runs[len(best.runs) :]]
        return _optimizer_result(self.name, refined, runs, control, derivatives)

    def _starts(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        ends: Sequence[Descent],
        start: Vector | None,
    ) -> Iterator[ScaledDeviance]:
        """Starting values; those of the grid only where no descent has ended beside them."""
        crossprod, parametrization = likelihood.crossprod, likelihood.parametrization

        def at(x: Vector) -> ScaledDeviance:
            return ScaledDeviance(
                likelihood, parametrization.coordinates, x, is_refined=self.several_starts
            )

        if start is not None:
            yield at(_scaled_params(crossprod, start))
            if not self.several_starts:
                return
        several = can_have_several_minima(likelihood)
        balanced = balanced_estimates(likelihood) if several else None
        dense, reml = likelihood.dense_if_small, likelihood.reml
        first = at(moment_estimates(crossprod, dense, reml=reml, known=balanced))
        if start is None and design.rows.weight_ratio > _DOMINANT_WEIGHT:
            first = at(_best_start(first))
        is_first = balanced is not None and start is None
        if is_first:
            yield first
        if balanced is not None and ends and _is_inside(ends[-1]):
            return  # at the only minimum
        grid = grid_minima(likelihood) if several else []
        yield from _starts_by_grid(grid, at, first, ends, is_first)
        end = min(ends, key=lambda end: end.value, default=None)
        if end is None or all(structure.linear for structure, _ in parametrization.terms):
            return  # of a structure that is linear there is one minimum by the correlations
        x = parametrization.to_params(end.scaled)
        for other in other_correlations(parametrization, x, _finite_deviance(first)):
            yield at(other)


def _starts_by_grid(
    grid: Sequence[GridPoint],
    at: Callable[[Vector], ScaledDeviance],
    first: ScaledDeviance,
    ends: Sequence[Descent],
    first_is_used: bool,
) -> Iterator[ScaledDeviance]:
    """Moment estimates unless they are used, and the points of the grid beside which none ended."""
    parametrization = first.likelihood.parametrization
    # Of scalar terms the grid is one of all parameters: moment estimates add no minimum.
    all_on_grid = bool(grid) and max(parametrization.widths) == 1
    if not first_is_used:
        value = _deviance_at_start(first) if grid or ends else -np.inf
        known = min((end.value for end in ends), default=np.inf)
        far = 0.0 if all_on_grid else _FAR
        first_is_used = value < known and (not grid or value <= grid[0].value + far)
        if first_is_used:
            yield first
    for point in grid:
        # An end above the point is of another minimum, however near.
        if not any(end.value <= point.value and point.is_beside(end.scaled) for end in ends):
            yield at(parametrization.to_params(point.factors))
    if grid and not first_is_used and not all_on_grid:
        yield first


def _is_inside(end: Descent) -> bool:
    """Whether a descent ended at a minimum without small variances."""
    return end.runs[-1].converged and is_interior(end.scaled)


def _all_runs(ends: Sequence[Descent]) -> list[TrustRegionResult]:
    return [run for end in ends for run in end.runs]


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


def _best_start(objective: ScaledDeviance) -> Vector:
    """Point of lowest deviance among the start and multiples 1e-3 to 1e7 of the identity."""
    identity = identity_params(objective.crossprod.parametrization)
    candidates = [objective.start, *(identity * 10.0**k for k in range(-3, 8))]
    return min(candidates, key=lambda candidate: objective(candidate)[0])


def _deviance_at_start(objective: ScaledDeviance) -> float:
    """Minus infinity without residuals: the descent raises the error."""
    try:
        return objective(objective.start)[0]
    except ResponseError:
        return -np.inf


def _finite_deviance(objective: ScaledDeviance) -> Callable[[Vector], float]:
    """The deviance alone; infinite without residuals."""

    def deviance(x: Vector) -> float:
        try:
            return objective(x)[0]
        except ResponseError:
            return np.inf

    return deviance


def _optimizer_result(
    name: str,
    best: Descent,
    runs: Sequence[TrustRegionResult],
    control: Control,
    derivatives: HessianAtOptimum | None,
) -> OptimizerResult:
    """Theta at the lowest end of all runs."""
    objective, end, boundary_slope = best.objective, best.runs[-1], best.boundary_slope
    factors = best.scaled
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
        derivatives=derivatives,
        solution=None if best.point is None else best.point.solution,
    )
