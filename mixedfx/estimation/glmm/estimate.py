"""Estimates of a generalised model, and what inference reads from them.

Given the estimates, the model is a linear one of the working response with known weights
(:mod:`mixedfx.estimation.glmm.working`): conditional modes and their covariances are its. The
criterion, the covariance of the coefficients and the family's parameters are of the marginal
likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.design.slim import raise_without_rows
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ArgumentError
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.estimation.contracts import Deletion, Derivatives, Number
from mixedfx.estimation.curvature import HessianAtOptimum
from mixedfx.estimation.glmm.deletion import MarginalDeletion
from mixedfx.estimation.glmm.mode_derivatives import modes_jacobian
from mixedfx.estimation.glmm.separation_notes import no_maximum_note
from mixedfx.estimation.glmm.statsmodels_glm import glm_result
from mixedfx.estimation.glmm.unpooled import unpooled_effects
from mixedfx.estimation.notes import Note
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.families.family import Family
from mixedfx.families.several_predictors import SeveralPredictors
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.constrained import fix_coefficients
from mixedfx.likelihood.generalized.evaluated_rows import working_response
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import ParameterUncertainty
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.symmetric import pseudo_inverse
from mixedfx.residuals.family_distribution import FamilyDistribution, normal_quantiles
from mixedfx.residuals.model import (
    FamilyModel,
    ResidualParameter,
    ResponseAroundPredictor,
    family_components,
)
from mixedfx.residuals.predictive import FamilyPredictive, Predictive

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Largest step of the logarithm of a drawn parameter: near an end its error has no bound.
LARGEST_STEP = 2.0
# Eigenvalues of a Hessian that are zero, as a share of the largest.
_SINGULAR = 1e-14


@dataclass(frozen=True)
class FamilyEstimate(ResidualEstimate):
    """Estimates of the marginal likelihood."""

    model: FamilyModel
    marginal_deviance: float = field(kw_only=True)
    beta: Vector = field(kw_only=True)  # (p,)
    params: Vector = field(kw_only=True)  # (r,) of the family, natural values
    # Coordinates of scaled factors of fixed rank, coefficients of X in its basis, the family's
    x: Vector = field(kw_only=True, repr=False)  # (m,)
    gradient: Vector = field(kw_only=True, repr=False)  # (m,)
    hessian: Matrix = field(kw_only=True, repr=False)  # (m, m)
    # Derivatives of each term's covariance by its coordinates, (m_t, k, k)
    covariance_jacobians: tuple[Matrix, ...] = field(kw_only=True, repr=False)
    scores_by_params: Matrix = field(kw_only=True, repr=False)  # (q, r), ``Z'(dg/dphi)``
    working_response: Vector | None = field(kw_only=True, repr=False)  # (n,) ``eta + g / w``
    working_weights: Vector | None = field(kw_only=True, repr=False)  # (n,)
    not_identified: tuple[str, ...] = field(default=(), kw_only=True)  # why there is no maximum

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values(), *self.covariance_jacobians)

    @property
    def family(self) -> Family:
        """Distribution of the response, with its link."""
        return self.model.spec.family

    @property
    def nagq(self) -> int:
        """Nodes of quadrature; 1: Laplace's approximation."""
        return self.model.spec.nagq

    @property
    def approximation(self) -> str:
        """How the random effects are integrated out, in words."""
        return self.model.spec.approximation

    @property
    def n_params(self) -> int:
        """Number of the family's parameters."""
        return len(self.params)

    def unidentified(self, likelihood: GaussianLikelihood, spec: ModelSpec) -> tuple[str, ...]:
        """Parameters that run off, or else variances that cannot be told apart."""
        return self.not_identified or super().unidentified(likelihood, spec)

    def unidentified_note(self, statements: tuple[str, ...]) -> Note:
        """Of a likelihood without a maximum."""
        if not self.not_identified:
            return super().unidentified_note(statements)
        return no_maximum_note(statements)

    @property
    def acov(self) -> Matrix:
        """Covariance of the free parameters, ``2 H^-1``, (m, m)."""
        if not np.isfinite(self.hessian).all():
            return np.full_like(self.hessian, np.nan)
        return 2.0 * pseudo_inverse(self.hessian, _SINGULAR)

    def in_search_order(self, matrix: Matrix) -> Matrix:
        """A matrix by the free parameters, (m, m), as the search has them."""
        return matrix

    @property
    def n_covariance(self) -> int:
        """Number of coordinates of the covariances among the free parameters."""
        return len(self.x) - len(self.beta) - len(self.params)

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """The family's parameters, with standard errors by the delta method."""
        return family_components(self.parametrized, self.params, self.params_covariance)

    @property
    def parametrized(self) -> Family | SeveralPredictors:
        """What the parameters are of."""
        return self.family

    @property
    def params_covariance(self) -> Matrix:
        """Covariance of the family's parameters, (r, r)."""
        first = len(self.x) - len(self.params)
        J = self.parametrized.natural_jacobian(self.x[first:])
        return np.asarray(J @ self.acov[first:, first:] @ J.T)

    def statsmodels_result(
        self, design: Design, likelihood: GaussianLikelihood, theta: Vector
    ) -> Any:
        """Result of GLM, without random terms."""
        return glm_result(design, self.params, self.beta)

    def family_params(self, sigma: float) -> dict[str, float]:
        """The family's parameters, by name."""
        return dict(zip(self.family.param_names, self.params.tolist(), strict=True))

    def varcorr_sd(self, sigma: float) -> float | None:
        """That of a normal response."""
        return self.family.residual_sd(self.params)

    def residual_sds(self, sds: Vector) -> Vector:
        """Those of a normal response; no other family has a residual of its own."""
        sd = self.varcorr_sd(1.0)
        if sd is None:
            raise ArgumentError(
                f"a response of the family '{self.family.name}' has no residual standard "
                "deviation beside its mean: fit.family_params has the family's parameters, and "
                "fit.simulate() draws responses."
            )
        return sd * sds

    def scale(self, sigma: float) -> float | None:
        """The family's, None of counts."""
        return self.family.scale(self.params)

    def fitted_mean(self, eta: Vector) -> Vector:
        """That of the family."""
        return self.family.response_mean(eta, self.params)

    def pearson_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """By the family's mean and variance."""
        with np.errstate(divide="ignore", invalid="ignore"):  # of no trials
            variance = self.family.variance(self.family.mean(eta), rows.weights, self.params)
            return np.asarray((rows.y - self.fitted_mean(eta)) / np.sqrt(variance))

    def hypothesis_root(self, solution: Solution) -> Matrix:
        """Of the inverse of cov(beta), as R's ``car::Anova`` adjusts Wald tests."""
        if not np.isfinite(solution.vcov_in_basis).all():
            return super().hypothesis_root(solution)
        values, vectors = np.linalg.eigh(solution.vcov_in_basis)
        # A covariance that is singular to rounding has eigenvalues below zero.
        least = np.finfo(float).eps * max(values.max(initial=0.0), np.finfo(float).tiny)
        root = (vectors / np.sqrt(np.maximum(values, least))).T
        qr_R = solution.crossprod.qr_R
        return np.asarray(root if qr_R is None else root @ qr_R)

    @property
    def test_columns(self) -> tuple[str, ...]:
        """Of chi-squared tests."""
        return ("chisq", "df", "p_value")

    def test_row(self, test: Mapping[str, float], sigma: float) -> dict[str, float]:
        """The F statistic times its degrees of freedom."""
        df = test["num_df"]
        return {"chisq": test["F"] * df, "df": df, "p_value": test["p_value"]}

    def hessian_at_optimum(
        self, likelihood: GaussianLikelihood, solution: Solution
    ) -> HessianAtOptimum:
        """Of the marginal deviance, coefficients and the family's parameters profiled out."""
        coordinates, x = rank_reduced_coordinates(likelihood.parametrization, solution.factors)
        m = self.n_covariance
        A, B, C = self.hessian[:m, :m], self.hessian[:m, m:], self.hessian[m:, m:]
        profiled = np.full_like(A, np.nan)
        if np.isfinite(self.hessian).all():
            profiled = A - B @ pseudo_inverse(C, _SINGULAR) @ B.T
        scaled = ScaledLikelihood(likelihood, coordinates)
        return HessianAtOptimum(scaled, x, self.gradient[:m].copy(), profiled)

    def deviance(self, solution: Solution) -> float:
        """-2 log-likelihood, random effects integrated out."""
        return self.marginal_deviance

    def criterion(self, solution: Solution) -> float:
        """The same, evaluated on the rows as they are."""
        return self.marginal_deviance

    def rounding(self, solution: Solution) -> float:
        """Of a sum over the rows: nothing large cancels, as the squares of a response do."""
        scale = solution.crossprod.n + abs(self.marginal_deviance)
        return float(np.finfo(float).eps) * scale

    def at_estimates(self, solution: Solution) -> Solution:
        """Coefficients of the marginal likelihood, and their covariance."""
        m, p = self.n_covariance, len(self.beta)
        solution = fix_coefficients(solution, self.beta)
        in_basis = np.ascontiguousarray(self.acov[m : m + p, m : m + p])
        return replace(
            solution,
            vcov_unscaled=solution.crossprod.vcov_of_coefficients(in_basis),
            vcov_in_basis=in_basis,
        )

    def parameter_uncertainty(self, solution: Solution) -> ParameterUncertainty:
        """All free parameters."""
        m, p = self.n_covariance, len(self.beta)
        jacobian = modes_jacobian(solution, self.covariance_jacobians, self.scores_by_params)
        return ParameterUncertainty(self.acov, jacobian, slice(m, m + p), self.covariance_jacobians)

    def leverage_solution(self, solution: Solution) -> Solution:
        """The working model, its coefficients' covariance given theta."""
        p = len(self.beta)
        in_basis = np.asarray(np.linalg.pinv(solution.schur.matrix[:p, :p], hermitian=True))
        return replace(solution, vcov_in_basis=in_basis)

    def unpooled_effects(self, design: Design, solution: Solution, t: int) -> Matrix:
        """By maximum likelihood, infinite where the rows are separated."""
        return unpooled_effects(design, self.family, solution, self.params, t)

    def deletion(self, design: Design, solution: Solution) -> Deletion:
        """By the marginal likelihood of the other rows."""
        if self.nagq == 0:
            raise ArgumentError(
                "influence(group) and loo() are of the marginal likelihood, and nagq=0 maximises "
                "another function over the coefficients: fit with nagq=1 for it."
            )
        return MarginalDeletion.of(design, solution, self.params, self.hessian, self.nagq)

    def quantile_residuals(
        self, rows: ModelRows, eta: Vector, sigma: float, uniform: Vector
    ) -> Vector:
        """By the family's distribution function."""
        with np.errstate(all="ignore"):
            mu = self.family.mean(eta)
            ends = self.family.cdf(rows.y, mu, rows.weights, self.params)
            return normal_quantiles(*ends, uniform)

    def independent_residuals(
        self, rows: ModelRows, eta: Vector, sigma: float, uniform: Vector
    ) -> Vector:
        """Quantile residuals."""
        return self.quantile_residuals(rows, eta, sigma, uniform)

    @property
    def log_densities(self) -> Callable[[ModelRows, Matrix], Vector] | None:
        """The family's, but for constants."""
        return lambda rows, etas: (
            self.family.derivatives(rows.y, rows.weights, etas[0], self.params).value
        )

    def drawn(self, solution: Solution, rng: np.random.Generator) -> tuple[Self, float]:
        """
        The family's positive parameters from the normal distribution of their logarithms.

        Others, thresholds, depend on the effects given the data, and stay as they are.
        """
        relative = [
            c.std_error / c.value if c.scale == "log" and np.isfinite(c.std_error) else 0.0
            for c in self.components[: len(self.params)]
        ]
        steps = np.array(relative) * rng.standard_normal(len(relative))
        factors = np.exp(np.clip(steps, -LARGEST_STEP, LARGEST_STEP))
        return replace(self, params=self.params * factors), solution.sigma

    def draw_working_residuals(
        self, rows: ModelRows, sigma: float, rng: np.random.Generator
    ) -> Vector:
        """``W^1/2 e``; where a log density is not concave, none."""
        w = self.working_rows(rows).weights
        assert w is not None
        return np.asarray(np.sqrt(np.maximum(w, 0.0)) * rng.standard_normal(rows.n))

    def predictive_of_rows(self, rows: ModelRows, sds: Vector) -> Predictive:
        """The family, with the weights of the rows."""
        return FamilyPredictive(self.family, self.params, rows.weights)

    def predictive_of_new(
        self, data: Any, sigma: float, trials: Callable[[], Vector | None]
    ) -> Predictive:
        """The family at weight one, or with the trials of new rows."""
        weights = trials() if self.family.takes_trials else None
        return FamilyPredictive(self.family, self.params, weights)

    def derivatives(self, by_theta: Callable[[], Derivatives]) -> Derivatives:
        """By all free parameters."""
        return self

    @property
    def vcov_jacobian(self) -> CoefficientCovariance:
        """Not computed: tests are normal."""
        raise NotImplementedError

    def at_rows(self, rows: ModelRows, eta: Vector) -> Self:
        """With the working response of other rows."""
        at = self.family.derivatives(rows.y, rows.weights, eta, self.params)
        return replace(self, working_response=working_response(eta, at), working_weights=at.weight)

    def without_rows(self) -> Self:
        """Without the working response."""
        return replace(self, working_response=None, working_weights=None)

    def working_rows(self, rows: ModelRows) -> ModelRows:
        """Rows of the working linear model: its response and weights."""
        if self.working_response is None:
            raise_without_rows()
        return rows.replaced(y=self.working_response, weights=self.working_weights)

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> ResponseAroundPredictor:
        """Of the family, with the rows' weights or trials."""
        return FamilyDistribution(self.family, rows.weights, params)

    def new_distribution(
        self,
        params: Vector,
        *,
        sds: Callable[[], Vector],
        weights: Callable[[], Vector | None],
        data: Any,
    ) -> ResponseAroundPredictor:
        """Of the family, with the new rows' weights or trials."""
        return FamilyDistribution(self.family, weights(), params)

    @property
    def distribution_params(self) -> Vector:
        """The family's."""
        return self.params

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """Those of the family."""
        return self.family.observation_methods

    def observation_variance(
        self, method: str, residual: Number, mean: Number, counts: Vector | None = None
    ) -> float:
        """That of the family, at a typical mean."""
        return self.family.observation_variance(method, mean, self.params)

    def row_variances(self, sds: Vector) -> Vector:
        """Variance of new responses of the rows used, about their means."""
        raise NotImplementedError

    def new_variances(self, data: Any, sigma: float) -> Any:
        """Variance of responses of new rows about their means."""
        raise NotImplementedError
