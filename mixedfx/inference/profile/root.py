"""Roots of the profile: the value of a parameter at which zeta reaches a target.

With ``D(u)`` the profile deviance (:mod:`mixedfx.inference.profile.profiled_parameter`),
``|zeta(u)| = sqrt(D(u) - D_hat)`` on one side of the estimate. ``|zeta| = target`` is solved by
Newton's method within a bracket, with ``d|zeta|/du = |D'(u)| / (2 |zeta|)``; every evaluation
minimises the deviance over the nuisance parameters, from values that neighbouring points
predict. A root is returned only after minimisations from other starting values have found no
lower local minimum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO
from mixedfx.errors import SearchError
from mixedfx.estimation.standardized import minimize_standardized
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter

Vector = npt.NDArray[np.float64]

# Where a constrained deviance is lower than the fit's by more, the fit is not at the minimum.
DEVIANCE_TOLERANCE = 1e-6
# Residual of zeta from which one Newton step is exact to rounding.
_ZETA_TOLERANCE = 1e-5
# A branch that has not reached its target after so many points is flat.
_MAX_POINTS = 60
# Longest extrapolation, as a multiple of the distance from the estimate.
_MAX_EXTRAPOLATION = 3.0
# After so many points the upper end of the bracket may be at a local minimum; it is confirmed.
_CONFIRM_UPPER_AFTER = 8
# Distance from the estimate of the other starting values, in units of the Hessian.
_RESTART_DISTANCE = 4.0
# Two minimisations nearer than this, in the same units, have the same minimum.
_SAME_MINIMUM = 0.5
# Highest ratio of the distances of two points from which the next is extrapolated: the difference
# of closer points is rounding.
_MAX_DISTANCE_RATIO = 0.9
# Where columns are nearly dependent, the deviance is exact to this only.
_DEVIANCE_ROUNDING = 1e-7


@dataclass(frozen=True)
class ProfilePoint:
    """A minimum over the nuisance parameters with the profiled parameter fixed."""

    distance: float  # |u - u_hat|
    x: Vector  # nuisance parameters
    deviance: float
    zeta: float  # without its sign
    dzeta_du: float  # derivative of zeta by the distance
    confirmed: bool = False  # whether no lower minimum was found from other starting values


class ProfileBranch:
    """
    One side of the profile of a parameter, with the points evaluated on it.

    ``sign`` is -1.0 for values below the estimate, 1.0 for those above.
    """

    def __init__(self, profiled: ProfiledParameter, sign: float) -> None:
        self.profiled, self.sign = profiled, sign
        self.bound = profiled.bounds[0] if sign < 0.0 else profiled.bounds[1]
        distance = sign * (self.bound - profiled.u_hat)
        self.max_distance = distance if distance > ZERO else 0.0
        slope, deviance = profiled.local_quadratic.dzeta_du, profiled.optimum.deviance
        # By increasing distance from the estimate.
        self.points = [ProfilePoint(0.0, profiled.x_hat, deviance, 0.0, slope, confirmed=True)]

    def solve(self, target: float) -> tuple[float, float]:
        """
        Solve ``|zeta(u)| = target``; returns ``u`` and the ``|zeta|`` reached.

        That is below the target where the parameter space ends first, or where the deviance is
        lower for every ``u``.
        """
        if target >= self.highest_zeta:
            finite = math.isfinite(self.max_distance)
            return self.bound, self.at_bound().zeta if finite else self.highest_zeta
        for count in range(_MAX_POINTS):
            low, high = self._bracket(target)
            if high is None and low.distance == self.max_distance:
                if low.confirmed:
                    return self.bound, low.zeta
                self._confirm(low)
                continue
            if high is not None and count >= _CONFIRM_UPPER_AFTER and not high.confirmed:
                self._confirm(high)
                continue
            point = self._evaluate(self._next_distance(low, high, target, count))
            if abs(point.zeta - target) < _ZETA_TOLERANCE and point.dzeta_du > 0.0:
                point = self._confirm(point)
                if abs(point.zeta - target) < _ZETA_TOLERANCE:
                    root = point.distance + (target - point.zeta) / point.dzeta_du
                    return self.profiled.u_hat + self.sign * min(root, self.max_distance), target
        if high is None:
            return self.sign * math.inf, low.zeta
        raise SearchError(
            f"the profile of {self.profiled.name} has a step at {self._value(low.distance):.6g}: "
            "the searches with it fixed do not find the same optimum from both sides."
        )

    @property
    def highest_zeta(self) -> float:
        """Upper bound of ``|zeta|`` at every ``u``."""
        rise = self.profiled.unidentified_deviance - self.profiled.optimum.deviance
        return math.sqrt(max(rise, 0.0))

    def at_bound(self) -> ProfilePoint:
        """The profile where the parameter space ends."""
        if not self.max_distance:
            return self.points[0]
        stored = [p for p in self.points if p.distance == self.max_distance]
        point = stored[0] if stored else self._evaluate(self.max_distance)
        return point if point.confirmed else self._confirm(point)

    def _u(self, distance: float) -> float:
        at_bound = distance == self.max_distance
        return self.bound if at_bound else self.profiled.u_hat + self.sign * distance

    def _value(self, distance: float) -> float:
        return self.profiled.value(self._u(distance))

    def _store(self, point: ProfilePoint) -> ProfilePoint:
        others = [p for p in self.points if p.distance != point.distance]
        self.points = sorted([*others, point], key=lambda p: p.distance)
        return point

    def _bracket(self, target: float) -> tuple[ProfilePoint, ProfilePoint | None]:
        """The last point before zeta first exceeds the target, and the first after it."""
        for low, high in itertools.pairwise(self.points):
            if high.zeta > target:
                return low, high
        return self.points[-1], None

    def _next_distance(
        self, low: ProfilePoint, high: ProfilePoint | None, target: float, count: int
    ) -> float:
        """Newton's step from the nearer end of the bracket, safeguarded by bisection."""
        if high is None:
            step = (target - low.zeta) / low.dzeta_du if low.dzeta_du > 0.0 else math.inf
            farthest = _MAX_EXTRAPOLATION * low.distance + target / self.points[0].dzeta_du
            return min(low.distance + step, farthest, self.max_distance)
        nearer = low if target - low.zeta < high.zeta - target else high
        middle = 0.5 * (low.distance + high.distance)
        if nearer.dzeta_du <= 0.0 or count % 4 == 3:
            return middle
        newton = nearer.distance + (target - nearer.zeta) / nearer.dzeta_du
        return newton if low.distance < newton < high.distance else middle

    def _evaluate(self, distance: float) -> ProfilePoint:
        """Minimise over the nuisance parameters, from the first starting value that converges."""
        for start in self._starting_values(distance):
            minimum = _minimize_nuisance(self.profiled, self._u(distance), start)
            if minimum is not None:
                return self._store(self._profile_point(distance, minimum))
        raise SearchError(
            f"the search with {self.profiled.name} fixed at {self._value(distance):.6g} did not "
            "converge; no profile of it can be given."
        )

    def _confirm(self, point: ProfilePoint) -> ProfilePoint:
        """
        Minimise again from other starting values at one point, and store the lowest minimum.

        They are the neighbours' values, which may be at another local minimum, and where there may
        be others points on both sides of the estimate along each axis of its Hessian, and points
        near the boundary: one standard deviation, or all, about zero.
        """
        profiled, best = self.profiled, point
        restarts: list[Vector] = []
        if profiled.may_have_other_minima:
            axes = _RESTART_DISTANCE * profiled.axes()
            restarts = [profiled.x_hat + step for axis in axes for step in (axis, -axis)]
            restarts += near_boundary(profiled)
        for start in [*self._starting_values(point.distance), *restarts]:
            minimum = _minimize_nuisance(profiled, self._u(point.distance), start, previous=best)
            if minimum is not None and minimum.deviance < best.deviance:
                best = self._profile_point(point.distance, minimum)
        return self._store(replace(best, confirmed=True))

    def _profile_point(self, distance: float, minimum: _ConstrainedMinimum) -> ProfilePoint:
        """Compute zeta and its derivative at a constrained minimum, or where u has no effect."""
        profiled = self.profiled
        deviance, score_u = minimum.deviance, minimum.score_u
        if profiled.unidentified_deviance < deviance:
            deviance, score_u = profiled.unidentified_deviance, 0.0
        rise = deviance - profiled.optimum.deviance
        if rise < -DEVIANCE_TOLERANCE:
            raise SearchError(
                f"with {profiled.name} fixed at {self._value(distance):.6g} the deviance is "
                f"{-rise:.3g} below that of the estimates, which are therefore not the maximum of "
                "the likelihood: fit again with other start= values."
            )
        zeta = math.sqrt(max(rise, 0.0))
        slope = profiled.local_quadratic.dzeta_du
        if rise > 0.0:
            slope = self.sign * score_u / (2.0 * zeta)
        return ProfilePoint(distance, minimum.x, deviance, zeta, slope)

    def _starting_values(self, distance: float) -> Iterator[Vector]:
        """Nuisance parameters predicted from neighbouring points, then those of the points."""
        below = [p for p in self.points if p.distance < distance]
        above = [p for p in self.points if p.distance > distance]
        last = below[-1]
        if above:
            yield _linear_prediction(last, above[0], distance)
        elif len(below) > 1:
            apart = [p for p in below if p.distance < _MAX_DISTANCE_RATIO * last.distance]
            yield _linear_prediction(apart[-1], last, distance)
        else:
            yield last.x + self.sign * distance * self.profiled.local_quadratic.dx_du
        yield last.x
        yield from (p.x for p in above[:1])
        yield self.profiled.x_hat


def near_boundary(profiled: ProfiledParameter) -> list[Vector]:
    """The estimates with one standard deviation, or all, at its smallest starting value."""
    sds = np.flatnonzero(profiled.min_start)
    sets = [sds[[i]] for i in range(len(sds))] + ([sds] if len(sds) > 1 else [])
    at = np.zeros((len(sets), len(profiled.x_hat)), dtype=bool)
    for row, chosen in zip(at, sets, strict=True):
        row[chosen] = True
    return list(np.where(at, profiled.min_start, profiled.x_hat))


def _linear_prediction(a: ProfilePoint, b: ProfilePoint, distance: float) -> Vector:
    """Nuisance parameters at a distance, on the line through two points."""
    return a.x + (distance - a.distance) / (b.distance - a.distance) * (b.x - a.x)


@dataclass(frozen=True)
class _ConstrainedMinimum:
    """Minimum of the deviance over the nuisance parameters, ``u`` fixed."""

    x: Vector
    deviance: float
    score_u: float  # derivative of the deviance by u


class _SameMinimumError(Exception):
    """A minimisation converges to the minimum of a previous one."""


def _minimize_nuisance(
    profiled: ProfiledParameter, u: float, start: Vector, previous: ProfilePoint | None = None
) -> _ConstrainedMinimum | None:
    """Minimise over the nuisance parameters; None if not converged, or at ``previous`` again."""
    quadratic = profiled.local_quadratic
    inv_root, root = quadratic.hessian_inv_root, quadratic.hessian_root
    scores_u: dict[bytes, float] = {}
    previous_x = None if previous is None else profiled.canonical_signs(previous.x)

    def deviance(z: Vector) -> tuple[float, Vector]:
        x = profiled.x_hat + inv_root @ z
        if previous_x is not None:
            apart = np.linalg.norm(root @ (profiled.canonical_signs(x) - previous_x))
            if apart < _SAME_MINIMUM:
                raise _SameMinimumError
        try:
            value, score_u, score_x = profiled.deviance_and_score(u, x)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            return math.inf, np.zeros_like(z)
        scores_u[z.tobytes()] = score_u
        return value, inv_root.T @ score_x

    min_start = profiled.min_start
    start = np.where(np.abs(start) < 0.1 * min_start, np.copysign(min_start, start), start)
    try:
        result = minimize_standardized(
            deviance,
            root @ (start - profiled.x_hat),
            radius=1.0 if previous is None else _RESTART_DISTANCE,
        )
    except (_SameMinimumError, ArithmeticError):
        return None
    # In z the Hessian at the optimum is the identity: g'g / 2 approximates the Newton decrement.
    decrement = 0.5 * float(result.gradient @ result.gradient)
    converged = result.converged or decrement < _DEVIANCE_ROUNDING
    if not (converged and math.isfinite(result.value)):
        return None
    x = profiled.x_hat + inv_root @ result.x
    return _ConstrainedMinimum(x, result.value, scores_u[result.x.tobytes()])
