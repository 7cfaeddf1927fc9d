"""Refit of a model to one simulated or resampled response, or to resampled cases.

A draw of a response changes the response only: of the cross-products ``Z'Wy``, ``X'Wy`` and
``y'Wy`` are computed anew, and ``Z'WZ``, ``Z'WX``, ``X'WX`` and the symbolic factor are shared by
all draws; of a generalised model, the columns of the rows, what rows are merged, and the pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.build import Design
from mixedfx.design.checks import independent_columns
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.response import check_response
from mixedfx.errors import MixedfxError
from mixedfx.estimation.boundary import SLOPE_TOLERANCE, boundary_parameters
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.glmm.fit import fit_generalized, search_marginal
from mixedfx.estimation.glmm.working import own_coefficients
from mixedfx.estimation.known_optimum import KnownOptimum
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.fit import fit_design
from mixedfx.inference.bootstrap.cases import CaseResampling
from mixedfx.inference.bootstrap.level_cases import LevelCases, with_levels
from mixedfx.inference.bootstrap.resampling import Resampling, Responses
from mixedfx.inference.bootstrap.statistic import Statistic, statistic_values
from mixedfx.inference.parameters import parameters
from mixedfx.inference.streamed_responses import with_sums_of
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.deleted_rows import has_independent_columns
from mixedfx.likelihood.generalized.rows import GeneralizedRows, rows_of
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import deviance_rounding
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.linalg.newton import newton_decrement
from mixedfx.linalg.symmetric import eigenvectors
from mixedfx.priors.specification import Priors
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Errors of a refit that are counted as failures; all others are raised.
_REFIT_ERRORS = (MixedfxError, ArithmeticError, ValueError)  # LinAlgError is a ValueError
# Estimates at which the deviance is higher by less than this are a hundredth of a standard error
# from the best; relative length of the steps that are tried from an end.
_NEGLIGIBLE, _STEP = 1e-4, 0.1


@dataclass(frozen=True)
class Failure:
    """
    A bootstrap draw without estimates.

    Parameters
    ----------
    draw : int
        Its number, which is the column of ``simulate`` with the same ``rng``.
    kind : str
        ``"not converged"``, or the name of the error.
    message : str
        Message of the optimizer or of the error.
    """

    draw: int
    kind: str
    message: str


@dataclass(frozen=True)
class Draw:
    """Estimates of one simulated response."""

    number: int
    values: Vector  # in the order of parameter_names()
    singular: bool
    frequencies: Codes | None = None  # how often it has each level, of resampled cases


@dataclass(frozen=True)
class RefitModel:
    """The parts of a fit that a refit needs; unlike a fit, they can be pickled."""

    design: Design
    likelihood: GaussianLikelihood
    responses: Responses
    statistic: Statistic | None  # without it the parameters
    rows: RowsModel | None  # of a generalised model
    factors: tuple[Matrix, ...]  # scaled, of the fit
    priors: Priors

    @cached_property
    def optimum(self) -> KnownOptimum | None:
        """The fit's own, that searches start from; computed by each worker."""
        return KnownOptimum.of(self.likelihood, self.factors)


def refit_model(
    fit: FittedModel, resampling: Resampling, statistic: Statistic | None = None
) -> RefitModel:
    """Take from a fit what a refit needs, and a statistic of it all of the design."""
    full = design = fit.original_design
    responses = resampling.of(fit)
    if statistic is None and full.rows.in_memory:
        design = Design(design.spec.without_evaluation(), design.rows.without_variables())
    if statistic is None and isinstance(responses, CaseResampling):
        of_cases = replace(design.rows, index=pd.RangeIndex(design.rows.n))
        responses = replace(responses, design=Design(design.spec, of_cases))
    marginal = fit.residual.model.estimator == "marginal"
    rows = rows_of(full) if marginal else None
    shared = (statistic, rows, fit.solution.factors, fit.priors)
    return RefitModel(design, fit.likelihood, responses, *shared)


def refit_draw(model: RefitModel, number: int, rng: np.random.Generator) -> Draw | Failure:
    """Draw a response, or cases, and fit the model to it."""
    try:
        if isinstance(model.responses, CaseResampling):
            return _refit_cases(model, number, *model.responses.draw(rng))
        if isinstance(model.responses, LevelCases):
            return _refit_levels(model, number, *model.responses.draw(rng))
        refit = _REFITS[residual_model(model.design).estimator]
        if model.priors.specified:
            refit = _refit_whole
        return refit(model, number, model.responses.draw(rng))
    except _REFIT_ERRORS as error:
        return Failure(number, type(error).__name__, str(error))


def _refit_linear(model: RefitModel, number: int, drawn: Vector | CrossProducts) -> Draw | Failure:
    """Maximise the profiled likelihood, of cross-products that share what has no response."""
    if isinstance(drawn, CrossProducts):
        design = with_sums_of(model.design, drawn)
        likelihood = replace(model.likelihood, crossprod=drawn)
    else:
        design = model.design.with_response(drawn)
        likelihood = model.likelihood.with_response(design.rows)
    optimum = model.optimum
    near = None if optimum is None else optimum.fit(design, likelihood)
    if near is not None:
        return _draw(model, near, number)
    # Where the optimum of the fit does not lead to that of the draw, started from moment estimates,
    # not from this theta: on the boundary the score of theta = 0 would be zero.
    result = estimate_theta(design, likelihood)
    if not (result.converged or _ended_by_rounding(likelihood, result)):
        return Failure(number, "not converged", result.message)
    fit = build_fitted_model(design, likelihood, result)
    return _draw(model, fit, number)


def _ended_by_rounding(likelihood: GaussianLikelihood, result: OptimizerResult) -> bool:
    """
    Whether rounding hides what the search was to gain, and steps show that nothing is left.

    As where the residual variance goes to zero: theta has no bound, and the estimates are known.
    Derivatives have rounding errors too; steps along the axes of the curvature are evaluated.
    """
    at = result.derivatives
    if at is None or result.limit_reached or not result.boundary_slope > -SLOPE_TOLERANCE:
        return False
    if not newton_decrement(at.gradient, at.hessian)[0] < _NEGLIGIBLE:
        return False
    if not deviance_rounding(likelihood.at(result.theta)) > result.tolerance:
        return False
    axes = _STEP * eigenvectors(at.relative.hessian)[1].T
    steps = [
        sign * axis * (1.0 if at.units is None else at.units) for axis in axes for sign in (-1, 1)
    ]
    return all(
        _deviance_at(likelihood, at.scaled.factors(at.x + step)) > result.deviance - _NEGLIGIBLE
        for step in steps
    )


def _deviance_at(likelihood: GaussianLikelihood, factors: list[Matrix]) -> float:
    """The deviance; infinite where it is not defined."""
    try:
        return likelihood.at_factors(factors).deviance
    except _REFIT_ERRORS:
        return np.inf


def _refit_cases(
    model: RefitModel, number: int, design: Design, frequencies: Codes
) -> Draw | Failure:
    """Fit the model to resampled rows."""
    X = design.rows.X
    if len(independent_columns(X)) < X.shape[1]:
        return Failure(number, "dependent columns", "the cases do not have all fixed effects")
    drawn = _draw_of_converged(model, _fit_design(model, design), number)
    return replace(drawn, frequencies=frequencies) if isinstance(drawn, Draw) else drawn


def _refit_levels(
    model: RefitModel, number: int, crossprod: CrossProducts, frequencies: Codes
) -> Draw | Failure:
    """Fit the model to the sums of resampled levels."""
    if not has_independent_columns(crossprod):
        return Failure(number, "dependent columns", "the cases do not have all fixed effects")
    design = with_sums_of(with_levels(model.design, crossprod), crossprod)
    likelihood = replace(model.likelihood, crossprod=crossprod)
    result = estimate_theta(design, likelihood)
    drawn = _draw_of_converged(model, build_fitted_model(design, likelihood, result), number)
    return replace(drawn, frequencies=frequencies) if isinstance(drawn, Draw) else drawn


def _refit_whole(
    model: RefitModel, number: int, drawn: Vector | CrossProducts | StratifiedSums | Design
) -> Draw | Failure:
    """Fit a model whose residual model has parameters, or one with priors: their mode."""
    if isinstance(drawn, Design):
        design = drawn
    elif isinstance(drawn, CrossProducts | StratifiedSums):
        design = with_sums_of(model.design, drawn)
    else:
        design = model.design.with_response(drawn)
    return _draw_of_converged(model, _fit_design(model, design), number)


def _fit_design(model: RefitModel, design: Design) -> FittedModel:
    """Fit the model to other rows, as it was fitted."""
    reml, control = model.likelihood.reml, Control()
    return fit_design(design, engine="profiled", reml=reml, control=control, priors=model.priors)


def _with_response(model: RefitModel, y: Vector) -> tuple[Design, GeneralizedRows]:
    """Design and rows in memory with a response that was drawn."""
    design, rows = model.design, model.rows
    assert isinstance(rows, GeneralizedRows)
    spec, weights, index = design.spec, design.rows.weights, design.rows.index
    if len(index) != len(y):  # without labels
        index = pd.RangeIndex(len(y))
    check_response(spec.formula.response, y, spec.family, weights, index)
    return design.with_response(y), rows.with_response(y, weights)


def _refit_generalized(
    model: RefitModel, number: int, drawn: Vector | tuple[Design, RowsModel] | Design
) -> Draw | Failure:
    """
    Maximise the marginal likelihood, of rows that share what has no response.

    Started as a fit is, not from the estimates of the fit: on the boundary the derivative by a
    standard deviation of zero is zero. For a statistic the fit is completed.
    """
    spec = model.design.spec
    assert isinstance(spec.residual, FamilyResidual)
    if isinstance(drawn, Design):
        design, rows = drawn, rows_of(drawn)
    else:
        design, rows = drawn if isinstance(drawn, tuple) else _with_response(model, drawn)
    if model.statistic is not None:
        fit = fit_generalized(design, spec.residual, control=Control(), rows=rows)
        return _draw_of_converged(model, fit, number)
    found = search_marginal(design, rows, nagq=spec.residual.nagq, control=Control())
    if not found.end.converged:
        gain = f"another step would gain {found.end.newton_decrement:.1e}"
        return Failure(number, "not converged", gain)
    crossprod, point = model.likelihood.crossprod, found.evaluation.point
    theta = crossprod.theta(point.factors)
    values = _in_order(
        crossprod.parametrization,
        own_coefficients(rows, point.beta),
        crossprod.lambdas(point.factors),
        residual=rows.family.natural(point.family_coordinates),
        theta=theta,
    )
    return Draw(number, values, bool(boundary_parameters(spec, crossprod, theta)))


_REFITS: dict[str, Callable[[RefitModel, int, Any], Draw | Failure]] = {
    "engine": _refit_linear,
    "nested": _refit_whole,
    "laplace": _refit_whole,
    "marginal": _refit_generalized,
    "several": _refit_whole,
}


def _draw(model: RefitModel, fit: FittedModel, number: int) -> Draw | Failure:
    """Parameters, or the statistic, of a refit; what the user's function raises is a failure."""
    singular = bool(boundary_parameters(fit.spec, fit.crossprod, fit.optimizer_result.theta))
    if model.statistic is None:
        return Draw(number, parameter_values(fit.solution, fit.residual), singular)
    try:
        values = statistic_values(model.statistic(fit)).to_numpy()
    except Exception as error:
        return Failure(number, type(error).__name__, str(error))
    return Draw(number, values, singular)


def _draw_of_converged(model: RefitModel, fit: FittedModel, number: int) -> Draw | Failure:
    """The same, and a failure of a fit whose end is no optimum."""
    if not fit.optimizer_result.converged:
        return Failure(number, "not converged", fit.optimizer_result.message)
    return _draw(model, fit, number)


def parameter_values(solution: Solution, residual: ResidualEstimate) -> Vector:
    """All parameters at a solution, in the order of :func:`parameter_names`."""
    own_sigma = [solution.sigma] if residual.model.spec.reports_sigma else []
    return _in_order(
        solution.crossprod.parametrization,
        solution.beta,
        solution.lambdas,
        residual=np.array([*own_sigma, *(c.value for c in residual.components)]),
        theta=solution.theta,
        sigma=solution.sigma,
    )


def _in_order(
    parametrization: Parametrization,
    beta: Vector,
    lambdas: Sequence[Matrix],
    *,
    residual: Vector,
    theta: Vector,
    sigma: float = 1.0,
) -> Vector:
    """Fixed effects, each term's parameters, those of the residuals or the family, theta."""
    parts = [beta]
    for (structure, at), lam in zip(parametrization.terms, lambdas, strict=True):
        components = structure.components(lam, at)
        scales = [sigma if c.kind == "sd" else 1.0 for c in components]
        parts.append(np.array([c.value for c in components]) * scales)
    return np.concatenate([*parts, residual, theta])


def parameter_names(fit: FittedModel) -> list[str]:
    """Fixed effects without dropped columns, the other parameters, and theta."""
    params = parameters(fit)
    dropped = set(fit.spec.dropped_names)
    fixed = [p.name for p in params if p.kind == "fixed" and p.name not in dropped]
    others = [p.name for p in params if p.kind != "fixed"]
    return [*fixed, *others, *(f"theta[{i}]" for i in range(fit.crossprod.parametrization.size))]
