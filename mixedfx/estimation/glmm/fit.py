"""Fit of a generalised linear mixed model: rows, start, search, derivatives, estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.errors import ArgumentError, ModesNotFound, SearchError
from mixedfx.estimation.fitted_model import FittedModel, build_fitted_model
from mixedfx.estimation.glmm.blocked_separation import blocked_separation
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.hessian import marginal_hessian, newton_step
from mixedfx.estimation.glmm.mode_derivatives import covariance_jacobians, scores_by_params
from mixedfx.estimation.glmm.other_starts import (
    or_from_large_variances,
    or_from_other_correlations,
    or_from_other_variances,
)
from mixedfx.estimation.glmm.search import (
    MarginalObjective,
    MarginalSearch,
    free_coordinates,
    search,
)
from mixedfx.estimation.glmm.separation_notes import separation_statements
from mixedfx.estimation.glmm.starting_values import Start, starting_point
from mixedfx.estimation.glmm.stopped_searches import stopped_statements
from mixedfx.estimation.glmm.working import (
    own_coefficients,
    with_independent_columns,
    working_crossproducts,
)
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, MarginalEvaluation
from mixedfx.likelihood.generalized.profiled import ProfiledLikelihood, working_information
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.newton import newton_decrement
from mixedfx.priors.specification import NO_PRIORS, Priors
from mixedfx.residuals.model import FamilyModel
from mixedfx.residuals.registry import residual_model

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Shares of the starting theta that are tried: large effects may leave the range of the link.
SHARES = (1.0, 0.3, 0.1, 0.01)
# Modes whose log density differs by so much, relatively, are others; and how often to follow them.
_OTHER_MODES, _MAX_OTHER_MODES = 1e-9, 3


def fit_generalized(
    design: Design,
    spec: FamilyResidual,
    *,
    control: Control,
    start: Vector | None = None,
    rows: RowsModel | None = None,
) -> FittedModel:
    """Maximise the marginal likelihood of a design's family; ``rows`` are its, if at hand."""
    nagq = spec.nagq
    check_nagq(design, nagq)
    with single_threaded_blas(design.spec.n_random_effects):
        rows = rows_of(design) if rows is None else rows
        found = find_optimum(design, rows, nagq=nagq, control=control, start=start)
        separated = blocked_separation if isinstance(rows, BlockedRows) else separation_statements
        statements = separated(design, found.evaluation)
        if stopped := stopped_statements(design, found.evaluation):
            # No errors are of a curvature where there is no maximum.
            found = replace(found, hessian=np.full_like(found.hessian, np.nan))
            statements = statements or stopped
        return assemble_fit(design, found, nagq=nagq, control=control, not_identified=statements)


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
    check_plain_levels(
        design.spec, f"nagq={nagq}, which integrates level by level,", " Leave nagq at 1."
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
    evaluation: MarginalEvaluation
    covariance: Coordinates  # of the first part of x
    x: Vector
    gradient: Vector
    hessian: Matrix


def find_optimum(
    design: Design,
    rows: RowsModel,
    *,
    nagq: int,
    control: Control,
    start: Vector | None = None,
) -> Optimum:
    """End of the search, with the Hessian there, and the last Newton step that it allows."""
    return at_end(search_marginal(design, rows, nagq=nagq, control=control, start=start), nagq)


def at_end(found: MarginalSearch, nagq: int) -> Optimum:
    """Hessian at the end of a search, and the last Newton step that it allows."""
    rows = found.objective.likelihood.model
    likelihood, modes_start = found.objective.likelihood, found.objective.modes_start
    point = found.evaluation.point
    coordinates, x = free_coordinates(likelihood, point)
    objective = MarginalObjective(likelihood, coordinates, modes_start, point.beta)
    objective.starts_as(found.objective, found.end.x, x)
    try:
        hessian = marginal_hessian(objective, x)
    except ModesNotFound as error:
        advice = f"Give other start= values{_other_links(rows)}."
        raise SearchError(f"{error}, where the search ended. {advice}") from None
    x, gradient = newton_step(objective, x, hessian)
    optimum = _at_limits(
        Optimum(found, objective.evaluate(x), coordinates.covariance, x, gradient, hessian)
    )
    return optimum if nagq else _with_coefficients(optimum)


def search_marginal(
    design: Design,
    rows: RowsModel,
    *,
    nagq: int,
    control: Control,
    start: Vector | None = None,
) -> MarginalSearch:
    """Search from starting values of the working model, or of a given theta."""
    likelihood = GeneralizedLikelihood(rows, nagq) if nagq else ProfiledLikelihood(rows)
    first = starting_point(design, rows, start)
    return search_from(likelihood, first, control, shares=SHARES if start is None else (1.0,))


def search_from(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood,
    first: Start,
    control: Control,
    shares: tuple[float, ...] = SHARES,
) -> MarginalSearch:
    """Search from starting values, theta times the first of the shares that is possible."""
    found = _first_search(likelihood, first, control, shares)
    if not np.isfinite(found.end.value):
        raise SearchError(
            "the likelihood is not finite at the starting values. Give others by start=."
        )
    return found


def _first_search(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood,
    first: Start,
    control: Control,
    shares: tuple[float, ...],
) -> MarginalSearch:
    """Search from the first of the shares of theta at which the modes are in the link's range."""
    for share in shares:
        try:
            found = search(likelihood, share * first.theta, first.point, control)
        except ModesNotFound as error:
            reason = error
        else:
            found = or_from_large_variances(likelihood, found, control)
            if shares == SHARES:  # not from a theta that is given
                found = or_from_other_correlations(likelihood, found, control)
                found = or_from_other_variances(likelihood, found, first.point, control)
            return _at_best_modes(likelihood, found, control)
    others = _other_links(likelihood.model)
    raise SearchError(f"{reason}, at the starting values. Give others by start={others}.")


def _other_links(rows: RowsModel) -> str:
    """Advice where the link limits the linear predictor."""
    others = rows.family.other_links
    return f", or take a link without a limit ({', '.join(others)})" if others else ""


def _at_best_modes(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood, found: MarginalSearch, control: Control
) -> MarginalSearch:
    """
    The search continued from the modes found from zero, where these are the better ones.

    A density that is not log-concave, as by the cauchit link, may have several modes of the
    effects at a level, and a search follows those that it began with.
    """
    for _ in range(0 if likelihood.model.has_one_mode else _MAX_OTHER_MODES):
        at = found.evaluation
        try:
            anew = likelihood.at(at.point)
            if not _is_better(anew, at):
                break
            theta = likelihood.model.parametrization.to_params(at.point.factors)
            found = search(likelihood, theta, at.point, control, anew.modes.u)
        except ModesNotFound:
            break
    return found


def _is_better(evaluation: MarginalEvaluation, other: MarginalEvaluation) -> bool:
    """Whether the modes of one evaluation have a larger density than those of another."""
    value = other.modes.penalized_loglik
    return evaluation.modes.penalized_loglik > value + _OTHER_MODES * (1.0 + abs(value))


def _at_limits(found: Optimum) -> Optimum:
    """
    Optimum at which family parameters that have gone to a limit are fixed.

    The deviance is flat in their coordinates, of which neither derivative says anything.
    """
    modes = found.evaluation.modes
    ended = modes.model.family.at_limit(modes.params)
    fixed = len(found.x) - len(ended) + np.flatnonzero(ended)
    if not len(fixed):
        return found
    hessian, gradient = found.hessian.copy(), found.gradient.copy()
    hessian[fixed], hessian[:, fixed], gradient[fixed] = 0.0, 0.0, 0.0
    hessian[fixed, fixed] = 1.0
    return replace(found, gradient=gradient, hessian=hessian)


def _remarks(evaluation: MarginalEvaluation, *, converged: bool) -> tuple[str, ...]:
    """What is to be said of family parameters at a limit, and of a link that has one."""
    modes, family = evaluation.modes, evaluation.modes.model.family
    others = family.other_links
    limit = (
        f"the link '{family.link.name}' limits the linear predictor, and a search that "
        f"reaches the limit ends there. Without a limit: {', '.join(others)}.",
    )
    ended = zip(family.param_names, family.at_limit(modes.params), strict=True)
    return tuple(
        f"{name} is estimated as {'infinite' if name in family.infinite else 'zero'}: the "
        "response varies no more than that of the family without it, of which this is the fit."
        for name, at_limit in ended
        if at_limit
    ) + (limit if others and not converged else ())


def _with_coefficients(found: Optimum) -> Optimum:
    """Optimum with coefficients at the mode: their information given the other parameters."""
    modes, beta = found.evaluation.modes, found.evaluation.point.beta
    m, p = len(found.x) - len(modes.params), len(beta)
    own = np.r_[0:m, m + p : len(found.x) + p]
    hessian = np.zeros((len(found.x) + p, len(found.x) + p))
    hessian[np.ix_(own, own)] = found.hessian
    hessian[m : m + p, m : m + p] = 2.0 * working_information(modes)
    x, gradient = np.insert(found.x, m, beta), np.insert(found.gradient, m, np.zeros(p))
    return replace(found, x=x, gradient=gradient, hessian=hessian)


def assemble_fit(
    design: Design,
    found: Optimum,
    *,
    nagq: int,
    control: Control,
    priors: Priors = NO_PRIORS,
    not_identified: tuple[str, ...] = (),
) -> FittedModel:
    """The fitted model at an optimum."""
    evaluation = found.evaluation
    modes, rows = evaluation.modes, evaluation.modes.model
    with np.errstate(all="ignore"):
        crossprod = working_crossproducts(
            design.spec, rows, evaluation.point.beta, modes.at.working()
        )
    if not_identified or not modes.at.positive:
        crossprod = with_independent_columns(crossprod, evaluation.point.factors)
    again = evaluated_anew(evaluation)
    response, weights = again.modes.at.working_rows
    estimate = FamilyEstimate(
        cast(FamilyModel, residual_model(design)),
        marginal_deviance=again.deviance,
        beta=own_coefficients(rows, evaluation.point.beta),
        params=rows.family.natural(evaluation.point.family_coordinates),
        x=found.x,
        gradient=found.gradient,
        hessian=found.hessian,
        covariance_jacobians=covariance_jacobians(found.covariance, found.x),
        scores_by_params=scores_by_params(again.modes),
        working_response=response,
        working_weights=weights,
        not_identified=not_identified,
    )
    likelihood = GaussianLikelihood(crossprod, reml=False)
    result = optimizer_result(found, crossprod.theta(evaluation.point.factors), nagq, control)
    return build_fitted_model(design, likelihood, result, residual=estimate, priors=priors)


def optimizer_result(found: Optimum, theta: Vector, nagq: int, control: Control) -> OptimizerResult:
    """How the search ended."""
    result, evaluation = found.search, found.evaluation
    decrement, _ = newton_decrement(found.gradient, found.hessian)
    return OptimizerResult(
        theta=theta,
        engine="laplace" if nagq <= 1 else "quadrature",
        evaluations=result.evaluations,
        converged=result.end.converged,
        remarks=_remarks(evaluation, converged=result.end.converged),
        message=f"another step would gain {decrement:.1e}",
        deviance=evaluation.deviance,
        trace=tuple(value for run in result.runs for value in run.trace),
        boundary_slope=result.boundary_slope,
        tolerance=control.tolerance,
        limit_reached=not result.end.converged and result.evaluations >= control.max_evaluations,
        factors=tuple(evaluation.point.factors),
    )


def evaluated_anew(evaluation: MarginalEvaluation) -> MarginalEvaluation:
    """
    The same point on the rows as they are, unmerged, the modes from zero unless worse.

    Where there is one mode it is that of the merged rows.
    """
    rows = evaluation.modes.model
    if rows.has_one_mode and rows.as_given is rows:
        return evaluation
    likelihood = GeneralizedLikelihood(rows.as_given, evaluation.nagq)
    if rows.has_one_mode:
        return likelihood.at(evaluation.point, evaluation.modes.u)
    try:
        again = likelihood.at(evaluation.point)
    except ModesNotFound:
        # Effects of zero are outside the range of the link, as the modes are not.
        return likelihood.at(evaluation.point, evaluation.modes.u)
    if _is_better(evaluation, again):
        return likelihood.at(evaluation.point, evaluation.modes.u)
    return again
