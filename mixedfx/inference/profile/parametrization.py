"""Parametrizations in which a coefficient, sigma, a standard deviation or a correlation is fixed.

For each kind of parameter there are coordinates of the relative covariances in which it is a
function of one number, ``u``, and the nuisance parameters ``x`` are unconstrained:

- a fixed effect: ``u`` standard errors from the estimate, ``x`` the factors ``F_t``;
- sigma: ``u = log(sigma / sigma_hat)``, ``x`` the factors times ``sigma / sigma_hat``;
- a standard deviation: ``u`` its ratio to ``sigma_hat``, the only entry of the effect's row of a
  rotated factor, times sigma; ``x`` is ``log(sigma / sigma_hat)`` and the other entries;
- a correlation: ``u`` its arc sine, the two effects' rows being ``(s, 0)`` and
  ``t (sin u, cos u)``; ``x`` is ``sqrt(s)``, ``sqrt(t)`` and the other entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.components import ZERO
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.profiled_parameter import (
    PointOfLinear,
    ProfiledOfLinear,
)
from mixedfx.inference.profile.structure_parameter import profile_structure_parameter
from mixedfx.inference.profile.term_factors import MIN_SD, TermFactors, rotation_of
from mixedfx.likelihood.constrained import constrain_coefficient, deviance_at_sigma
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]


def profile_parameter_of_linear(
    fit: FittedModel, likelihood: GaussianLikelihood, optimum: Solution, parameter: Parameter
) -> ProfiledOfLinear | None:
    """Parametrise the deviance for one parameter; None for one without estimate or coordinate."""
    name, term = parameter.name, parameter.term
    if parameter.kind == "sigma":
        return _ProfiledSigma.at_optimum(name, likelihood, optimum)
    if parameter.structure_param is not None:
        return profile_structure_parameter(likelihood, optimum, parameter)
    if parameter.first is None:
        return None  # a correlation that several parameters of a structure determine
    if parameter.kind == "fixed":
        kept = fit.spec.kept_columns.tolist()
        if parameter.first not in kept:
            return None
        column = kept.index(parameter.first)
        return _ProfiledCoefficient.at_optimum(name, likelihood, optimum, column)
    assert term is not None
    if parameter.second is None:
        return _ProfiledSd.at_optimum(name, likelihood, optimum, term, parameter.first)
    effects = [parameter.first, parameter.second]
    sds = likelihood.column_rms[term][effects] * np.linalg.norm(
        optimum.lambdas[term][effects], axis=1
    )
    if sds.min() < ZERO:
        return None
    return _ProfiledCorrelation.at_optimum(name, likelihood, optimum, term, effects)


@dataclass(frozen=True)
class _ProfiledCoefficient(ProfiledOfLinear):
    """A fixed effect; ``u`` is its distance from the estimate in standard errors."""

    row: Vector  # (p,) unit vector of the coefficient

    @staticmethod
    def at_optimum(
        name: str, likelihood: GaussianLikelihood, optimum: Solution, column: int
    ) -> _ProfiledCoefficient:
        factors = TermFactors.at_optimum(optimum)
        return _ProfiledCoefficient(
            name,
            likelihood,
            optimum,
            factors,
            x_hat=factors.params,
            min_start=factors.min_start,
            u_hat=0.0,
            bounds=(-np.inf, np.inf),
            row=np.eye(likelihood.p)[column],
        )

    @cached_property
    def std_error(self) -> float:
        unscaled = float(self.row @ self.optimum.vcov_unscaled @ self.row)
        return self.optimum.sigma * math.sqrt(unscaled)

    def value(self, u: float) -> float:
        return float(self.row @ self.optimum.beta) + self.std_error * u

    def at(self, u: float, x: Vector) -> PointOfLinear:
        coordinates = self.factors.coordinates
        unconstrained = self.solve_pls(coordinates.lambdas(x))
        value = self.value(u)
        constrained = constrain_coefficient(unconstrained, self.row, value)
        distance = value - float(self.row @ unconstrained.beta)
        unscaled = float(self.row @ unconstrained.vcov_unscaled @ self.row)
        score_u = 2.0 * distance / (unscaled * constrained.sigma**2) * self.std_error
        score_x = coordinates.pullback(x, self.score_scaled_factors(constrained))
        return PointOfLinear(constrained.deviance, score_u, score_x, constrained)


@dataclass(frozen=True)
class _ProfiledSigma(ProfiledOfLinear):
    """
    The residual standard deviation; ``u = log(sigma / sigma_hat)``.

    Where no covariance structure could take the residual variance over, the deviance is finite at
    sigma = 0, which the lower bound stands for.
    """

    @staticmethod
    def at_optimum(name: str, likelihood: GaussianLikelihood, optimum: Solution) -> _ProfiledSigma:
        factors = TermFactors.at_optimum(optimum)
        terms = likelihood.parametrization.terms
        may_be_zero = not all(structure.absorbs_residual(at.k) for structure, at in terms)
        return _ProfiledSigma(
            name,
            likelihood,
            optimum,
            factors,
            x_hat=factors.params,
            min_start=factors.min_start,
            u_hat=0.0,
            bounds=(math.log(ZERO) if may_be_zero else -np.inf, np.inf),
        )

    def value(self, u: float) -> float:
        return 0.0 if u == self.bounds[0] else self.optimum.sigma * math.exp(u)

    def at(self, u: float, x: Vector) -> PointOfLinear:
        coordinates = self.factors.coordinates
        ratio = math.exp(u)
        factors = [F / ratio for F in coordinates.lambdas(x)]
        solution, sigma = self.solve_pls(factors), self.optimum.sigma * ratio
        by_entry = self.score_scaled_factors(solution, sigma)
        score_u = 2.0 * (self.likelihood.n - solution.pwrss / sigma**2)
        score_u -= sum(float(np.vdot(by, F)) for by, F in zip(by_entry, factors, strict=True))
        score_x = coordinates.pullback(x, [by / ratio for by in by_entry])
        at_sigma = replace(solution, sigma=sigma)
        return PointOfLinear(deviance_at_sigma(solution, sigma), score_u, score_x, at_sigma)


@dataclass(frozen=True)
class _ProfiledSd(ProfiledOfLinear):
    """
    The standard deviation of an effect; ``u`` is its ratio to ``sigma_hat``, the column scaled.

    The effect's row of ``F`` has one entry, ``u sigma_hat / sigma``. The first of ``x`` is
    ``log(sigma / sigma_hat)``, unless sigma is known.
    """

    term: int
    entry: int  # row and column of the entry of F
    unit: float  # the standard deviation at u = 1

    @staticmethod
    def at_optimum(
        name: str, likelihood: GaussianLikelihood, optimum: Solution, term: int, effect: int
    ) -> _ProfiledSd:
        T, entry, changed = optimum.crossprod.bases[term].T, effect, {}
        unit = float(T[effect, effect])
        structure, _ = likelihood.parametrization.terms[term]
        if structure.invariance == "linear":
            changed[term], (unit,) = rotation_of(T, [effect])
            entry = 0
        factors = TermFactors.at_optimum(optimum, changed)
        free = factors.fix_entries(term, [(entry, entry)])
        log_sigma = np.zeros(int(likelihood.profiles_sigma))
        return _ProfiledSd(
            name,
            likelihood,
            optimum,
            free,
            x_hat=np.append(log_sigma, free.params),
            min_start=np.append(log_sigma, free.min_start),
            u_hat=abs(float(factors.optimum[term][entry, entry])),
            bounds=(0.0, np.inf),
            term=term,
            entry=entry,
            unit=optimum.sigma * unit,
        )

    def value(self, u: float) -> float:
        return self.unit * u

    def at(self, u: float, x: Vector) -> PointOfLinear:
        coordinates = self.factors.coordinates
        sigma_known = not self.likelihood.profiles_sigma
        sigma_ratio = 1.0 if sigma_known else math.exp(x[0])
        factors = coordinates.lambdas(x if sigma_known else x[1:])
        factors[self.term][self.entry, self.entry] = u / sigma_ratio
        solution, sigma = self.solve_pls(factors), self.optimum.sigma * sigma_ratio
        by_entry = self.score_scaled_factors(solution, sigma)
        score_u = float(by_entry[self.term][self.entry, self.entry]) / sigma_ratio
        if sigma_known:
            score_x = coordinates.pullback(x, by_entry)
            return PointOfLinear(solution.deviance, score_u, score_x, solution)
        # log sigma acts through the residual and through the entry u / sigma_ratio
        by_log_sigma = 2.0 * (self.likelihood.n - solution.pwrss / sigma**2) - score_u * u
        score_x = np.append(by_log_sigma, coordinates.pullback(x[1:], by_entry))
        at_sigma = replace(solution, sigma=sigma)
        return PointOfLinear(deviance_at_sigma(solution, sigma), score_u, score_x, at_sigma)


@dataclass(frozen=True)
class _ProfiledCorrelation(ProfiledOfLinear):
    """
    The correlation of two effects; ``u`` is its arc sine, in which the score stays finite.

    The effects' rows of ``F`` are ``(s, 0)`` and ``t (sin u, cos u)`` with ``s, t >= 0``, so the
    first of ``x`` are ``sqrt(s)`` and ``sqrt(t)``: at ``t = 0`` the deviance can have a nonzero
    derivative by ``t``, but none by its root.
    """

    term: int

    @staticmethod
    def at_optimum(
        name: str, likelihood: GaussianLikelihood, optimum: Solution, term: int, effects: list[int]
    ) -> _ProfiledCorrelation:
        B, _ = rotation_of(optimum.crossprod.bases[term].T, effects)
        factors = TermFactors.at_optimum(optimum, {term: B})
        free = factors.fix_entries(term, [(0, 0), (1, 0), (1, 1)])
        (s, _), second_row = factors.optimum[term][:2, :2]
        root_lengths = np.sqrt([s, np.hypot(*second_row)])
        return _ProfiledCorrelation(
            name,
            likelihood,
            optimum,
            free,
            x_hat=np.append(root_lengths, free.params),
            min_start=np.append(np.full(2, math.sqrt(MIN_SD)), free.min_start),
            u_hat=math.atan2(second_row[0], second_row[1]),
            bounds=(-0.5 * math.pi, 0.5 * math.pi),
            term=term,
        )

    def value(self, u: float) -> float:
        return math.sin(u)

    def at(self, u: float, x: Vector) -> PointOfLinear:
        coordinates = self.factors.coordinates
        s, t = x[0] ** 2, x[1] ** 2
        direction = np.array([math.sin(u), math.cos(u)])
        factors = coordinates.lambdas(x[2:])
        factors[self.term][0, 0] = s
        factors[self.term][1, :2] = t * direction
        solution = self.solve_pls(factors)
        by_entry = self.score_scaled_factors(solution)
        by_s, by_second_row = by_entry[self.term][0, 0], by_entry[self.term][1, :2]
        score_u = t * float(by_second_row[0] * direction[1] - by_second_row[1] * direction[0])
        by_roots = [2.0 * x[0] * by_s, 2.0 * x[1] * float(by_second_row @ direction)]
        score_x = np.append(by_roots, coordinates.pullback(x[2:], by_entry))
        return PointOfLinear(solution.deviance, score_u, score_x, solution)
