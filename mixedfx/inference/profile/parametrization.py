"""A parameter to the deviance with it held: a function of its value and all that is free.

For each kind of parameter there are coordinates of the relative covariances in which it is one
number, ``u``, and the others, ``x``, are free of it. So the deviance at a held value is
minimised by ``x`` alone, and its slope along those minima is the partial derivative by ``u``,
exactly.

In go a fit, its maximum of the likelihood and a parameter; out comes a
:class:`ProfiledParameter`. Nothing
here searches.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import ZERO, Coordinates
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.parameters import Parameter
from mixedfx.likelihood.constrained import constrain_coefficient, deviance_at_sigma
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.score import score_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Zero is a stationary point for any data, so a search starts at least this far off it.
_LIFT = 0.01
# A search with nothing left of the response has lost its way.
_NOTHING = 1e-14
# Eigenvalues of a Hessian in unit-free coordinates below this are taken as this.
_FLAT = 1e-2


def profile_parameter(
    fit: FittedModel, optimum: Solution, parameter: Parameter
) -> ProfiledParameter | None:
    """Choose the coordinates in which a parameter is one number and the others are free."""
    name, crossprod, term = parameter.name, fit.crossprod, parameter.term
    if parameter.kind == "sigma":
        return _Sigma.of(name, crossprod, optimum)
    assert parameter.first is not None
    if parameter.kind == "fixed":
        kept = fit.design.kept.tolist()
        if parameter.first not in kept:
            return None
        return _Coefficient.of(name, crossprod, optimum, kept.index(parameter.first))
    assert term is not None
    if parameter.second is None:
        return _Deviation.of(name, crossprod, optimum, term, parameter.first)
    effects = [parameter.first, parameter.second]
    sds = crossprod.column_rms[term][effects] * np.linalg.norm(
        optimum.lambdas[term][effects], axis=1
    )
    return None if sds.min() < ZERO else _Correlation.of(name, crossprod, optimum, term, effects)


@dataclass(frozen=True)
class LocalQuadratic:
    """
    The deviance about the optimum, to second order.

    Parameters
    ----------
    root : ndarray of shape (m, m)
        Turns coordinates in which the Hessian by ``x`` is the identity into ``x``.
    inverse : ndarray of shape (m, m)
        Turns ``x`` into those coordinates.
    tangent : ndarray of shape (m,)
        ``dx/du`` along the held optima.
    rate : float
        ``dzeta/du``, above zero.
    """

    root: Matrix
    inverse: Matrix
    tangent: Vector
    rate: float


@dataclass(frozen=True)
class _TermFactors:
    """
    Each term's Lambda as ``frame @ triangle``, the triangle lower.

    ``frames`` are unit-free; ``optimum`` are the triangles at the optimum, ``chart`` says which of
    their entries are free.
    """

    term_scaling: tuple[Matrix, ...]
    optimum: tuple[Matrix, ...]
    coordinates: Coordinates

    @staticmethod
    def of(
        crossprod: CrossProducts, lambdas: Sequence[Matrix], term_scaling: Sequence[Matrix]
    ) -> _TermFactors:
        triangles: list[Matrix] = []
        for lam, frame, structure in zip(
            lambdas, term_scaling, crossprod.parametrization.structures, strict=True
        ):
            framed = np.linalg.solve(frame, lam)
            if structure == "us":
                framed = np.asarray(np.linalg.qr(framed.T, mode="r")).T
                framed = framed * np.where(np.diag(framed) < 0.0, -1.0, 1.0)
            triangles.append(np.asarray(framed))
        return _TermFactors(
            tuple(term_scaling), tuple(triangles), crossprod.parametrization.coordinates
        )

    def without(self, term: int, entries: Sequence[tuple[int, int]]) -> _TermFactors:
        """Take entries of a term's triangle out of the free ones."""
        rows, cols = self.coordinates.positions[term]
        free = [(r, c) not in entries for r, c in zip(rows.tolist(), cols.tolist(), strict=True)]
        positions = list(self.coordinates.positions)
        positions[term] = rows[free], cols[free]
        return replace(self, coordinates=Coordinates(self.coordinates.widths, tuple(positions)))

    @property
    def start(self) -> Vector:
        """The free entries at the optimum."""
        return self.coordinates.to_params(self.optimum)

    @property
    def least(self) -> Vector:
        """How far off zero each free entry starts: the diagonal ones, which may hide a way."""
        parts = [np.where(rows == cols, _LIFT, 0.0) for rows, cols in self.coordinates.positions]
        return np.concatenate([np.zeros(0), *parts])


@dataclass(frozen=True)
class ProfiledParameter(ABC):
    """
    One parameter held at ``u``, a rising function of its value; ``x`` is all that is free.

    ``u`` and ``x`` are without unit.

    Parameters
    ----------
    name : str
        The parameter's, for messages.
    cross : CrossProducts
        The data, reduced.
    optimum : Solution
        The maximum of the likelihood.
    triangles : _Triangles
        The relative covariances there, in coordinates of which one is the parameter.
    start : ndarray of shape (m,)
        The optimum's ``x``.
    least : ndarray of shape (m,)
        How far off zero a search starts, at least, in each of ``x``.
    hat : float
        The optimum's ``u``.
    ends : tuple of float
        Lowest and highest ``u`` of the parameter space; infinite where it has no end.
    """

    name: str
    crossprod: CrossProducts
    optimum: Solution
    triangles: _TermFactors
    start: Vector
    least: Vector
    hat: float
    ends: tuple[float, float]

    @abstractmethod
    def value(self, u: float) -> float:
        """Give the parameter in its own units."""

    @abstractmethod
    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        """Give the deviance and its slopes."""

    def solve(self, triangles: Sequence[Matrix]) -> Solution:
        """Solve at the Lambdas of triangles."""
        natural = [f @ m for f, m in zip(self.triangles.term_scaling, triangles, strict=True)]
        solution = solve_pls_at_factors(self.crossprod, natural, reml=False)
        if not solution.pwrss > _NOTHING * self.crossprod.XytXy[-1, -1]:
            raise ValueError("nothing is left of the response")
        return solution

    def slopes(self, solution: Solution, sigma: float | None = None) -> list[Matrix]:
        """Differentiate the deviance by the entries of the triangles."""
        by_lambda = score_factors(solution, reml=False, sigma=sigma)
        return [f.T @ m for f, m in zip(self.triangles.term_scaling, by_lambda, strict=True)]

    def folded(self, x: Vector) -> Vector:
        """Choose one of the points that differ in the signs of the triangles' columns only."""
        coordinates, lead = self.triangles.coordinates, len(x) - self.triangles.coordinates.size
        folded = [m * np.where(np.diag(m) < 0.0, -1.0, 1.0) for m in coordinates.lambdas(x[lead:])]
        roots = np.where(self.least[:lead] > 0.0, np.abs(x[:lead]), x[:lead])
        return np.append(roots, coordinates.to_params(folded))

    @cached_property
    def surroundings(self) -> LocalQuadratic:
        """Shape of the deviance about the optimum."""
        return _surroundings(self)


@dataclass(frozen=True)
class _Coefficient(ProfiledParameter):
    """A fixed effect: ``u`` counts standard errors from the estimate."""

    row: Vector

    @staticmethod
    def of(name: str, crossprod: CrossProducts, optimum: Solution, place: int) -> _Coefficient:
        triangles = _TermFactors.of(crossprod, optimum.lambdas, crossprod.term_scaling)
        row = np.zeros(crossprod.p)
        row[place] = 1.0
        start, least, ends = triangles.start, triangles.least, (-np.inf, np.inf)
        return _Coefficient(name, crossprod, optimum, triangles, start, least, 0.0, ends, row)

    @cached_property
    def unit(self) -> float:
        unscaled = float(self.row @ self.optimum.vcov_unscaled @ self.row)
        return self.optimum.sigma * math.sqrt(unscaled)

    def value(self, u: float) -> float:
        return float(self.row @ self.optimum.beta) + self.unit * u

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        free = self.solve(self.triangles.coordinates.lambdas(x))
        value = self.value(u)
        held = constrain_coefficient(free, self.row, value)
        distance = value - float(self.row @ free.beta)
        unscaled = float(self.row @ free.vcov_unscaled @ self.row)
        slope = 2.0 * distance / (unscaled * held.sigma**2) * self.unit
        return held.deviance, slope, self.triangles.coordinates.to_params(self.slopes(held))


@dataclass(frozen=True)
class _Sigma(ProfiledParameter):
    """The residual standard deviation: ``u`` is its logarithm, from the estimate."""

    @staticmethod
    def of(name: str, crossprod: CrossProducts, optimum: Solution) -> _Sigma:
        triangles = _TermFactors.of(crossprod, optimum.lambdas, crossprod.term_scaling)
        start, least, ends = triangles.start, triangles.least, (-np.inf, np.inf)
        return _Sigma(name, crossprod, optimum, triangles, start, least, 0.0, ends)

    def value(self, u: float) -> float:
        return self.optimum.sigma * math.exp(u)

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        solution, sigma = self.solve(self.triangles.coordinates.lambdas(x)), self.value(u)
        slope = 2.0 * (self.crossprod.n - solution.pwrss / sigma**2)
        gradient = self.triangles.coordinates.to_params(self.slopes(solution, sigma))
        return deviance_at_sigma(solution, sigma), slope, gradient


@dataclass(frozen=True)
class _Deviation(ProfiledParameter):
    """
    The standard deviation of an effect: ``u`` counts residual ones, at the optimum.

    The effect's row of the triangle has one entry, ``u`` over sigma; the first of ``x`` is the
    logarithm of sigma, from the estimate, unless sigma is known.
    """

    term: int
    entry: int
    unit: float

    @staticmethod
    def of(
        name: str, crossprod: CrossProducts, optimum: Solution, term: int, effect: int
    ) -> _Deviation:
        term_scaling, entry = list(crossprod.term_scaling), effect
        if crossprod.parametrization.structures[term] == "us":
            term_scaling[term], entry = _leading(term_scaling[term], [effect]), 0
        triangles = _TermFactors.of(crossprod, optimum.lambdas, term_scaling)
        free = triangles.without(term, [(entry, entry)])
        lead = np.zeros(0 if crossprod.sigma is not None else 1)
        return _Deviation(
            name,
            crossprod,
            optimum,
            free,
            start=np.append(lead, free.start),
            least=np.append(lead, free.least),
            hat=abs(float(triangles.optimum[term][entry, entry])),
            ends=(0.0, np.inf),
            term=term,
            entry=entry,
            unit=optimum.sigma * float(term_scaling[term][effect, entry]),
        )

    def value(self, u: float) -> float:
        return self.unit * u

    def at(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        known = self.crossprod.sigma is not None
        ratio = 1.0 if known else math.exp(x[0])
        triangles = self.triangles.coordinates.lambdas(x if known else x[1:])
        triangles[self.term][self.entry, self.entry] = u / ratio
        solution, sigma = self.solve(triangles), self.optimum.sigma * ratio
        by_entry = self.slopes(solution, sigma)
        slope = float(by_entry[self.term][self.entry, self.entry]) / ratio
        if known:
            return solution.deviance, slope, self.triangles.coordinates.to_params(by_entry)
        by_log = 2.0 * (self.crossprod.n - solution.pwrss / sigma**2) - slope * u
        gradient = np.append(by_log, self.triangles.coordinates.to_params(by_entry))
        return deviance_at_sigma(solution, sigma), slope, gradient


@dataclass(frozen=True)
class _Correlation(ProfiledParameter):
    """
    The correlation of two effects: ``u`` is its arc sine, in which no slope is infinite.

    The effects' rows of the triangle are ``(s, 0)`` and ``t (sin u, cos u)``. ``s`` and ``t``
    must not differ in sign, so the first of ``x`` are their roots: where the best ``t`` is
    zero the deviance may have a slope by ``t``, but none by its root.
    """

    term: int

    @staticmethod
    def of(
        name: str, crossprod: CrossProducts, optimum: Solution, term: int, effects: list[int]
    ) -> _Correlation:
        term_scaling = list(crossprod.term_scaling)
        term_scaling[term] = _leading(term_scaling[term], effects)
        triangles = _TermFactors.of(crossprod, optimum.lambdas, term_scaling)
        free = triangles.without(term, [(0, 0), (1, 0), (1, 1)])
        (s, _), second = triangles.optimum[term][:2, :2]
        roots = np.sqrt([s, np.hypot(*second)])
        return _Correlation(
            name,
            crossprod,
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
        triangles = self.triangles.coordinates.lambdas(x[2:])
        triangles[self.term][0, 0] = s
        triangles[self.term][1, :2] = t * along
        solution = self.solve(triangles)
        by_entry = self.slopes(solution)
        first, second = by_entry[self.term][0, 0], by_entry[self.term][1, :2]
        slope = t * float(second[0] * along[1] - second[1] * along[0])
        by_roots = [2.0 * x[0] * first, 2.0 * x[1] * float(second @ along)]
        return (
            solution.deviance,
            slope,
            np.append(by_roots, self.triangles.coordinates.to_params(by_entry)),
        )


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


def _surroundings(held: ProfiledParameter) -> LocalQuadratic:
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
    return LocalQuadratic(
        root, vectors.T * np.sqrt(values)[:, None], tangent, math.sqrt(0.5 * rise)
    )
