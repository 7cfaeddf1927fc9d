"""Fitted lines of the levels of a group, partially pooled and unpooled, and of the population.

They are means of the response; of several linear predictors those of all, without unpooled lines.

Of the other columns, numbers are at the level's mean and factors that do not vary within levels at
the level's own value, so that its line passes through its data. Factors that vary within levels are
at one combination for all lines, the commonest of the data, which the figure names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx import plots
from mixedfx._names import decode, encode
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import ArgumentError, brief, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import columns_in, names_in, terms_of
from mixedfx.inference.shrinkage import pooling
from mixedfx.results.plot_inputs import level_of_each_row, response_name

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def _model_frame(fit: FittedModel) -> pd.DataFrame:
    """Variables that the formulas of all predictors read."""
    frames = [one.rows.model_frame for one in fit.predictors]
    frame = pd.concat([one.reset_index(drop=True) for one in frames], axis=1)
    return frame.loc[:, ~frame.columns.duplicated()].set_axis(frames[0].index, axis=0)


def _columns_in(text: str, fit: FittedModel) -> list[str]:
    """Columns of the data that a patsy expression reads, in order."""
    codes = [factor.name() for term in terms_of(text) for factor in term.factors]
    columns = fit.rows.columns
    names = [n for c in codes for n in sorted(columns_in(c, columns), key=decode(c).find)]
    return list(dict.fromkeys(names))


def axis_column(fit: FittedModel, group: str, x: str | None) -> str | None:
    """Check the column along the axis; by default the first that varies within levels."""
    slopes = [t.effects for t in fit.formula.random if t.group_name == group]
    texts = [*slopes, fit.formula.fixed]
    possible = list(dict.fromkeys(name for text in texts for name in _columns_in(text, fit)))
    if x is not None:
        if not possible:
            raise ArgumentError(
                f"x={brief(x)} cannot run: '{fit.formula}' reads no column but groups."
            )
        check_choice("x", x, possible)
        return x
    codes = fit.rows.codes_of(group)
    for name in possible:
        column = fit.rows.columns[name]
        if plots.is_number(column):
            grouped = column.groupby(codes)
            if (grouped.max() > grouped.min()).any():
                return name
    return None


def _containing(fit: FittedModel, group: str) -> list[str]:
    """Groups in which a group is nested, itself included."""
    inner = next(term for term in fit.rows.random_terms if term.group == group)
    containing = []
    for outer in fit.rows.random_terms:
        pairs = inner.codes.astype(np.int64) * outer.n_levels + outer.codes
        if outer.group not in containing and len(np.unique(pairs)) == inner.n_levels:
            containing.append(outer.group)
    return containing


def _is_coded(fit: FittedModel, x: str) -> bool:
    """Whether the formula makes a factor of a column, which then has observed values only."""
    texts = [fit.formula.fixed, *(t.effects for t in fit.formula.random)]
    factors = {f.name() for text in texts for term in terms_of(text) for f in term.factors}
    return any(code.startswith("C(") and encode(x) in names_in(code) for code in factors)


def fitted_lines(
    fit: FittedModel, x: str | None, group: str, levels: int | Sequence[object] | None
) -> plots.FittedLines:
    """Compute the points and lines of some levels of a group."""
    check_plain_levels(fit.spec, "plot.fitted()")
    labels = fit.spec.levels_of(group).labels
    chosen = plots.select_levels(labels, levels, group=group, max_levels=plots.MAX_LINES)
    position = np.full(len(labels), -1, dtype=np.intp)
    position[chosen] = np.arange(len(chosen))
    codes = position[fit.rows.codes_of(group)]
    common = _common_levels(fit, x, group)
    lines = _lines_of_levels(fit, x, group, codes, common)
    lines["level"] = labels.to_numpy(dtype=object)[chosen[lines["level"]]]
    population = _line_of_population(fit, x, common)
    used = codes >= 0
    response = fit.rows.y[used]
    points = pd.DataFrame({"level": level_of_each_row(fit, group)[used], "response": response})
    if x is not None:
        points.insert(1, "x", _model_frame(fit)[x].to_numpy()[used])
        lines["inside"] = _inside(lines, points)
    held_at = _held_at(fit, x, group, common)
    name, unit = response_name(fit)
    return plots.FittedLines(points, lines, population, group, x, name, len(labels), held_at, unit)


def _common_levels(fit: FittedModel, x: str | None, group: str) -> dict[str, Any]:
    """Commonest combination of the factors that vary within levels of a group, x left out."""
    frame = _model_frame(fit).reset_index(drop=True)
    names = [name for name, varies in _other_factors(fit, x, group).items() if varies]
    if not names:
        return {}
    counts = frame.groupby(names, observed=True, sort=False).size()
    commonest: Any = counts.index[int(np.argmax(counts.to_numpy()))]
    return dict(zip(names, commonest if len(names) > 1 else [commonest], strict=True))


def _other_factors(fit: FittedModel, x: str | None, group: str) -> dict[str, bool]:
    """Factors among the effects but x, and whether each varies within levels of a group."""
    names = dict.fromkeys(
        name
        for one in fit.predictors
        for text in (one.formula.fixed, *(t.effects for t in one.formula.random))
        for name in _columns_in(text, one)
    )
    codes, found, frame = fit.rows.codes_of(group), {}, _model_frame(fit)
    for name in names:
        column = frame[name]
        if name != x and not plots.is_number(column):
            values = pd.factorize(np.asarray(column))[0]
            pairs = np.unique(np.stack([codes, values]), axis=1).shape[1]
            found[name] = pairs > len(np.unique(codes))
    return found


def _held_at(fit: FittedModel, x: str | None, group: str, common: dict[str, Any]) -> str:
    """Say in words at which levels of other factors the lines are."""
    own = [name for name, varies in _other_factors(fit, x, group).items() if not varies]
    parts = [f"{name} = {level}" for name, level in common.items()]
    if own:
        parts.append(f"{', '.join(own)} as in each level")
    return "; ".join(parts)


def _at_common_levels(fit: FittedModel, common: dict[str, Any]) -> pd.DataFrame:
    """Model frame with some factors at one level in all rows, their types kept."""
    frame = _model_frame(fit)
    for name, level in common.items():
        column = frame[name]
        row = int(np.argmax(np.asarray(column == level)))
        frame[name] = column.iloc[np.full(len(column), row)].set_axis(frame.index)
    return frame


def _lines_of_levels(
    fit: FittedModel, x: str | None, group: str, codes: Codes, common: dict[str, Any]
) -> pd.DataFrame:
    """Means on a grid of x for each level, whose rows have its code; -1 for rows left out."""
    containing = _containing(fit, group)
    factors = {
        f
        for term in fit.spec.random_terms
        if term.group in containing
        for f in term.formula_term.group
    }
    constant = set().union(*map(names_in, factors)) - {x}
    observed = x is not None and _is_coded(fit, x)
    frame = _at_common_levels(fit, {n: v for n, v in common.items() if n not in constant})
    rows, at = plots.data_grid(frame, codes, x=x, own=constant, observed=observed)
    used = codes >= 0
    offset = np.bincount(codes[used], _offset(fit)[used]) / np.bincount(codes[used])
    lines = _means(fit, rows, offset[at], containing, _unpooled_shifts(fit, group))
    lines.insert(0, "level", at)
    if x is not None:
        lines.insert(1, "x", rows[x].to_numpy())
    return lines


def _line_of_population(fit: FittedModel, x: str | None, common: dict[str, Any]) -> pd.DataFrame:
    """Means without random effects on a grid of x over all rows."""
    observed = x is not None and _is_coded(fit, x)
    offset = _offset(fit)
    together = np.zeros(len(offset), dtype=np.intp)
    frame = _at_common_levels(fit, common)
    rows, at = plots.data_grid(frame, together, x=x, observed=observed)
    line = _means(fit, rows, np.full(len(at), offset.mean()), [], {})[["population"]]
    if x is not None:
        line.insert(0, "x", rows[x].to_numpy())
    return line


def _offset(fit: FittedModel) -> Vector:
    return np.zeros(fit.crossprod.n) if fit.rows.offset is None else fit.rows.offset


def _unpooled_shifts(fit: FittedModel, group: str) -> dict[int, Any]:
    """Unpooled less partially pooled effects of each term of a group, (k, levels)."""
    if fit.residual.predictors:  # a level's rows alone seldom tell its zeros from its counts
        terms = enumerate(fit.spec.random_terms)
        return {
            t: np.full((len(term.effect_names), len(term.levels)), np.nan)
            for t, term in terms
            if term.group == group
        }
    table = pooling(fit, group)
    shift = table["unpooled"] - table["partial"]
    by_term = {}
    for t, random_term in enumerate(fit.spec.random_terms):
        if random_term.group != group:
            continue
        if shift.index.nlevels == 1:
            by_term[t] = shift.to_numpy()[None, :]
        elif shift.index.is_unique:
            by_term[t] = np.array([shift.xs(name, level=-1) for name in random_term.effect_names])
        else:  # an effect in two terms: only the sum of the two is determined
            by_term[t] = np.full((len(random_term.effect_names), len(random_term.levels)), np.nan)
    return by_term


def _means(
    fit: FittedModel,
    rows: pd.DataFrame,
    offset: Vector,
    groups: Sequence[str],
    shifts: dict[int, Any],
) -> pd.DataFrame:
    """Means of new rows: with the conditional modes, without, and with unpooled effects."""
    population, partial, shift = _predictor_of_lines(fit, rows, offset, groups, shifts)
    columns = {"partial": [partial], "population": [population], "unpooled": [partial + shift]}
    for part in fit.residual.predictors.values():
        own = [group for group in groups if group in part.formula.groups]
        of_zero = _predictor_of_lines(part, rows, np.zeros(len(rows)), own, {})
        for etas, eta in zip(columns.values(), (of_zero[1], of_zero[0], of_zero[1]), strict=True):
            etas.append(eta)
    means = {}
    for name, etas in columns.items():
        means[name] = fit.residual.at_etas(np.array(etas)).fitted_mean(etas[0])
    return pd.DataFrame(means)


def _predictor_of_lines(
    fit: FittedModel,
    rows: pd.DataFrame,
    offset: Vector,
    groups: Sequence[str],
    shifts: dict[int, Any],
) -> tuple[Vector, Vector, Vector]:
    """Linear predictor without effects and with those of some groups, and unpooled less these."""
    new = evaluate_new_data(fit.spec, rows, groups=groups)
    X, values, codes = new.X, new.model_matrices, new.codes
    population = X @ fit.solution.beta + offset
    partial, shift = population.copy(), np.zeros(len(rows))
    for t, b in enumerate(fit.solution.conditional_modes()):
        if fit.spec.random_terms[t].group in groups:
            partial += np.einsum("nk,kn->n", values[t], b[:, codes[t]])
        if t in shifts:
            shift += np.einsum("nk,kn->n", values[t], shifts[t][:, codes[t]])
    return population, partial, shift


def _inside(lines: pd.DataFrame, points: pd.DataFrame) -> Any:
    """Whether x is within the range of the level's values, or among them if not numeric."""
    if plots.is_number(points["x"]):
        ends = points.groupby("level", observed=True)["x"].agg(["min", "max"])
        own = ends.reindex(lines["level"].to_numpy())
        x = lines["x"].to_numpy()
        return (x >= own["min"].to_numpy()) & (x <= own["max"].to_numpy())
    seen = set(zip(points["level"], points["x"], strict=True))
    return [pair in seen for pair in zip(lines["level"], lines["x"], strict=True)]
