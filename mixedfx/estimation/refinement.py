"""Newton steps from the end of a descent where its derivatives say that it is no minimum.

A quasi-Newton minimisation can stop early: where columns are nearly collinear, or variances
differ by orders of magnitude, its Hessian understates what a further step gains. From such an
end, and from a saddle, the trust region is restarted with the exact Hessian, which follows
negative curvature. The derivatives at the end are those of the certificate
(:mod:`mixedfx.estimation.convergence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import all_finite
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.errors import ResponseError
from mixedfx.estimation.boundary import SLOPE_TOLERANCE, rank_reduced_coordinates
from mixedfx.estimation.curvature import (
    HessianAtOptimum,
    dense_derivatives,
    derivatives_at_optimum,
)
from mixedfx.estimation.descent import (
    Descent,
    NewtonDeviance,
    ScaledDeviance,
    descend,
    remaining,
)
from mixedfx.estimation.optimizer_result import Control
from mixedfx.linalg.symmetric import solve_positive
from mixedfx.linalg.trust_region import TrustRegionResult

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Taken are gains of a tenth of what the certificate tolerates.
_LEAST_GAIN = 1e-7
# Of small models, whose descents are not restarted by the expected Hessian.
_LEAST_GAIN_SMALL = 1e-8
# A step that gains less moves a variance by less than its eighth digit.
_LEAST_POLISH = 1e-14
# A curvature below this is that of a saddle; as much above zero the deviance is flat.
_NEGATIVE_CURVATURE = -1e-6
_MAX_RESTARTS = 4


def refine(end: Descent, control: Control) -> tuple[Descent, HessianAtOptimum]:
    """Lower the deviance by Newton steps until its derivatives are those of a minimum."""
    end, at = _polished(end, control)
    for _ in range(_MAX_RESTARTS):
        if control.max_evaluations <= 1 or not is_improvable(at, end):
            break
        likelihood = end.objective.likelihood
        objective = NewtonDeviance(likelihood, at.scaled.coordinates, at.x)
        try:
            further = descend(objective, control)
        except ResponseError:
            break
        if not further.value <= end.value:
            break
        gained, control = end.value - further.value, remaining(control, further.runs)
        runs = (*end.runs, *further.runs)
        end, at = _polished(replace(further, runs=runs), control)
        if gained == 0.0:
            break
    return end, at


def _polished(end: Descent, control: Control) -> tuple[Descent, HessianAtOptimum]:
    """
    One Newton step more of a small model, whose Hessian is at hand, and the derivatives there.

    A search ends where a step gains 1e-10: of a variance that leaves six digits. Degrees of
    freedom take the Hessian at the new end: of a small variance it changes fast.
    """
    run, likelihood = end.runs[-1], end.objective.likelihood
    gain = run.newton_decrement  # infinite where the Hessian is not positive definite
    if (
        run.converged
        and end.objective.function.is_small
        and control.max_evaluations > 1
        and _LEAST_POLISH < gain < _LEAST_GAIN
        and (step := solve_positive(run.hessian, run.gradient)) is not None
    ):
        x = run.x - step
        polished, at, value = _evaluated(end, end.objective.scaled(x))
        left, _ = at.newton
        least = min(gain, max(control.tolerance, _LEAST_POLISH))
        if left < least and value < end.value + _LEAST_GAIN_SMALL:
            last = TrustRegionResult(at.x, value, at.gradient, at.hessian, left, 1, True, (value,))
            return replace(polished, runs=(*end.runs, last)), at
    if run.converged and gain >= control.tolerance and control.max_evaluations > 1:
        # The search ended before its last steps.
        further = descend(NewtonDeviance(likelihood, end.objective.coordinates, run.x), control)
        end = replace(further, runs=(*end.runs, *further.runs))
    if not end.objective.function.is_small:
        return end, derivatives_at_optimum(likelihood, end.scaled)
    end, at, _ = _evaluated(end, end.scaled)
    return end, at


def _evaluated(end: Descent, factors: Sequence[Matrix]) -> tuple[Descent, HessianAtOptimum, float]:
    """
    The end of a small model moved to these factors, with derivatives and deviance there.

    Those of the search are taken where it ended in coordinates of full rank, as at most ends.

    A fit that is read from a file takes its derivatives from its factors: it has the same, to the
    last digit, as the factors of coordinates of full rank are those of which these are.
    """
    objective, run = end.objective, end.runs[-1]
    likelihood, known = objective.likelihood, objective.dense_point
    coordinates, x = rank_reduced_coordinates(likelihood.parametrization, factors)
    if known is not None and _ends_at(objective, run, coordinates, x):
        at = HessianAtOptimum(objective.function, run.x, run.gradient, run.hessian)
        return replace(end, factors=tuple(known.factors), point=known), at, known.deviance
    at, point = dense_derivatives(likelihood, coordinates, x, known)
    if coordinates.is_linear and coordinates.size == likelihood.parametrization.size:
        return replace(end, factors=tuple(point.factors), point=point), at, point.deviance
    return replace(end, factors=tuple(factors)), at, point.deviance


def _ends_at(
    objective: ScaledDeviance, run: TrustRegionResult, coordinates: Coordinates, x: Vector
) -> bool:
    """Whether a search ended at the point, and evaluated no other one after it."""
    if coordinates is not objective.coordinates or objective.last is None:
        return False
    return objective.last[0] is run.x and bool((x == run.x).all())


def is_improvable(at: HessianAtOptimum, end: Descent) -> bool:
    """Whether a further step gains, the curvature is negative, or the boundary can be left."""
    relative = at.relative
    if not all_finite(relative.gradient, relative.hessian):
        return False
    decrement, curvature = relative.newton
    leaves_boundary = -np.inf < end.boundary_slope < -SLOPE_TOLERANCE
    least = _LEAST_GAIN_SMALL if at.scaled.is_small else _LEAST_GAIN
    return decrement > least or curvature < _NEGATIVE_CURVATURE or leaves_boundary
