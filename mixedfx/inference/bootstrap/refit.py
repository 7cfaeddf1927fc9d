"""Refit of a model to one simulated response.

A draw changes the response only: of the cross-products ``Z'Wy``, ``X'Wy`` and ``y'Wy`` are computed
anew, and ``Z'WZ``, ``Z'WX``, ``X'WX`` and the symbolic factor are shared by all draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import MixedfxError
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.fit import fit_design
from mixedfx.inference.bootstrap.statistic import Statistic, statistic_values
from mixedfx.inference.parameters import parameters
from mixedfx.inference.simulation import (
    RandomName,
    ResponseDistribution,
    response_distribution,
)
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]

# Errors of a refit that are counted as failures; all others are raised.
_REFIT_ERRORS = (MixedfxError, ArithmeticError, ValueError)  # LinAlgError is a ValueError


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


@dataclass(frozen=True)
class RefitModel:
    """The parts of a fit that a refit needs; unlike a fit, they can be pickled."""

    design: Design
    likelihood: GaussianLikelihood
    responses: ResponseDistribution
    statistic: Statistic | None  # without it the parameters


def refit_model(
    fit: FittedModel, random: RandomName, statistic: Statistic | None = None
) -> RefitModel:
    """Take from a fit what a refit needs, and a statistic of it all of the design."""
    design = fit.original_design
    if statistic is None:
        design = Design(design.spec.without_evaluation(), design.rows.without_variables())
    responses = response_distribution(fit, random=random)
    return RefitModel(design, fit.likelihood, responses, statistic)


def refit_draw(model: RefitModel, number: int, rng: np.random.Generator) -> Draw | Failure:
    """Draw a response and fit the model to it."""
    design = model.design.with_response(model.responses.draw(rng))
    try:
        if design.spec.residual.n_params:
            return _refit_with_residual_model(model, design, number)
        likelihood = model.likelihood.with_response(design.rows)
        # Started from moment estimates instead of the theta of the fit: fewer evaluations, and on
        # the boundary the score of theta = 0 would be zero.
        result = estimate_theta(design, likelihood)
        if not result.converged:
            return Failure(number, "not converged", result.message)
        fit = build_fitted_model(design, likelihood, result)
    except _REFIT_ERRORS as error:
        return Failure(number, type(error).__name__, str(error))
    singular = bool(boundary_parameters(design.spec, likelihood.crossprod, result.theta))
    return _draw(model, fit, number, singular)


def _refit_with_residual_model(model: RefitModel, design: Design, number: int) -> Draw | Failure:
    """Fit a model whose residual model has parameters."""
    fit = fit_design(design, engine="profiled", reml=model.likelihood.reml, control=Control())
    result = fit.optimizer_result
    if not result.converged:
        return Failure(number, "not converged", result.message)
    singular = bool(boundary_parameters(fit.spec, fit.crossprod, result.theta))
    return _draw(model, fit, number, singular)


def _draw(model: RefitModel, fit: FittedModel, number: int, singular: bool) -> Draw | Failure:
    """Parameters, or the statistic, of a refit; what the user's function raises is a failure."""
    if model.statistic is None:
        return Draw(number, parameter_values(fit.solution, fit.residual), singular)
    try:
        values = statistic_values(model.statistic(fit)).to_numpy()
    except Exception as error:
        return Failure(number, type(error).__name__, str(error))
    return Draw(number, values, singular)


def parameter_values(solution: Solution, residual: ResidualEstimate) -> Vector:
    """All parameters at a solution, in the order of :func:`parameter_names`."""
    parts = [solution.beta]
    terms = zip(solution.crossprod.parametrization.terms, solution.lambdas, strict=True)
    for (structure, at), lam in terms:
        components = structure.components(lam, at)
        scales = [solution.sigma if c.kind == "sd" else 1.0 for c in components]
        parts.append(np.array([c.value for c in components]) * scales)
    if residual.model.spec.estimates_sigma:
        parts.append(np.array([solution.sigma]))
    parts.append(np.array([c.value for c in residual.components]))
    return np.concatenate([*parts, solution.theta])


def parameter_names(fit: FittedModel) -> list[str]:
    """Fixed effects without dropped columns, the other parameters, and theta."""
    params = parameters(fit)
    dropped = set(fit.spec.dropped_names)
    fixed = [p.name for p in params if p.kind == "fixed" and p.name not in dropped]
    others = [p.name for p in params if p.kind != "fixed"]
    return [*fixed, *others, *(f"theta[{i}]" for i in range(fit.crossprod.parametrization.size))]
