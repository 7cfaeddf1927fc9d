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

from mixedfx.design.build import Design
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.design.source import as_frame, float_vector
from mixedfx.errors import (
    ArgumentError,
    DataError,
    MissingColumnError,
    NewLevelError,
    check_share,
    expect_choice,
)
from mixedfx.estimation import prediction_variance
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.prediction_variance import PredictionRows, design_rows

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def effects_table(fit: FittedModel, group: str, *, cond_sd: bool) -> pd.DataFrame:
    """Conditional means of one group's random effects."""
    expect_choice("group", group, fit.formula.groups)
    means = fit.solution.conditional_modes()
    columns: dict[str, Vector] = {}
    sds: dict[str, Vector] = {}
    covs = fit.solution.conditional_covariances() if cond_sd else None
    index = None
    for t, random_term in enumerate(fit.design.random_terms):
        if random_term.group != group:
            continue
        index = random_term.levels.labels.rename(group)
        for j, name in enumerate(random_term.effect_names):
            key = name if name not in columns else f"{name} {random_term.formula_term}"
            columns[key] = means[t][j]
            if covs is not None:
                sds[f"{key}_sd"] = np.sqrt(np.maximum(covs[t][j, j], 0.0))
    return pd.DataFrame({**columns, **sds}, index=index)


def effects_covariances(fit: FittedModel, group: str) -> dict[Any, pd.DataFrame]:
    """Conditional covariance of each level's random effects."""
    expect_choice("group", group, fit.formula.groups)
    m = fit.crossprod.p + 1
    _, vcov_by_factor = fit.solution.schur.backward(np.zeros((m, m)))
    mine = [t for t, b in enumerate(fit.design.random_terms) if b.group == group]
    names = [n for t in mine for n in fit.design.random_terms[t].effect_names]
    factor = fit.crossprod.term_positions[mine[0]].factor
    cov = fit.solution.sigma**2 * vcov_by_factor[factor]
    levels = fit.design.random_terms[mine[0]].levels.labels
    return {
        level: pd.DataFrame(cov[:, :, i], index=names, columns=names)
        for i, level in enumerate(levels)
    }


def coefficients_by_level(fit: FittedModel, group: str) -> pd.DataFrame:
    """Fixed plus random effects, level by level."""
    expect_choice("group", group, fit.formula.groups)
    means = fit.solution.conditional_modes()
    mine = [t for t, b in enumerate(fit.design.random_terms) if b.group == group]
    index = fit.design.random_terms[mine[0]].levels.labels.rename(group)
    names = list(fit.design.X_names)
    fixed = np.tile(fit.solution.beta, (len(index), 1))
    result = pd.DataFrame(fixed, index=index, columns=names)
    for t in mine:
        for name, effect in zip(fit.design.random_terms[t].effect_names, means[t], strict=True):
            result[name] = effect + result.get(name, 0.0)
    return result


def fitted(fit: FittedModel) -> Vector:
    """Fitted values of the rows used, random effects and offset included."""
    return _mean(fit, None)


def predict(
    fit: FittedModel,
    data: Any = None,
    *,
    random: str | Sequence[str] = "all",
    new_levels: str = "error",
    interval: str | None = None,
    conf_level: float = 0.95,
    se: bool = False,
) -> pd.Series | pd.DataFrame:
    """Predict the mean of the response, and how far off it may be."""
    expect_choice("new_levels", new_levels, ("error", "population"))
    if interval is not None:
        expect_choice("interval", interval, ("confidence", "prediction"))
    check_share("conf_level", conf_level)
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
        codes if random_term.group in wanted else np.full(len(codes), -1)
        for random_term, codes in zip(fit.design.random_terms, rows.codes, strict=True)
    ]
    variance = prediction_variance.prediction_variance(
        fit, PredictionRows(rows.X, rows.values, known)
    )
    variance = np.where(np.isnan(mean), np.nan, np.maximum(variance, 0.0))
    table = pd.DataFrame({"predicted": predicted})
    if se:
        table["std_error"] = np.sqrt(variance)
    if interval is not None:
        if interval == "prediction":
            residual = _own_residual(fit) if data is None else _new_residual(fit, data)
            variance = variance + _new_variance(fit, rows, known) + residual
        half = special.ndtri(0.5 + conf_level / 2) * np.sqrt(variance)
        table["conf_low"], table["conf_high"] = mean - half, mean + half
    return table


def _new_rows(
    fit: FittedModel, data: Any, wanted: Sequence[str], new_levels: str, *, effects: bool
) -> tuple[pd.Index, Vector, PredictionRows]:
    """Mean of new rows, and what their uncertainty depends on."""
    frame, X, values, codes = evaluate_new_data(fit.design, data, groups=wanted, effects=effects)
    mean = X @ fit.solution.beta + _new_offset(fit.design, frame)
    for t, b in enumerate(fit.solution.conditional_modes()):
        random_term = fit.design.random_terms[t]
        if random_term.group not in wanted:
            continue
        unseen = codes[t] == -1
        if unseen.any() and new_levels == "error":
            _fail_new_level(fit, t, frame, unseen)
        known = np.maximum(codes[t], 0)
        part = np.einsum("nk,kn->n", values[t], b[:, known])
        mean += np.where(unseen, 0.0, np.where(codes[t] == -2, np.nan, part))
    return frame.index, mean, PredictionRows(X, values, codes)


def _own_residual(fit: FittedModel) -> Vector:
    """Residual variance of new responses in the fit's own rows."""
    found = fit.residual_sds**2
    if fit.dispersion is None or fit.dispersion.random is None:
        return found
    random_term = fit.dispersion.design.random_term
    assert random_term is not None
    return np.asarray(found * np.exp(2.0 * fit.dispersion.random.cond_sd[random_term.codes] ** 2))


def _new_residual(fit: FittedModel, data: Any) -> Any:
    """Residual variance of new rows."""
    if fit.dispersion is not None:
        columns, codes = fit.dispersion.design.evaluate_new_data(data)
        return fit.dispersion.variances(columns, codes)
    if not fit.known_sds:
        return fit.solution.sigma**2
    name, frame = fit.design.spec.residual_sd, as_frame(data)
    if name is None:
        raise DataError(
            "the fit's residual_sd was an array, so new rows have none: give residual_sd as a "
            "column's name to predict new responses, or take interval='confidence'."
        )
    if name not in frame.columns:
        raise MissingColumnError(f"residual_sd column '{name}' is not in the new data.")
    return float_vector("residual_sd", frame[name]) ** 2


def _new_variance(fit: FittedModel, rows: PredictionRows, known: Sequence[Any]) -> Vector:
    """Variance of a row's effects that are not known."""
    total = np.zeros(len(rows.X))
    for values, codes, lam in zip(rows.values, known, fit.solution.lambdas, strict=True):
        spread = values @ lam
        total = total + np.where(codes < 0, np.einsum("nk,nk->n", spread, spread), 0.0)
    return np.asarray(fit.solution.sigma**2 * total)


def _mean(fit: FittedModel, wanted: Sequence[str] | None) -> Vector:
    design = fit.design
    mean = design.X @ fit.solution.beta
    if design.offset is not None:
        mean = mean + design.offset
    for random_term, b in zip(design.random_terms, fit.solution.conditional_modes(), strict=True):
        if wanted is None or random_term.group in wanted:
            random_term.add_to_linear_predictor(mean, b)
    return np.asarray(mean)


def _wanted(fit: FittedModel, random: str | Sequence[str]) -> tuple[str, ...]:
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
    name = design.spec.offset
    if name is None:
        raise DataError(
            "the fit's offset was an array, so new rows have none: give the offset as a "
            "column's name to predict, or add it to the prediction of a fit without."
        )
    if name not in frame.columns:
        raise MissingColumnError(f"offset column '{name}' is not in the new data.")
    return float_vector("offset", frame[name])


def _fail_new_level(fit: FittedModel, t: int, frame: pd.DataFrame, unseen: Any) -> None:
    random_term = fit.design.random_terms[t]
    rows = frame.loc[unseen]
    plain = [f for f in random_term.formula_term.group if f in frame.columns]
    if len(plain) == len(random_term.formula_term.group):
        shown = rows[plain].astype(str).agg(":".join, axis=1).unique()
    else:
        shown = np.array([f"row {i}" for i in rows.index[:5]])
    listed = ", ".join(map(repr, shown[:5])) + (", ..." if len(shown) > 5 else "")
    raise NewLevelError(
        f"the fit has not seen these levels of '{random_term.group}': {listed}. "
        "Predict them with new_levels='population', which takes their random effect as zero."
    )
