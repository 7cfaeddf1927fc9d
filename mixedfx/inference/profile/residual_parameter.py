"""Profiled parameters of linear models whose residuals have parameters.

The nuisance parameters ``x`` are those of the linear model at given residual parameters
(:mod:`mixedfx.inference.profile.parametrization`), then the residual parameters, or what is free of
them:

- a coefficient, and a standard deviation or correlation of random effects: as with independent
  residuals, the residuals' parameters being nuisance parameters;
- a residual standard deviation ``v = sigma exp(f(params))``: ``u = log(v / v_hat)``, sigma is
  ``v exp(-f(params))``, and ``x`` the factors times ``sigma / sigma_hat``, then all parameters; a
  coefficient ``b (log sigma + f(params))`` likewise;
- a correlation, range or rate: ``(u, y)`` are coordinates of the parameters
  (:mod:`mixedfx.inference.profile.residual_coordinates`) and sigma is profiled out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO
from mixedfx.covariance.correlation import CorrelationStructure
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.parametrization import profile_parameter_of_linear
from mixedfx.inference.profile.profiled_parameter import (
    ProfiledOfLinear,
    ProfiledParameter,
)
from mixedfx.inference.profile.residual_coordinates import (
    FirstTwoPositions,
    LinearCombination,
    OwnParameter,
    ParamsCoordinates,
    SolvedCorrelation,
)
from mixedfx.inference.profile.residual_optimum import ResidualOptimum
from mixedfx.inference.profile.term_factors import TermFactors
from mixedfx.likelihood.constrained import deviance_at_sigma
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.score import score_factors
from mixedfx.residuals.reported import LinearInParams, OfLogSigma, OfStructure, Reported

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Most directions in which a lower minimum is looked for: those in which the deviance is flattest.
_MAX_AXES = 6


def profile_with_residual(
    fit: FittedModel, optimum: ResidualOptimum, parameter: Parameter
) -> ProfiledParameter | None:
    """Parametrise the deviance for one parameter; None for one without estimate or coordinate."""
    name, model = parameter.name, optimum.model
    if parameter.kind == "sigma":
        return _of_residual(name, optimum, model.reported_sigma())
    if parameter.kind == "dispersion":
        assert parameter.first is not None
        return _of_residual(name, optimum, model.reported_parameter(parameter.first))
    likelihood = optimum.likelihood(optimum.params)
    linear = profile_parameter_of_linear(fit, likelihood, optimum.solution, parameter)
    return None if linear is None else _ProfiledBesideResidual.of(linear, optimum)


def _of_residual(
    name: str, optimum: ResidualOptimum, reported: Reported
) -> ProfiledParameter | None:
    """Parametrise for a parameter of the residual model."""
    if isinstance(reported, OfLogSigma):
        return _ProfiledResidualSd.at_optimum(name, optimum, reported)
    if isinstance(reported, LinearInParams):
        of_row = LinearCombination.of(reported, optimum.params)
        return _ProfiledResidualParameter.at_optimum(name, optimum, of_row)
    found = _coordinates(optimum, reported)
    return None if found is None else _ProfiledResidualParameter.at_optimum(name, *found)


def _coordinates(
    optimum: ResidualOptimum, reported: OfStructure
) -> tuple[ResidualOptimum, ParamsCoordinates] | None:
    """Coordinates of a correlation, range or rate, and the optimum they are of."""
    model, structure = optimum.model, reported.structure
    if reported.own is not None:
        own = OwnParameter.of(reported, model.structure_params, optimum.params, model.contains)
        return optimum, own
    if isinstance(structure, CorrelationStructure):
        return optimum, SolvedCorrelation(structure, reported, optimum.params)
    if structure.invariance == "linear" and len(reported.component.effects) == 2:
        moved = optimum.reordered(reported.stratum, reported.component.effects)
        free = structure.coordinates(reported.at)
        # Entries of the factor column by column; the first is the scale.
        unit = np.zeros((2, reported.at.k, reported.at.k))
        unit[0, 1, 0] = unit[1, 1, 1] = 1.0
        below, diagonal = (int(np.argmax(free.params(E))) - 1 for E in unit)
        return moved, FirstTwoPositions(moved.params, below, diagonal)
    return None


class _BesideResidual(ProfiledParameter):
    """The last nuisance parameters are those of the residual model."""

    def axes(self) -> Matrix:
        """Those in which the deviance is flattest: there can be very many parameters."""
        return super().axes()[:_MAX_AXES]


@dataclass(frozen=True)
class _ProfiledBesideResidual(_BesideResidual):
    """A coefficient, or a standard deviation or correlation of random effects."""

    linear: ProfiledOfLinear  # at the estimated parameters of the residuals
    optimum: ResidualOptimum

    @staticmethod
    def of(linear: ProfiledOfLinear, optimum: ResidualOptimum) -> _ProfiledBesideResidual:
        none = np.zeros(len(optimum.params))
        return _ProfiledBesideResidual(
            linear.name,
            linear.likelihood,
            optimum,
            linear.factors,
            x_hat=np.append(linear.x_hat, optimum.params),
            min_start=np.append(linear.min_start, none),
            u_hat=linear.u_hat,
            bounds=linear.bounds,
            linear=linear,
        )

    def value(self, u: float) -> float:
        return self.linear.value(u)

    def canonical_signs(self, x: Vector) -> Vector:
        n = len(self.linear.x_hat)
        return np.append(self.linear.canonical_signs(x[:n]), x[n:])

    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        n = len(self.linear.x_hat)
        params = x[n:]
        linear = replace(self.linear, likelihood=self.optimum.likelihood(params))
        at = linear.at(u, x[:n])
        by_params = self.optimum.score(params, at.solution)
        return at.deviance, at.score_u, np.append(at.score_x, by_params)


@dataclass(frozen=True)
class _OfResidual(_BesideResidual):
    """A parameter of the residual model; ``x`` is the factors' coordinates, then parameters."""

    optimum: ResidualOptimum

    def canonical_signs(self, x: Vector) -> Vector:
        n = self.factors.coordinates.size
        return np.append(self.factors.coordinates.canonical(x[:n]), x[n:])

    def _solve(self, params: Vector, factors: list[Matrix]) -> Solution:
        """Solution at the factors of the terms."""
        solution = self.optimum.likelihood(params).at_factors(factors)
        if not solution.pwrss > solution.crossprod.zero_pwrss:
            raise ValueError("the penalised residual sum of squares is zero to rounding")
        return solution


@dataclass(frozen=True)
class _ProfiledResidualSd(_OfResidual):
    """A residual standard deviation, or another function of log sigma and the parameters."""

    reported: OfLogSigma

    @staticmethod
    def at_optimum(
        name: str, optimum: ResidualOptimum, reported: OfLogSigma
    ) -> _ProfiledResidualSd:
        factors = TermFactors.at_optimum(optimum.solution)
        # Random effects may take the residual variance of some rows over.
        takes_over = len(factors.optimum) and reported.exponential
        return _ProfiledResidualSd(
            name,
            None,
            optimum,
            factors,
            x_hat=np.append(factors.params, optimum.params),
            min_start=np.append(factors.min_start, np.zeros(len(optimum.params))),
            u_hat=0.0,
            bounds=(math.log(ZERO) if takes_over else -np.inf, np.inf),
            reported=reported,
        )

    @property
    def _sum_hat(self) -> float:
        """``log sigma + f(params)`` at the optimum."""
        return math.log(self.optimum.solution.sigma) + self.reported.f(self.optimum.params)[0]

    def value(self, u: float) -> float:
        if not self.reported.exponential:
            return self.reported.slope * (self._sum_hat + self._direction * u)
        return 0.0 if u == self.bounds[0] else math.exp(self._sum_hat + u)

    @property
    def _direction(self) -> float:
        """The value increases with u."""
        return math.copysign(1.0, self.reported.slope)

    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        coordinates, n = self.factors.coordinates, self.factors.coordinates.size
        params, sigma_hat = x[n:], self.optimum.solution.sigma
        f, by_f = self.reported.f(params)
        sigma = math.exp(self._sum_hat + self._direction * u - f)
        ratio = sigma / sigma_hat
        factors = [F / ratio for F in coordinates.lambdas(x[:n])]
        solution = self._solve(params, factors)
        by_entry = score_factors(solution, sigma=sigma)
        by_log_sigma = 2.0 * (solution.crossprod.n - solution.pwrss / sigma**2)
        by_log_sigma -= sum(float(np.vdot(by, F)) for by, F in zip(by_entry, factors, strict=True))
        by_covariance = coordinates.pullback(x[:n], [by / ratio for by in by_entry])
        by_params = self.optimum.score(params, replace(solution, sigma=sigma))
        score_x = np.append(by_covariance, by_params - by_log_sigma * by_f)
        return deviance_at_sigma(solution, sigma), self._direction * by_log_sigma, score_x


@dataclass(frozen=True)
class _ProfiledResidualParameter(_OfResidual):
    """A parameter of the residual model that is a function of its parameters alone."""

    coordinates: ParamsCoordinates

    @staticmethod
    def at_optimum(
        name: str, optimum: ResidualOptimum, coordinates: ParamsCoordinates
    ) -> _ProfiledResidualParameter:
        factors = TermFactors.at_optimum(optimum.solution)
        y_hat = coordinates.y_hat
        return _ProfiledResidualParameter(
            name,
            None,
            optimum,
            factors,
            x_hat=np.append(factors.params, y_hat),
            min_start=np.append(factors.min_start, np.zeros(len(y_hat))),
            u_hat=coordinates.u_hat,
            bounds=coordinates.bounds,
            coordinates=coordinates,
        )

    def value(self, u: float) -> float:
        return self.coordinates.value(u)

    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        of_terms, n = self.factors.coordinates, self.factors.coordinates.size
        params = self.coordinates.params(u, x[n:])
        solution = self._solve(params, of_terms.lambdas(x[:n]))
        by_covariance = of_terms.pullback(x[:n], score_factors(solution))
        score_u, by_y = self.coordinates.pull_back(params, self.optimum.score(params, solution))
        return solution.deviance, score_u, np.append(by_covariance, by_y)
