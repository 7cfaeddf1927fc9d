"""Conditional modes, fitted values and predictions, for the rows of the fit and for new rows.

The mean of a row is ``x'beta + z'b``. Its standard error includes the joint uncertainty of
``beta`` and ``b`` (:mod:`mixedfx.likelihood.prediction_variance`); a prediction interval of a new
response adds ``sigma^2 z' Lambda Lambda' z`` for effects that are not included or of new levels,
and the residual variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._warnings import warn_caller
from mixedfx.design.known_levels import LevelCombinations
from mixedfx.design.new_data import evaluate_combinations
from mixedfx.design.source import as_frame
from mixedfx.errors import (
    ArgumentError,
    NotEstimableWarning,
    brief,
    check_choice,
    check_share,
)
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.estimability import not_estimable_note
from mixedfx.inference.new_levels import new_level_error
from mixedfx.inference.new_positions import place_new_positions, variance_left
from mixedfx.inference.new_rows import new_offset, new_weights
from mixedfx.inference.reported_levels import (
    reported_combinations,
    reported_labels,
    reported_modes,
    reported_variances,
)
from mixedfx.inference.residual_prediction import errors_of_means, known_residuals
from mixedfx.inference.response_scale import RowErrors, check_scale, response_scale
from mixedfx.likelihood.prediction_variance import (
    PredictionRows,
    conditional_residuals,
    effect_variance_gradient,
    prediction_errors,
    prediction_rows,
)
from mixedfx.residuals.predictive import Predictive

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def ranef_table(fit: FittedModel, group: str, *, cond_sd: bool | str) -> pd.DataFrame:
    """Conditional modes of one group's random effects, one row a level."""
    check_choice("group", group, fit.formula.groups)
    modes = fit.solution.conditional_modes()
    columns: dict[str, Vector] = {}
    sds: dict[str, Vector] = {}
    terms = fit.spec.terms_of(group)
    variances = _mode_variances(fit, terms, cond_sd) if cond_sd else {}
    index = None
    for t in terms:
        random_term = fit.spec.random_terms[t]
        index = reported_labels(random_term).rename(group)
        for j, name in enumerate(random_term.effect_names):
            key = name if name not in columns else f"{name} {random_term.formula_term}"
            columns[key] = reported_modes(random_term, modes[t])[j]
            if cond_sd:
                sds[f"{key}_sd"] = np.sqrt(np.maximum(variances[t][j], 0.0))
    return pd.DataFrame({**columns, **sds}, index=index)


def _mode_variances(
    fit: FittedModel, terms: Sequence[int], cond_sd: bool | str
) -> dict[int, Matrix]:
    """Variances (k, levels) of each term's modes: given the parameters, or "joint" with theirs."""
    if cond_sd != "joint":
        return {t: reported_variances(fit, t) for t in terms}
    uncertainty = fit.residual.parameter_uncertainty(fit.solution)
    variances = {}
    for t in terms:
        k = len(fit.spec.random_terms[t].effect_names)
        levels = len(reported_labels(fit.spec.random_terms[t]))
        of_effects = []
        for j in range(k):
            rows = _rows_of_effect(fit, t, j)
            errors = prediction_errors(fit.solution, rows, uncertainty)
            variance = fit.solution.sigma**2 * errors.variance
            of_effects.append(variance + unknown_effects_variance(fit, rows, [t]))
        variances[t] = np.array(of_effects).reshape(k, levels)
    return variances


def _rows_of_effect(fit: FittedModel, t: int, j: int) -> PredictionRows:
    """One row a level of term t, whose linear predictor is the level's j-th effect."""
    levels = len(reported_labels(fit.spec.random_terms[t]))
    matrices, codes = [], []
    for s, term in enumerate(fit.spec.random_terms):
        Z = np.zeros((levels, len(term.effect_names)))
        if s == t:
            Z[:, j] = 1.0
        matrices.append(Z)
        codes.append(np.arange(levels) if s == t else np.full(levels, -1))
    combinations = [
        reported_combinations(term) if s == t else None
        for s, term in enumerate(fit.spec.random_terms)
    ]
    return PredictionRows(np.zeros((levels, fit.crossprod.p)), matrices, codes, combinations)


def ranef_covariances(fit: FittedModel, group: str) -> dict[Any, pd.DataFrame]:
    """Conditional covariance of each level's random effects, (k, k)."""
    check_choice("group", group, fit.formula.groups)
    terms = fit.spec.terms_of(group)
    names = [n for t in terms for n in fit.spec.random_terms[t].effect_names]
    number = fit.crossprod.term_positions[terms[0]].group
    cov = fit.solution.conditional_covariances_by_group()[number]
    levels = fit.spec.levels_of(group).labels
    return {
        level: pd.DataFrame(cov[:, :, i], index=names, columns=names)
        for i, level in enumerate(levels)
    }


def coef_table(fit: FittedModel, group: str) -> pd.DataFrame:
    """Fixed effects plus conditional modes, one row a level."""
    check_choice("group", group, fit.formula.groups)
    modes = fit.solution.conditional_modes()
    terms = fit.spec.terms_of(group)
    index = reported_labels(fit.spec.random_terms[terms[0]]).rename(group)
    names = list(fit.spec.X_names)
    fixed = np.tile(fit.solution.beta, (len(index), 1))
    result = pd.DataFrame(fixed, index=index, columns=names)
    for t in terms:
        term = fit.spec.random_terms[t]
        for name, effect in zip(term.effect_names, reported_modes(term, modes[t]), strict=True):
            result[name] = effect + result.get(name, 0.0)
    return result


def fitted(fit: FittedModel) -> Vector:
    """Mean of each row used given the random effects, offset included."""
    return fit.residual.fitted_mean(_linear_predictor(fit, fit.formula.groups))


@dataclass(frozen=True)
class Wanted:
    """What is predicted, as asked for."""

    random: str | Sequence[str] | None = None
    new_levels: str = "error"
    which: str = "mean"
    average: str | None = None
    interval: str | None = None
    conf_level: float = 0.95
    se: bool = False

    def check(self, fit: FittedModel) -> None:
        """Refuse choices that do not exist, or not together."""
        check_choice("new_levels", self.new_levels, ("error", "population"))
        check_choice("which", self.which, fit.spec.residual.predicted)
        if self.average is not None:
            check_choice("average", self.average, ("population",))
        if self.interval is not None:
            check_choice("interval", self.interval, ("confidence", "prediction"))
        check_share("conf_level", self.conf_level)
        check_scale(fit, self.which, self.average, self.interval)

    def groups(self, fit: FittedModel) -> tuple[str, ...]:
        """Grouping factors whose conditional modes are included."""
        by_default = "all" if self.average is None else "none"
        return _included_groups(fit, by_default if self.random is None else self.random)


def predict(fit: FittedModel, data: Any = None, **wanted: Any) -> pd.Series | pd.DataFrame:
    """Mean of the response in the rows used, or in new rows, with standard errors and intervals."""
    return _predict(fit, data, Wanted(**wanted))


def _predict(fit: FittedModel, data: Any, wanted: Wanted) -> pd.Series | pd.DataFrame:
    wanted.check(fit)
    groups, interval = wanted.groups(fit), wanted.interval
    effects = interval == "prediction" or wanted.average is not None
    index, eta, rows = rows_of_predictor(fit, data, groups, wanted.new_levels, effects=effects)
    known = known_residuals(fit, data, groups)
    if known is not None:
        eta = eta + known.weights @ conditional_residuals(fit.rows, fit.solution)
    scale = response_scale(fit, wanted.which, wanted.average)
    left_out = unknown_effects_variance(fit, rows) if scale.averages else np.zeros(len(eta))
    if interval is None and not wanted.se:
        return scale.table(eta, left_out, index)
    uncertainty = fit.residual.parameter_uncertainty(fit.solution)
    errors = errors_of_means(fit, rows, known, uncertainty)
    errors = replace(errors, conditional=errors.conditional + rows.left_of_known)
    errors = errors.times(fit.solution.sigma**2)
    of_rows = RowErrors(
        index,
        eta,
        left_out,
        errors,
        lambda: effect_variance_gradient(fit.crossprod, rows, uncertainty),
    )
    confidence = wanted.conf_level if interval == "confidence" else None
    table = scale.with_errors(of_rows, se=wanted.se, conf_level=confidence)
    if interval == "prediction":
        variance = errors.variance + unknown_effects_variance(fit, rows)
        if known is not None:
            variance = variance - fit.solution.sigma**2 * known.explained
        predictive = _predictive(fit, data)
        shares = [0.5 - wanted.conf_level / 2, 0.5 + wanted.conf_level / 2]
        table["conf_low"], table["conf_high"] = predictive.quantiles(eta, variance, shares)
    return table


def rows_of_predictor(
    fit: FittedModel,
    data: Any,
    random: str | Sequence[str],
    new_levels: str,
    *,
    effects: bool = False,
) -> tuple[pd.Index, Vector, PredictionRows]:
    """Index, linear predictor and model matrices of the rows used, or of new rows."""
    groups = _included_groups(fit, random)
    if data is None:
        index, eta = fit.rows.index, _linear_predictor(fit, groups)
        rows = prediction_rows(fit.rows)
    else:
        index, eta, rows = _new_rows(fit, data, groups, new_levels, effects=effects)
    return index, eta, _with_effects_of(fit, rows, groups)


def _with_effects_of(
    fit: FittedModel, rows: PredictionRows, groups: Sequence[str]
) -> PredictionRows:
    """Rows without the effects of other groups."""
    codes = [
        codes if random_term.group in groups else np.full(len(codes), -1)
        for random_term, codes in zip(fit.spec.random_terms, rows.codes, strict=True)
    ]
    return replace(rows, codes=codes)


def _included_groups(fit: FittedModel, random: str | Sequence[str]) -> tuple[str, ...]:
    """Grouping factors whose effects are part of a prediction, and the residuals' own group."""
    groups = (*fit.formula.groups, *fit.residual.residual_groups)
    if isinstance(random, str):
        if random in groups:
            return (random,)
        check_choice("random", random, ("all", "none", *groups))
        return groups if random == "all" else ()
    check_names_of_groups(random)
    for name in random:
        check_choice("random", name, groups)
    return tuple(random)


def check_names_of_groups(random: object) -> None:
    """Refuse what is neither text nor a list, of which the grouping factors are looked up."""
    if not isinstance(random, Sequence):
        raise ArgumentError(f"random={brief(random)} must be 'all', 'none' or a list of groups.")


def _linear_predictor(fit: FittedModel, groups: Sequence[str]) -> Vector:
    """Mean of the rows used, with the effects of some grouping factors, (n,)."""
    modes = zip(fit.spec.random_terms, fit.solution.conditional_modes(), strict=True)
    included = [b if term.group in groups else None for term, b in modes]
    return fit.rows.linear_predictor(fit.solution.beta, included)


def _new_rows(
    fit: FittedModel, data: Any, groups: Sequence[str], new_levels: str, *, effects: bool
) -> tuple[pd.Index, Vector, PredictionRows]:
    """Index, mean and model matrices of new rows; NaN where a level is missing."""
    new, combinations, unseen = evaluate_combinations(
        fit.spec, data, groups=groups, effects=effects
    )
    frame, X, values, codes = new
    values, codes, left = place_new_positions(fit, values, codes, unseen)
    note = not_estimable_note(fit, data)
    if note is not None:
        warn_caller(note, NotEstimableWarning)
    mean = X @ fit.solution.beta + new_offset(fit, frame)
    mean = mean + _modes_of_rows(fit, frame, values, codes, combinations, (groups, new_levels))
    return frame.index, mean, PredictionRows(X, values, codes, combinations, left)


def conditional_part(fit: FittedModel, data: Any, random: str | Sequence[str]) -> Vector:
    """``z'b`` of new rows at the conditional modes of some grouping factors, (n,)."""
    groups = _included_groups(fit, random)
    if set(groups) - set(fit.formula.groups):
        raise ArgumentError(f"random={brief(random)}: residuals are no part of a mean here.")
    new, combinations, _ = evaluate_combinations(fit.spec, data, groups=groups)
    return _modes_of_rows(
        fit, new.frame, new.model_matrices, new.codes, combinations, (groups, "error")
    )


def _modes_of_rows(
    fit: FittedModel,
    frame: pd.DataFrame,
    values: Sequence[Matrix],
    codes: Sequence[Codes],
    combinations: Sequence[LevelCombinations | None],
    included: tuple[Sequence[str], str],
) -> Vector:
    """``z'b`` of rows; NaN where a level is missing."""
    (groups, new_levels), mean = included, np.zeros(len(frame))
    for t, b in enumerate(fit.solution.conditional_modes()):
        if fit.spec.random_terms[t].group not in groups:
            continue
        is_new, is_missing = codes[t] == -1, codes[t] == -2
        known, at, combination = ~is_new, np.maximum(codes[t], 0), combinations[t]
        if combination is None:
            of_rows = b[:, at]
        else:
            of_rows = np.zeros((len(b), len(at)))
            of_rows[:, codes[t] >= 0] = combination.of_rows(codes[t][codes[t] >= 0], b)
            is_new = is_new | ((codes[t] >= 0) & _any_unseen(combination, at))
        if is_new.any() and new_levels == "error":
            raise new_level_error(fit, t, frame.loc[is_new])
        effect = np.einsum("nk,kn->n", values[t], of_rows)
        mean += np.where(~known, 0.0, np.where(is_missing, np.nan, effect))
    return mean


def _any_unseen(combination: LevelCombinations, codes: Codes) -> Mask:
    """Whether rows have levels that the fit does not know, beside others."""
    return (
        combination.unseen[codes] if len(combination.unseen) else np.zeros(len(codes), dtype=bool)
    )


def _predictive(fit: FittedModel, data: Any) -> Predictive:
    """Distribution of new responses, in the rows used or in new rows."""
    if data is None:
        return fit.residual.predictive_of_rows(fit.rows, fit.residual_sds)
    return fit.residual.predictive_of_new(
        data, fit.solution.sigma, lambda: new_weights(fit, as_frame(data))
    )


def unknown_effects_variance(
    fit: FittedModel, rows: PredictionRows, terms: Sequence[int] | None = None
) -> Vector:
    """``sigma^2 z' Lambda Lambda' z`` of the effects without a conditional mode, (n,)."""
    total = np.zeros(len(rows.X))
    for t in range(len(fit.spec.random_terms)) if terms is None else terms:
        Z_lam = rows.model_matrices[t] @ fit.solution.lambdas[t]
        share = rows.unknown_share(t)
        total = total + np.where(share > 0.0, share * np.einsum("nk,nk->n", Z_lam, Z_lam), 0.0)
        total = total + variance_left(fit, rows, t)
    return np.asarray(fit.solution.sigma**2 * total)
