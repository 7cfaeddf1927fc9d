"""Estimates of each level with no, partial and complete pooling, and the weights of the first.

For a random intercept the partially pooled estimate is a weighted mean with the weight

    lambda_i = s^2 / (s^2 + sigma^2 / n_i)

of the level's own (Gelman and Hill 2007, equation 12.1). In general the weight is the matrix
``G_i A_i``, with ``A_i = Z_i'WZ_i`` and ``G_i = Lambda (Lambda' A_i Lambda + I)^-1 Lambda'``, all
other parameters and effects at their estimates. Of a generalised model W are the observed weights
at the conditional modes, and a level's own estimate is by maximum likelihood: the partially pooled
one is not exactly a weighted mean of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.slim import summary_of_rows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.level_estimates import (
    MIN_EIGENVALUE,
    level_deviations,
    shrinkage_weights,
)
from mixedfx.likelihood.prediction_variance import conditional_residuals

Codes = npt.NDArray[np.intp]
Matrix = npt.NDArray[np.float64]


def pooling(fit: FittedModel, group: str) -> pd.DataFrame:
    """
    Unpooled, pooled and partially pooled effects of each level, and the weights.

    Notes
    -----
    For a random intercept ``partial = weight * unpooled + (1 - weight) * pooled``. With
    several effects the weights are matrices, and that holds for the vectors.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, equation 12.1.
    """
    check_choice("group", group, fit.formula.groups)
    terms = fit.spec.terms_of(group)
    table = pd.concat([_pooling_of_term(fit, t) for t in terms])
    levels = fit.spec.levels_of(group).labels
    effects = list(dict.fromkeys(table.index.get_level_values(-1)))
    if len(effects) == 1 and len(terms) == 1:
        return table.droplevel(-1)
    order = pd.MultiIndex.from_product([levels, effects], names=[group, "effect"])
    return (
        table.reindex(order) if len(table) == len(order) else table.sort_index(sort_remaining=False)
    )


def _pooling_of_term(fit: FittedModel, t: int) -> pd.DataFrame:
    """Table of the effects of one random term."""
    random_term = fit.spec.random_terms[t]
    if not random_term.is_plain:
        raise ArgumentError(
            f"pooling takes levels apart, and those of {random_term.formula_term} share their "
            "records: see ranef() and coef()."
        )
    A, weight = shrinkage_weights(fit.solution, t)
    b = fit.solution.conditional_modes()[t]
    unpooled = fit.residual.unpooled_effects(fit.design, fit.solution, t)
    if unpooled is None:
        unpooled = _unpooled_effects(fit, t, A)
    nobs = rows_of_levels(fit)[random_term.group]
    sd = np.sqrt(np.maximum(np.einsum("kkl->kl", fit.solution.conditional_covariances()[t]), 0.0))
    beta = dict(zip(fit.spec.X_names, fit.solution.beta, strict=True))
    fixed = np.array([beta.get(name, 0.0) for name in random_term.effect_names])[:, None]
    columns = {
        "n": np.tile(nobs, len(random_term.effect_names)),
        "unpooled": (fixed + unpooled).ravel(),
        "pooled": np.repeat(fixed, len(nobs)),
        "partial": (fixed + b).ravel(),
        "weight": np.einsum("kkl->kl", weight).ravel(),
        "cond_sd": sd.ravel(),
    }
    levels = random_term.levels.labels
    index = pd.MultiIndex.from_arrays(
        [
            np.tile(levels.to_numpy(), len(random_term.effect_names)),
            np.repeat(random_term.effect_names, len(nobs)),
        ],
        names=[random_term.group, "effect"],
    )
    return pd.DataFrame(columns, index=index)


@summary_of_rows("rows of levels")
def rows_of_levels(fit: FittedModel) -> dict[str, Codes]:
    """Number of rows of each level of each grouping factor."""
    counts = fit.rows.counts
    return {
        t.group: np.bincount(t.codes, counts, t.n_codes).astype(np.intp)
        for t in fit.rows.random_terms
    }


def _right_hand_side(fit: FittedModel, t: int, A: Matrix) -> Matrix:
    """``Z_i'W r_i`` by level, in the term's basis, (k, levels)."""
    rows, position = fit.rows, fit.crossprod.term_positions[t]
    if not rows.in_memory:
        # Those of all residuals, and what the term itself has taken.
        projected = fit.solution.projected_crossproducts()[position.group]
        b = fit.solution.conditional_modes_in_basis()[t]
        own: Matrix = np.einsum("abl,bl->al", A, b)
        return projected[position.columns, -1] + own
    term, own = rows.random_terms[t], np.zeros(rows.n)
    term.add_to_linear_predictor(own, fit.solution.conditional_modes()[t])
    residuals = conditional_residuals(rows, fit.solution)
    partial = fit.residual.weighted_residuals(rows, term.codes, residuals, own)
    columns = fit.crossprod.bases[t].columns(term.model_matrix)
    return np.array([np.bincount(term.codes, z * partial, term.n_levels) for z in columns.T])


def _unpooled_effects(fit: FittedModel, t: int, A: Matrix) -> Matrix:
    """
    ``T A_i^-1 Z_i'W r_i`` by level, (k, levels); NaN where ``A_i`` is singular.

    ``A_i`` and ``Z_i`` are in the term's basis ``Z T``; ``r`` are the residuals of the fixed part
    and of the other random terms, and of other levels where residuals are correlated with theirs.
    """
    basis, Ztr = fit.crossprod.bases[t], _right_hand_side(fit, t, A)
    size = np.sqrt(np.einsum("kkl->kl", A))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = A / (size[:, None] * size[None, :])
    scaled = np.moveaxis(np.nan_to_num(scaled), 2, 0)
    regular = np.linalg.eigvalsh(scaled)[:, 0] > MIN_EIGENVALUE
    effects = np.full_like(Ztr, np.nan)
    if regular.any():
        rhs = (Ztr / np.where(size > 0, size, 1.0)).T[regular, :, None]
        effects[:, regular] = np.linalg.solve(scaled[regular], rhs)[:, :, 0].T / size[:, regular]
    return basis.effects(effects)


def pooled_coefficients(fit: FittedModel, group: str) -> pd.DataFrame:
    """
    Coefficients of each level with complete, no and partial pooling.

    References
    ----------
    .. [1] Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical
       Models, section 12.2.
    """
    check_choice("group", group, fit.formula.groups)
    terms = fit.spec.terms_of(group)
    if len(terms) > 1:
        raise ArgumentError(
            f"'{fit.formula}' has several terms of '{group}'; write them as one term to compare "
            "poolings."
        )
    random_term = fit.spec.random_terms[terms[0]]
    ols = dict(zip(fit.spec.X_names, fit.crossprod.ols_coef, strict=True))
    complete = np.array([ols.get(name, 0.0) for name in random_term.effect_names])
    factor = fit.crossprod.term_positions[terms[0]].group
    unpooled = complete[:, None] + _no_pooling_deviations(fit, random_term, factor)
    table = _pooling_of_term(fit, terms[0])[["partial"]]
    table.insert(0, "none", unpooled.ravel())
    table.insert(0, "complete", np.repeat(complete, unpooled.shape[1]))
    if len(random_term.effect_names) == 1:
        return table.droplevel(-1)
    levels = random_term.levels.labels
    order = pd.MultiIndex.from_product([levels, random_term.effect_names], names=[group, "effect"])
    return table.reindex(order)


def _no_pooling_deviations(fit: FittedModel, random_term: RandomTermSpec, factor: int) -> Matrix:
    """Deviations from the OLS coefficients with a coefficient for each level, (k, levels)."""
    X_names = fit.spec.X_names
    common = [i for i, name in enumerate(X_names) if name not in random_term.effect_names]
    deviations, aliased = level_deviations(fit.crossprod, factor, common)
    if len(aliased):
        names = ", ".join(X_names[common[i]] for i in aliased)
        raise ArgumentError(
            f"{names} varies between the levels of '{random_term.group}' only, so there is nothing "
            "of it in a coefficient for each level; leave it out to compare poolings."
        )
    return deviations
