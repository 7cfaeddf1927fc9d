"""Reference grid of a fit: the variables of its fixed part and the values that they take.

The grid has all combinations of the factors' levels, with covariates at their means, as R's
emmeans builds it.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._keys import positions_of_keys
from mixedfx._names import written
from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError, brief, did_you_mean
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import columns_in, terms_of

Vector = npt.NDArray[np.float64]

# Numeric variables with at most so many values keep them all: emmeans' `cov.keep`.
_MAX_KEPT_VALUES = 2
_MAX_ROWS = 100_000


@dataclass(frozen=True)
class Variable:
    """A column of the data that the fixed part uses."""

    levels: pd.Series  # default values on the grid: all levels, or the mean
    numeric: bool  # whether at= may give it other values

    @property
    def at_mean(self) -> bool:
        """Whether it is a covariate whose one default value is its mean."""
        return self.numeric and len(self.levels) == 1


@summary_of_rows("fixed variables")
def fixed_variables(fit: FittedModel) -> dict[str, Variable]:
    """Variables that the fixed part uses, by name."""
    columns, factor_infos = fit.rows.columns, fit.spec.fixed_info.factor_infos
    n_categories: dict[str, int] = {}  # of factors made of one variable, such as C(year)
    names: dict[str, None] = {}
    for term in terms_of(fit.spec.formula.fixed):
        for factor in term.factors:
            used = sorted(columns_in(factor.name(), columns))
            names.update(dict.fromkeys(used))
            if len(used) == 1 and factor_infos[factor].type == "categorical":
                n = len(factor_infos[factor].categories)
                n_categories[used[0]] = max(n_categories.get(used[0], 0), n)
    counts = fit.rows.counts
    return {name: _variable(columns[name], n_categories.get(name), counts) for name in names}


def offset_variables(fit: FittedModel) -> list[str]:
    """Columns that the formula's offset reads, and no term of the fixed part."""
    formula, columns = fit.spec.formula, fit.spec.variables
    if not formula.offset:
        return []
    factors = {f.name() for term in terms_of(formula.fixed) for f in term.factors}
    used = set[str]().union(*(columns_in(code, columns) for code in factors))
    return sorted(columns_in(formula.offset, columns) - used)


def with_offset_variables(
    fit: FittedModel, variables: Mapping[str, Variable], at: Any
) -> dict[str, Variable]:
    """The variables, and those that only the offset reads, where ``at`` has values of all."""
    names = offset_variables(fit)
    given = [name for name in names if isinstance(at, Mapping) and name in at]
    for name in names if given else ():
        if name not in given:
            raise ArgumentError(
                f"at: the offset, {written(fit.spec.formula.offset)}, reads '{name}' beside "
                f"'{given[0]}': give a value of each."
            )
    more = {name: Variable(pd.Series(dtype=float), numeric=True) for name in given}
    return {**more, **variables}


def _variable(column: pd.Series, n_categories: int | None, counts: Vector | None) -> Variable:
    """Default values of one variable, a covariate unless its values are levels of a factor."""
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    values = np.asarray(column.cat.codes if categorical else column)
    distinct, first = np.unique(values, return_index=True)
    # C(year) has a category for each year; (x > 3) has fewer than x has values.
    if categorical or values.dtype.kind == "b" or n_categories == len(distinct):
        return Variable(column.iloc[first].reset_index(drop=True), numeric=False)
    few = len(distinct) <= _MAX_KEPT_VALUES
    kept = distinct if few else [np.average(values, weights=counts)]
    return Variable(pd.Series(kept, dtype=float), numeric=True)


def parse_names(argument: str, given: Any, variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Validate the names of variables in ``specs`` or ``by``."""
    if given is None or (isinstance(given, str | int) and str(given) == "1"):
        return ()
    names = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for name in names:
        _check_known(argument, name, variables)
    return tuple(dict.fromkeys(names))


def _check_known(argument: str, name: Any, variables: Mapping[str, Any]) -> None:
    if isinstance(name, str) and name in variables:
        return
    listed = f"its variables are: {', '.join(variables)}" if variables else "it has no variables"
    hint = did_you_mean(name, variables) if isinstance(name, str) else ""
    raise ArgumentError(f"{argument}: {name!r} is in no term of the fixed part; {listed}.{hint}")


def grid_levels(variables: Mapping[str, Variable], at: Any) -> dict[str, pd.Series]:
    """Values of each variable on the grid: those of ``at``, or its default ones."""
    if not isinstance(at, Mapping | None):
        raise ArgumentError(f"at={brief(at)} must map variables to values, as {{'x': [0, 1]}}.")
    for name in at or {}:
        _check_known("at", name, variables)
    return {
        name: variable.levels if not at or name not in at else _levels_at(name, variable, at[name])
        for name, variable in variables.items()
    }


def _levels_at(name: str, variable: Variable, at: Any) -> pd.Series:
    """Validate the values of one variable in ``at``."""
    values: list[Any] = [at] if isinstance(at, str) or not isinstance(at, Iterable) else list(at)
    if not values:
        raise ArgumentError(f"at: '{name}' has no values; give at least one.")
    if variable.numeric:
        for v in values:
            if not _is_real(v) or not math.isfinite(v):
                raise ArgumentError(f"at: '{name}' is a number in the fit, not {v!r}.")
        levels = pd.Series(values, dtype=float)
    else:
        fit_levels = variable.levels.tolist()
        found = positions_of_keys(
            pd.Index(values, dtype=object), pd.Index(fit_levels, dtype=object)
        )
        for v, position in zip(values, found, strict=True):
            if position < 0:
                listed = ", ".join(map(repr, fit_levels[:12]))
                listed += ", ..." if len(fit_levels) > 12 else ""
                hint = did_you_mean(v, map(str, fit_levels)) if isinstance(v, str) else ""
                raise ArgumentError(f"at: '{name}' has no level {v!r}; it has {listed}.{hint}")
        levels = variable.levels.iloc[found].reset_index(drop=True)
    if levels.duplicated().any():
        raise ArgumentError(f"at: '{name}' repeats a value; give each once.")
    return levels


def reference_grid(levels: Mapping[str, pd.Series], order: Sequence[str]) -> pd.DataFrame:
    """All combinations of the variables' values; the last in ``order`` varies fastest."""
    sizes = [len(levels[name]) for name in order]
    count = math.prod(sizes)
    if count > _MAX_ROWS:
        listed = ", ".join(f"{name} ({size})" for name, size in zip(order, sizes, strict=True))
        raise ArgumentError(
            f"the grid has {count:,} combinations of {listed}, more than {_MAX_ROWS:,}: narrow it "
            "with at=."
        )
    indices = np.array(list(itertools.product(*map(range, sizes)))).reshape(count, len(order))
    columns = {
        name: levels[name].iloc[indices[:, j]].reset_index(drop=True)
        for j, name in enumerate(order)
    }
    return pd.DataFrame(columns, index=range(count))


def group_slices(by: pd.DataFrame) -> tuple[slice, ...]:
    """Rows of each combination of the levels of some variables, which are consecutive."""
    if not len(by.columns):
        return (slice(0, len(by)),)
    codes = by.groupby(list(by), sort=False, observed=True).ngroup()
    sizes = np.bincount(codes)
    ends = np.cumsum(sizes).tolist()
    return tuple(slice(end - n, end) for n, end in zip(sizes.tolist(), ends, strict=True) if n)


def level_text(value: Any) -> str:
    """Text of a level; numbers to 7 significant digits."""
    return f"{float(value):.7g}" if _is_real(value) else str(value)


def _is_real(value: Any) -> bool:
    """Whether a value is a number and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
