"""Values of a formula's expressions in all rows, and the rows where they are missing.

What a term makes missing is missing: ``f.map({...})``, ``x.shift(1)``, ``C(f, levels=[...])`` and
group expressions are evaluated once on all rows, as by R's ``model.frame``; rows without a value
are left out of all parts of the model, and levels are those of the others. A row is missing, too,
where a column that the expression reads is, unless the expression itself treats missing values
(``x.fillna(0)``) or reads other rows (``x.shift(1)``).

A stateful transform (``center(x)``) learns from the complete rows, which are known only after this:
of a term with one, the arguments of the transform are evaluated here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment, EvalFactor

from mixedfx.design.columns import as_expression_column, as_patsy_column, factor_codes
from mixedfx.design.known_values import is_box
from mixedfx.design.reductions import REMEMBER, with_remembered_reductions
from mixedfx.design.row_dependence import align_rows
from mixedfx.design.variables import missing_in
from mixedfx.formula.terms import Formula
from mixedfx.formula.trees import called_name

Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Functions and methods whose value in a row can be known where the column's is not.
_TREAT_MISSING = {
    *("fillna", "isna", "notna", "isnull", "notnull", "isnan", "nan_to_num", "combine_first"),
    *("ffill", "bfill", "interpolate", "shift", "diff", "rolling", "expanding", "ewm"),
    "mm",
}


@dataclass(frozen=True)
class TermValue:
    """An expression's value in n rows, or in those where its columns are complete."""

    value: Any  # None: to be evaluated on the complete rows, by patsy
    rows: Codes | None  # None: all
    missing: Mask  # (n,)
    arguments: Mapping[str, TermValue] = field(default_factory=dict)  # of its stateful transforms

    def take(self, code: str, keep: Codes, *, new_data: bool) -> Any:
        """Values in some rows that are complete, typed for patsy."""
        at = keep if self.rows is None else np.searchsorted(self.rows, keep)
        return _take(code, self.value, at, new_data=new_data)


def evaluate_terms(
    formulas: Iterable[Formula], columns: Mapping[str, pd.Series], env: EvalEnvironment, n: int
) -> dict[str, TermValue]:
    """Evaluate each distinct expression in some formulas once, on all of n rows."""
    values: dict[str, TermValue] = {}
    typed: dict[str, pd.Series] = {}
    for formula in formulas:
        for code, names in factor_codes(formula):
            key = normalized(code)
            if code in columns or key in values:
                continue
            own = {name: columns[name] for name in names if name in columns}
            typed |= {k: as_expression_column(c) for k, c in own.items() if k not in typed}
            values[key] = _evaluate(code, {k: typed[k] for k in own}, env, n)
    return values


@lru_cache(maxsize=1024)
def normalized(code: str) -> str:
    """Code of an expression with patsy's spacing."""
    text: str = EvalFactor(code).code
    return text


def _evaluate(
    code: str, columns: Mapping[str, pd.Series], env: EvalEnvironment, n: int
) -> TermValue:
    incomplete = np.zeros(n, dtype=bool)
    if not _treats_missing(code):
        for column in columns.values():
            if (is_missing := missing_in(column)) is not None:
                incomplete |= is_missing
    parts = _arguments_of_transforms(code, env)
    if parts is None:
        value, rows = _value(code, columns, env, incomplete)
        if value is None:
            return TermValue(None, None, incomplete)
        # Learned from the complete rows of the fit: of one new row the deviation is 0 / 0 here.
        if _remembers(code, columns, env):
            return TermValue(None, None, incomplete)
        missing = incomplete | _missing(value, rows, n)
        return TermValue(value, rows, missing)
    arguments = {}
    for part in parts:
        value, rows = _value(part, columns, env, incomplete)
        if value is not None:
            missing = incomplete | _missing(value, rows, n)
            arguments[part] = TermValue(value, rows, missing)
            incomplete = missing
    return TermValue(None, None, incomplete, arguments)


def _value(
    code: str, columns: Mapping[str, pd.Series], env: EvalEnvironment, incomplete: Mask
) -> tuple[Any, Codes | None]:
    """Value on all rows, or on those with complete columns; None where it has none, as an error."""
    value = _try(code, columns, env, len(incomplete))
    if value is not None or not incomplete.any() or incomplete.all():
        return value, None
    rows = np.flatnonzero(~incomplete)
    complete = {}
    for name, column in columns.items():
        part = column.iloc[rows].reset_index(drop=True)
        complete[name] = as_expression_column(part)
    return _try(code, complete, env, len(rows)), rows


def _try(code: str, columns: Mapping[str, pd.Series], env: EvalEnvironment, n: int) -> Any:
    """Value of an expression, None where it fails or does not give one value a row."""
    try:
        value = _evaluated(code, columns, env)
    except Exception:  # patsy evaluates it again, and that error is reported
        return None
    data = value.data if is_box(value) else value
    if isinstance(data, tuple) or np.ndim(data) == 0 or len(data) != n:
        return None
    return align_rows(code, value, columns)


def _evaluated(code: str, columns: Mapping[str, pd.Series], env: EvalEnvironment) -> Any:
    with np.errstate(all="ignore"):
        return env.eval(code, inner_namespace=dict(columns))


def _remembers(code: str, columns: Mapping[str, pd.Series], env: EvalEnvironment) -> bool:
    """Whether an expression has a reduction to one number, which is learned as a transform is."""
    return any(np.ndim(_evaluated(r, columns, env)) == 0 for r in _reductions_in(code))


@lru_cache(maxsize=1024)
def _reductions_in(code: str) -> tuple[str, ...]:
    """Calls of an expression that may reduce a column to one number."""
    wrapped = with_remembered_reductions(code)
    calls = (n for n in ast.walk(ast.parse(wrapped, mode="eval")) if isinstance(n, ast.Call))
    return tuple(ast.unparse(c.args[0]) for c in calls if called_name(c) == REMEMBER)


def _treats_missing(code: str) -> bool:
    return not _TREAT_MISSING.isdisjoint(_functions_in(code))


@lru_cache(maxsize=1024)
def _functions_in(code: str) -> frozenset[str]:
    """Last names of the functions and methods that an expression calls."""
    calls = (n for n in ast.walk(ast.parse(code.strip(), mode="eval")) if isinstance(n, ast.Call))
    return frozenset(called_name(call).rpartition(".")[2] for call in calls)


def _arguments_of_transforms(code: str, env: EvalEnvironment) -> list[str] | None:
    """Arguments of the innermost stateful transforms in an expression; None if there is none."""
    scope = env.namespace
    if not has_transform(code, env):
        return None

    def calls_in(node: ast.AST) -> list[ast.Call]:
        calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
        return [c for c in calls if _is_stateful(scope.get(called_name(c)))]

    found: list[ast.expr] = []
    for call in calls_in(ast.parse(code.strip(), mode="eval")):
        arguments = [*call.args, *(k.value for k in call.keywords)]
        found += [a for a in arguments if not calls_in(a)]
    return [ast.unparse(a) for a in found if not isinstance(a, ast.Constant)]


def has_transform(code: str, env: EvalEnvironment) -> bool:
    """Whether an expression calls a stateful transform."""
    return any(_is_stateful(env.namespace.get(name)) for name in _functions_in(code))


def _is_stateful(value: Any) -> bool:
    return hasattr(value, "__patsy_stateful_transform__")


def _missing(value: Any, rows: Codes | None, n: int) -> Mask:
    """Mark the rows in which a value is missing, or outside the levels given to ``C()``."""
    missing = _missing_values(value)
    if rows is None:
        return missing
    marked = np.zeros(n, dtype=bool)
    marked[rows] = missing
    return marked


def _missing_values(value: Any) -> Mask:
    if is_box(value):
        missing = _missing_values(value.data)
        if isinstance(value.levels, Iterable):  # others are an error of evaluation
            missing = missing | ~pd.Series(value.data).isin(list(value.levels)).to_numpy(dtype=bool)
        return missing
    data = pd.Series(value) if isinstance(value, list | tuple) else value
    missing = np.asarray(pd.isna(data), dtype=bool)
    if getattr(getattr(data, "dtype", None), "kind", "") == "U":
        missing = missing | (np.asarray(data) == "nan")  # np.where(..., "a", np.nan) makes it text
    return np.asarray(missing.any(axis=1) if missing.ndim > 1 else missing)


def _take(code: str, value: Any, at: Codes, *, new_data: bool) -> Any:
    """Rows of a value, of the types of columns; levels that none of them has are left out."""
    if is_box(value):
        data = _take(code, value.data, at, new_data=new_data)
        levels = value.levels
        if new_data:
            levels = None  # those of the fit count
        elif isinstance(levels, Iterable) and not isinstance(value.contrast, np.ndarray):
            present = set(pd.unique(pd.Series(data)).tolist())
            levels = [level for level in levels if level in present]
        return type(value)(data, value.contrast, levels)
    if isinstance(value, pd.DataFrame):
        if value.shape[1] != 1:
            return value.to_numpy()[at]
        value = value.iloc[:, 0]
    if np.ndim(value) > 1:
        return np.asarray(value)[at]
    column = pd.Series(value)
    if len(at) != len(column):
        column = column.iloc[at]
    column = column.reset_index(drop=True)
    categories = getattr(column.dtype, "categories", None)
    if new_data and categories is not None and categories.dtype.kind in "iuf":
        return pd.Series(np.asarray(column))  # numbers, as of f.map({"a": 1.0})
    return as_patsy_column(code, column, new_data=new_data)
