"""Partial pooling, level by level: how far each level is pulled towards what all share.

Alone, a level's rows would give its effects by least squares; the model takes a weighted mean
of that and of what it expects of any level. For a random intercept the weight is

    lambda_i = s^2 / (s^2 + sigma^2 / n_i)

and in general the matrix ``C_i A_i``, with ``A_i = Z_i'WZ_i`` and ``C_i`` the conditional
covariance over ``sigma**2``, everything else at its estimate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.random import RandomTermDesign
from mixedfx.errors import ArgumentError, expect_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.linalg.cholesky.batched import matmul, penalized_inverse, sum_outer

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A level whose columns are nearer to dependence than this says nothing of its effects alone.
_DEPENDENT = 1e-10


def pooling(fit: FittedModel, group: str) -> pd.DataFrame:
    """
    Show each level's estimate without, with partial and with complete pooling.

    Notes
    -----
    For a random intercept ``partial = weight * unpooled + (1 - weight) * pooled``. With
    several effects the weights are matrices, and that holds for the vectors.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, equation 12.1.
    """
    expect_choice("group", group, fit.formula.groups)
    mine = [
        t for t, random_term in enumerate(fit.design.random_terms) if random_term.group == group
    ]
    tables = [_of_term(fit, t) for t in mine]
    table = pd.concat(tables)
    levels = fit.design.random_terms[mine[0]].levels.labels
    effects = list(dict.fromkeys(table.index.get_level_values("effect")))
    if len(effects) == 1 and len(mine) == 1:
        return table.droplevel("effect")
    order = pd.MultiIndex.from_product([levels, effects], names=[group, "effect"])
    return (
        table.reindex(order) if len(table) == len(order) else table.sort_index(sort_remaining=False)
    )


def _of_term(fit: FittedModel, t: int) -> pd.DataFrame:
    """The table of one term."""
    random_term, position = fit.design.random_terms[t], fit.crossprod.term_positions[t]
    part = slice(position.start, position.start + position.width)
    A = fit.crossprod.ZtZ.diagonal[position.factor][part, part]
    b = fit.solution.conditional_modes()[t]
    C, _, _ = penalized_inverse(A, fit.solution.lambdas[t])
    weight = matmul(C, A)
    alone = _alone(fit, t, A, b)
    sd = np.sqrt(np.maximum(np.einsum("kkl->kl", fit.solution.conditional_covariances()[t]), 0.0))
    fixed = dict(zip(fit.design.X_names, fit.solution.beta, strict=True))
    centre = np.array([fixed.get(name, 0.0) for name in random_term.effect_names])[:, None]
    rows = np.bincount(random_term.codes, minlength=len(random_term.levels))
    columns = {
        "n": np.tile(rows, len(random_term.effect_names)),
        "unpooled": (centre + alone).ravel(),
        "pooled": np.repeat(centre, len(rows)),
        "partial": (centre + b).ravel(),
        "weight": np.einsum("kkl->kl", weight).ravel(),
        "cond_sd": sd.ravel(),
    }
    levels = random_term.levels.labels
    index = pd.MultiIndex.from_arrays(
        [
            np.tile(levels.to_numpy(), len(random_term.effect_names)),
            np.repeat(random_term.effect_names, len(rows)),
        ],
        names=[random_term.group, "effect"],
    )
    return pd.DataFrame(columns, index=index)


def _alone(fit: FittedModel, t: int, A: Matrix, b: Matrix) -> Matrix:
    """Each level's deviations by least squares on what everything else leaves, (k, levels)."""
    random_term, design = fit.design.random_terms[t], fit.design
    rest = design.y - design.X @ fit.solution.beta
    for other, effects in zip(design.random_terms, fit.solution.conditional_modes(), strict=True):
        if other is not random_term:
            other.add_to_linear_predictor(rest, -effects)
    if design.weights is not None:
        rest = rest * design.weights
    sums = _sums(random_term, rest)
    size = np.sqrt(np.einsum("kkl->kl", A))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = A / (size[:, None] * size[None, :])
    scaled = np.moveaxis(np.nan_to_num(scaled), 2, 0)
    known = np.linalg.eigvalsh(scaled)[:, 0] > _DEPENDENT
    found = np.full_like(b, np.nan)
    if known.any():
        right = (sums / np.where(size > 0, size, 1.0)).T[known, :, None]
        found[:, known] = np.linalg.solve(scaled[known], right)[:, :, 0].T / size[:, known]
    return found


def _sums(random_term: RandomTermDesign, values: Vector) -> Matrix:
    L = len(random_term.levels)
    return np.array(
        [np.bincount(random_term.codes, z * values, L) for z in random_term.model_matrix.T]
    )


def three_ways(fit: FittedModel, group: str) -> pd.DataFrame:
    """
    Estimate each level's coefficients with complete, without and with partial pooling.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, section 12.2.
    """
    expect_choice("group", group, fit.formula.groups)
    mine = [
        t for t, random_term in enumerate(fit.design.random_terms) if random_term.group == group
    ]
    if len(mine) > 1:
        raise ArgumentError(
            f"'{fit.formula}' has several terms of '{group}'; write them as one term to compare "
            "poolings."
        )
    random_term, position = fit.design.random_terms[mine[0]], fit.crossprod.term_positions[mine[0]]
    fixed = dict(zip(fit.design.X_names, fit.crossprod.ols_coef, strict=True))
    complete = np.array([fixed.get(name, 0.0) for name in random_term.effect_names])
    alone = complete[:, None] + _unpenalised(fit, random_term, position.factor)
    table = _of_term(fit, mine[0])[["partial"]]
    table.insert(0, "none", alone.ravel())
    table.insert(0, "complete", np.repeat(complete, alone.shape[1]))
    if len(random_term.effect_names) == 1:
        return table.droplevel("effect")
    levels = random_term.levels.labels
    order = pd.MultiIndex.from_product([levels, random_term.effect_names], names=[group, "effect"])
    return table.reindex(order)


def _unpenalised(fit: FittedModel, random_term: RandomTermDesign, factor: int) -> Matrix:
    """Deviations of each level from complete pooling, by least squares, (k, levels)."""
    crossprod = fit.crossprod
    qr_R = np.eye(crossprod.p) if crossprod.qr_R is None else crossprod.qr_R
    change = np.zeros((crossprod.p + 1, crossprod.p + 1))
    change[: crossprod.p, : crossprod.p], change[-1, -1] = qr_R, 1.0
    ZtXy = np.einsum("kcl,cd->kdl", crossprod.ZtXy[factor], change)
    XytXy = change.T @ crossprod.XytXy @ change
    kept = [i for i, name in enumerate(fit.design.X_names) if name not in random_term.effect_names]
    wanted = [*kept, crossprod.p]
    A, sides = crossprod.ZtZ.diagonal[factor], ZtXy[:, wanted]
    levels_first = np.moveaxis(A, 2, 0)
    inverse = np.linalg.pinv(levels_first, rcond=_DEPENDENT, hermitian=True)
    solved = matmul(np.asarray(np.moveaxis(inverse, 0, 2)), sides)
    explained = sum_outer(sides.transpose(1, 0, 2), solved.transpose(1, 0, 2))
    left = XytXy[np.ix_(wanted, wanted)] - explained
    own = np.diag(XytXy)[kept]
    lost = np.flatnonzero(np.diag(left)[:-1] < _DEPENDENT * own)
    if len(lost):
        names = ", ".join(fit.design.X_names[kept[i]] for i in lost)
        raise ArgumentError(
            f"{names} varies between the levels of '{random_term.group}' only, so there is nothing "
            "of it in a coefficient for each level; leave it out to compare poolings."
        )
    weights = np.append(-np.linalg.solve(left[:-1, :-1], left[:-1, -1]), 1.0)
    found = np.tensordot(solved, weights, axes=(1, 0))
    rank = np.linalg.matrix_rank(levels_first, hermitian=True)
    return np.where(rank == len(A), found, np.nan)
