"""Parameters of a fit with other values for some of them, as simulations take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.family import Family
from mixedfx.inference.parameters import Parameter, parameters

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Smallest eigenvalue of a correlation matrix that rounding makes of zero.
_ROUNDING = -1e-10


@dataclass(frozen=True)
class ParameterValues:
    """Coefficients, residual standard deviation, and a factor of each term's covariance."""

    beta: Vector  # (p,)
    sigma: float
    effect_factors: tuple[Matrix, ...]  # (k, k), cov(b) = factor factor'
    family_params: Vector  # (r,) of a generalised model's family

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.beta, self.family_params, *self.effect_factors)


def parameter_values(fit: FittedModel, given: Mapping[str, Any] | None) -> ParameterValues:
    """Values of a fit's parameters, those given by name in place of the estimates."""
    solution = fit.solution
    factors = tuple(solution.sigma * lam for lam in solution.lambdas)
    if given is None:
        return ParameterValues(
            solution.beta, solution.sigma, factors, fit.residual.distribution_params
        )
    if not isinstance(given, Mapping):
        raise ArgumentError(f"params={given!r} must map names of parameters to values.")
    of_family: tuple[str, ...] = ()
    if len(fit.residual.distribution_params):
        of_family = tuple(fit.residual.family_params(solution.sigma))
    named = {p.name: p for p in parameters(fit) if p.kind != "dispersion" or p.name in of_family}
    for name in given:
        check_choice("params", name, [*named, "theta"])
    values = {name: _number(name, value) for name, value in given.items() if name != "theta"}
    beta = solution.beta.copy()
    for j, column in enumerate(fit.spec.X_names):
        beta[j] = values.get(column, beta[j])
    sigma = solution.sigma
    for name, p in named.items():
        sigma = _not_negative(name, values.get(name, sigma)) if p.kind == "sigma" else sigma
    if "theta" in given:
        lambdas = fit.crossprod.parametrization.lambdas(_theta(fit, given["theta"]))
        factors = tuple(sigma * lam for lam in lambdas)
    of_terms = [p for p in named.values() if p.term is not None]
    if any(p.name in values for p in of_terms):
        if "theta" in given:
            raise ArgumentError("params has theta beside standard deviations; give one of them.")
        factors = tuple(
            _factor(fit, t, [p for p in of_terms if p.term == t], values, factor)
            for t, factor in enumerate(factors)
        )
    own = zip(of_family, fit.residual.distribution_params, strict=True)
    family_params = np.array([float(values.get(name, v)) for name, v in own])
    _check_family_params(fit.spec.family, family_params)
    return ParameterValues(beta, sigma, factors, family_params)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise ArgumentError(f"params: {name} = {value!r} must be a finite number.")
    return number


def _not_negative(name: str, value: float) -> float:
    if value < 0.0:
        raise ArgumentError(f"params: {name} = {value:g} is a standard deviation; give 0 or more.")
    return value


def _check_family_params(family: Family, params: Vector) -> None:
    """Raise for values that the family's parameters cannot have."""
    with np.errstate(all="ignore"):
        possible = len(params) == 0 or np.isfinite(family.coordinates(params)).all()
    if not possible:
        seen = ", ".join(
            f"{name} = {v:g}" for name, v in zip(family.param_names, params, strict=True)
        )
        raise ArgumentError(f"params: {seen} {family.param_range}.")


def _theta(fit: FittedModel, value: Any) -> Vector:
    m = fit.crossprod.parametrization.size
    try:
        theta = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        theta = np.empty(0)
    if theta.shape != (m,) or not np.isfinite(theta).all():
        raise ArgumentError(f"params: theta must be {m} finite numbers, as fit.theta.")
    return theta


def _factor(
    fit: FittedModel,
    t: int,
    of_term: list[Parameter],
    values: Mapping[str, float],
    factor: Matrix,
) -> Matrix:
    """Factor of one term's covariance with the standard deviations and correlations given."""
    if not any(p.name in values for p in of_term):
        return factor
    structure, _ = fit.crossprod.parametrization.terms[t]
    if not structure.linear:
        term = fit.spec.random_terms[t].formula_term
        raise ArgumentError(
            f"params: the standard deviations and correlations of {term} are tied by its "
            "structure; give theta instead."
        )
    k = len(factor)
    sds, R = np.zeros(k), np.eye(k)
    for p in of_term:
        value = values.get(p.name, 0.0 if np.isnan(p.value) else p.value)
        if p.kind == "sd":
            sds[p.first] = _not_negative(p.name, value)
        else:
            R[p.first, p.second] = R[p.second, p.first] = value
    eigenvalues, vectors = np.linalg.eigh(R)
    if eigenvalues[0] < _ROUNDING:
        raise ArgumentError(
            f"params: the correlations of {fit.spec.random_terms[t].formula_term} are those of no "
            "covariance matrix: its smallest eigenvalue would be negative."
        )
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    return np.asarray(sds[:, None] * root)
