"""What the fit owes to single rows and to single levels.

A row's influence follows from its leverage. A level's is found by leaving it out: exactly, by
fitting again, or by one Newton step for theta from the optimum of all the data, which is
nearly as good and costs two evaluations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance import rectify
from mixedfx.criterion import Solution, solve, solve_at
from mixedfx.crossprod import CrossProducts, cross
from mixedfx.design import Block, Design, independent_columns, some_rows
from mixedfx.engines.profiled import Profiled
from mixedfx.errors import DataError, EngineError, expect_choice
from mixedfx.fit import Control, Fit, expect_no_priors, framed_gradient
from mixedfx.joint import leverage, residuals
from mixedfx.threads import calm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A row that has less left to itself than this is fitted whatever it is.
_WHOLE = 1e-10
# The step is halved at most so often.
_HALVINGS = 30


def of_rows(fit: Fit) -> pd.DataFrame:
    """
    Leverage and Cook's distance of each row.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    pandas.DataFrame
        With the rows' index: ``hat resid std_resid cooks_distance``. The standardised residual
        is over ``sigma sqrt((1 - hat) / w)``.

    References
    ----------
    .. [1] Cook (1977), Technometrics 19:15; for mixed models as in lme4's
       ``cooks.distance``.
    """
    design, s = fit.design, fit.solution
    hat = leverage(fit)
    resid = residuals(design, s)
    pearson = resid if design.weights is None else resid * np.sqrt(design.weights)
    rest = np.where(1.0 - hat > _WHOLE, 1.0 - hat, np.nan)
    std_resid = pearson / (s.sigma * np.sqrt(rest))
    distance = std_resid**2 * hat / rest / max(fit.cross.p, 1)
    columns = {"hat": hat, "resid": resid, "std_resid": std_resid, "cooks_distance": distance}
    return pd.DataFrame(columns, index=design.index)


def of_levels(fit: Fit, group: str, method: str) -> pd.DataFrame:
    """
    Change of the estimates on leaving out each level of a group.

    Parameters
    ----------
    fit : Fit
        Any fit with random terms.
    group : str
        A grouping factor.
    method : {"one_step", "refit"}
        One Newton step for theta from the optimum, or a whole fit.

    Returns
    -------
    pandas.DataFrame
        Indexed by level: ``nobs`` left out, ``cooks_distance``, then for each fixed effect,
        ``sigma`` and each entry of ``theta`` the estimate without the level less that with
        it. NaN where the rest does not determine the model.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Stat. Med. 24:893, section 5.
    """
    expect_no_priors(fit, "influence(group)")
    expect_choice("group", group, fit.formula.groups)
    expect_choice("method", method, ("one_step", "refit"))
    block = next(b for b in fit.design.blocks if b.group == group)
    base = _estimates(fit.solution, fit.solution.theta)
    with calm(fit.cross.plan.tail_size):
        changes = np.array(
            [_without(fit, block, level, method) - base for level in range(len(block.levels))]
        )
    p = fit.cross.p
    beta = changes[:, :p]
    precision = np.linalg.inv(fit.solution.sigma**2 * fit.solution.unscaled_cov)
    distance = np.einsum("lp,pq,lq->l", beta, precision, beta) / max(p, 1)
    names = [*fit.design.names, "sigma", *(f"theta[{i}]" for i in range(fit.cross.layout.size))]
    table = pd.DataFrame(changes, columns=names, index=block.levels.labels.rename(group))
    table.insert(0, "cooks_distance", distance, allow_duplicates=True)
    rows = np.bincount(block.codes, minlength=len(block.levels))
    table.insert(0, "nobs", rows, allow_duplicates=True)
    return table


def _estimates(solution: Solution, theta: Vector) -> Vector:
    return np.concatenate([solution.beta, [solution.sigma], theta])


def _without(fit: Fit, block: Block, level: int, method: str) -> Vector:
    """Estimates without the rows of one level."""
    rest = some_rows(fit.design, block.codes != level)
    size = fit.cross.p + 1 + fit.cross.layout.size
    vanished = any(not b.values.any(axis=0).all() for b in rest.blocks)
    if vanished or len(independent_columns(rest.X)) < fit.cross.p:
        return np.full(size, np.nan)
    try:
        reduced = cross(rest)
        theta = _refitted(fit, rest, reduced) if method == "refit" else _stepped(fit, reduced)
        return _estimates(solve(reduced, theta, reml=fit.reml), theta)
    except (DataError, EngineError, np.linalg.LinAlgError):
        return np.full(size, np.nan)


def _refitted(fit: Fit, design: Design, reduced: CrossProducts) -> Vector:
    found = Profiled().search(
        design, reduced, reml=fit.reml, control=Control(), start=fit.solution.theta
    )
    return found.theta


def _stepped(fit: Fit, reduced: CrossProducts) -> Vector:
    """Theta after one Newton step, with the Hessian of all the data."""
    at = fit.curvature
    frames = fit.cross.frames
    natural = [f @ m for f, m in zip(frames, at.chart.lambdas(at.x), strict=True)]
    gradient = framed_gradient(reduced, at.chart, at.x, frames=frames, reml=fit.reml)
    if not len(gradient):
        return fit.solution.theta
    step = np.linalg.solve(at.hessian, gradient)
    start = solve_at(reduced, natural, reml=fit.reml).deviance
    for _ in range(_HALVINGS):  # a step through zero would come out on the other side
        roots = [f @ m for f, m in zip(frames, at.chart.lambdas(at.x - step), strict=True)]
        if solve_at(reduced, roots, reml=fit.reml).deviance <= start:
            break
        step = 0.5 * step
    return _theta(fit, roots)


def _theta(fit: Fit, roots: list[Matrix]) -> Vector:
    """Entries of the lower triangles with the same covariances."""
    lower = [np.asarray(np.linalg.qr(root.T, mode="r")).T for root in roots]
    return rectify(fit.cross.layout, fit.cross.layout.pack(lower))
