"""Log posterior density of the covariance parameters, sigma and the residual model's parameters.

Fixed and random effects are integrated out in closed form,

    log p(z | y) = log p(y | z) + log p(z) + constant,    log p(y | z) = -d(z) / 2,

with ``d`` the REML criterion at the covariances of ``z``, updated by the normal priors of the
fixed effects (:func:`~mixedfx.likelihood.constrained.update_with_normal_prior`), and ``z`` the
unconstrained parameters of :mod:`mixedfx.bayes.unconstrained`. For a single grouping factor
``d`` is evaluated at many points at once (:mod:`mixedfx.bayes.vectorized_pls`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.unconstrained import (
    ConstrainedParameters,
    ParameterTransform,
    parameter_transform,
)
from mixedfx.bayes.vectorized_pls import VectorizedPLS
from mixedfx.design.build import Design
from mixedfx.likelihood.constrained import update_with_normal_prior
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.score import score_lambdas, score_log_sigma
from mixedfx.priors.specification import PriorSpecification
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Coordinates beyond this bound have a density of zero: their exponentials and squares of them
# would leave double precision.
_MAX_COORDINATE = 200.0


class LogPosterior:
    """Log posterior density of a design whose residual model has no random effects."""

    def __init__(self, design: Design, priors: PriorSpecification) -> None:
        self.design, self.priors = design, priors
        self.model = residual_model(design)
        self.sums = self.model.reduce(design)
        self.crossprod = self.model.reweight(self.sums, np.zeros(self.model.n_params))
        self.transform: ParameterTransform = parameter_transform(
            self.crossprod.parametrization,
            priors,
            sigma=design.spec.fixed_sigma,
            to_gamma=self.model.coefficient_matrix,
            to_log_sigma=self.model.log_sigma_row,
        )
        self.evaluations = 0
        self.vectorized = (
            None if self.model.n_params else VectorizedPLS.prepare(self.crossprod, priors)
        )

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.transform.size

    def crossproducts(self, params: ConstrainedParameters, i: int) -> CrossProducts:
        """Cross-products at the weights and the sigma of point ``i``."""
        crossprod = self.model.reweight(self.sums, params.residual[i])
        return replace(crossprod, sigma=float(params.sigma[i]))

    def solution(self, params: ConstrainedParameters, i: int) -> Solution:
        """Posterior moments of the effects given the parameters of point ``i``, and ``d``."""
        self.evaluations += 1
        sigma = float(params.sigma[i])
        crossprod = self.crossproducts(params, i)
        lambdas = [factor[:, :, i] / sigma for factor in params.cov_factors]
        solution = solve_pls_at_factors(crossprod, crossprod.own_factors(lambdas), reml=True)
        return update_with_normal_prior(solution, self.priors.coef_mean, self.priors.coef_sd)

    def drawn(self, points: Matrix) -> ConstrainedParameters:
        """Parameters at drawn points, with what else the residuals of a draw depend on."""
        return self.transform.constrain(points)

    def further_variables(self, points: Matrix, params: ConstrainedParameters) -> dict[str, Any]:
        """Variables of draws beside the parameters: values, and labels of their axes by name."""
        return {}

    def log_densities(self, points: Matrix) -> Vector:
        """Log posterior density (B,) of the coordinates ``points`` (B, size), up to a constant."""
        out = np.full(len(points), -np.inf)
        bounded = np.abs(points).max(axis=1, initial=0.0) < _MAX_COORDINATE
        params = self.transform.constrain(points[bounded])
        # Far from the mode matrices can be singular to rounding, and numbers overflow.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            log_prior = self.transform.log_prior(params, self.priors, jacobian=True)
            if self.vectorized is not None:
                self.evaluations += len(points)
                deviances = self.vectorized.deviances(params)
            else:
                deviances = np.array([self._deviance(params, i) for i in range(len(params.sigma))])
            total = log_prior - 0.5 * deviances
        out[bounded] = np.where(np.isfinite(total), total, -np.inf)
        return out

    def _deviance(self, params: ConstrainedParameters, i: int) -> float:
        try:
            return self.solution(params, i).deviance
        except (np.linalg.LinAlgError, ValueError):
            return np.inf

    def objective(self, z: Vector, *, jacobian: bool) -> tuple[float, Vector]:
        """Minus twice the log posterior density at one point, and its gradient."""
        zeros = np.zeros(self.size)
        if np.abs(z).max(initial=0.0) > _MAX_COORDINATE:
            return np.inf, zeros
        params = self.transform.constrain(z[None])
        try:
            solution = self.solution(params, 0)
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, zeros
        log_prior = float(self.transform.log_prior(params, self.priors, jacobian=jacobian)[0])
        by_prior = self.transform.log_prior_gradient(z, self.priors, jacobian=jacobian)
        gradient = self._deviance_gradient(z, params, solution) - 2.0 * by_prior
        value = solution.deviance - 2.0 * log_prior
        return (value, gradient) if np.isfinite(value) else (np.inf, zeros)

    def _deviance_gradient(
        self, z: Vector, params: ConstrainedParameters, solution: Solution
    ) -> Vector:
        """Gradient of ``d``, by the chain rule from the scores of Lambda, log sigma and weights."""
        sigma = float(params.sigma[0])
        by_lambda = score_lambdas(solution)
        out = self.transform.pullback(z, [score / sigma for score in by_lambda])
        if isinstance(self.transform.sigma, int):
            by_sigma = score_log_sigma(solution)
            # Unless theta is fixed, the absolute factors sigma Lambda stay constant, not Lambda.
            if self.transform.known_lambdas is None:
                for score, factor in zip(by_lambda, params.cov_factors, strict=True):
                    by_sigma -= float((score * factor[:, :, 0]).sum()) / sigma
            out[self.transform.sigma] = by_sigma
        by_residual = self.model.score(None, self.design.rows, params.residual[0], solution)
        out[self.transform.residual] = by_residual
        return out
