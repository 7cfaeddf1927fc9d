"""A table to the columns that a formula reads, complete rows only.

Whatever kind of table or column comes in, what goes on is pandas Series with a plain index, of
numbers, truth values or categories. The user's table is never changed.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import patsy.builtins
from patsy import (
    EvalEnvironment,
)

from mixedfx.design.functions import KNOWN_FUNCTIONS
from mixedfx.errors import ColumnTypeError, EmptyDataError, MissingColumnError, did_you_mean
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# How pandas calls columns of objects that are numbers, such as a database's NUMERIC.
_NUMBERS_AS_OBJECTS = ("decimal", "floating", "mixed-integer-float")


def as_frame(data: Any) -> pd.DataFrame:
    """Take a table of any of the common kinds."""
    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        frame = _from_mapping(data)
    elif isinstance(data, type | pd.Series):
        _fail_table(data)
    elif hasattr(data, "to_pandas"):
        try:
            frame = data.to_pandas()
        except ImportError as error:
            raise ColumnTypeError(
                f"data is a {type(data).__name__}, whose to_pandas() needs another package "
                f"({error}): python -m pip install pyarrow, or give a pandas DataFrame or a dict "
                "of columns."
            ) from None
    elif hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        try:
            frame = pyarrow.table(data).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError):
            _fail_table(data)
    else:
        _fail_table(data)
    if not isinstance(frame, pd.DataFrame) or frame.columns.nlevels > 1:
        raise ColumnTypeError("data must be a table with plain (single-level) column names.")
    if len(frame) == 0:
        raise EmptyDataError("the data has no rows.")
    return frame


def _fail_table(data: Any) -> NoReturn:
    kind = f"the type {data.__name__}" if isinstance(data, type) else f"a {type(data).__name__}"
    raise ColumnTypeError(
        f"data is {kind}; expected a pandas DataFrame, or an object with to_pandas()."
    )


def _from_mapping(data: Mapping[Any, Any]) -> pd.DataFrame:
    """Make a table of a mapping of columns, naming the one that is none."""
    lengths = {}
    for name, column in data.items():
        dimensions = column.ndim if hasattr(column, "ndim") else min(np.iterable(column), 1)
        if isinstance(column, str):
            dimensions = 0
        if dimensions == 0:
            raise ColumnTypeError(f"'{name}' is a single value; give a column, such as a list.")
        if dimensions > 1:
            raise ColumnTypeError(f"column '{name}' has {dimensions} dimensions; give one.")
        lengths[name] = len(column)
    longest = max(lengths.values(), default=0)
    for name, length in lengths.items():
        if length != longest:
            raise ColumnTypeError(f"column '{name}' has length {length}, others {longest}.")
    return pd.DataFrame(dict(data))


def used_columns(
    formula: Formula, frame: pd.DataFrame, env: EvalEnvironment
) -> dict[str, pd.Series]:
    """Collect the columns that the formula reads; complain of names that are nowhere."""
    used: dict[str, pd.Series] = {}
    known = {str(c): c for c in frame.columns}
    for code, names in _factor_codes(formula):
        for name in names:
            if name in known:
                column = frame[known[name]]
                if isinstance(column, pd.DataFrame):
                    raise ColumnTypeError(f"the data has several columns named '{name}'.")
                used[name] = column
            elif code == name or not _is_known(name, env):
                _fail_missing(name, code, formula, list(known))
    return used


@lru_cache(maxsize=256)
def _factor_codes(formula: Formula) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Python text of every factor in the formula, each once, with the names that it reads."""
    codes = [formula.response] if formula.response else []
    for text in (formula.fixed, *(t.effects for t in formula.random)):
        codes += [f.name() for term in terms_of(text) for f in term.factors]
    for term in formula.random:
        codes += term.group
    return tuple((code, tuple(sorted(names_in(code)))) for code in dict.fromkeys(codes))


def _is_known(name: str, env: EvalEnvironment) -> bool:
    return name in env.namespace or hasattr(patsy.builtins, name) or hasattr(builtins, name)


def _fail_missing(name: str, code: str, formula: Formula, columns: list[str]) -> NoReturn:
    if re.search(rf"(?<![\w.]){re.escape(name)}\s*\(", code):
        _fail_function(name, code)
    role = "grouping column" if any(code in t.group for t in formula.random) else "column"
    if not formula.response:
        role = f"dispersion {role}"
    if code.replace(" ", "") in columns and code != name:
        hint = f" Write Q({code.replace(' ', '')!r}) for a name with odd characters."
    else:
        hint = did_you_mean(name, columns)
    shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    raise MissingColumnError(f"{role} '{name}' is not in the data; columns are: {shown}.{hint}")


# What people who come from R write, and what it is here.
_FROM_R = {
    "relevel": 'C(f, Treatment("level"))',
    "ns": "cr(x, df=4)",
    "ifelse": "np.where(condition, a, b)",
    "cut": "a column made by pandas.cut",
    "interaction": "a:b",
}


def _fail_function(name: str, code: str) -> NoReturn:
    """Say that a function is not known, and what may be meant."""
    known = [*patsy.builtins.__all__, *KNOWN_FUNCTIONS]
    hint = did_you_mean(name, known)
    if name in _FROM_R:
        hint = f" Instead of R's {name}() write {_FROM_R[name]}."
    raise MissingColumnError(
        f"'{code}' calls {name}(), which is no function here: define it where you call lmer(), "
        f"write np. before numpy's, or add the column to the data.{hint}"
    )


def per_row(value: Any, what: str, frame: pd.DataFrame) -> Vector | None:
    """Read weights or an offset, by name or by value."""
    if value is None:
        return None
    if isinstance(value, str):
        if value not in frame.columns:
            shown = ", ".join(map(str, frame.columns))
            hint = did_you_mean(value, map(str, frame.columns))
            raise MissingColumnError(
                f"{what} column '{value}' is not in the data; columns are: {shown}.{hint}"
            )
        value = frame[value]
        if isinstance(value, pd.DataFrame):
            raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}'.")
    elif isinstance(value, pd.Series) and not value.index.equals(frame.index):
        raise ColumnTypeError(f"{what} is a Series whose index differs from the data's index.")
    shape = np.shape(value)
    if len(shape) == 1 and shape != (len(frame),):
        raise ColumnTypeError(f"{what} has {shape[0]} values, but the data has {len(frame)} rows.")
    if len(shape) != 1:
        raise ColumnTypeError(f"{what} must be numbers, one for each of the {len(frame)} rows.")
    return numbers(what, value)


def numbers(what: str, value: Any) -> Vector:
    """Read real numbers."""
    if isinstance(value, pd.DataFrame):
        raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}' ({what}).")
    column = value if isinstance(value, pd.Series) else pd.Series(value)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "mMc":
        raise ColumnTypeError(f"{what} must be numbers, not {column.dtype} (complex or dates).")
    try:
        return np.array(column.to_numpy(dtype=float, na_value=np.nan, copy=True))
    except (TypeError, ValueError):
        raise ColumnTypeError(f"{what} must be numbers; it holds {column.iloc[0]!r}.") from None


def _is_missing(column: pd.Series) -> npt.NDArray[np.bool_]:
    return np.asarray(column.isna(), dtype=bool)


def complete_rows(
    used: dict[str, pd.Series], extra: dict[str, Vector | None]
) -> npt.NDArray[np.bool_] | None:
    """Find the rows without missing values."""
    missing = {name: _is_missing(column) for name, column in used.items()}
    missing |= {name: np.isnan(v) for name, v in extra.items() if v is not None}
    if not any(m.any() for m in missing.values()):
        return None
    keep = ~np.logical_or.reduce(list(missing.values()))
    if not keep.any():
        counts = ", ".join(f"{name} ({m.sum()})" for name, m in missing.items() if m.any())
        raise EmptyDataError(
            f"no row is complete: of {len(keep)} rows, missing values are in {counts}."
        )
    return np.asarray(keep)


def complete(used: dict[str, pd.Series], n: int) -> tuple[dict[str, Any], Codes]:
    """Take the rows without missing values."""
    if not used:
        return {}, np.arange(n)
    complete = ~np.logical_or.reduce([_is_missing(c) for c in used.values()])
    rows = np.flatnonzero(complete)
    return {name: prepared(name, c[complete], fresh=False) for name, c in used.items()}, rows


def prepared(name: str, column: pd.Series, *, fresh: bool = True) -> pd.Series:
    """
    Hand a complete column to patsy in the form that it reads fast, with a plain index.

    Text becomes categorical with sorted levels (what patsy would find, found by hashing),
    levels that no row has are dropped, as R does, and narrow numbers are widened, so that
    ``x**2`` does not overflow. In new rows categories stay values: patsy matches them with
    those of the fit.
    """
    dtype: Any = column.dtype
    kind = getattr(dtype, "kind", "O")
    if kind in "mMc":
        raise ColumnTypeError(
            f"column '{name}' holds {dtype}; turn it into numbers first, for example days "
            "since a start."
        )
    if isinstance(dtype, pd.CategoricalDtype):
        if not fresh:
            return pd.Series(column.to_numpy(dtype=object), dtype=object)
        return pd.Series(column.array).cat.remove_unused_categories()
    if pd.api.types.is_bool_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=bool), copy=True)
    if kind == "u" or pd.api.types.is_unsigned_integer_dtype(dtype):
        return _whole(column)
    if kind == "i" or pd.api.types.is_integer_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=np.int64), copy=True)
    if kind == "f" or pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(column.to_numpy(dtype=float), copy=True)
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "integer":
        return _whole(column)
    if inferred in _NUMBERS_AS_OBJECTS:
        return pd.Series(column.to_numpy(dtype=float))
    if not fresh:
        return pd.Series(column.to_numpy(dtype=object), dtype=object)
    if inferred == "string":  # what pandas.Categorical does, without its checks
        codes, levels = pd.factorize(column.to_numpy(dtype=object), sort=True)
        found = pd.Categorical.from_codes(codes, categories=pd.Index(levels), validate=False)
        return pd.Series(found)
    try:
        return pd.Series(pd.Categorical(column.to_numpy(dtype=object)))
    except (TypeError, ValueError, NotImplementedError):
        raise ColumnTypeError(
            f"column '{name}' holds {type(column.iloc[0]).__name__} objects, which cannot be "
            "sorted into levels; make it text or numbers."
        ) from None


def _whole(column: pd.Series) -> pd.Series:
    """Widen whole numbers; those beyond 64 signed bits become floats, so that none wraps."""
    try:
        wide = column.to_numpy(dtype=np.int64)
        if (wide == column.to_numpy()).all():
            return pd.Series(wide)
    except (OverflowError, TypeError, ValueError):
        pass
    return pd.Series(column.to_numpy(dtype=float))
