"""A fit to likelihood profiles: how fast the deviance rises when one parameter is held.

Hold a parameter at ``v``, let all others make the best of it, and call the deviance ``D(v)``.
The signed root ``zeta(v) = sign(v - v_hat) sqrt(D(v) - D_hat)`` is close to standard normal,
whatever the shape of the likelihood, so an interval's ends are where it passes -1.96 and 1.96.

For each kind of parameter there are coordinates of the relative covariances in which it is one
number and the others are free. The slope of ``D`` is then the partial derivative at the held
optimum, exactly, and each point sought is a Newton iteration over searches that start where
the one before ended. All of it is done on the cross-products: the rows are not read again.

The deviance is that of maximum likelihood, for REML fits too, as in lme4: REML likelihoods
with different fixed effects held do not compare.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from mixedfx.covariance import ZERO, Chart
from mixedfx.criterion import Solution, deviance_at, hold, slopes, solve_at
from mixedfx.crossprod import CrossProducts
from mixedfx.engines.profiled import Profiled
from mixedfx.engines.trust import minimise
from mixedfx.errors import ArgumentError, SearchError, check_share
from mixedfx.fit import Control, Fit
from mixedfx.inference.parameters import Parameter, choose
from mixedfx.threads import calm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_Z = float(norm.ppf(0.975))
ZETAS = (*(0.5 * k for k in range(-6, 7)), -_Z, _Z)

# A held search that ends this much below the optimum shows that it was none.
_BELOW = 1e-6
# Near enough for the last step of Newton to be exact to rounding.
_NEAR = 1e-5
# No more than this: a side that has not got there by then is flat.
_MOST_STEPS = 60
# Zero is a stationary point for any data, so a search starts at least this far off it.
_LIFT = 0.01
# A search with nothing left of the response has lost its way.
_NOTHING = 1e-14
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
# Eigenvalues of a Hessian in unit-free coordinates below this are taken as this.
_FLAT = 1e-2


def profile(
    fit: Fit, parm: Sequence[str] | str | None = None, *, zetas: Sequence[float] | None = None
) -> pd.DataFrame:
    """
    Profile the likelihood.

    Parameters
    ----------
    fit : Fit
        Any fit.
    parm : sequence of str or str, optional
        Names of parameters, as :func:`mixedfx.inference.parameters.parameters` lists them; all
        by default.
    zetas : sequence of float, optional
        Where on the scale of zeta to find points; by default from -3 to 3 by 0.5, and the ends
        of a 95 % interval.

    Returns
    -------
    pandas.DataFrame
        ``parameter value zeta``, a row per point: at each zeta the value that has it. The row
        of zero is the estimate of maximum likelihood. A parameter that comes to its end first,
        a standard deviation of zero or a correlation of one, has its last row there, with the
        zeta that it has there. No rows for a correlation with an effect that does not vary.

    Raises
    ------
    ArgumentError
        If a name is unknown, or a zeta not a number.
    SearchError
        If a search fails, or finds that the fit was not at its optimum.

    References
    ----------
    .. [1] Bates and Watts (1988), Nonlinear Regression Analysis and its Applications, section
       6.1.2.
    .. [2] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).fit
    >>> profile(fit, "sigma", zetas=[-2, -1, 1, 2]).round(2)
      parameter  value  zeta
    0     sigma  38.05  -2.0
    1     sigma  43.14  -1.0
    2     sigma  49.51   0.0
    3     sigma  57.62   1.0
    4     sigma  68.14   2.0
    """
    targets = np.unique(_checked(ZETAS if zetas is None else zetas))
    rows: list[tuple[str, float, float]] = []
    chosen = choose(fit, parm)
    with calm(fit.cross.plan.tail_size):
        optimum = _optimum(fit)
        for parameter in chosen:
            held = _held(fit, optimum, parameter)
            if held is None:
                continue
            below = _points(held, targets[targets < 0.0][::-1])
            above = _points(held, targets[targets > 0.0])
            points = [*below[::-1], (held.value(held.hat), 0.0), *above]
            rows += [(parameter.name, value, zeta) for value, zeta in points]
    return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def profile_intervals(
    fit: Fit, alpha: float, parm: Sequence[str] | str | None = None
) -> pd.DataFrame:
    """
    Confidence intervals whose ends are the roots of the profile.

    Parameters
    ----------
    fit : Fit
        Any fit.
    alpha : float
        One less the confidence: 0.05 for 95 %.
    parm : sequence of str or str, optional
        Names of parameters; all by default.

    Returns
    -------
    pandas.DataFrame
        Columns 0 and 1, the lower and the upper end, by parameter. An interval that comes to
        the end of the parameter space ends exactly there: at 0.0 for a standard deviation, at
        -1.0 or 1.0 for a correlation. NaN for what was not estimated.

    Raises
    ------
    ArgumentError
        If a name is unknown, or ``alpha`` not between zero and one.
    SearchError
        If a search fails, or finds that the fit was not at its optimum.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).fit
    >>> profile_intervals(fit, 0.05).round(2)
                                 0        1
    parameter
    sd(Intercept | Batch)    12.20    84.06
    sigma                    38.23    67.66
    Intercept              1486.45  1568.55
    """
    check_share("alpha", alpha)
    zeta = float(norm.isf(0.5 * alpha))
    chosen = choose(fit, parm)
    with calm(fit.cross.plan.tail_size):
        optimum = _optimum(fit)
        limits = [_limits(_held(fit, optimum, parameter), zeta) for parameter in chosen]
    index = pd.Index([parameter.name for parameter in chosen], name="parameter", dtype=object)
    return pd.DataFrame(limits, index=index, columns=[0, 1], dtype=float)


def _checked(zetas: Sequence[float]) -> Vector:
    try:
        checked = np.atleast_1d(np.asarray(zetas, dtype=float))
    except (TypeError, ValueError):
        raise ArgumentError(f"zetas={zetas!r} must be numbers.") from None
    if checked.ndim != 1 or not np.isfinite(checked).all():
        raise ArgumentError(f"zetas={zetas!r} must be finite numbers.")
    return checked


def _points(held: _Held, targets: Vector) -> list[tuple[float, float]]:
    """Value and zeta at each target of one side, in order; the last may be at the end."""
    points: list[tuple[float, float]] = []
    if not len(targets):
        return points
    side = _Side(held, math.copysign(1.0, targets[0]))
    for target in targets:
        u, zeta = side.find(abs(float(target)))
        if math.isfinite(u) and zeta > 0.0:
            points.append((held.value(u), math.copysign(zeta, target)))
        if zeta < abs(target):
            break
    return points


def _limits(held: _Held | None, zeta: float) -> list[float]:
    """Values at minus and plus a zeta."""
    if held is None:
        return [np.nan, np.nan]
    return [held.value(_Side(held, sign).find(zeta)[0]) for sign in (-1.0, 1.0)]


def _optimum(fit: Fit) -> Solution:
    """Find the maximum of the likelihood, from a fit by either criterion."""
    cross, theta = fit.cross, fit.solution.theta
    if len(theta):
        search = Profiled().search(fit.design, cross, reml=False, control=Control(), start=theta)
        if not search.converged:
            raise SearchError(
                "a profile needs the maximum of the likelihood, and the search for it did not "
                f"converge: {search.message}."
            )
        theta = search.theta
    solution = solve_at(cross, cross.layout.lambdas(theta), reml=False)
    if not fit.reml and solution.deviance < fit.solution.deviance - _BELOW:
        raise SearchError(
            f"the fit's deviance {fit.solution.deviance:.10g} is not the smallest: a search from "
            f"its estimates ends at {solution.deviance:.10g}. Fit again with other start= values."
        )
    return solution


# ------------------------------------------------------------------ what is held


@dataclass(frozen=True)
class _Triangles:
    """
    Each term's Lambda as ``frame @ triangle``, the triangle lower.

    ``frames`` are unit-free; ``optimum`` are the triangles at the optimum, ``chart`` says which of
    their entries are free.
    """

    frames: tuple[Matrix, ...]
    optimum: tuple[Matrix, ...]
    chart: Chart

    @staticmethod
    def of(cross: CrossProducts, lambdas: Sequence[Matrix], frames: Sequence[Matrix]) -> _Triangles:
        triangles: list[Matrix] = []
        for lam, frame, structure in zip(lambdas, frames, cross.layout.structures, strict=True):
            framed = np.linalg.solve(frame, lam)
            if structure == "us":
                framed = np.asarray(np.linalg.qr(framed.T, mode="r")).T
                framed = framed * np.where(np.diag(framed) < 0.0, -1.0, 1.0)
            triangles.append(np.asarray(framed))
        return _Triangles(tuple(frames), tuple(triangles), cross.layout.chart)

    def without(self, term: int, entries: Sequence[tuple[int, int]]) -> _Triangles:
        """Take entries of a term's triangle out of the free ones."""
        rows, cols = self.chart.positions[term]
        free = [(r, c) not in entries for r, c in zip(rows.tolist(), cols.tolist(), strict=True)]
        positions = list(self.chart.positions)
        positions[term] = rows[free], cols[free]
        return replace(self, chart=Chart(self.chart.widths, tuple(positions)))

    @property
    def start(self) -> Vector:
        """The free entries at the optimum."""
        return self.chart.pack(self.optimum)

    @property
    def least(self) -> Vector:
        """How far off zero each free entry starts: the diagonal ones, which may hide a way."""
        parts = [np.where(rows == cols, _LIFT, 0.0) for rows, cols in self.chart.positions]
        return np.concatenate([np.zeros(0), *parts])


@dataclass(frozen=True)
class _Held(ABC):
    """
    One parameter held at ``u``, a rising function of its value; ``x`` is all that is free.

    ``u`` and ``x`` are without unit. ``start`` and ``hat`` are the optimum in them, ``ends``
    those of the parameter space, ``least`` how far off zero each of ``x`` starts.
    """

    name: str
    cross: CrossProducts
    optimum: Solution
    triangles: _Triangles
    start: Vector
    least: Vector
    hat: float
    ends: tuple[float, float]

    @abstractmethod
    def value(self, u: float) -> float:
        """The parameter in its own units."""

    @abstractmethod
    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        """Deviance, its derivative by ``u``, and its gradient by ``x``."""

    def solve(self, triangles: Sequence[Matrix]) -> Solution:
        """Solve at the Lambdas of triangles."""
        natural = [f @ m for f, m in zip(self.triangles.frames, triangles, strict=True)]
        solution = solve_at(self.cross, natural, reml=False)
        if not solution.r2 > _NOTHING * self.cross.corner[-1, -1]:
            raise ValueError("nothing is left of the response")
        return solution

    def slopes(self, solution: Solution, sigma: float | None = None) -> list[Matrix]:
        """Differentiate by the entries of the triangles."""
        by_lambda = slopes(solution, reml=False, sigma=sigma)
        return [f.T @ m for f, m in zip(self.triangles.frames, by_lambda, strict=True)]

    def folded(self, x: Vector) -> Vector:
        """Choose one of the points that differ in the signs of the triangles' columns only."""
        chart, lead = self.triangles.chart, len(x) - self.triangles.chart.size
        folded = [m * np.where(np.diag(m) < 0.0, -1.0, 1.0) for m in chart.lambdas(x[lead:])]
        roots = np.where(self.least[:lead] > 0.0, np.abs(x[:lead]), x[:lead])
        return np.append(roots, chart.pack(folded))

    @cached_property
    def surroundings(self) -> _Surroundings:
        """Shape of the deviance about the optimum."""
        return _surroundings(self)


@dataclass(frozen=True)
class _Coefficient(_Held):
    """A fixed effect: ``u`` counts standard errors from the estimate."""

    row: Vector

    @staticmethod
    def of(name: str, cross: CrossProducts, optimum: Solution, place: int) -> _Coefficient:
        triangles = _Triangles.of(cross, optimum.lambdas, cross.frames)
        row = np.zeros(cross.p)
        row[place] = 1.0
        start, least, ends = triangles.start, triangles.least, (-np.inf, np.inf)
        return _Coefficient(name, cross, optimum, triangles, start, least, 0.0, ends, row)

    @cached_property
    def unit(self) -> float:
        unscaled = float(self.row @ self.optimum.unscaled_cov @ self.row)
        return self.optimum.sigma * math.sqrt(unscaled)

    def value(self, u: float) -> float:
        return float(self.row @ self.optimum.beta) + self.unit * u

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        free = self.solve(self.triangles.chart.lambdas(x))
        value = self.value(u)
        held = hold(free, self.row, value)
        distance = value - float(self.row @ free.beta)
        unscaled = float(self.row @ free.unscaled_cov @ self.row)
        slope = 2.0 * self.cross.n * distance / (unscaled * held.r2) * self.unit
        return held.deviance, slope, self.triangles.chart.pack(self.slopes(held))


@dataclass(frozen=True)
class _Sigma(_Held):
    """The residual standard deviation: ``u`` is its logarithm, from the estimate."""

    @staticmethod
    def of(name: str, cross: CrossProducts, optimum: Solution) -> _Sigma:
        triangles = _Triangles.of(cross, optimum.lambdas, cross.frames)
        start, least, ends = triangles.start, triangles.least, (-np.inf, np.inf)
        return _Sigma(name, cross, optimum, triangles, start, least, 0.0, ends)

    def value(self, u: float) -> float:
        return self.optimum.sigma * math.exp(u)

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        solution, sigma = self.solve(self.triangles.chart.lambdas(x)), self.value(u)
        slope = 2.0 * (self.cross.n - solution.r2 / sigma**2)
        gradient = self.triangles.chart.pack(self.slopes(solution, sigma))
        return deviance_at(solution, sigma), slope, gradient


@dataclass(frozen=True)
class _Deviation(_Held):
    """
    The standard deviation of an effect: ``u`` counts residual ones, at the optimum.

    The effect's row of the triangle has one entry, ``u`` over sigma; the first of ``x`` is the
    logarithm of sigma, from the estimate.
    """

    term: int
    entry: int
    unit: float

    @staticmethod
    def of(
        name: str, cross: CrossProducts, optimum: Solution, term: int, effect: int
    ) -> _Deviation:
        frames, entry = list(cross.frames), effect
        if cross.layout.structures[term] == "us":
            frames[term], entry = _leading(frames[term], [effect]), 0
        triangles = _Triangles.of(cross, optimum.lambdas, frames)
        free = triangles.without(term, [(entry, entry)])
        return _Deviation(
            name,
            cross,
            optimum,
            free,
            start=np.append(0.0, free.start),
            least=np.append(0.0, free.least),
            hat=abs(float(triangles.optimum[term][entry, entry])),
            ends=(0.0, np.inf),
            term=term,
            entry=entry,
            unit=optimum.sigma * float(frames[term][effect, entry]),
        )

    def value(self, u: float) -> float:
        return self.unit * u

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        ratio = math.exp(x[0])
        triangles = self.triangles.chart.lambdas(x[1:])
        triangles[self.term][self.entry, self.entry] = u / ratio
        solution, sigma = self.solve(triangles), self.optimum.sigma * ratio
        by_entry = self.slopes(solution, sigma)
        slope = float(by_entry[self.term][self.entry, self.entry]) / ratio
        by_log = 2.0 * (self.cross.n - solution.r2 / sigma**2) - slope * u
        gradient = np.append(by_log, self.triangles.chart.pack(by_entry))
        return deviance_at(solution, sigma), slope, gradient


@dataclass(frozen=True)
class _Correlation(_Held):
    """
    The correlation of two effects: ``u`` is its arc sine, in which no slope is infinite.

    The effects' rows of the triangle are ``(s, 0)`` and ``t (sin u, cos u)``. ``s`` and ``t``
    must not differ in sign, so the first of ``x`` are their roots: where the best ``t`` is
    zero the deviance may have a slope by ``t``, but none by its root.
    """

    term: int

    @staticmethod
    def of(
        name: str, cross: CrossProducts, optimum: Solution, term: int, effects: list[int]
    ) -> _Correlation:
        frames = list(cross.frames)
        frames[term] = _leading(frames[term], effects)
        triangles = _Triangles.of(cross, optimum.lambdas, frames)
        free = triangles.without(term, [(0, 0), (1, 0), (1, 1)])
        (s, _), second = triangles.optimum[term][:2, :2]
        roots = np.sqrt([s, np.hypot(*second)])
        return _Correlation(
            name,
            cross,
            optimum,
            free,
            start=np.append(roots, free.start),
            least=np.append(np.full(2, math.sqrt(_LIFT)), free.least),
            hat=math.atan2(second[0], second[1]),
            ends=(-0.5 * math.pi, 0.5 * math.pi),
            term=term,
        )

    def value(self, u: float) -> float:
        return math.sin(u)

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        s, t = x[0] ** 2, x[1] ** 2
        along = np.array([math.sin(u), math.cos(u)])
        triangles = self.triangles.chart.lambdas(x[2:])
        triangles[self.term][0, 0] = s
        triangles[self.term][1, :2] = t * along
        solution = self.solve(triangles)
        by_entry = self.slopes(solution)
        first, second = by_entry[self.term][0, 0], by_entry[self.term][1, :2]
        slope = t * float(second[0] * along[1] - second[1] * along[0])
        by_roots = [2.0 * x[0] * first, 2.0 * x[1] * float(second @ along)]
        return solution.deviance, slope, np.append(by_roots, self.triangles.chart.pack(by_entry))


def _held(fit: Fit, optimum: Solution, parameter: Parameter) -> _Held | None:
    """Choose the coordinates for a parameter; None if it has no estimate."""
    name, cross, term = parameter.name, fit.cross, parameter.term
    if parameter.kind == "sigma":
        return _Sigma.of(name, cross, optimum)
    assert parameter.first is not None
    if parameter.kind == "fixed":
        kept = fit.design.kept.tolist()
        if parameter.first not in kept:
            return None
        return _Coefficient.of(name, cross, optimum, kept.index(parameter.first))
    assert term is not None
    if parameter.second is None:
        return _Deviation.of(name, cross, optimum, term, parameter.first)
    effects = [parameter.first, parameter.second]
    sds = cross.scales[term][effects] * np.linalg.norm(optimum.lambdas[term][effects], axis=1)
    return None if sds.min() < ZERO else _Correlation.of(name, cross, optimum, term, effects)


def _leading(frame: Matrix, effects: list[int]) -> Matrix:
    """
    Turn a frame so that some effects have the triangle's first rows to themselves.

    Their rows of the frame become multiples of the first unit vectors, as long as before; the
    other columns are turned without a change of length.
    """
    m = len(effects)
    Q, R = np.linalg.qr(frame[effects].T, mode="complete")
    turned = frame @ Q
    lengths = np.diag(np.linalg.norm(frame[effects], axis=1))
    turned[:, :m] = turned[:, :m] @ np.linalg.solve(R[:m].T, lengths)
    turned[effects] = np.eye(m, len(frame)) * np.diag(lengths)[:, None]  # exact zeros
    return np.asarray(turned)


# ------------------------------------------------------------------ the valley below


@dataclass(frozen=True)
class _Surroundings:
    """
    The deviance about the optimum, to second order.

    ``root`` turns coordinates in which its Hessian by ``x`` is the identity into ``x``;
    ``tangent`` is ``dx/du`` along the held optima, ``rate`` is ``dzeta/du``.
    """

    root: Matrix
    inverse: Matrix
    tangent: Vector
    rate: float


def _surroundings(held: _Held) -> _Surroundings:
    """Take central differences of the analytic gradient at the optimum."""
    point = np.append(held.hat, held.start)
    H = np.empty((len(point), len(point)))
    for j in range(len(point)):
        step = np.zeros(len(point))
        step[j] = 1e-4 * max(1.0, abs(point[j]))
        ahead, behind = (held.at(w[0], w[1:]) for w in (point + step, point - step))
        H[j] = (np.append(ahead[1], ahead[2]) - np.append(behind[1], behind[2])) / (2.0 * step[j])
    H = 0.5 * (H + H.T)
    values, vectors = np.linalg.eigh(H[1:, 1:])
    values = np.maximum(values, max(_FLAT, 1e-8 * values.max(initial=0.0)))
    root = vectors / np.sqrt(values)
    tangent = -root @ (root.T @ H[1:, 0])
    rise = max(float(H[0, 0] + H[0, 1:] @ tangent), _FLAT)
    return _Surroundings(root, vectors.T * np.sqrt(values)[:, None], tangent, math.sqrt(0.5 * rise))


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


class _Side:
    """One side of a profile: remembers its points, nearest first, and finds others."""

    def __init__(self, held: _Held, sign: float) -> None:
        self.held, self.sign = held, sign
        self.bound = held.ends[0] if sign < 0.0 else held.ends[1]
        reach = sign * (self.bound - held.hat)
        self.reach = reach if reach > ZERO else 0.0
        rate, deviance = held.surroundings.rate, held.optimum.deviance
        self.points = [_Point(0.0, held.start, deviance, 0.0, rate, confirmed=True)]

    def find(self, target: float) -> tuple[float, float]:
        """
        Find where zeta, without its sign, is ``target``.

        Returns ``u`` and the target; or the end of the parameter space, and the zeta there, if
        that comes first; or an infinite ``u``, if zeta is not reached however far off.
        """
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
        if rise < -_BELOW:
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


def _descend(held: _Held, u: float, start: Vector, other: _Point | None = None) -> _Bottom | None:
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
        end = minimise(
            function,
            around.inverse @ (lifted - held.start),
            first_hessian=lambda: np.eye(len(start)),
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
