"""Standard deviations, correlations and structures' parameters of a generalised model, profiled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.marginal_optimum import MarginalOptimum, ProfiledMarginal
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter
from mixedfx.inference.profile.structure_parameter import ComponentOfParameter
from mixedfx.inference.profile.term_factors import MIN_SD, TermFactors, rotation_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _ProfiledSd(ProfiledMarginal):
    """The standard deviation of an effect, the column scaled: the one entry of its row of F."""

    term: int
    entry: int  # row and column of the entry of F
    unit: float  # the standard deviation at u = 1

    def value(self, u: float) -> float:
        return self.unit * u

    def factors_at(self, u: float, own: Vector, covariance: Vector) -> list[Matrix]:
        factors = self.factors.coordinates.lambdas(covariance)
        factors[self.term][self.entry, self.entry] = u
        return factors

    def pull_back(
        self, u: float, own: Vector, covariance: Vector, by_entry: list[Matrix]
    ) -> tuple[float, Vector]:
        by_u = float(by_entry[self.term][self.entry, self.entry])
        return by_u, self.factors.coordinates.pullback(covariance, by_entry)


def profile_sd(optimum: MarginalOptimum, parameter: Parameter, effect: int) -> ProfiledParameter:
    """Parametrise by a standard deviation."""
    assert parameter.term is not None
    term, solution, changed = parameter.term, optimum.solution, {}
    T, entry = solution.crossprod.bases[term].T, effect
    unit = float(T[effect, effect])
    structure, _ = solution.crossprod.parametrization.terms[term]
    if structure.invariance == "linear":
        changed[term], (unit,) = rotation_of(T, [effect])
        entry = 0
    factors = TermFactors.at_optimum(solution, changed)
    free, none = factors.fix_entries(term, [(entry, entry)]), np.zeros(len(optimum.rest))
    return _ProfiledSd(
        parameter.name,
        optimum.likelihood,
        optimum,
        free,
        x_hat=np.append(free.params, none),
        min_start=np.append(free.min_start, none),
        u_hat=abs(float(factors.optimum[term][entry, entry])),
        bounds=(0.0, np.inf),
        by_u=none,
        by_y=np.eye(len(none)),
        term=term,
        entry=entry,
        unit=unit,
    )


@dataclass(frozen=True)
class _ProfiledCorrelation(ProfiledMarginal):
    """
    The correlation of two effects; ``u`` is its arc sine.

    The effects' rows of F are ``(s, 0)`` and ``t (sin u, cos u)``; its own nuisance parameters are
    ``sqrt(s)`` and ``sqrt(t)``.
    """

    term: int

    def value(self, u: float) -> float:
        return math.sin(u)

    def factors_at(self, u: float, own: Vector, covariance: Vector) -> list[Matrix]:
        factors = self.factors.coordinates.lambdas(covariance)
        factors[self.term][0, 0] = own[0] ** 2
        factors[self.term][1, :2] = own[1] ** 2 * np.array([math.sin(u), math.cos(u)])
        return factors

    def pull_back(
        self, u: float, own: Vector, covariance: Vector, by_entry: list[Matrix]
    ) -> tuple[float, Vector]:
        by_s, by_second_row = by_entry[self.term][0, 0], by_entry[self.term][1, :2]
        tangent = float(by_second_row[0] * math.cos(u) - by_second_row[1] * math.sin(u))
        by_t = float(by_second_row[0] * math.sin(u) + by_second_row[1] * math.cos(u))
        by_own = [2.0 * own[0] * by_s, 2.0 * own[1] * by_t]
        by_covariance = self.factors.coordinates.pullback(covariance, by_entry)
        return own[1] ** 2 * tangent, np.append(by_own, by_covariance)


def profile_correlation(
    optimum: MarginalOptimum, parameter: Parameter, effects: list[int]
) -> ProfiledParameter | None:
    """Parametrise by a correlation; None where an effect does not vary."""
    assert parameter.term is not None
    term, solution = parameter.term, optimum.solution
    lam = solution.lambdas[term][effects]
    sds = solution.crossprod.column_rms[term][effects] * np.linalg.norm(lam, axis=1)
    if sds.min() < ZERO:
        return None
    B, _ = rotation_of(solution.crossprod.bases[term].T, effects)
    factors = TermFactors.at_optimum(solution, {term: B})
    free = factors.fix_entries(term, [(0, 0), (1, 0), (1, 1)])
    (s, _), second_row = factors.optimum[term][:2, :2]
    roots, none = np.sqrt([s, np.hypot(*second_row)]), np.zeros(len(optimum.rest))
    return _ProfiledCorrelation(
        parameter.name,
        optimum.likelihood,
        optimum,
        free,
        x_hat=np.concatenate([roots, free.params, none]),
        min_start=np.concatenate([np.full(2, math.sqrt(MIN_SD)), free.min_start, none]),
        u_hat=math.atan2(second_row[0], second_row[1]),
        bounds=(-0.5 * math.pi, 0.5 * math.pi),
        n_own=2,
        by_u=none,
        by_y=np.eye(len(none)),
        term=term,
    )


@dataclass(frozen=True)
class _ProfiledStructureParameter(ProfiledMarginal):
    """One parameter of a covariance structure."""

    of: ComponentOfParameter

    def value(self, u: float) -> float:
        return self.of(u)

    def factors_at(self, u: float, own: Vector, covariance: Vector) -> list[Matrix]:
        return self.factors.coordinates.lambdas(np.insert(covariance, self.of.position, u))

    def pull_back(
        self, u: float, own: Vector, covariance: Vector, by_entry: list[Matrix]
    ) -> tuple[float, Vector]:
        index = self.of.position
        score = self.factors.coordinates.pullback(np.insert(covariance, index, u), by_entry)
        return float(score[index]), np.delete(score, index)

    def _canonical(self, covariance: Vector) -> Vector:
        params = np.insert(covariance, self.of.position, self.u_hat)
        return np.delete(self.factors.coordinates.canonical(params), self.of.position)


def profile_structure(optimum: MarginalOptimum, parameter: Parameter) -> ProfiledParameter | None:
    """Parametrise by a parameter of a covariance structure; None where it has no estimate."""
    of = ComponentOfParameter.at_optimum(optimum.solution, parameter)
    if of is None:
        return None
    factors, none = TermFactors.at_optimum(optimum.solution), np.zeros(len(optimum.rest))
    index, params, min_start = of.position, factors.params, factors.min_start
    return _ProfiledStructureParameter(
        parameter.name,
        optimum.likelihood,
        optimum,
        factors,
        x_hat=np.append(np.delete(params, index), none),
        min_start=np.append(np.delete(min_start, index), none),
        u_hat=float(params[index]),
        bounds=of.bounds,
        by_u=none,
        by_y=np.eye(len(none)),
        of=of,
    )
