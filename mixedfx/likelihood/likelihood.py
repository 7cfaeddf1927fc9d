"""Likelihood of a Gaussian mixed model as a function of theta.

A likelihood holds the cross-products of the data and the criterion: maximum likelihood, beta and
sigma being maximised out, or REML, beta being integrated out (formulas in
:mod:`mixedfx.likelihood`). Estimation minimises its deviance; inference differentiates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.likelihood.accumulate import crossproducts_of, with_response
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense import MAX_EFFECTS, DenseCrossProducts
from mixedfx.likelihood.identifiability import Dependence, dependences
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.likelihood.score import average_information, score_theta
from mixedfx.linalg.solver import Solver

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GaussianLikelihood:
    """Deviance, score and information of theta; sigma is profiled out unless it is known."""

    crossprod: CrossProducts
    reml: bool

    @staticmethod
    def from_design(design: Design, *, reml: bool) -> GaussianLikelihood:
        """Likelihood of a design's rows."""
        return GaussianLikelihood(crossproducts_of(design), reml)

    def with_solver(self, solver: Solver) -> GaussianLikelihood:
        """The same likelihood, otherwise factorised."""
        return replace(self, crossprod=replace(self.crossprod, solver=solver))

    @property
    def for_curvature(self) -> GaussianLikelihood:
        """The same as accurate as its second derivatives need it."""
        solver = self.crossprod.solver
        return self if solver.for_curvature == solver else self.with_solver(solver.for_curvature)

    def with_response(self, rows: ModelRows) -> GaussianLikelihood:
        """Likelihood of rows that differ in the response alone."""
        return replace(self, crossprod=with_response(self.crossprod, rows))

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached properties out of copies and pickles."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def parametrization(self) -> Parametrization:
        """Parametrization of the random terms' covariances by theta."""
        return self.crossprod.parametrization

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.crossprod.n

    @property
    def p(self) -> int:
        """Number of fixed columns."""
        return self.crossprod.p

    @property
    def profiles_sigma(self) -> bool:
        """Whether sigma is estimated, not known."""
        return self.crossprod.profiles_sigma

    @property
    def column_rms(self) -> tuple[Vector, ...]:
        """Root mean square of each term's own columns."""
        return self.crossprod.column_rms

    @property
    def nu(self) -> int:
        """Denominator of the profiled sigma**2: n, or n - p under REML."""
        return self.crossprod.nu(reml=self.reml)

    @cached_property
    def dependences(self) -> tuple[Dependence, ...]:
        """What the rows do not identify of the covariance parameters."""
        return dependences(self.crossprod, reml=self.reml)

    @cached_property
    def dense(self) -> DenseCrossProducts:
        """The cross-products as one matrix: for small models."""
        return DenseCrossProducts.of(self.crossprod)

    @cached_property
    def is_small(self) -> bool:
        """Whether one dense factor costs less than the elimination of grouping factors."""
        crossprod = self.crossprod
        return not crossprod.has_precision and crossprod.symbolic.size <= MAX_EFFECTS

    @property
    def dense_if_small(self) -> DenseCrossProducts | None:
        """The cross-products as one matrix where that is faster; else None."""
        return self.dense if self.is_small else None

    def at(self, theta: Vector) -> Solution:
        """Solution of the penalised least-squares problem at theta."""
        return solve_pls(self.crossprod, theta, reml=self.reml)

    def at_factors(self, factors: Sequence[Matrix]) -> Solution:
        """Solution at one factor F of the relative covariance for each term, in its basis."""
        return solve_pls_at_factors(self.crossprod, factors, reml=self.reml)

    def deviance(self, theta: Vector) -> float:
        """-2 log-likelihood, or the REML criterion, all constants included."""
        return self.at(theta).deviance

    def score(self, theta: Vector) -> Vector:
        """Derivative of the deviance by theta, (m,)."""
        return score_theta(self.at(theta), theta)

    def information(self, theta: Vector) -> Matrix:
        """Average information: the mean of observed and expected Hessian, (m, m)."""
        jacobians = self.parametrization.coordinates.jacobians(np.asarray(theta, dtype=float))
        in_basis = [
            basis.inverse @ J for basis, J in zip(self.crossprod.bases, jacobians, strict=True)
        ]
        return average_information(self.at(theta), in_basis)

    def maximum_likelihood(self) -> GaussianLikelihood:
        """Maximum likelihood of the same cross-products; itself where that is the criterion."""
        return replace(self, reml=False)
