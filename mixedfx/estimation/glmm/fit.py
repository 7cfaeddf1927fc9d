"""Fit of a generalised linear mixed model: rows, start, search, derivatives, estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.residual import FamilyResidual
from mixedfx.errors import ArgumentError, ModesNotFound, SearchError
from mixedfx.estimation.convergence import newton_decrement
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.hessian import marginal_hessian, newton_step
from mixedfx.estimation.glmm.mode_derivatives import covariance_jacobians, scores_by_params
from mixedfx.estimation.glmm.search import (
    MarginalObjective,
    MarginalSearch,
    free_coordinates,
    search,
)
from mixedfx.estimation.glmm.starting_values import starting_point
from mixedfx.estimation.glmm.working import own_coefficients, working_crossproducts
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, MarginalEvaluation
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.residuals.model import FamilyModel
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def fit_generalized(
    design: Design,
    spec: FamilyResidual,
    *,
    control: Control,
    start: Vector | None = None,
    rows: GeneralizedRows | None = None,
) -> FittedModel:
    """Maximise the marginal likelihood of a design's family; ``rows`` are its, if at hand."""
    nagq = spec.nagq
    check_nagq(design, nagq)
    with single_threaded_blas(design.spec.n_random_effects):
        rows = GeneralizedRows.of(design) if rows is None else rows
        found = find_optimum(design, rows, nagq=nagq, control=control, start=start)
        return assemble_fit(design, found, nagq=nagq, control=control)


def check_nagq(design: Design, nagq: int) -> None:
    """Refuse quadrature where the integrals are not over the levels of one factor."""
    groups = dict.fromkeys(term.group for term in design.spec.random_terms)
    if nagq <= 1 or not groups:
        return
    if len(groups) > 1:
        raise ArgumentError(
            f"nagq={nagq}: quadrature integrates over the levels of one grouping factor, and "
            f"'{design.spec.formula}' has {len(groups)} ({', '.join(groups)}). Leave nagq at 1: "
            "Laplace's approximation; fit.approximation() says how good it is."
        )
    width = sum(len(term.effect_names) for term in design.spec.random_terms)
    if width > MAX_COLUMNS:
        raise ArgumentError(
            f"nagq={nagq}: quadrature is a product rule over the effects of a level, of which "
            f"'{design.spec.formula}' has {width}; at most {MAX_COLUMNS}. Leave nagq at 1."
        )


@dataclass(frozen=True)
class Optimum:
    """End of the search, and derivatives there."""

    search: MarginalSearch
    objective: MarginalObjective
    x: Vector
    gradient: Vector
    hessian: Matrix

    @property
    def evaluation(self) -> MarginalEvaluation:
        """Deviance and modes at the optimum."""
        return self.objective.evaluate(self.x)


def find_optimum(
    design: Design,
    rows: GeneralizedRows,
    *,
    nagq: int,
    control: Control,
    start: Vector | None = None,
) -> Optimum:
    """End of the search, with the Hessian there, and the last Newton step that it allows."""
    found = search_marginal(design, rows, nagq=nagq, control=control, start=start)
    likelihood, modes_start = found.objective.likelihood, found.objective.modes_start
    coordinates, x = free_coordinates(rows, found.evaluation.point)
    objective = MarginalObjective(likelihood, coordinates, modes_start)
    hessian = marginal_hessian(objective, x)
    x, gradient = newton_step(objective, x, hessian)
    return Optimum(found, objective, x, gradient, hessian)


def search_marginal(
    design: Design,
    rows: GeneralizedRows,
    *,
    nagq: int,
    control: Control,
    start: Vector | None = None,
) -> MarginalSearch:
    """Search from starting values of the working model, or of a given theta."""
    likelihood = GeneralizedLikelihood(rows, max(nagq, 1))
    first = starting_point(design.spec, rows, start)
    try:
        found = search(likelihood, first.theta, first.point, control)
    except ModesNotFound as error:
        raise SearchError(f"{error}, at the starting values. Give others by start=.") from None
    if not np.isfinite(found.end.value):
        raise SearchError(
            "the likelihood is not finite at the starting values. Give others by start=."
        )
    return found


def assemble_fit(design: Design, found: Optimum, *, nagq: int, control: Control) -> FittedModel:
    """The fitted model at an optimum."""
    evaluation, result = found.evaluation, found.search
    decrement, _ = newton_decrement(found.gradient, found.hessian)
    modes, rows = evaluation.modes, evaluation.modes.rows
    at, Zb = modes.at_rows, modes.eta - modes.fixed
    with np.errstate(all="ignore"):
        crossprod = working_crossproducts(design.spec, rows, evaluation.point.beta, Zb, at)
    again = _evaluated_anew(evaluation)
    coordinates = result.objective.coordinates.covariance
    estimate = FamilyEstimate(
        cast(FamilyModel, residual_model(design)),
        marginal_deviance=again.deviance,
        beta=own_coefficients(rows, evaluation.point.beta),
        params=np.exp(evaluation.point.log_params),
        x=found.x,
        gradient=found.gradient,
        hessian=found.hessian,
        covariance_jacobians=covariance_jacobians(coordinates, found.x[: coordinates.size]),
        scores_by_params=scores_by_params(again.modes),
        working_response=_working_response(again),
        working_weights=again.modes.at_rows.weight,
    )
    likelihood = GaussianLikelihood(crossprod, reml=False)
    factors = evaluation.point.factors
    optimizer_result = OptimizerResult(
        theta=crossprod.theta(factors),
        engine="laplace" if nagq <= 1 else "quadrature",
        evaluations=result.evaluations,
        converged=result.end.converged,
        message=f"another step would gain {decrement:.1e}",
        deviance=evaluation.deviance,
        trace=tuple(value for run in result.runs for value in run.trace),
        boundary_slope=result.boundary_slope,
        tolerance=control.tolerance,
        limit_reached=not result.end.converged and result.evaluations >= control.max_evaluations,
        factors=tuple(factors),
    )
    return build_fitted_model(design, likelihood, optimizer_result, residual=estimate)


def _evaluated_anew(evaluation: MarginalEvaluation) -> MarginalEvaluation:
    """The same point on the rows as they are, unmerged, the modes from zero."""
    rows = evaluation.modes.rows.as_given
    return GeneralizedLikelihood(rows, evaluation.nagq).at(evaluation.point)


def _working_response(evaluation: MarginalEvaluation) -> Vector:
    """``eta + g / w`` of each row; ``eta`` where the weight is not positive."""
    modes = evaluation.modes
    g, w = modes.at_rows.first, modes.at_rows.weight
    return modes.eta + np.divide(g, w, out=np.zeros_like(g), where=w > 0.0)
