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

from mixedfx.design import Block
from mixedfx.errors import expect_choice
from mixedfx.factor.blocks import penalised, product
from mixedfx.fit import Fit

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A level whose columns are nearer to dependence than this says nothing of its effects alone.
_DEPENDENT = 1e-10


def pooling(fit: Fit, group: str) -> pd.DataFrame:
    """
    Show each level's estimate without, with partial and with complete pooling.

    Parameters
    ----------
    fit : Fit
        Any fit.
    group : str
        A grouping factor.

    Returns
    -------
    pandas.DataFrame
        Indexed by level, and by effect if there are several: ``n`` rows; ``unpooled``, the
        coefficient that the level's rows alone give, all else held, NaN where they cannot;
        ``pooled``, the fixed effect; ``partial``, the model's; ``weight``, of the level's own
        evidence (the diagonal of the matrix weight); ``cond_sd``, the standard deviation given
        data and parameters.

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
    mine = [t for t, block in enumerate(fit.design.blocks) if block.group == group]
    tables = [_of_term(fit, t) for t in mine]
    table = pd.concat(tables)
    levels = fit.design.blocks[mine[0]].levels.labels
    effects = list(dict.fromkeys(table.index.get_level_values("effect")))
    if len(effects) == 1 and len(mine) == 1:
        return table.droplevel("effect")
    order = pd.MultiIndex.from_product([levels, effects], names=[group, "effect"])
    return (
        table.reindex(order) if len(table) == len(order) else table.sort_index(sort_remaining=False)
    )


def _of_term(fit: Fit, t: int) -> pd.DataFrame:
    """The table of one term."""
    block, slot = fit.design.blocks[t], fit.cross.slots[t]
    part = slice(slot.start, slot.start + slot.width)
    A = fit.cross.gram.diagonal[slot.factor][part, part]
    b = fit.solution.effects()[t]
    C, _, _ = penalised(A, fit.solution.lambdas[t])
    weight = product(C, A)
    alone = _alone(fit, t, A, b)
    sd = np.sqrt(np.maximum(np.einsum("kkl->kl", fit.solution.conditional_covariances()[t]), 0.0))
    fixed = dict(zip(fit.design.names, fit.solution.beta, strict=True))
    centre = np.array([fixed.get(name, 0.0) for name in block.effects])[:, None]
    rows = np.bincount(block.codes, minlength=len(block.levels))
    columns = {
        "n": np.tile(rows, len(block.effects)),
        "unpooled": (centre + alone).ravel(),
        "pooled": np.repeat(centre, len(rows)),
        "partial": (centre + b).ravel(),
        "weight": np.einsum("kkl->kl", weight).ravel(),
        "cond_sd": sd.ravel(),
    }
    levels = block.levels.labels
    index = pd.MultiIndex.from_arrays(
        [np.tile(levels.to_numpy(), len(block.effects)), np.repeat(block.effects, len(rows))],
        names=[block.group, "effect"],
    )
    return pd.DataFrame(columns, index=index)


def _alone(fit: Fit, t: int, A: Matrix, b: Matrix) -> Matrix:
    """Each level's deviations by least squares on what everything else leaves, (k, levels)."""
    block, design = fit.design.blocks[t], fit.design
    rest = design.y - design.X @ fit.solution.beta
    for other, effects in zip(design.blocks, fit.solution.effects(), strict=True):
        if other is not block:
            rest = rest - np.einsum("nk,kn->n", other.values, effects[:, other.codes])
    if design.weights is not None:
        rest = rest * design.weights
    sums = _sums(block, rest)
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


def _sums(block: Block, values: Vector) -> Matrix:
    L = len(block.levels)
    return np.array([np.bincount(block.codes, z * values, L) for z in block.values.T])
