"""Deviance as a function of one profiled parameter and of nuisance parameters.

With ``u`` a monotone function of the profiled parameter and ``x`` all other covariance
parameters, the profile deviance is ``D(u) = min_x d(u, x)``; by the envelope theorem its
derivative is the partial one, ``dD/du = dd/du`` at the constrained minimum.

Where ``u`` has no effect on the deviance, as a correlation has none where a standard deviation is
zero, one minimum ``D_0`` is attained at every ``u``, and ``D(u) = min(min_x d(u, x), D_0)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.inference.profile.term_factors import TermFactors
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.score import score_factors
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Smallest eigenvalue taken for a Hessian in unit-free parameters.
_MIN_EIGENVALUE = 1e-2
# With more random effects of scalar terms, all of them with scaled standard deviations above this,
# the profile has one minimum.
_MANY_EFFECTS, _INTERIOR = 1000, 0.05
# Step of the differences of the score, relative to coordinates above one.
_STEP = 1e-4


@dataclass(frozen=True)
class LocalQuadratic:
    """Second-order expansion of the deviance at the optimum, ``H = d2d / dx dx'``."""

    hessian_inv_root: Matrix  # R, (m, m), with R R' = H^-1: in z = R^-1 (x - x_hat), H is I
    hessian_root: Matrix  # R^-1
    dx_du: Vector  # (m,) derivative of the constrained minima
    dzeta_du: float  # above zero


class ProfileOptimum(Protocol):
    """The maximum of the likelihood."""

    @property
    def deviance(self) -> float:
        """Deviance there."""
        ...


@dataclass(frozen=True)
class ProfiledParameter(ABC):
    """Parametrization ``(u, x)`` in which ``u`` alone determines the profiled parameter."""

    name: str
    likelihood: Any
    optimum: ProfileOptimum
    factors: TermFactors
    x_hat: Vector  # (m,) nuisance parameters at the optimum, without unit
    min_start: Vector  # (m,) smallest absolute starting values of x
    u_hat: float  # at the optimum, without unit
    bounds: tuple[float, float]  # of u in the parameter space; may be infinite
    # lowest deviance of the models in which u has no effect: an upper bound of D at every u
    unidentified_deviance: float = field(default=math.inf, kw_only=True)

    @abstractmethod
    def value(self, u: float) -> float:
        """Transform ``u`` to the parameter in its own units, an increasing function."""

    @abstractmethod
    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        """Deviance, its derivative by ``u``, and its gradient by ``x`` (m,)."""

    def canonical_signs(self, x: Vector) -> Vector:
        """Choose one of the points that differ in the signs of the factors' columns only."""
        coordinates = self.factors.coordinates
        n_others = len(x) - coordinates.size
        others, params = x[:n_others], x[n_others:]
        others = np.where(self.min_start[:n_others] > 0.0, np.abs(others), others)
        return np.append(others, coordinates.canonical(params))

    @cached_property
    def local_quadratic(self) -> LocalQuadratic:
        """Second-order expansion at the optimum, from differences of the analytic score."""
        return _expand(self)

    @property
    def may_have_other_minima(self) -> bool:
        """Whether lower minima are looked for far from those that are known."""
        return True

    def axes(self) -> Matrix:
        """Directions in which a lower minimum is looked for, a row each, of unit length in z."""
        return self.local_quadratic.hessian_inv_root.T


class PointOfLinear(NamedTuple):
    """Deviance of a linear mixed model at one ``(u, x)``, and where it was computed."""

    deviance: float
    score_u: float
    score_x: Vector  # (m,)
    solution: Solution  # at the sigma and the coefficients of the point


@dataclass(frozen=True)
class ProfiledOfLinear(ProfiledParameter):
    """A parameter of a linear mixed model, whose coefficients are profiled out."""

    likelihood: GaussianLikelihood  # with maximum likelihood as its criterion
    optimum: Solution  # the maximum of the likelihood

    @property
    def may_have_other_minima(self) -> bool:
        """Not where the fit itself is from one start, interior: scalar terms of many effects."""
        crossprod = self.likelihood.crossprod
        scalar = max(crossprod.parametrization.widths, default=1) == 1
        interior = all(abs(F[0, 0]) > _INTERIOR for F in self.optimum.factors)
        return not (scalar and interior and crossprod.symbolic.size > _MANY_EFFECTS)

    @abstractmethod
    def at(self, u: float, x: Vector) -> PointOfLinear:
        """Deviance and its derivatives."""

    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        """Those of the point."""
        return self.at(u, x)[:3]

    def solve_pls(self, factors: Sequence[Matrix]) -> Solution:
        """Solve the penalised least-squares problem at the scaled factors ``B_t F_t``."""
        scaled = [B @ F for B, F in zip(self.factors.changes, factors, strict=True)]
        solution = self.likelihood.at_factors(scaled)
        if not solution.pwrss > solution.crossprod.zero_pwrss:
            raise ValueError("the penalised residual sum of squares is zero to rounding")
        return solution

    def score_scaled_factors(self, solution: Solution, sigma: float | None = None) -> list[Matrix]:
        """Derivatives of the deviance by the entries of each ``F_t``, (k, k) each."""
        scores = score_factors(solution, sigma=sigma)
        return [B.T @ score for B, score in zip(self.factors.changes, scores, strict=True)]


def _expand(profiled: ProfiledParameter) -> LocalQuadratic:
    """Central differences of the score of ``(u, x)`` at the optimum."""
    point = np.append(profiled.u_hat, profiled.x_hat)

    def score(at: Vector) -> Vector:
        _, by_u, by_x = profiled.deviance_and_score(at[0], at[1:])
        return np.append(by_u, by_x)

    H = jacobian(score, point, relative_steps(point, _STEP), order=2)
    H = 0.5 * (H + H.T)
    values, vectors = np.linalg.eigh(H[1:, 1:])
    values = np.maximum(values, max(_MIN_EIGENVALUE, 1e-8 * values.max(initial=0.0)))
    inv_root = vectors / np.sqrt(values)
    dx_du = -inv_root @ (inv_root.T @ H[1:, 0])
    # D(u) = D_hat + (u - u_hat)^2 D'' / 2, with D'' = H_uu - H_ux H_xx^-1 H_xu
    second_derivative = max(float(H[0, 0] + H[0, 1:] @ dx_du), _MIN_EIGENVALUE)
    return LocalQuadratic(
        inv_root,
        vectors.T * np.sqrt(values)[:, None],
        dx_du,
        math.sqrt(0.5 * second_derivative),
    )
