"""Search for the maximum of the marginal likelihood of a generalised model.

A trust-region quasi-Newton minimisation of the deviance over the scaled covariance factors, the
coefficients and the coordinates of the family's parameters, by its exact gradient; of one grouping
factor the first steps are by the exact Hessian, and all where that costs little. As for a linear
model, a covariance that comes out nearly singular is reduced in rank, where the deviance does not
rise, and the boundary is probed for a direction of descent (:mod:`mixedfx.estimation.boundary`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import rank_reduced
from mixedfx.errors import ModesNotFound
from mixedfx.estimation.boundary import (
    SLOPE_TOLERANCE,
    full_rank_factors,
    rank_reduced_coordinates,
)
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.starting_values import expected_hessian_of_blocks, floor_eigenvalues
from mixedfx.likelihood.generalized.laplace_hessian import (
    LaplaceCurvature,
    has_laplace_hessian,
    laplace_curvature,
)
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalCoordinates,
    MarginalEvaluation,
    Point,
)
from mixedfx.likelihood.generalized.profiled import working_information
from mixedfx.linalg.trust_region import ExactHessian, TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Setting a vanishing variance to zero may raise the deviance by no more than this.
_RANK_REDUCTION_TOLERANCE = 1e-7
_NEARLY_ZERO = 10 * ZERO
_MAX_RANK_REDUCTIONS = 5
# Smallest singular value of the factor at which a singular covariance is differentiated.
_OFFSET = 1e-4
# Scaled standard deviation given to a direction in which the boundary is left.
_STEP_OFF = 0.1
# The search ends where a step would gain this, which is followed by a Newton step with the Hessian
# at its end: that is the Hessian at the optimum but for five digits. Steps by exact Hessians square
# the error, and mostly end far below the lower bound without another.
_BEFORE_NEWTON_STEP, _BEFORE_LAST_STEP = 1e-8, 1e-10
# Laplace's approximation is unbounded where the curvature of a density at its mode goes to zero:
# the search does not go nearer.
LEAST_CURVATURE = 0.05
# Up to so many parameters, or numbers of the rows by parameters, a Hessian costs as much as an
# evaluation or two; it grows with them, as an evaluation does not.
_FEW_PARAMETERS, _SMALL = 10, 20_000
# Step of the difference that gives the curvature by a coordinate of the family's parameters.
_PARAM_STEP = 1e-2


class MarginalObjective:
    """Deviance and gradient as a function of one vector; keeps the last of each evaluation."""

    def __init__(
        self,
        likelihood: GeneralizedLikelihood,
        coordinates: MarginalCoordinates,
        modes_start: Sequence[Matrix] | None = None,
        beta_start: Vector | None = None,
    ) -> None:
        self.likelihood, self.coordinates = likelihood, coordinates
        self.modes_start = modes_start
        # Of coefficients that the likelihood finds itself.
        self.beta_start = np.zeros(likelihood.model.p) if beta_start is None else beta_start
        self.last: tuple[Vector, MarginalEvaluation] | None = None
        self.curvature: LaplaceCurvature | None = None
        # Whether the exact Hessian will be asked for at each lower point, and the lowest value. The
        # gradient comes with it. At others it is not computed: modes are not followed from there.
        self.with_hessian, self.least = False, np.inf

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Deviance and gradient; infinite where the modes are not found, or nearly merge."""
        try:
            evaluation = self.evaluate(x)
            value = evaluation.deviance
        except ModesNotFound:
            return np.inf, np.zeros_like(x)
        if not np.isfinite(value) or evaluation.modes.least_curvature < LEAST_CURVATURE:
            return np.inf, np.zeros_like(x)
        family = self.likelihood.model.family
        if family.distance_to_end(evaluation.point.family_coordinates) < 0.0:
            return np.inf, np.zeros_like(x)
        if self.with_hessian and value < self.least:
            self.least = value
            self.exact_hessian(x)
        if (known := self._curvature_at(x)) is not None and np.isfinite(known.gradient).all():
            return value, known.gradient
        rows = self.likelihood.model
        return value, self.coordinates.gradient(x, rows, evaluation.gradient)

    def _curvature_at(self, x: Vector) -> LaplaceCurvature | None:
        """Derivatives at a point, if they are known."""
        return self.curvature if self.curvature is not None and _same(self.curvature.x, x) else None

    def evaluate(self, x: Vector) -> MarginalEvaluation:
        """Evaluation at ``x``, the modes from those of the last one."""
        if self.last is not None and _same(self.last[0], x):
            return self.last[1]
        point = self.coordinates.point(x)
        if not self.coordinates.p:
            point = replace(point, beta=self.beta_start)
        evaluation = self.likelihood.at(point, self._modes_near(x))
        self.last = x, evaluation
        self.modes_start, self.beta_start = evaluation.modes.u, evaluation.point.beta
        return evaluation

    def _modes_near(self, x: Vector) -> Sequence[Matrix] | None:
        """Modes to start from: by their derivatives, unless those are of a point further away."""
        curvature, last = self.curvature, self.last
        if curvature is None or last is None:
            return self.modes_start
        from_curvature, from_last = x - curvature.x, x - last[0]
        nearer = from_curvature @ from_curvature <= from_last @ from_last
        return curvature.modes_near(x) if nearer else self.modes_start

    def starts_as(self, other: MarginalObjective, end: Vector, x: Vector) -> None:
        """Take what is known at the end of another search for that of ``x``, if it is the same."""
        evaluation = other.evaluate(end)
        here, there = self.coordinates.point(x), evaluation.point
        parts = zip(
            (*here.factors, here.family_coordinates),
            (*there.factors, there.family_coordinates),
            strict=True,
        )
        if not all(np.array_equal(a, b) for a, b in parts):
            return
        self.last = x, evaluation
        same = self.coordinates.covariance.is_map_of(other.coordinates.covariance)
        if same and np.array_equal(x, end):
            self.curvature = other.curvature

    @property
    def has_exact_hessian(self) -> bool:
        """Whether the Hessian is that of Laplace's deviance, and has closed forms."""
        likelihood = self.likelihood
        return likelihood.nagq == 1 and has_laplace_hessian(likelihood.model, self.coordinates)

    def exact_hessian(self, x: Vector) -> Matrix | None:
        """That Hessian, or None."""
        if not self.has_exact_hessian:
            return None
        known = self._curvature_at(x)
        if known is None:
            known = laplace_curvature(self.evaluate(x).modes, self.coordinates, x)
            self.curvature = known
        return known.hessian if np.isfinite(known.hessian).all() else None

    def last_hessian(self) -> Matrix | None:
        """The same at the point of the last evaluation."""
        return None if self.last is None else self.exact_hessian(self.last[0])

    def initial_hessian(self, x: Vector) -> Matrix:
        """
        Hessian to start from: the exact one, its eigenvalues raised, or the working model's.

        Of the latter the expected one, and by the family's coordinates differences.
        """
        exact = self.exact_hessian(x)
        if exact is not None:
            return floor_eigenvalues(exact)
        coordinates, m = self.coordinates, self.coordinates.covariance.size
        evaluation = self.evaluate(x)
        H = np.zeros((coordinates.size, coordinates.size))
        H[:m, :m] = working_hessian(evaluation, coordinates.covariance, x[:m])
        if coordinates.p:
            H[coordinates.beta, coordinates.beta] = 2.0 * working_information(evaluation.modes)
        gradient = self(x)[1]
        for i in range(coordinates.beta.stop, coordinates.size):
            moved = x.copy()
            moved[i] += _PARAM_STEP
            column = (self(moved)[1] - gradient) / _PARAM_STEP
            if np.isfinite(column).all() and column[i] > 0.0:
                H[i, m:], H[m:, i] = column[m:], column[m:]
            else:
                H[i, i] = float(self.likelihood.model.n)
        return floor_eigenvalues(H)


def _same(x: Vector, other: Vector) -> bool:
    """Whether two points of one objective are one."""
    return x is other or bool((x == other).all())


def free_coordinates(
    likelihood: GeneralizedLikelihood, point: Point
) -> tuple[MarginalCoordinates, Vector]:
    """Coordinates of all free parameters at a point, ranks fixed, and their values there."""
    covariance, theta = rank_reduced_coordinates(likelihood.model.parametrization, point.factors)
    coordinates = MarginalCoordinates(covariance, likelihood.p, len(point.family_coordinates))
    return coordinates, coordinates.vector(theta, point)


def working_hessian(evaluation: MarginalEvaluation, coordinates: Coordinates, x: Vector) -> Matrix:
    """Expected Hessian of the working model by covariance coordinates, each term alone."""
    modes, rows = evaluation.modes, evaluation.modes.model
    diagonal = modes.numeric.assembled.diagonal
    blocks = [diagonal[s.group][s.columns, s.columns] for s in rows.term_positions]
    return expected_hessian_of_blocks(blocks, coordinates, x, None)


@dataclass(frozen=True)
class MarginalSearch:
    """Where a search ended."""

    objective: MarginalObjective
    runs: tuple[TrustRegionResult, ...]
    boundary_slope: float

    @property
    def end(self) -> TrustRegionResult:
        """The last minimisation."""
        return self.runs[-1]

    @property
    def evaluation(self) -> MarginalEvaluation:
        """Evaluation at the end."""
        return self.objective.evaluate(self.end.x)

    @property
    def evaluations(self) -> int:
        """Number of evaluations of the deviance."""
        return sum(len(run.trace) for run in self.runs)


def search(
    likelihood: GeneralizedLikelihood,
    theta: Vector,
    point: Point,
    control: Control,
    modes_start: Sequence[Matrix] | None = None,
) -> MarginalSearch:
    """Minimise from one start; reduce the rank and probe the boundary at the end."""
    rows = likelihood.model
    p, r = likelihood.p, len(point.family_coordinates)
    coordinates = MarginalCoordinates(rows.parametrization.coordinates, p, r)
    objective = MarginalObjective(likelihood, coordinates, modes_start, point.beta)
    runs = [_minimize(objective, coordinates.vector(theta, point), control)]
    slope = np.inf
    for _ in range(_MAX_RANK_REDUCTIONS):
        slope = np.inf
        reduced = _reduced_rank(objective, runs[-1])
        if reduced is None:
            break
        slope = -np.inf
        # A search need not have converged: by a standard deviation the deviance has a kink at zero
        # where its correlations do not depend on it.
        if _used(runs) >= control.max_evaluations:
            break
        objective, x = _with_roots(objective, reduced, runs[-1].x)
        runs.append(_minimize(objective, x, _remaining(control, runs)))
        slope, off = _probe_boundary(objective, runs[-1].x)
        if off is None or not _may_continue(control, runs):
            break
        objective, x = _with_roots(objective, off, runs[-1].x)
        runs.append(_minimize(objective, x, _remaining(control, runs)))
        if runs[-1].converged and runs[-1].value > runs[-2].value - _RANK_REDUCTION_TOLERANCE:
            slope = np.inf
            break
    return MarginalSearch(objective, tuple(runs), slope)


def _minimize(objective: MarginalObjective, x: Vector, control: Control) -> TrustRegionResult:
    hessian = _hessian_after_steps(objective)
    is_exact = objective.with_hessian = isinstance(hessian, ExactHessian)
    return minimize(
        objective,
        x,
        initial_hessian=lambda: objective.initial_hessian(x),
        hessian=hessian,
        tolerance=max(control.tolerance, _BEFORE_LAST_STEP if is_exact else _BEFORE_NEWTON_STEP),
        max_evaluations=control.max_evaluations,
    )


def _hessian_after_steps(objective: MarginalObjective) -> Callable[[], Matrix | None]:
    """The exact Hessian after each step where it costs less than the steps that it saves."""
    m, rows = objective.coordinates.size, objective.likelihood.model
    is_cheap = m <= _FEW_PARAMETERS or m * rows.n <= _SMALL
    # At the limit of a link the deviance is no quadratic function: its curvature leads astray.
    is_limited = bool(rows.family.other_links)
    if objective.has_exact_hessian and is_cheap and not is_limited:
        return ExactHessian(objective.last_hessian)
    # The start, without random effects, is far from the optimum: its Hessian serves one step.
    once = [objective.last_hessian]
    return lambda: once.pop()() if once else None


def _with_roots(
    objective: MarginalObjective, roots: Sequence[Matrix], x: Vector
) -> tuple[MarginalObjective, Vector]:
    """The objective over covariances with the ranks of the roots."""
    old = objective.coordinates
    covariance, theta = rank_reduced(objective.likelihood.model.parametrization, roots)
    new = MarginalCoordinates(covariance, old.p, old.r)
    rest = x[old.covariance.size :]
    moved = MarginalObjective(
        objective.likelihood, new, objective.modes_start, objective.beta_start
    )
    return moved, np.concatenate([theta, rest])


def _reduced_rank(objective: MarginalObjective, end: TrustRegionResult) -> list[Matrix] | None:
    """Factors without nearly null directions, where these cost nothing; None: all are needed."""
    parametrization = objective.likelihood.model.parametrization
    point = objective.evaluate(end.x).point
    factors = full_rank_factors(parametrization, point.factors, _NEARLY_ZERO)
    if tuple(F.shape[1] for F in factors) == parametrization.widths:
        return None
    square = tuple(np.pad(F, ((0, 0), (0, len(F) - F.shape[1]))) for F in factors)
    try:
        deviance = objective.likelihood.at(
            Point(square, point.beta, point.family_coordinates), objective.modes_start
        ).deviance
    except ModesNotFound:
        return None
    return factors if deviance <= end.value + _RANK_REDUCTION_TOLERANCE else None


def _probe_boundary(objective: MarginalObjective, x: Vector) -> tuple[float, list[Matrix] | None]:
    """Slope of the deviance off the boundary, and factors off it where the deviance falls."""
    rows = objective.likelihood.model
    point = objective.evaluate(x).point
    scores = score_covariance(objective.likelihood, point, objective.modes_start)
    slope, factors = np.inf, []
    terms = zip(point.factors, scores, rows.parametrization.terms, strict=True)
    for F, S, (structure, at) in terms:
        root, slopes, directions = structure.off_boundary(F, S, at)
        slope = min(slope, float(slopes.min(initial=np.inf)))
        falling = slopes < -SLOPE_TOLERANCE
        factors.append(np.column_stack([root, _STEP_OFF * directions[:, falling]]))
    return slope, factors if slope < -SLOPE_TOLERANCE else None


def score_covariance(
    likelihood: GeneralizedLikelihood, point: Point, modes_start: Sequence[Matrix] | None
) -> list[Matrix]:
    """
    Derivative S of the deviance by each term's covariance ``F F'``.

    The derivative by F is ``2 S F``: taken at a factor whose singular values are at least an
    offset, as in :func:`mixedfx.likelihood.score.score_covariance`.
    """
    roots = []
    for F in point.factors:
        values, vectors = np.linalg.eigh(F @ F.T)
        roots.append(vectors * np.maximum(np.sqrt(np.clip(values, 0.0, None)), _OFFSET))
    at = likelihood.at(Point(tuple(roots), point.beta, point.family_coordinates), modes_start)
    by_factor = likelihood.model.term_blocks(at.gradient.by_lambda)
    scores = []
    for by, root in zip(by_factor, roots, strict=True):
        S = np.linalg.solve(root.T, 0.5 * by.T).T
        scores.append(0.5 * (S + S.T))
    return scores


def _may_continue(control: Control, runs: Sequence[TrustRegionResult]) -> bool:
    return runs[-1].converged and _used(runs) < control.max_evaluations


def _remaining(control: Control, runs: Sequence[TrustRegionResult]) -> Control:
    return Control(control.tolerance, max(control.max_evaluations - _used(runs), 1))


def _used(runs: Sequence[TrustRegionResult]) -> int:
    """Evaluations of runs."""
    return sum(len(run.trace) for run in runs)
