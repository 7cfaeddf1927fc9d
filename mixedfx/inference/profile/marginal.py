"""Coefficients and family parameters of a generalised model, profiled; and the choice by kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.marginal_covariance import (
    profile_correlation,
    profile_sd,
    profile_structure,
)
from mixedfx.inference.profile.marginal_optimum import MarginalOptimum, ProfiledMarginal
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter
from mixedfx.inference.profile.term_factors import TermFactors
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A family's parameter is taken for zero at this ratio to its estimate: where the likelihood has a
# limit at zero, it has nearly reached it, and rounding does not show yet.
_ZERO_RATIO = 1e-4


def profile_marginal_parameter(
    fit: FittedModel, optimum: MarginalOptimum, parameter: Parameter
) -> ProfiledParameter | None:
    """Parametrise the marginal deviance; None for a parameter without estimate or coordinate."""
    column = optimum.column(fit, parameter)
    if column is not None:
        return _coefficient(optimum, parameter.name, column)
    if parameter.kind == "fixed":
        return None
    if parameter.kind == "dispersion":
        assert parameter.first is not None
        return _family_parameter(optimum, parameter.name, parameter.first)
    parameter = optimum.located(parameter)
    if parameter.structure_param is not None:
        return profile_structure(optimum, parameter)
    if parameter.first is None:
        return None  # a correlation that several parameters of a structure determine
    if parameter.second is None:
        return profile_sd(optimum, parameter, parameter.first)
    return profile_correlation(optimum, parameter, [parameter.first, parameter.second])


@dataclass(frozen=True)
class _ProfiledRest(ProfiledMarginal):
    """A coefficient or a family's parameter."""

    def factors_at(self, u: float, own: Vector, covariance: Vector) -> list[Matrix]:
        return self.factors.coordinates.lambdas(covariance)

    def pull_back(
        self, u: float, own: Vector, covariance: Vector, by_entry: list[Matrix]
    ) -> tuple[float, Vector]:
        return 0.0, self.factors.coordinates.pullback(covariance, by_entry)


@dataclass(frozen=True)
class _ProfiledCoefficient(_ProfiledRest):
    """A fixed effect; ``u`` is its distance from the estimate in standard errors."""

    estimate: float
    unit: float  # its standard error

    def value(self, u: float) -> float:
        return self.estimate + self.unit * u


@dataclass(frozen=True)
class _ProfiledFamilyParameter(_ProfiledRest):
    """A family's parameter; ``u`` is the distance of its coordinate from the estimate's."""

    number: int

    def value(self, u: float) -> float:
        if u == self.bounds[0]:
            return 0.0
        by_u = self.by_u[self.optimum.p :]
        moves = np.where(by_u == 0.0, 0.0, u) * by_u  # u may be infinite
        coordinates = self.optimum.rest[self.optimum.p :] + moves
        return float(self.likelihood.model.family.natural(coordinates)[self.number])


def _fields(optimum: MarginalOptimum, name: str, by_u: Vector, by_y: Matrix) -> dict[str, Any]:
    """Fields of a profiled parameter whose estimate is at ``u = 0``."""
    factors = TermFactors.at_optimum(optimum.solution)
    none = np.zeros(by_y.shape[1])
    return {
        "name": name,
        "likelihood": optimum.likelihood,
        "optimum": optimum,
        "factors": factors,
        "x_hat": np.append(factors.params, none),
        "min_start": np.append(factors.min_start, none),
        "u_hat": 0.0,
        "by_u": by_u,
        "by_y": by_y,
    }


def _coefficient(optimum: MarginalOptimum, name: str, column: int) -> ProfiledParameter:
    """A fixed effect; ``u`` is its distance from the estimate in standard errors."""
    p, m, solution = optimum.p, len(optimum.rest), optimum.solution
    a = combinations_in_basis(np.eye(p)[[column]], optimum.likelihood.model.qr_R)[0]
    V = solution.vcov_in_basis
    if not float(a @ V @ a) > 0.0:
        V = np.eye(p)
    variance = float(a @ V @ a)
    by_u, by_y = np.zeros(m), np.zeros((m, m - 1))
    by_u[:p] = V @ a / math.sqrt(variance)
    by_y[:p, : p - 1] = linalg.null_space(a[None])
    by_y[p:, p - 1 :] = np.eye(m - p)
    return _ProfiledCoefficient(
        **_fields(optimum, name, by_u, by_y),
        bounds=(-np.inf, np.inf),
        estimate=float(solution.beta[column]),
        unit=math.sqrt(variance),
    )


def _family_parameter(optimum: MarginalOptimum, name: str, number: int) -> ProfiledParameter:
    """A family's parameter, all others moving with it."""
    optimum = optimum.about(number)
    unit, at = np.eye(len(optimum.rest)), optimum.p + number
    positive = optimum.likelihood.model.family.param_scales[number] == "log"
    return _ProfiledFamilyParameter(
        **_fields(optimum, name, unit[at], np.delete(unit, at, axis=1)),
        bounds=(math.log(_ZERO_RATIO) if positive else -np.inf, np.inf),
        number=number,
    )
