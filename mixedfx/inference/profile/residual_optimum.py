"""The maximum of the likelihood of a linear model whose residuals have parameters of their own.

The deviance is that of ``(theta, params)``, the coefficients and sigma profiled out: at any
parameters of the residuals the model is one with known covariances, whose cross-products the
residual model gives without reading the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.nested import maximum_near
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ResidualOptimum:
    """Estimates by maximum likelihood, and the likelihood around them."""

    design: Design
    model: Any  # the residual model
    sums: Any  # of the rows, for the model
    params: Vector  # (k,) of the residual model
    solution: Solution

    @staticmethod
    def of(fit: FittedModel) -> ResidualOptimum:
        """Maximise the likelihood from the estimates of a fit; REML has another maximum."""
        design, model = fit.original_design, fit.residual.model
        problem, params, solution = maximum_near(design, model, fit.residual.residual_params)
        return ResidualOptimum(design, model, problem.sums, params, solution)

    @property
    def deviance(self) -> float:
        """Deviance at the maximum."""
        return self.solution.deviance

    def likelihood(self, params: Vector) -> GaussianLikelihood:
        """Likelihood at parameters of the residual model; ArithmeticError outside its domain."""
        if not self.model.contains(params):
            raise ArithmeticError("the residuals' covariance is singular, or not finite")
        return GaussianLikelihood(self.model.reweight(self.sums, params), reml=False)

    def score(self, params: Vector, solution: Solution) -> Vector:
        """Derivative (k,) of the deviance by the parameters, at the solution's sigma."""
        return np.asarray(self.model.score(self.sums, self.design.rows, params, solution))

    def reordered(self, stratum: int, first: Sequence[int]) -> ResidualOptimum:
        """The same maximum, some positions of correlated residuals before the others."""
        model, params, ratio = self.model.reordered(self.params, stratum, tuple(first))
        sums = model.reduce(self.design)
        moved = ResidualOptimum(self.design, model, sums, params, self.solution)
        factors = [F / ratio for F in self.solution.factors]
        solution = moved.likelihood(params).at_factors(factors)
        return ResidualOptimum(self.design, model, sums, params, solution)
