"""Influence of single rows and of single levels on the estimates.

For rows, leverage and Cook's distance. For a level, the change of the estimates without its rows,
as influence.ME computes it: by refitting, or by one Newton step of theta from the optimum of all
rows with their Hessian, ``theta - H^-1 g``, which costs two evaluations (Demidenko and Stukel
2005, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design, subset_rows
from mixedfx.design.checks import independent_columns
from mixedfx.design.levels import Levels
from mixedfx.errors import ArgumentError, DataError, EngineError, check_choice
from mixedfx.estimation.contracts import RowInfluence
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.inference.family_estimates import linear_predictor
from mixedfx.inference.prediction import fitted
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]

# Step-halvings of the Newton step, at most.
_MAX_HALVINGS = 30


def leverages(fit: FittedModel) -> Vector:
    """Diagonal of the hat matrix, of the working linear model of a generalised one."""
    if fit.spec.residual.has_several_means:  # of which there is no one working model
        return np.full(fit.rows.n, np.nan)
    return _row_influence(fit).hat


def _row_influence(fit: FittedModel) -> RowInfluence:
    fit.spec.residual.check_working_model("the influence of a row")
    return fit.residual.row_influence(fit.rows, fit.solution, linear_predictor(fit))


def row_influence(fit: FittedModel) -> pd.DataFrame:
    """
    Leverage and Cook's distance of each row.

    References
    ----------
    .. [1] Cook (1977), Technometrics 19:15; for mixed models as in lme4's
       ``cooks.distance``.
    """
    found = _row_influence(fit)
    columns = {
        "hat": found.hat,
        "resid": fit.rows.y - fitted(fit),
        "std_resid": found.std_resid,
        "cooks_distance": found.shift / max(fit.crossprod.p, 1),
    }
    return pd.DataFrame(columns, index=fit.rows.index)


def level_influence(fit: FittedModel, group: str, method: str) -> pd.DataFrame:
    """
    Change of the estimates on leaving out each level of a group.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Stat. Med. 24:893, section 5.
    """
    check_no_priors(fit, "influence(group)")
    check_choice("group", group, influence_groups(fit))
    check_choice("method", method, ("one_step", "refit"))
    levels, codes = _levels_and_codes(fit, group)
    deletion = fit.residual.deletion(fit.design, fit.solution) or LinearDeletion(fit)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        changes = np.array(
            [deletion.without(codes != i, method) - deletion.estimates for i in range(len(levels))]
        )
    nobs = np.bincount(codes, fit.rows.counts, len(levels)).astype(np.intp)
    return table_of_changes(fit, changes, deletion.names, nobs, levels.labels.rename(group))


def table_of_changes(
    fit: FittedModel, changes: Vector, names: Sequence[str], nobs: Codes, levels: pd.Index
) -> pd.DataFrame:
    """Changes of the estimates without each level, (levels, estimates), with Cook's distances."""
    p = fit.crossprod.p
    cov, beta_changes = fit.solution.coefficient_covariance, changes[:, :p]
    precision = np.linalg.inv(cov.in_basis)
    if cov.qr_R is not None:
        beta_changes = beta_changes @ cov.qr_R.T
    distance = np.einsum("lp,pq,lq->l", beta_changes, precision, beta_changes) / max(p, 1)
    table = pd.DataFrame(changes, columns=list(names), index=levels)
    table.insert(0, "cooks_distance", distance, allow_duplicates=True)
    table.insert(0, "nobs", nobs, allow_duplicates=True)
    return table


def influence_groups(fit: FittedModel) -> tuple[str, ...]:
    """Grouping factors of random terms of all predictors, and of correlated residuals."""
    subjects = fit.residual.subjects
    groups = tuple(dict.fromkeys(g for one in fit.predictors for g in one.formula.groups))
    return groups if subjects is None or subjects.name in groups else (*groups, subjects.name)


def _levels_and_codes(fit: FittedModel, group: str) -> tuple[Levels, Codes]:
    subjects = fit.residual.subjects
    if subjects is not None and group not in fit.formula.groups:
        return subjects.levels, subjects.codes
    fit = next(one for one in fit.predictors if group in one.formula.groups)
    if fit.spec.random_terms[fit.spec.terms_of(group)[0]].has_memberships:
        raise ArgumentError(
            f"influence('{group}') leaves the rows of a level out, and rows belong to several: "
            "leave rows out by data[...], or take influence() of rows."
        )
    return fit.spec.levels_of(group), fit.rows.codes_of(group)


def _estimates(solution: Solution, theta: Vector) -> Vector:
    return np.concatenate([solution.beta, [solution.sigma], theta])


@dataclass(frozen=True)
class LinearDeletion:
    """Estimates of a linear model without some of its rows."""

    fit: FittedModel

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients, sigma and theta."""
        theta = (f"theta[{i}]" for i in range(self.fit.crossprod.parametrization.size))
        return (*self.fit.spec.X_names, "sigma", *theta)

    @property
    def estimates(self) -> Vector:
        """Those of the fit."""
        return _estimates(self.fit.solution, self.fit.solution.theta)

    def without(self, keep: Mask, method: str) -> Vector:
        """Estimates from cross-products of the other rows."""
        return _estimates_without(self.fit, keep, method)


def _estimates_without(fit: FittedModel, keep: Mask, method: str) -> Vector:
    """Estimates from some of the rows; NaN where they do not exist."""
    design = subset_rows(fit.design, keep)
    zero_column = any(not term.model_matrix.any(axis=0).all() for term in design.rows.random_terms)
    if zero_column or len(independent_columns(design.rows.X)) < fit.crossprod.p:
        return no_estimates(fit)
    bases = fit.crossprod.bases
    return estimates_of(
        fit, design, lambda: fit.residual.crossproducts_of(design, keep, bases), method
    )


def no_estimates(fit: FittedModel) -> Vector:
    """NaN for each of the estimates."""
    return np.full(fit.crossprod.p + 1 + fit.crossprod.parametrization.size, np.nan)


def estimates_of(
    fit: FittedModel, design: Design, crossprod: Callable[[], CrossProducts], method: str
) -> Vector:
    """Estimates from the cross-products of some rows, in the bases of all; NaN without any."""
    try:
        likelihood = GaussianLikelihood(crossprod(), fit.reml)
        if method == "refit":
            theta = estimate_theta(design, likelihood, start=fit.solution.theta).theta
        else:
            theta = _one_step_theta(fit, likelihood)
        return _estimates(likelihood.at(theta), theta)
    except (DataError, EngineError, np.linalg.LinAlgError):
        return no_estimates(fit)


def _one_step_theta(fit: FittedModel, likelihood: GaussianLikelihood) -> Vector:
    """Theta after one Newton step on other cross-products, with the Hessian of all rows."""
    at = fit.hessian_at_optimum
    scaled = replace(at.scaled, likelihood=likelihood)  # in the bases of all rows
    gradient = scaled.score(at.x)
    if not len(gradient):
        return fit.solution.theta
    step = np.linalg.solve(at.hessian, gradient)
    before = scaled.at(at.x).deviance
    for _ in range(_MAX_HALVINGS):  # a step beyond zero changes the sign of an entry only
        if scaled.at(at.x - step).deviance <= before:
            break
        step = 0.5 * step
    return likelihood.crossprod.theta(scaled.factors(at.x - step))
