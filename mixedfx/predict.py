"""Fitted values and BLUPs, for the rows of the fit and for new rows and new levels.

A prediction knows how uncertain it is: of the coefficients and effects together, and, for a
new response, of what no estimate knows, new levels and the residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx import joint
from mixedfx.design import Design, as_frame, numbers, rebuild
from mixedfx.errors import (
    ArgumentError,
    DataError,
    MissingColumnError,
    NewLevelError,
    check_share,
    expect_choice,
)
from mixedfx.fit import Fit
from mixedfx.joint import Rows, design_rows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def effects_table(fit: Fit, group: str, *, cond_sd: bool) -> pd.DataFrame:
    """
    Conditional means of one group's random effects.

    Parameters
    ----------
    fit : Fit
        Any fit with random terms.
    group : str
        A grouping factor.
    cond_sd : bool
        Whether to add a column ``<effect>_sd`` for each effect: its standard deviation given
        the data and the parameters.

    Returns
    -------
    pandas.DataFrame
        A row per level, a column per effect.
    """
    expect_choice("group", group, fit.formula.groups)
    means = fit.solution.effects()
    columns: dict[str, Vector] = {}
    sds: dict[str, Vector] = {}
    covs = fit.solution.conditional_covariances() if cond_sd else None
    index = None
    for t, block in enumerate(fit.design.blocks):
        if block.group != group:
            continue
        index = block.levels.labels.rename(group)
        for j, name in enumerate(block.effects):
            key = name if name not in columns else f"{name} {block.term}"
            columns[key] = means[t][j]
            if covs is not None:
                sds[f"{key}_sd"] = np.sqrt(np.maximum(covs[t][j, j], 0.0))
    return pd.DataFrame({**columns, **sds}, index=index)


def effects_covariances(fit: Fit, group: str) -> dict[Any, pd.DataFrame]:
    """
    Conditional covariance of each level's random effects.

    Parameters
    ----------
    fit : Fit
        Any fit with random terms.
    group : str
        A grouping factor.

    Returns
    -------
    dict
        From level to a DataFrame over the effects; zeros between different terms of a group
        only where the terms are on different factors.
    """
    expect_choice("group", group, fit.formula.groups)
    m = fit.cross.p + 1
    _, blocks = fit.solution.reduced.backward(np.zeros((m, m)))
    mine = [t for t, b in enumerate(fit.design.blocks) if b.group == group]
    names = [n for t in mine for n in fit.design.blocks[t].effects]
    factor = fit.cross.slots[mine[0]].factor
    cov = fit.solution.sigma**2 * blocks[factor]
    levels = fit.design.blocks[mine[0]].levels.labels
    return {
        level: pd.DataFrame(cov[:, :, i], index=names, columns=names)
        for i, level in enumerate(levels)
    }


def coefficients_by_level(fit: Fit, group: str) -> pd.DataFrame:
    """
    Fixed plus random effects, level by level.

    Parameters
    ----------
    fit : Fit
        Any fit with random terms.
    group : str
        A grouping factor.

    Returns
    -------
    pandas.DataFrame
        A row per level, a column per coefficient; an effect without a fixed counterpart has
        a fixed part of zero, as in lme4's ``coef``.
    """
    expect_choice("group", group, fit.formula.groups)
    means = fit.solution.effects()
    mine = [t for t, b in enumerate(fit.design.blocks) if b.group == group]
    index = fit.design.blocks[mine[0]].levels.labels.rename(group)
    names = list(fit.design.names)
    fixed = np.tile(fit.solution.beta, (len(index), 1))
    result = pd.DataFrame(fixed, index=index, columns=names)
    for t in mine:
        for name, effect in zip(fit.design.blocks[t].effects, means[t], strict=True):
            result[name] = effect + result.get(name, 0.0)
    return result


def fitted(fit: Fit) -> Vector:
    """
    Fitted values of the rows used, random effects and offset included.

    Parameters
    ----------
    fit : Fit
        Any fit.

    Returns
    -------
    ndarray of shape (n,)
        In units of the response.
    """
    return _mean(fit, None)


def predict(
    fit: Fit,
    data: Any = None,
    *,
    random: str | Sequence[str] = "all",
    new_levels: str = "error",
    interval: str | None = None,
    level: float = 0.95,
    se: bool = False,
) -> pd.Series | pd.DataFrame:
    """
    Predict the mean of the response, and how far off it may be.

    Parameters
    ----------
    fit : Fit
        Any fit.
    data : DataFrame, optional
        New rows, with the columns of the formula's right side; without it, the fit's own.
    random : "all", "none" or list of str
        Which groups' random effects to add to the fixed part.
    new_levels : {"error", "population"}
        For levels that the fit has not seen: refuse, or predict with a random effect of zero.
    interval : {"confidence", "prediction"}, optional
        For the mean of the row given its levels, or for a new response there.
    level : float
        Coverage of the interval.
    se : bool
        Whether to give the standard error of the mean.

    Returns
    -------
    pandas.Series or pandas.DataFrame
        With the rows' index; NaN where a column is missing. With an interval or a standard
        error a table of ``predicted std_error conf_low conf_high``, as far as asked for.

    Raises
    ------
    NewLevelError
        For unseen levels, with ``new_levels="error"``; names them.
    DataError
        If the columns cannot be rebuilt.
    """
    expect_choice("new_levels", new_levels, ("error", "population"))
    if interval is not None:
        expect_choice("interval", interval, ("confidence", "prediction"))
    check_share("level", level)
    wanted = _wanted(fit, random)
    if data is None:
        index, mean = fit.design.index, _mean(fit, wanted)
        rows = design_rows(fit.design)
    else:
        new = interval == "prediction"
        index, mean, rows = _new_rows(fit, data, wanted, new_levels, effects=new)
    predicted = pd.Series(mean, index=index, name="predicted")
    if interval is None and not se:
        return predicted
    known = [
        codes if block.group in wanted else np.full(len(codes), -1)
        for block, codes in zip(fit.design.blocks, rows.codes, strict=True)
    ]
    variance = joint.variances(fit, Rows(rows.X, rows.values, known))
    variance = np.where(np.isnan(mean), np.nan, np.maximum(variance, 0.0))
    table = pd.DataFrame({"predicted": predicted})
    if se:
        table["std_error"] = np.sqrt(variance)
    if interval is not None:
        if interval == "prediction":
            residual = _own_residual(fit) if data is None else _new_residual(fit, data)
            variance = variance + _new_variance(fit, rows, known) + residual
        half = special.ndtri(0.5 + level / 2) * np.sqrt(variance)
        table["conf_low"], table["conf_high"] = mean - half, mean + half
    return table


def _new_rows(
    fit: Fit, data: Any, wanted: Sequence[str], new_levels: str, *, effects: bool
) -> tuple[pd.Index, Vector, Rows]:
    """Mean of new rows, and what their uncertainty depends on."""
    frame, X, values, codes = rebuild(fit.design, data, groups=wanted, effects=effects)
    mean = X @ fit.solution.beta + _new_offset(fit.design, frame)
    for t, b in enumerate(fit.solution.effects()):
        block = fit.design.blocks[t]
        if block.group not in wanted:
            continue
        unseen = codes[t] == -1
        if unseen.any() and new_levels == "error":
            _fail_new_level(fit, t, frame, unseen)
        known = np.maximum(codes[t], 0)
        part = np.einsum("nk,kn->n", values[t], b[:, known])
        mean += np.where(unseen, 0.0, np.where(codes[t] == -2, np.nan, part))
    return frame.index, mean, Rows(X, values, codes)


def _own_residual(fit: Fit) -> Vector:
    """Residual variance of new responses in the fit's own rows."""
    found = fit.residual_sds**2
    if fit.dispersion is None or fit.dispersion.spread is None:
        return found
    block = fit.dispersion.scale.block
    assert block is not None
    return np.asarray(found * np.exp(2.0 * fit.dispersion.spread.cond_sd[block.codes] ** 2))


def _new_residual(fit: Fit, data: Any) -> Any:
    """Residual variance of new rows."""
    if fit.dispersion is not None:
        columns, codes = fit.dispersion.scale.rebuild(data)
        return fit.dispersion.variances(columns, codes)
    if not fit.known_sds:
        return fit.solution.sigma**2
    name, frame = fit.design.recipe.residual_sd, as_frame(data)
    if name is None:
        raise DataError(
            "the fit's residual_sd was an array, so new rows have none: give residual_sd as a "
            "column's name to predict new responses, or take interval='confidence'."
        )
    if name not in frame.columns:
        raise MissingColumnError(f"residual_sd column '{name}' is not in the new data.")
    return numbers("residual_sd", frame[name]) ** 2


def _new_variance(fit: Fit, rows: Rows, known: Sequence[Any]) -> Vector:
    """Variance of a row's effects that are not known."""
    total = np.zeros(len(rows.X))
    for values, codes, lam in zip(rows.values, known, fit.solution.lambdas, strict=True):
        spread = values @ lam
        total = total + np.where(codes < 0, np.einsum("nk,nk->n", spread, spread), 0.0)
    return np.asarray(fit.solution.sigma**2 * total)


def _mean(fit: Fit, wanted: Sequence[str] | None) -> Vector:
    design = fit.design
    mean = design.X @ fit.solution.beta
    if design.offset is not None:
        mean = mean + design.offset
    for block, b in zip(design.blocks, fit.solution.effects(), strict=True):
        if wanted is None or block.group in wanted:
            block.add_to(mean, b)
    return np.asarray(mean)


def _wanted(fit: Fit, random: str | Sequence[str]) -> tuple[str, ...]:
    groups = fit.formula.groups
    if isinstance(random, str):
        if random in groups:
            return (random,)
        expect_choice("random", random, ("all", "none", *groups))
        return groups if random == "all" else ()
    if not isinstance(random, Sequence):
        raise ArgumentError(f"random={random!r} must be 'all', 'none' or a list of groups.")
    for name in random:
        expect_choice("random", name, groups)
    return tuple(random)


def _new_offset(design: Design, frame: pd.DataFrame) -> Any:
    if design.offset is None:
        return 0.0
    name = design.recipe.offset
    if name is None:
        raise DataError(
            "the fit's offset was an array, so new rows have none: give the offset as a "
            "column's name to predict, or add it to the prediction of a fit without."
        )
    if name not in frame.columns:
        raise MissingColumnError(f"offset column '{name}' is not in the new data.")
    return numbers("offset", frame[name])


def _fail_new_level(fit: Fit, t: int, frame: pd.DataFrame, unseen: Any) -> None:
    block = fit.design.blocks[t]
    rows = frame.loc[unseen]
    plain = [f for f in block.term.group if f in frame.columns]
    if len(plain) == len(block.term.group):
        shown = rows[plain].astype(str).agg(":".join, axis=1).unique()
    else:
        shown = np.array([f"row {i}" for i in rows.index[:5]])
    listed = ", ".join(map(repr, shown[:5])) + (", ..." if len(shown) > 5 else "")
    raise NewLevelError(
        f"the fit has not seen these levels of '{block.group}': {listed}. "
        "Predict them with new_levels='population', which takes their random effect as zero."
    )
