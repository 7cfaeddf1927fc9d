"""The deviance with a parameter held to where it has risen by so much, on one side.

In goes a :class:`mixedfx.inference.profile.profile.parametrization.ProfiledParameter` and a
target for zeta, the root of the rise; out
comes where zeta passes it. That is a Newton iteration whose every step is a search over all
that is free, started where the ones before lead. A point is given only after searches from
elsewhere have found no deeper valley.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import ZERO
from mixedfx.errors import SearchError
from mixedfx.inference.profile.parametrization import ProfiledParameter
from mixedfx.linalg.trust_region import minimize

Vector = npt.NDArray[np.float64]

# A held search that ends this much below the optimum shows that it was none.
BELOW = 1e-6
# Near enough for the last step of Newton to be exact to rounding.
_NEAR = 1e-5
# No more than this: a side that has not got there by then is flat.
_MOST_STEPS = 60
# While a side is still below its target: longest step, in distances gone so far.
_STRIDE = 3.0
# After so many steps the farther end of the bracket may be in a valley of its own.
_STUCK = 8
# How far from the estimate other valleys are looked for, in units of its Hessian.
_AWAY = 4.0
# Nearer than this, in the same units, two searches are in the same one.
_SAME = 0.5
# Points are led on from two whose distances have no higher ratio than this.
_APART = 0.9
_TOLERANCE = 1e-10
_MOST_EVALUATIONS = 300
# Where columns are nearly dependent rounding hides gains smaller than this.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class _Point:
    """
    A held optimum: ``distance`` from the estimate in ``u``, its ``x``, zeta and ``dzeta/du``.

    It is ``confirmed`` if no better one was found from other starts.
    """

    distance: float
    x: Vector
    deviance: float
    zeta: float
    rate: float
    confirmed: bool = False


class ProfileBranch:
    """
    One side of a profile: remembers its points, nearest first, and finds others.

    Parameters
    ----------
    held : Held
        The deviance with the parameter held.
    sign : float
        -1.0 for the side below the estimate, 1.0 for that above.
    """

    def __init__(self, held: ProfiledParameter, sign: float) -> None:
        self.held, self.sign = held, sign
        self.bound = held.ends[0] if sign < 0.0 else held.ends[1]
        reach = sign * (self.bound - held.hat)
        self.reach = reach if reach > ZERO else 0.0
        rate, deviance = held.surroundings.rate, held.optimum.deviance
        self.points = [_Point(0.0, held.start, deviance, 0.0, rate, confirmed=True)]

    def find(self, target: float) -> tuple[float, float]:
        """Find where zeta, without its sign, is ``target``."""
        for count in range(_MOST_STEPS):
            low, high = self._bracket(target)
            if high is None and low.distance == self.reach:
                if low.confirmed:
                    return self.bound, low.zeta
                self._confirm(low)
                continue
            if high is not None and count >= _STUCK and not high.confirmed:
                self._confirm(high)
                continue
            point = self._search(self._next(low, high, target, count))
            if abs(point.zeta - target) < _NEAR and point.rate > 0.0:
                point = self._confirm(point)
                if abs(point.zeta - target) < _NEAR:
                    last = point.distance + (target - point.zeta) / point.rate
                    return self.held.hat + self.sign * min(last, self.reach), target
        if high is None:
            return self.sign * math.inf, low.zeta
        raise SearchError(
            f"the profile of {self.held.name} has a step at {self._value(low.distance):.6g}: the "
            "searches with it held do not find the same optimum from both sides."
        )

    def _u(self, distance: float) -> float:
        return self.bound if distance == self.reach else self.held.hat + self.sign * distance

    def _value(self, distance: float) -> float:
        return self.held.value(self._u(distance))

    def _keep(self, point: _Point) -> _Point:
        others = [p for p in self.points if p.distance != point.distance]
        self.points = sorted([*others, point], key=lambda p: p.distance)
        return point

    def _bracket(self, target: float) -> tuple[_Point, _Point | None]:
        """The last point before zeta first passes the target, and the first after it."""
        for low, high in itertools.pairwise(self.points):
            if high.zeta > target:
                return low, high
        return self.points[-1], None

    def _next(self, low: _Point, high: _Point | None, target: float, count: int) -> float:
        """Step as Newton does from the nearer end, within bounds."""
        if high is None:
            step = (target - low.zeta) / low.rate if low.rate > 0.0 else math.inf
            farthest = _STRIDE * low.distance + target / self.points[0].rate
            return min(low.distance + step, farthest, self.reach)
        near = low if target - low.zeta < high.zeta - target else high
        middle = 0.5 * (low.distance + high.distance)
        if near.rate <= 0.0 or count % 4 == 3:
            return middle
        newton = near.distance + (target - near.zeta) / near.rate
        return newton if low.distance < newton < high.distance else middle

    def _search(self, distance: float) -> _Point:
        """Minimise over all that is free, from where the neighbours lead."""
        for start in self._near(distance):
            found = _descend(self.held, self._u(distance), start)
            if found is not None:
                return self._keep(self._point(distance, found))
        raise SearchError(
            f"the search with {self.held.name} held at {self._value(distance):.6g} did not end; no "
            "profile of it can be given."
        )

    def _confirm(self, point: _Point) -> _Point:
        """
        Look for a better optimum at a point, and keep the best.

        From the neighbours, which may lie in another valley, and from some way off the estimate
        along each axis of its Hessian.
        """
        held, best = self.held, point
        axes = _AWAY * held.surroundings.root.T
        away = [held.start + step for axis in axes for step in (axis, -axis)]
        for start in [*self._near(point.distance), *away]:
            found = _descend(held, self._u(point.distance), start, other=best)
            if found is not None and found.deviance < best.deviance:
                best = self._point(point.distance, found)
        return self._keep(replace(best, confirmed=True))

    def _point(self, distance: float, found: _Bottom) -> _Point:
        """Turn a held optimum into zeta."""
        held = self.held
        rise = found.deviance - held.optimum.deviance
        if rise < -BELOW:
            raise SearchError(
                f"with {held.name} held at {self._value(distance):.6g} the deviance is {-rise:.3g} "
                "below that of the estimates, which are therefore not the maximum of the "
                "likelihood: fit again with other start= values."
            )
        zeta = math.sqrt(max(rise, 0.0))
        rate = self.sign * found.slope / (2.0 * zeta) if rise > 0.0 else held.surroundings.rate
        return _Point(distance, found.x, found.deviance, zeta, rate)

    def _near(self, distance: float) -> Iterator[Vector]:
        """Where the neighbours lead, the most promising start first."""
        below = [p for p in self.points if p.distance < distance]
        above = [p for p in self.points if p.distance > distance]
        last = below[-1]
        if above:
            yield _between(last, above[0], distance)
        elif len(below) > 1:
            # Not from two points close together, whose difference is rounding.
            apart = [p for p in below if p.distance < _APART * last.distance]
            yield _between(apart[-1], last, distance)
        else:
            yield last.x + self.sign * distance * self.held.surroundings.tangent
        yield last.x
        yield from (p.x for p in above[:1])
        yield self.held.start


def _between(a: _Point, b: _Point, distance: float) -> Vector:
    """Go along the line through two points' ``x``."""
    return a.x + (distance - a.distance) / (b.distance - a.distance) * (b.x - a.x)


@dataclass(frozen=True)
class _Bottom:
    """The end of a search with the parameter held: ``slope`` is that of the deviance by ``u``."""

    x: Vector
    deviance: float
    slope: float


class _SameValley(Exception):
    """A search has come to where another one ended."""


def _descend(
    held: ProfiledParameter, u: float, start: Vector, other: _Point | None = None
) -> _Bottom | None:
    """Minimise over all that is free; None if that does not end, or near the ``other`` point."""
    around = held.surroundings
    slopes_by_u: dict[bytes, float] = {}
    known = None if other is None else held.folded(other.x)

    def function(z: Vector) -> tuple[float, Vector]:
        x = held.start + around.root @ z
        if known is not None and np.linalg.norm(around.inverse @ (held.folded(x) - known)) < _SAME:
            raise _SameValley
        try:
            deviance, slope, gradient = held.at(u, x)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError):
            return math.inf, np.zeros_like(z)
        slopes_by_u[z.tobytes()] = slope
        return deviance, around.root.T @ gradient

    lifted = np.where(np.abs(start) < 0.1 * held.least, np.copysign(held.least, start), start)
    try:
        end = minimize(
            function,
            around.inverse @ (lifted - held.start),
            initial_hessian=lambda: np.eye(len(start)),
            tolerance=_TOLERANCE,
            max_evaluations=_MOST_EVALUATIONS,
            radius=1.0 if other is None else _AWAY,
        )
    except (_SameValley, ArithmeticError):
        return None
    # The gradient is in coordinates whose Hessian was the identity: half its square is to gain.
    arrived = end.converged or 0.5 * float(end.gradient @ end.gradient) < _ROUNDING
    if not (arrived and math.isfinite(end.value)):
        return None
    return _Bottom(held.start + around.root @ end.x, end.value, slopes_by_u[end.x.tobytes()])
