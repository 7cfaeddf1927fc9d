"""Parametrizations in which one parameter of a covariance structure is fixed.

Where a reported standard deviation or correlation is a monotone function of one parameter of its
term's structure, that parameter is ``u`` and the others are nuisance parameters:

- a standard deviation: ``u`` is its ratio to ``sigma_hat``, the parameter ``u sigma_hat / sigma``
  and the first of ``x`` is ``log(sigma / sigma_hat)``, unless sigma is known;
- a correlation: ``u`` is the parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.profiled_parameter import PointOfLinear, ProfiledOfLinear
from mixedfx.inference.profile.term_factors import TermFactors
from mixedfx.likelihood.constrained import deviance_at_sigma
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]

# A correlation whose parameter reaches ten to this power is at its limit.
_MAX_POWER = 4


def profile_structure_parameter(
    likelihood: GaussianLikelihood, optimum: Solution, parameter: Parameter
) -> ProfiledOfLinear | None:
    """Parametrise the deviance for a parameter of a structure; None where the sd is zero."""
    value = ComponentOfParameter.at_optimum(optimum, parameter)
    if value is None:
        return None
    factors, index = TermFactors.at_optimum(optimum), value.position
    params, min_start = factors.params, factors.min_start
    log_sigma = np.zeros(int(value.is_sd and likelihood.profiles_sigma))
    return _ProfiledStructureParameter(
        parameter.name,
        likelihood,
        optimum,
        factors,
        x_hat=np.append(log_sigma, np.delete(params, index)),
        min_start=np.append(log_sigma, np.delete(min_start, index)),
        u_hat=float(params[index]),
        bounds=value.bounds,
        of=value,
    )


@dataclass(frozen=True)
class ComponentOfParameter:
    """A component as a function of the structure's parameter that determines it."""

    structure: CovarianceStructure
    at: Positions
    params: Vector  # at the optimum
    index: int
    kind: str
    scale: float  # of a standard deviation: sigma_hat times the scaling of the columns
    position: int  # of the structure's parameter among the coordinates of all terms

    @staticmethod
    def at_optimum(optimum: Solution, parameter: Parameter) -> ComponentOfParameter | None:
        """Of an optimum; None for a correlation of effects that do not vary."""
        term, index = parameter.term, parameter.structure_param
        assert term is not None
        assert index is not None
        if parameter.kind == "corr" and np.isnan(parameter.value):
            return None
        factors, is_sd = TermFactors.at_optimum(optimum), parameter.kind == "sd"
        part = factors.coordinates.slices[term]
        structure, at = optimum.crossprod.parametrization.terms[term]
        unit = float(optimum.crossprod.bases[term].T[0, 0]) * optimum.sigma if is_sd else 1.0
        params = factors.params[part]
        return ComponentOfParameter(
            structure, at, params, index, parameter.kind, unit, part.start + index
        )

    @property
    def is_sd(self) -> bool:
        """Whether it is a standard deviation."""
        return self.kind == "sd"

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Of the parameter."""
        return (0.0, math.inf) if self.is_sd else (self._largest(-1.0), self._largest(1.0))

    def __call__(self, u: float) -> float:
        """Component at a value of the parameter, a correlation's limits at its bounds."""
        if not self.is_sd and u in self.bounds:
            return self._limits[self.bounds.index(u)]
        params = self.params.copy()
        params[self.index] = u
        return self.scale * self._component(self._components(params)).value

    @property
    def _limits(self) -> tuple[float, float]:
        """Limits of a correlation as its parameter goes to minus and plus infinity."""
        return self._component(self._components(self.params)).limits

    def _largest(self, sign: float) -> float:
        """Largest power of ten, up to a limit, at which the covariance is regular."""
        params = self.params.copy()
        for power in range(_MAX_POWER, 0, -1):
            params[self.index] = sign * 10.0**power
            try:
                factor = self.structure.factor(params, self.at)
            except (np.linalg.LinAlgError, ArithmeticError):
                continue
            if np.isfinite(factor).all():
                return sign * 10.0**power
        return sign * math.inf

    def _components(self, params: Vector) -> tuple[Component, ...]:
        return self.structure.components(self.structure.factor(params, self.at), self.at)

    def _component(self, components: tuple[Component, ...]) -> Component:
        return next(c for c in components if (c.kind, c.parameter) == (self.kind, self.index))


@dataclass(frozen=True)
class _ProfiledStructureParameter(ProfiledOfLinear):
    """One parameter of a covariance structure."""

    of: ComponentOfParameter

    def value(self, u: float) -> float:
        return self.of(u)

    def canonical_signs(self, x: Vector) -> Vector:
        lead = len(x) - self.factors.coordinates.size + 1
        params = np.insert(x[lead:], self.of.position, self.u_hat)
        return np.append(
            x[:lead], np.delete(self.factors.coordinates.canonical(params), self.of.position)
        )

    def at(self, u: float, x: Vector) -> PointOfLinear:
        coordinates, index = self.factors.coordinates, self.of.position
        free_sigma = self.of.is_sd and self.likelihood.profiles_sigma
        sigma_ratio = math.exp(x[0]) if free_sigma else 1.0
        params = np.insert(x[1:] if free_sigma else x, index, u / sigma_ratio)
        solution = self.solve_pls(coordinates.lambdas(params))
        sigma = self.optimum.sigma * sigma_ratio
        by_entry = self.score_scaled_factors(solution, sigma if free_sigma else None)
        score = coordinates.pullback(params, by_entry)
        score_u, score_x = float(score[index]) / sigma_ratio, np.delete(score, index)
        if not free_sigma:
            return PointOfLinear(solution.deviance, score_u, score_x, solution)
        # log sigma acts through the residual and through the parameter u / sigma_ratio
        by_log_sigma = 2.0 * (self.likelihood.n - solution.pwrss / sigma**2) - score_u * u
        score_x, at_sigma = np.append(by_log_sigma, score_x), replace(solution, sigma=sigma)
        return PointOfLinear(deviance_at_sigma(solution, sigma), score_u, score_x, at_sigma)
