"""Descent from one starting value to a local minimum of the profiled deviance.

A trust-region minimisation in scaled factors (:mod:`mixedfx.likelihood.scaled`). A covariance that
comes out nearly singular is reduced in rank where that does not raise the deviance, and the
boundary is then probed for a direction of descent (:mod:`mixedfx.estimation.boundary`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import rank_reduced
from mixedfx.covariance.unstructured import is_regular
from mixedfx.errors import ResponseError
from mixedfx.estimation.boundary import full_rank_factors, probe_boundary, square_factor
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.starting_values import expected_hessian, floor_eigenvalues
from mixedfx.likelihood.dense import DENSE_EFFECTS
from mixedfx.likelihood.dense_point import DensePoint
from mixedfx.likelihood.field import FieldPoint
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import ScaledLikelihood, check_positive_pwrss
from mixedfx.likelihood.score import average_information
from mixedfx.linalg.trust_region import ExactHessian, TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Setting a vanishing variance to zero may raise the deviance by no more than rounding does.
_RANK_REDUCTION_TOLERANCE = 1e-9
# Directions with a scaled standard deviation below this are candidates for a rank reduction.
_NEARLY_ZERO = 10 * ZERO
_MAX_RANK_REDUCTIONS = 5
# Beside a singular covariance a step gains less than this, and no more is lost by directions of a
# scaled standard deviation below one of these.
_SMALL_GAIN, _SMALL_SDS = 0.03, (0.1, 0.03, 0.01)
# A step that gains less than this is one of the last.
_NO_GAIN = 1e-6
# With an exact Hessian a search ends where a step gains less than this and standard deviations are
# above the second: the step that follows leaves about the square of that gain.
_EARLY, _INTERIOR = 1e-7, 0.1
# With fewer random effects an evaluation costs less than an average information matrix.
_MIN_EFFECTS_FOR_INFORMATION = 1000
# A minimisation is restarted if the expected Hessian at its end, in place of the quasi-Newton
# one, predicts a larger gain than this.
_RESTART_GAIN = 1e-8


class ScaledDeviance:
    """Deviance and gradient as functions of coordinates of the scaled factors."""

    def __init__(
        self,
        likelihood: GaussianLikelihood,
        coordinates: Coordinates,
        start: Vector,
        *,
        is_refined: bool = False,
    ) -> None:
        self.likelihood, self.coordinates = likelihood, coordinates
        self.is_refined = is_refined  # whether a Newton step follows the descent
        self.function = ScaledLikelihood(likelihood, coordinates)
        self.crossprod = crossprod = likelihood.crossprod
        self.start = start
        # The expected Hessian takes each factor alone; what crossed or nested intercepts have in
        # common needs the average information. For vector-valued terms that is singular at a
        # singular Lambda, where overfitted models spend most iterations, and costs more than it
        # saves.
        self.use_average_information = (
            (len(crossprod.ZtZ.diagonal) > 1 or crossprod.has_precision)
            and max(crossprod.parametrization.widths) == 1
            and crossprod.symbolic.size > _MIN_EFFECTS_FOR_INFORMATION
        )
        self.last: tuple[Vector, float, Vector] | None = None  # x, deviance, gradient
        self._solution: Solution | FieldPoint | None = None  # at the last point
        self.dense_point: DensePoint | None = None  # the same of a small model

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Deviance and gradient at ``x``; infinite where the matrices are not positive definite."""
        if self.last is not None and x is self.last[0]:
            return self.last[1], self.last[2]
        try:
            deviance, gradient = self._evaluate(x)
        except ResponseError:
            raise
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, np.zeros_like(x)
        self.last = x, deviance, gradient
        return deviance, gradient

    def _evaluate(self, x: Vector) -> tuple[float, Vector]:
        function = self.function
        if function.field is not None:
            point = self._solution = function.field.at_params(x)
            check_positive_pwrss(self.crossprod, point.criterion.pwrss)
            return point.criterion.deviance, point.score
        if function.is_small:
            at = function.dense_point(x)
            check_positive_pwrss(self.crossprod, at.pwrss)
            self.dense_point = at
            return at.deviance, at.gradient(self.coordinates, x)
        solution = self._solution = function.at(x)
        check_positive_pwrss(self.crossprod, solution.pwrss)
        return solution.deviance, function.score_at(x, solution)

    def scaled(self, x: Vector) -> list[Matrix]:
        """Scaled factors at ``x``, which the last point has."""
        if self.dense_point is not None and self.last is not None and x is self.last[0]:
            return list(self.dense_point.factors)
        return self.coordinates.lambdas(x)

    def initial_hessian(self, x: Vector) -> Matrix:
        """Expected Hessian at ``x``; its mean with the average information where that is used."""
        if self.function.is_small:
            return self._exact_hessian(x)
        expected = self.expected_hessian(x)
        average = self.hessian()
        return expected if average is None else 0.5 * (expected + average)

    def expected_hessian(self, x: Vector) -> Matrix:
        """Expected Hessian at ``x``, each grouping factor taken alone."""
        field = self.function.field
        if field is not None:
            return floor_eigenvalues(field.at_params(x).expected_hessian)
        return expected_hessian(self.crossprod, self.coordinates, x)

    def hessian(self) -> Matrix | None:
        """Exact Hessian of a small model, else the average information, where it is used."""
        if self.last is None:
            return None
        x, _, gradient = self.last
        if self.function.is_small:
            return self._exact_hessian(x)
        solution = self._solution
        if isinstance(solution, FieldPoint):
            return floor_eigenvalues(solution.average_information)
        if not self.use_average_information or solution is None:
            return None
        H = average_information(solution, self.function.jacobians(x))
        return with_curvature_of_squares(H, x, gradient)

    def _exact_hessian(self, x: Vector) -> Matrix:
        """Second derivatives at the last point evaluated; of a large model, by differences."""
        if self.dense_point is None:
            return self.function.hessian(x)
        return self.dense_point.hessian(self.coordinates, x)

    @property
    def has_exact_hessian(self) -> bool:
        """Whether :meth:`hessian` is exact: of small models it costs hardly more than a score."""
        return self.function.is_small


def with_curvature_of_squares(information: Matrix, x: Vector, gradient: Vector) -> Matrix:
    """
    Average information with what it lacks near zero, positive definite.

    The deviance of a scalar factor is a function of ``x**2``: near zero its second derivative is
    ``(dd/dx) / x``, which no information matrix contains.
    """
    by_square = np.divide(gradient, x, out=np.zeros_like(x), where=x != 0.0)
    return floor_eigenvalues(information + np.diag(np.maximum(by_square, 0.0)))


class NewtonDeviance(ScaledDeviance):
    """With the exact Hessian: of large models, by differences, at the start alone."""

    def initial_hessian(self, x: Vector) -> Matrix:
        """Second derivatives at ``x``."""
        return self._exact_hessian(x)

    def hessian(self) -> Matrix | None:
        """Second derivatives at the last point evaluated, of small models."""
        if self.last is None or not self.has_exact_hessian:
            return None
        return self._exact_hessian(self.last[0])

    @property
    def has_exact_hessian(self) -> bool:
        """Whether dense matrices have it."""
        return self.crossprod.symbolic.size <= DENSE_EFFECTS


@dataclass(frozen=True)
class Descent:
    """Where a descent ended, and the minimisations that led there."""

    objective: ScaledDeviance
    runs: tuple[TrustRegionResult, ...]
    boundary_slope: float
    # The scaled factors of a last step that was taken in other coordinates.
    factors: tuple[Matrix, ...] | None = None
    point: DensePoint | None = None  # the likelihood there, where one dense factor has all of it

    @property
    def value(self) -> float:
        """The deviance."""
        return self.runs[-1].value

    @property
    def scaled(self) -> list[Matrix]:
        """The scaled factors."""
        if self.factors is not None:
            return list(self.factors)
        return self.objective.scaled(self.runs[-1].x)


def descend(objective: ScaledDeviance, control: Control) -> Descent:
    """Minimise from one start; reduce the rank and probe the boundary at the end."""
    end = _descend(objective, control, _SingularValley(objective))
    left = end.runs[0]
    if end.value <= left.value + _RANK_REDUCTION_TOLERANCE:
        return end
    # A rank that was reduced beside a valley was needed: on from there in all coordinates.
    again = ScaledDeviance(objective.likelihood, objective.coordinates, left.x)
    full = _descend(again, remaining(control, end.runs), None)
    return Descent(full.objective, (*end.runs, *full.runs), full.boundary_slope)


def _descend(
    objective: ScaledDeviance, control: Control, valley: _SingularValley | None
) -> Descent:
    """Minimise; a search that comes to a valley goes on with the rank fixed."""
    likelihood, boundary_slope = objective.likelihood, np.inf
    parametrization, early = likelihood.parametrization, None
    try:
        runs = [_minimize(objective, objective.start, control, valley)]
    except _ValleyReached as reached:
        runs, early = [reached.run], reached.factors
    for _ in range(_MAX_RANK_REDUCTIONS):
        boundary_slope = np.inf
        factors = early or _reduced_rank_factors(objective, runs[-1])
        if tuple(F.shape[1] for F in factors) == parametrization.widths:
            break
        boundary_slope = -np.inf  # not an optimum until the boundary has been probed
        if early is None and not _may_continue(control, runs):
            break
        # With the lower triangle of a singular Lambda the gradient can be zero away from an
        # optimum; with the rank fixed it cannot (see rank_reduced).
        objective = ScaledDeviance(likelihood, *rank_reduced(parametrization, factors))
        runs.append(_minimize(objective, objective.start, remaining(control, runs)))
        probe = probe_boundary(likelihood, objective.scaled(runs[-1].x))
        boundary_slope = probe.slope
        early = None
        if probe.descent is None or not _may_continue(control, runs):
            break
        objective = ScaledDeviance(likelihood, *rank_reduced(parametrization, probe.descent))
        runs.append(_minimize(objective, objective.start, remaining(control, runs)))
        if runs[-1].converged and runs[-1].value > runs[-2].value - _RANK_REDUCTION_TOLERANCE:
            boundary_slope = np.inf  # interior optimum whose deviance is that of the boundary
            break
    return Descent(objective, tuple(runs), boundary_slope)


class _ValleyReached(Exception):
    """A minimisation is beside a singular covariance."""

    def __init__(self, run: TrustRegionResult, factors: list[Matrix]) -> None:
        super().__init__()
        self.run, self.factors = run, factors  # as far as it went; those of reduced rank


class _SingularValley:
    """
    Whether a minimisation in full coordinates is beside a singular covariance.

    There the lower triangle has curved valleys along which it would creep; with the rank fixed it
    does not. Directions are dropped whose loss is about what a step gains; where one was needed,
    the boundary's slope brings it back.
    """

    def __init__(self, objective: ScaledDeviance) -> None:
        self.objective = objective
        self.trace: list[float] = []
        self.lowest = np.inf

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """The deviance and its gradient, until it is."""
        value, gradient = self.objective(x)
        self.trace.append(value)
        gain, self.lowest = self.lowest - value, min(value, self.lowest)
        if (factors := self._reduced(x, gain)) is not None:
            m = len(x)
            run = TrustRegionResult(
                *(x, value, gradient, np.zeros((m, m)), np.inf),
                *(len(self.trace), False, tuple(self.trace)),
            )
            raise _ValleyReached(run, factors)
        return value, gradient

    def _reduced(self, x: Vector, gain: float) -> list[Matrix] | None:
        """Factors of reduced rank to go on in; None to go on in all coordinates."""
        objective = self.objective
        parametrization = objective.likelihood.parametrization
        if max(parametrization.widths) == 1 or not _NO_GAIN < gain < _SMALL_GAIN:
            return None
        if objective.likelihood.dependences:
            return None  # a singular covariance may be as good as others, and is not sought
        scaled, tried = objective.scaled(x), set[tuple[int, ...]]()
        for small in _SMALL_SDS:
            factors = full_rank_factors(parametrization, scaled, small)
            ranks = tuple(F.shape[1] for F in factors)
            if ranks == parametrization.widths:
                return None
            if ranks not in tried and self._loss(factors) < _SMALL_GAIN:
                return factors
            tried.add(ranks)
        return None

    def _loss(self, factors: Sequence[Matrix]) -> float:
        """By how much the deviance at factors of reduced rank is above that of the last point."""
        objective = self.objective
        assert objective.last is not None
        square = [square_factor(F) for F in factors]
        return objective.likelihood.at_factors(square).deviance - objective.last[1]


def _minimize(
    objective: ScaledDeviance,
    x: Vector,
    control: Control,
    function: _SingularValley | None = None,
) -> TrustRegionResult:
    """Minimise, and once more where the expected Hessian at the end predicts a further gain."""
    early = control
    if objective.is_refined and objective.has_exact_hessian:
        early = Control(max(control.tolerance, _EARLY), control.max_evaluations)
    end = _minimize_once(objective, x, early, function)
    if not end.converged or not len(x):
        return end
    if objective.function.is_small:  # the exact Hessian looks at the lowest end
        if end.newton_decrement < control.tolerance or is_interior(objective.scaled(end.x)):
            return end
        further = _minimize_once(objective, end.x, remaining(control, [end]), function)
        return replace(further, trace=end.trace + further.trace)
    H = objective.expected_hessian(end.x)
    gain = float(0.5 * end.gradient @ np.linalg.solve(H, end.gradient))
    if gain < _RESTART_GAIN:
        return end
    restarted = _minimize_once(objective, end.x, remaining(control, [end]))
    return replace(restarted, trace=end.trace + restarted.trace)


def is_interior(scaled: Sequence[Matrix]) -> bool:
    """Whether no direction has a small standard deviation: a step more changes no rank."""
    return all(is_regular(F, _INTERIOR) for F in scaled)


def _minimize_once(
    objective: ScaledDeviance,
    x: Vector,
    control: Control,
    function: _SingularValley | None = None,
) -> TrustRegionResult:
    return minimize(
        function or objective,
        x,
        initial_hessian=lambda: objective.initial_hessian(x),
        hessian=ExactHessian(objective.hessian)
        if objective.has_exact_hessian
        else objective.hessian,
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )


def _reduced_rank_factors(objective: ScaledDeviance, end: TrustRegionResult) -> list[Matrix]:
    """Scaled factors of full column rank, nearly null directions dropped at no cost in deviance."""
    crossprod, scaled = objective.crossprod, objective.scaled(end.x)
    truncated = full_rank_factors(crossprod.parametrization, scaled, _NEARLY_ZERO)
    if all(a is b for a, b in zip(truncated, scaled, strict=True)):
        return scaled  # regular
    nonzero = full_rank_factors(crossprod.parametrization, scaled, 0.0)
    if all(a.shape == b.shape for a, b in zip(nonzero, truncated, strict=True)):
        return nonzero
    deviance = objective.likelihood.at_factors([square_factor(F) for F in truncated]).deviance
    return nonzero if deviance > end.value + _RANK_REDUCTION_TOLERANCE else truncated


def count_evaluations(runs: Sequence[TrustRegionResult]) -> int:
    """Evaluations of the deviance in all runs."""
    return sum(len(run.trace) for run in runs)


def _may_continue(control: Control, runs: Sequence[TrustRegionResult]) -> bool:
    return runs[-1].converged and count_evaluations(runs) < control.max_evaluations


def remaining(control: Control, runs: Sequence[TrustRegionResult]) -> Control:
    """Limits, less the evaluations that have been used."""
    used = count_evaluations(runs)
    return Control(control.tolerance, max(control.max_evaluations - used, 1)) if used else control
