"""Profiled parameters of a generalised model, whose likelihood is searched in all parameters.

With ``u`` the profiled parameter as in :mod:`mixedfx.inference.profile.parametrization`, sigma
being 1, the nuisance parameters ``x`` are the other covariance parameters, then ``y``, with

    (beta, c) = estimates + u d + N y,

beta in the basis of X and c the coordinates of the family's parameters. For a coefficient
``a'beta`` in standard errors, ``a'd`` is its standard error and the columns of N are orthogonal to
``a``; for a family's parameter, ``u`` is the distance from the estimate in the coordinate that is a
function of that parameter alone; for a standard deviation or correlation ``d`` is zero and N is I.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.errors import ArgumentError, ModesNotFound
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.inference.parameters import Parameter
from mixedfx.inference.profile.profiled_parameter import ProfiledParameter
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalEvaluation,
    Point,
)
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class MarginalOptimum:
    """The maximum of a generalised model's likelihood, and the likelihood around it."""

    def __init__(self, fit: FittedModel) -> None:
        assert isinstance(fit.residual, FamilyEstimate)
        if not fit.residual.nagq:
            raise ArgumentError(
                "a profile is of Laplace's likelihood or of quadrature, and nagq=0 does not "
                "maximise it: fit with nagq=1."
            )
        rows = rows_of(fit.design)
        self.likelihood = GeneralizedLikelihood(rows, fit.residual.nagq)
        self.solution: Solution = fit.solution
        self.params: Vector = fit.residual.params
        beta = basis_coefficients(rows, fit.residual.beta)
        self.rest = np.append(beta, rows.family.coordinates(self.params))  # (p + r,)
        self._modes: Sequence[Matrix] | None = None
        self.deviance = self.evaluate(fit.solution.factors, self.rest)[0]

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.likelihood.model.p

    def about(self, number: int) -> MarginalOptimum:
        """The same in coordinates of the family, one of which is of that parameter alone."""
        rows = self.likelihood.model
        family = rows.family.about(number)
        if family is rows.family:
            return self
        other = copy.copy(self)
        other.likelihood = replace(self.likelihood, model=replace(rows, family=family))
        other.rest = np.append(self.rest[: self.p], family.coordinates(self.params))
        return other

    def located(self, parameter: Parameter) -> Parameter:
        """The parameter of a random term, by the number of its term in the likelihood."""
        return parameter

    def column(self, fit: FittedModel, parameter: Parameter) -> int | None:
        """Number of a coefficient in the likelihood; None: it has none, or is none."""
        kept = fit.spec.kept_columns.tolist()
        fixed = parameter.kind == "fixed" and parameter.first in kept
        return kept.index(parameter.first) if fixed else None

    def checked(self, evaluation: MarginalEvaluation) -> MarginalEvaluation:
        """An evaluation at which the likelihood is what it approximates."""
        return evaluation

    def evaluate(
        self, factors: Sequence[Matrix], rest: Vector
    ) -> tuple[float, list[Matrix], Vector]:
        """Deviance, derivatives by the scaled factors, and by beta and log phi."""
        point = Point(tuple(factors), rest[: self.p], rest[self.p :])
        try:
            evaluation = self.checked(self.likelihood.at(point, self._modes))
            deviance = evaluation.deviance
        except ModesNotFound as error:
            raise ArithmeticError(str(error)) from None
        self._modes = evaluation.modes.u
        by = evaluation.gradient
        by_rest = np.append(by.by_beta, by.by_family)
        return deviance, self.likelihood.model.term_blocks(by.by_lambda), by_rest


@dataclass(frozen=True)
class ProfiledMarginal(ProfiledParameter):
    """A parameter of the marginal likelihood; ``x`` is its own, covariances, and ``y``."""

    likelihood: GeneralizedLikelihood
    optimum: MarginalOptimum
    n_own: int = field(default=0, kw_only=True)  # leading nuisance parameters of the subclass
    by_u: Vector = field(kw_only=True)  # (p + r,) d
    by_y: Matrix = field(kw_only=True)  # (p + r, k) N

    @abstractmethod
    def factors_at(self, u: float, own: Vector, covariance: Vector) -> list[Matrix]:
        """``F_t`` of each term."""

    @abstractmethod
    def pull_back(
        self, u: float, own: Vector, covariance: Vector, by_entry: list[Matrix]
    ) -> tuple[float, Vector]:
        """Derivatives by ``u`` and by the own and covariance parameters, from those by F."""

    @property
    def _first_y(self) -> int:
        return len(self.x_hat) - int(self.by_y.shape[1])

    def deviance_and_score(self, u: float, x: Vector) -> tuple[float, float, Vector]:
        """Chain the derivatives of the marginal deviance."""
        own, covariance, y = np.split(x, [self.n_own, self._first_y])
        changes = self.factors.changes
        F = self.factors_at(u, own, covariance)
        scaled = [B @ factor for B, factor in zip(changes, F, strict=True)]
        rest = self.optimum.rest + u * self.by_u + self.by_y @ y
        deviance, by_scaled, by_rest = self.optimum.evaluate(scaled, rest)
        by_entry = [B.T @ by for B, by in zip(changes, by_scaled, strict=True)]
        by_u, by_covariance = self.pull_back(u, own, covariance, by_entry)
        score_u = by_u + float(self.by_u @ by_rest)
        return deviance, score_u, np.append(by_covariance, self.by_y.T @ by_rest)

    def canonical_signs(self, x: Vector) -> Vector:
        """Choose one of the points that differ in the signs of the factors' columns only."""
        own, covariance, y = np.split(x, [self.n_own, self._first_y])
        return np.concatenate([np.abs(own), self._canonical(covariance), y])

    def _canonical(self, covariance: Vector) -> Vector:
        return self.factors.coordinates.canonical(covariance)

    def axes(self) -> Matrix:
        """
        Of the covariance parameters, all others moving along; one a row.

        Given these, the deviance is close to convex in the coefficients.
        """
        root, k = self.local_quadratic.hessian_inv_root, self._first_y
        if not k:
            return np.zeros((0, len(root)))
        H_inv = root @ root.T
        L = np.linalg.cholesky(H_inv[:k, :k])
        return np.asarray(linalg.solve_triangular(L, H_inv[:k], lower=True))
