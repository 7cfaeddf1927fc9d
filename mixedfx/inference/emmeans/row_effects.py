"""Predictions and comparisons averaged over rows: average and conditional marginal effects.

The mean of the response in a row is ``m(x'beta)``, at random effects of zero, or ``m(x'beta +
z'b)`` at their conditional modes, which are taken as known. An average prediction
is its mean over rows; a comparison is the difference that another value of one variable makes, the
other variables as they are: ``mean_i [m(x_i1'beta) - m(x_i0'beta)]``, or the ratio of the two
means. Errors are by the delta method: each is linearised, and tested as linear functions are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._names import decode
from mixedfx.errors import ArgumentError, brief, check_choice, check_share
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.inference import wald
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.linear_functions import LinearFunctions
from mixedfx.inference.emmeans.means_grid import grid_variables
from mixedfx.inference.emmeans.reference_grid import Variable, grid_levels, level_text, parse_names
from mixedfx.inference.emmeans.row_averages import RowGroups, row_groups
from mixedfx.inference.emmeans.scale import check_mean_of_coefficients, mean_function
from mixedfx.inference.prediction import check_names_of_groups, conditional_part

Vector = npt.NDArray[np.float64]

COMPARISONS = ("difference", "ratio")
_ESTIMATES = ["estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high"]


@dataclass(frozen=True)
class EffectOptions:
    """Which rows, and on which scale."""

    at: Mapping[str, Any] | None = None
    data: Any = None
    average: bool = True
    which: str = "mean"
    comparison: str = "difference"
    conf_level: float = 0.95
    random: str | Sequence[str] = "none"

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        check_share("conf_level", self.conf_level)
        check_choice("which", self.which, ("linear", "mean"))
        check_choice("comparison", self.comparison, COMPARISONS)
        check_names_of_groups(self.random)


def average_predictions(
    fit: FittedModel, ddf: DenominatorDf, by: Any, options: EffectOptions
) -> pd.DataFrame:
    """Means of the predictions of rows, all of them or within levels of variables."""
    groups = _groups(fit, by, options)
    functions = groups.average(_means(fit, groups, groups.frame, options))
    estimates = functions.estimate(fit, ddf, options.conf_level)
    return pd.concat([groups.levels.reset_index(drop=True), estimates[_ESTIMATES]], axis=1)


def comparisons(
    fit: FittedModel, ddf: DenominatorDf, variables: Any, by: Any, options: EffectOptions
) -> pd.DataFrame:
    """Differences or ratios that other values of variables make, averaged over rows."""
    groups = _groups(fit, by, options)
    tables = []
    for name, changes in _changes(fit, variables, groups).items():
        for change in changes:
            low, high = (
                groups.average(_means(fit, groups, frame, options))
                for frame in change.frames(groups.frame, name)
            )
            table = _compared(fit, ddf, low, high, options)
            table.insert(0, "term", name)
            table.insert(1, "contrast", change.label(options.comparison))
            for position, level in enumerate(groups.levels):
                table.insert(2 + position, level, np.asarray(groups.levels[level]))
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _groups(fit: FittedModel, by: Any, options: EffectOptions) -> RowGroups:
    """Rows and what they are averaged in: each by itself if they are not."""
    random = () if options.random == "none" else fit.formula.groups
    groups = row_groups(fit, by, options.at, options.data, keep=grouping_columns(fit, random))
    if options.average:
        return groups
    if by is not None:
        raise ArgumentError("average=False has an estimate for each row: leave out by=.")
    shown = [name for name in grid_variables(fit) if name in groups.frame]
    return replace(
        groups, levels=groups.frame[shown], weights=sparse.identity(len(groups.frame), format="csr")
    )


def grouping_columns(fit: FittedModel, groups: Sequence[str]) -> list[str]:
    """Columns that the random terms of some grouping factors read."""
    terms = [term.formula_term for term in fit.spec.random_terms if term.group in groups]
    codes = [
        c
        for t in terms
        for c in (*t.group, *(f.name() for e in terms_of(t.effects) for f in e.factors))
    ]
    return list(dict.fromkeys(decode(name) for code in codes for name in names_in(code)))


def _means(
    fit: FittedModel, groups: RowGroups, frame: pd.DataFrame, options: EffectOptions
) -> LinearFunctions:
    """Mean of each row, linearised at the estimates, the conditional modes given."""
    at, which = groups.functions(fit, frame), options.which
    if options.random != "none":
        at = replace(at, offset=at.offset + conditional_part(fit, frame, options.random))
    if which == "linear":
        return at
    check_mean_of_coefficients(fit)
    mean, beta = mean_function(fit), fit.solution.beta
    eta = at.values(beta)
    slope, _, _ = mean.mean_derivatives(eta)
    return at.linearised(mean.mean(eta), slope[:, None] * at.rows, beta)


def _compared(
    fit: FittedModel,
    ddf: DenominatorDf,
    low: LinearFunctions,
    high: LinearFunctions,
    options: EffectOptions,
) -> pd.DataFrame:
    """Differences of functions, or their ratios by differences of logarithms."""
    if options.comparison == "ratio":
        low, high = _logarithm(fit, low), _logarithm(fit, high)
    ends = [low, high]
    weights = np.tile([[-1.0], [1.0]], (1, len(low.rows)))
    table = LinearFunctions.sum_of(ends, weights).estimate(fit, ddf, options.conf_level)
    return (wald.exponentials(table) if options.comparison == "ratio" else table)[_ESTIMATES]


def _logarithm(fit: FittedModel, functions: LinearFunctions) -> LinearFunctions:
    """Logarithms of functions, linearised."""
    beta = fit.solution.beta
    values = functions.values(beta)
    if not (values > 0.0).all():
        raise ArgumentError("comparison='ratio' is of positive means; these are not all positive.")
    return functions.linearised(np.log(values), functions.rows / values[:, None], beta)


# ---------------------------------------------------------------- values that are compared


@dataclass(frozen=True)
class Change:
    """Two values of a variable, one for all rows or one for each."""

    low: Any
    high: Any
    text: str  # with a place for the sign

    def frames(self, frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows with the one value, and with the other."""
        return frame.assign(**{name: self.low}), frame.assign(**{name: self.high})

    def label(self, comparison: str) -> str:
        """What is compared, in words."""
        return self.text.format(sign="/" if comparison == "ratio" else "-")


def _changes(fit: FittedModel, given: Any, groups: RowGroups) -> dict[str, list[Change]]:
    """Changes of each variable asked for, by default of all but those that group the rows."""
    known = grid_variables(fit)
    if given is None:
        asked: dict[str, Any] = {n: None for n in known if n not in (*groups.specs, *groups.by)}
    elif isinstance(given, Mapping):
        asked = {name: given[name] for name in parse_names("variables", list(given), known)}
    else:
        asked = dict.fromkeys(parse_names("variables", given, known))
    if not asked:
        raise ArgumentError("there is no variable to compare values of, besides those of by=.")
    return {
        name: (_number_changes if known[name].numeric else _level_changes)(
            name, known[name], how, groups.frame[name]
        )
        for name, how in asked.items()
    }


_GAPS: dict[str, Callable[[Vector], float]] = {
    "sd": lambda x: float(x.std(ddof=1)),
    "2sd": lambda x: 2.0 * float(x.std(ddof=1)),
}
_ENDS: dict[str, Callable[[Vector], Sequence[float]]] = {
    "iqr": lambda x: np.quantile(x, [0.25, 0.75]).tolist(),
    "minmax": lambda x: [float(x.min()), float(x.max())],
}


def _number_changes(name: str, variable: Variable, how: Any, column: pd.Series) -> list[Change]:
    """Values of a number: each row's own and so much more, or two for all rows."""
    x = column.to_numpy(dtype=float)
    if how is None:  # both values of a number that has two, such as a dummy
        how = variable.levels.tolist() if len(variable.levels) == 2 else 1.0
    if isinstance(how, str):
        check_choice("variables", how, (*_GAPS, *_ENDS))
        if how in _GAPS:
            half = 0.5 * _GAPS[how](x)
            return [Change(x - half, x + half, f"+{how}")]
        how = _ENDS[how](x)
    if isinstance(how, int | float | np.number) and not isinstance(how, bool) and np.isfinite(how):
        return [Change(x, x + float(how), f"+{float(how):g}" if how >= 0 else f"{float(how):g}")]
    low, high = _two_values(name, variable, how)
    return [Change(low, high, f"{high:g} {{sign}} {low:g}")]


def _two_values(name: str, variable: Variable, how: Any) -> tuple[Any, Any]:
    """Two values of a variable, as ``at`` takes them."""
    if not isinstance(how, Sequence | np.ndarray) or isinstance(how, str) or len(how) != 2:
        raise ArgumentError(
            f"variables: '{name}' is compared at {brief(how)}; give two values, such as [0, 10]"
            + (
                ", how much more, or 'sd', '2sd', 'iqr' or 'minmax'."
                if variable.numeric
                else ", or 'reference', 'sequential' or 'pairwise'."
            )
        )
    low, high = grid_levels({name: variable}, {name: list(how)})[name]
    return low, high


def _level_changes(name: str, variable: Variable, how: Any, column: pd.Series) -> list[Change]:
    """Pairs of levels of a factor."""
    levels = variable.levels
    pairs = {
        "reference": [(0, j) for j in range(1, len(levels))],
        "sequential": [(j - 1, j) for j in range(1, len(levels))],
        "pairwise": list(itertools.combinations(range(len(levels)), 2)),
    }
    if isinstance(how, str) or how is None:
        how = how or "reference"
        check_choice("variables", how, pairs)
        chosen = pairs[how]
    else:
        low, high = _two_values(name, variable, how)
        values = levels.tolist()
        chosen = [(values.index(low), values.index(high))]
    zeros = np.zeros(len(column), dtype=int)

    def everywhere(j: int) -> pd.Series:
        return levels.iloc[zeros + j].set_axis(column.index)

    return [
        Change(
            everywhere(i),
            everywhere(j),
            f"{level_text(levels.iloc[j])} {{sign}} {level_text(levels.iloc[i])}",
        )
        for i, j in chosen
    ]
