"""A fitted model: the solution of the penalised least-squares problem at the estimated theta.

The deviance that the engine reported is recomputed from theta; the two must agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx._deprecation import renamed_attribute
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ArgumentError, ConvergenceWarning, EngineDisagreement, SingularFitWarning
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.convergence import ConvergenceDiagnostics, diagnose_convergence
from mixedfx.estimation.curvature import (
    HessianAtOptimum,
    derivatives_at_optimum,
)
from mixedfx.estimation.least_squares import solve_least_squares
from mixedfx.estimation.notes import Note, notes_on_fit
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.formula.terms import Formula
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense import DENSE_EFFECTS
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.priors.specification import NO_PRIORS, Priors
from mixedfx.residuals.registry import residual_model

if TYPE_CHECKING:
    from mixedfx.estimation.contracts import Derivatives


Vector = npt.NDArray[np.float64]

# Largest difference of two computations of a deviance, relative to n + |deviance|.
_DEVIANCE_ROUNDING = 1e-8
# Estimates of the rounding error by which the two may differ where it is larger than that.
_ROUNDINGS = 10.0


@dataclass(frozen=True)
class FittedModel:
    """A model, its data as arrays, and its estimates, without labels."""

    design: Design  # with the weights and the sigma that were estimated, if any
    likelihood: GaussianLikelihood
    optimizer_result: OptimizerResult
    solution: Solution  # with priors: that at the posterior mode
    notes: tuple[Note, ...]
    residual: ResidualEstimate
    priors: Priors = NO_PRIORS

    search = renamed_attribute("FittedModel", "search", "optimizer_result")

    @property
    def crossprod(self) -> CrossProducts:
        """Cross-products of the rows, at the weights that were estimated."""
        return self.likelihood.crossprod

    @property
    def reml(self) -> bool:
        """Whether the criterion is REML."""
        return self.likelihood.reml

    @property
    def spec(self) -> ModelSpec:
        """Columns, levels and names of the model."""
        return self.design.spec

    @property
    def rows(self) -> ModelRows:
        """Rows of the fit."""
        return self.design.rows

    @property
    def predictors(self) -> tuple[FittedModel, ...]:
        """Fitted model of each linear predictor, that of the mean first."""
        return (self, *self.residual.predictors.values())

    @property
    def nobs(self) -> int:
        """Number of rows of the data; equal ones may have been merged to one."""
        return self.crossprod.n + self.rows.n_merged

    @property
    def formula(self) -> Formula:
        """Formula without that of the dispersion."""
        return self.spec.formula

    @property
    def endog_names(self) -> str:
        """Name of the response: statsmodels' word, by which ``summary_col`` heads a column."""
        return self.formula.response

    @property
    def exog_names(self) -> list[str]:
        """Names of the coefficients: statsmodels' word."""
        return list(self.spec.column_names)

    @property
    def nu(self) -> float:
        """
        Degrees of freedom of the residual variance: ``n - p`` under REML and least squares, else n.

        Infinite where sigma is known or is itself a parameter of the optimisation.
        """
        crossprod = self.crossprod
        if not crossprod.profiles_sigma:
            return np.inf
        return float(crossprod.nu(reml=self.reml or self.spec.is_least_squares))

    @property
    def formula_text(self) -> str:
        """Formula of the model in one line, with the residual model."""
        return "; ".join(part for part in (str(self.formula), self.spec.residual.label) if part)

    @property
    def original_design(self) -> Design:
        """Design with the weights and the sigma of the data, not the estimated ones."""
        sigma = None if self.spec.residual.estimates_sigma else self.spec.fixed_sigma
        rows = self.rows.as_given(lambda: self.prior_weights)
        return replace(self.design, rows=rows).with_sigma(sigma)

    @property
    def deviance(self) -> float:
        """Deviance; with random effects of the residual scale, integrated over them."""
        return self.residual.deviance(self.solution)

    @property
    def residual_sds(self) -> Vector:
        """Residual standard deviation of each row of the linear model, (n,)."""
        return self.residual.row_sds(self.rows, self.solution.sigma)

    @property
    def has_prior_weights(self) -> bool:
        """Whether the data have weights."""
        return not self.rows.n_merged and self.original_design.rows.has_weights

    @property
    def prior_weights(self) -> Vector | None:
        """Weights as given, without the factor ``(sigma / sigma_i)**2`` of a residual model."""
        return self.residual.prior_weights(self.rows.weights, self.solution.sigma)

    @property
    def residual_variance(self) -> float:
        """``sigma**2``; where residual variances are known or modelled, their mean over rows."""
        variance: float = self.rows.summarized(
            "residual variance",
            lambda: self.residual.model.mean_variance(self.solution.sigma, self.residual_sds),
        )
        return variance

    @property
    def n_params(self) -> int:
        """Number of parameters: fixed effects, theta, residual standard deviation(s)."""
        return self.crossprod.p + self.crossprod.parametrization.size + self.residual.n_params

    @cached_property
    def hessian_at_optimum(self) -> HessianAtOptimum:
        """Gradient and Hessian of the deviance by the free scaled parameters."""
        known = self._derivatives_of_search
        if known is not None and known.is_observed:
            return known
        return self.residual.hessian_at_optimum(self.likelihood, self.solution)

    @property
    def derivatives(self) -> Derivatives:
        """Derivatives of the deviance and of cov(beta) by all parameters but sigma."""
        return self.residual.derivatives(lambda: self.hessian_at_optimum)

    @cached_property
    def convergence(self) -> ConvergenceDiagnostics:
        """Optimality conditions at the estimates, of the criterion that was optimised."""
        boundary = boundary_parameters(self.spec, self.crossprod, self.solution.theta)
        derivatives = self.priors.derivatives(
            lambda: self.residual.derivatives(lambda: self._curvature().relative)
        )
        free = self.residual.free_derivatives(derivatives.gradient, derivatives.hessian)
        ends, newton = self.residual.at_ends, None
        if isinstance(derivatives, HessianAtOptimum) and not ends.parameters:  # all are free
            newton = derivatives.newton
        return diagnose_convergence(
            *free,
            newton=newton,
            boundary=boundary + ends.names,
            optimizer_result=self.optimizer_result,
            rounding=self.residual.rounding(self.solution),
            unidentified=self.unidentified,
            no_maximum=ends.no_maximum,
        )

    @cached_property
    def unidentified(self) -> tuple[str, ...]:
        """Statements of what the rows do not identify; priors identify all."""
        return (
            () if self.priors.specified else self.residual.unidentified(self.likelihood, self.spec)
        )

    def _curvature(self) -> HessianAtOptimum:
        """Derivatives that certify an optimum: of a large model the average information."""
        if "hessian_at_optimum" in self.__dict__ or self.crossprod.symbolic.size <= DENSE_EFFECTS:
            return self.hessian_at_optimum
        known = self._derivatives_of_search
        if known is not None and known.is_observed:
            return self.hessian_at_optimum  # which is kept
        return known or derivatives_at_optimum(self.likelihood, self.solution.factors)

    @property
    def _derivatives_of_search(self) -> HessianAtOptimum | None:
        """Derivatives that the search ended with, where it ended at the solution."""
        found = self.optimizer_result
        return None if found.factors is None else found.derivatives


def build_fitted_model(
    design: Design,
    likelihood: GaussianLikelihood,
    optimizer_result: OptimizerResult,
    *,
    residual: ResidualEstimate | None = None,
    priors: Priors = NO_PRIORS,
) -> FittedModel:
    """Solve at the engine's theta, and compare the deviance with the one that it reported."""
    crossprod = likelihood.crossprod
    residual = residual or ResidualEstimate(residual_model(design))
    solution = solution_at_optimum(design.spec, likelihood, optimizer_result, residual, priors)
    recomputed = residual.criterion(solution)
    rounding = _DEVIANCE_ROUNDING * (crossprod.n + abs(recomputed))
    difference = abs(optimizer_result.deviance - recomputed)
    # Negated, so that NaN is a disagreement.
    if not (difference <= rounding or difference <= _ROUNDINGS * residual.rounding(solution)):
        raise EngineDisagreement(
            optimizer_result.engine, -0.5 * optimizer_result.deviance, -0.5 * recomputed
        )
    fit = FittedModel(design, likelihood, optimizer_result, solution, (), residual, priors)
    return _with_verdict(fit)


def solution_at_optimum(
    spec: ModelSpec,
    likelihood: GaussianLikelihood,
    optimizer_result: OptimizerResult,
    residual: ResidualEstimate,
    priors: Priors,
) -> Solution:
    """Solution at an engine's end, or of least squares, with priors and the residual model."""
    if spec.is_least_squares and not priors.specified:
        solution = solve_least_squares(likelihood)
    elif optimizer_result.factors is not None:
        known = optimizer_result.solution
        solution = likelihood.at_factors(optimizer_result.factors) if known is None else known
        solution.__dict__["theta"] = optimizer_result.theta  # of these factors
    else:
        solution = likelihood.at(optimizer_result.theta)
    return residual.at_estimates(priors.update(solution))


def _with_verdict(fit: FittedModel) -> FittedModel:
    """Set ``converged`` by the conditions of an optimum, with all notes; engines may refuse."""
    certificate, found = fit.convergence, fit.optimizer_result
    converged = certificate.ok and not found.refuses
    result = replace(found, converged=converged, derivatives=None, solution=None)
    notes = notes_on_fit(
        fit.design, result, fit.priors, certificate, fit.residual.at_ends, fit.solution
    )
    if fit.unidentified:
        # A note on the boundary would call the estimates the optimum, and they are one of many.
        kept = (
            note for note in notes if note.warning not in (SingularFitWarning, ConvergenceWarning)
        )
        notes = (*kept, fit.residual.unidentified_note(fit.unidentified))
    decided = replace(fit, optimizer_result=result, notes=notes)
    # What was computed holds for the copy: the Hessian is the costly part.
    for name in ("convergence", "hessian_at_optimum", "unidentified"):
        if name in fit.__dict__:
            decided.__dict__[name] = fit.__dict__[name]
    return decided


def check_one_variance(fit: FittedModel, what: str, instead: str) -> None:
    """Raise ArgumentError where the residual variance is modelled."""
    fit.spec.residual.check_one_variance(what, instead)


def check_curvature(fit: FittedModel, what: str) -> None:
    """Raise ArgumentError where the likelihood has no finite curvature at the estimates."""
    if not np.isfinite(fit.derivatives.hessian).all():
        raise ArgumentError(
            f"the likelihood has no finite curvature where the search ended, and {what}; "
            "fit.notes says more."
        )


def check_no_priors(fit: FittedModel, what: str, instead: str = "") -> None:
    """Raise ArgumentError where a likelihood is needed and the fit is a posterior mode."""
    if fit.priors.specified:
        can_sample = not fit.spec.residual.sampling_refusal
        sampled = "fit.sample() draws from its posterior, and " if can_sample else ""
        instead = f" {instead}" if instead and can_sample else ""
        raise ArgumentError(
            f"{what} asks the likelihood alone, and this fit has priors: {sampled}a fit without "
            f"priors= has everything else.{instead}"
        )
