"""What the fit owes to single rows and to single levels.

A row's influence follows from its leverage. A level's is found by leaving it out: exactly, by
fitting again, or by one Newton step for theta from the optimum of all the data, which is
nearly as good and costs two evaluations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.design.build import Design, subset_rows
from mixedfx.design.checks import independent_columns
from mixedfx.design.random import RandomTermDesign
from mixedfx.errors import DataError, EngineError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.prediction_variance import conditional_residuals, leverage
from mixedfx.estimation.profiled import Profiled
from mixedfx.estimation.scaling import score_scaled
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A row that has less left to itself than this is fitted whatever it is.
_WHOLE = 1e-10
# The step is halved at most so often.
_HALVINGS = 30


def of_rows(fit: FittedModel) -> pd.DataFrame:
    """
    Leverage and Cook's distance of each row.

    References
    ----------
    .. [1] Cook (1977), Technometrics 19:15; for mixed models as in lme4's
       ``cooks.distance``.
    """
    design, s = fit.design, fit.solution
    hat = leverage(fit)
    resid = conditional_residuals(design, s)
    pearson = resid if design.weights is None else resid * np.sqrt(design.weights)
    rest = np.where(1.0 - hat > _WHOLE, 1.0 - hat, np.nan)
    std_resid = pearson / (s.sigma * np.sqrt(rest))
    distance = std_resid**2 * hat / rest / max(fit.crossprod.p, 1)
    columns = {"hat": hat, "resid": resid, "std_resid": std_resid, "cooks_distance": distance}
    return pd.DataFrame(columns, index=design.index)


def of_levels(fit: FittedModel, group: str, method: str) -> pd.DataFrame:
    """
    Change of the estimates on leaving out each level of a group.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Stat. Med. 24:893, section 5.
    """
    expect_no_priors(fit, "influence(group)")
    expect_choice("group", group, fit.formula.groups)
    expect_choice("method", method, ("one_step", "refit"))
    random_term = next(b for b in fit.design.random_terms if b.group == group)
    base = _estimates(fit.solution, fit.solution.theta)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        changes = np.array(
            [
                _without(fit, random_term, level, method) - base
                for level in range(len(random_term.levels))
            ]
        )
    p = fit.crossprod.p
    beta = changes[:, :p]
    precision = np.linalg.inv(fit.solution.sigma**2 * fit.solution.vcov_unscaled)
    distance = np.einsum("lp,pq,lq->l", beta, precision, beta) / max(p, 1)
    names = [
        *fit.design.X_names,
        "sigma",
        *(f"theta[{i}]" for i in range(fit.crossprod.parametrization.size)),
    ]
    table = pd.DataFrame(changes, columns=names, index=random_term.levels.labels.rename(group))
    table.insert(0, "cooks_distance", distance, allow_duplicates=True)
    rows = np.bincount(random_term.codes, minlength=len(random_term.levels))
    table.insert(0, "nobs", rows, allow_duplicates=True)
    return table


def _estimates(solution: Solution, theta: Vector) -> Vector:
    return np.concatenate([solution.beta, [solution.sigma], theta])


def _without(fit: FittedModel, random_term: RandomTermDesign, level: int, method: str) -> Vector:
    """Estimates without the rows of one level."""
    rest = subset_rows(fit.design, random_term.codes != level)
    size = fit.crossprod.p + 1 + fit.crossprod.parametrization.size
    vanished = any(not b.model_matrix.any(axis=0).all() for b in rest.random_terms)
    if vanished or len(independent_columns(rest.X)) < fit.crossprod.p:
        return np.full(size, np.nan)
    try:
        reduced = compute_crossproducts(rest)
        theta = _refitted(fit, rest, reduced) if method == "refit" else _stepped(fit, reduced)
        return _estimates(solve_pls(reduced, theta, reml=fit.reml), theta)
    except (DataError, EngineError, np.linalg.LinAlgError):
        return np.full(size, np.nan)


def _refitted(fit: FittedModel, design: Design, reduced: CrossProducts) -> Vector:
    found = Profiled().estimate(
        design, reduced, reml=fit.reml, control=Control(), start=fit.solution.theta
    )
    return found.theta


def _stepped(fit: FittedModel, reduced: CrossProducts) -> Vector:
    """Theta after one Newton step, with the Hessian of all the data."""
    at = fit.hessian_at_optimum
    term_scaling = fit.crossprod.term_scaling
    natural = [f @ m for f, m in zip(term_scaling, at.coordinates.lambdas(at.x), strict=True)]
    gradient = score_scaled(reduced, at.coordinates, at.x, term_scaling=term_scaling, reml=fit.reml)
    if not len(gradient):
        return fit.solution.theta
    step = np.linalg.solve(at.hessian, gradient)
    start = solve_pls_at_factors(reduced, natural, reml=fit.reml).deviance
    for _ in range(_HALVINGS):  # a step through zero would come out on the other side
        roots = [
            f @ m for f, m in zip(term_scaling, at.coordinates.lambdas(at.x - step), strict=True)
        ]
        if solve_pls_at_factors(reduced, roots, reml=fit.reml).deviance <= start:
            break
        step = 0.5 * step
    return _theta(fit, roots)


def _theta(fit: FittedModel, roots: list[Matrix]) -> Vector:
    """Entries of the lower triangles with the same covariances."""
    lower = [np.asarray(np.linalg.qr(root.T, mode="r")).T for root in roots]
    return canonical_signs(
        fit.crossprod.parametrization, fit.crossprod.parametrization.to_params(lower)
    )
