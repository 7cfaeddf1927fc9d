"""Conversion of tables to pandas, and of arguments with one value a row to floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import (
    ArgumentError,
    ColumnTypeError,
    EmptyDataError,
    MissingColumnError,
    brief,
    did_you_mean,
)
from mixedfx.sources.polars import to_pandas_in_order

Vector = npt.NDArray[np.float64]


def as_frame(data: Any) -> pd.DataFrame:
    """Convert a mapping of columns, or a table with to_pandas() or Arrow's interface, to pandas."""
    if _package(data) == "narwhals" and hasattr(data, "to_native"):
        data = data.to_native()
    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        frame = _from_mapping(data)
    elif isinstance(data, type | pd.Series):
        _fail_table(data)
    elif hasattr(data, "to_pandas"):
        try:
            frame = to_pandas_in_order(data) if _package(data) == "polars" else data.to_pandas()
        except ImportError as error:
            raise ColumnTypeError(
                f"data is a {type(data).__name__}, whose to_pandas() needs another package "
                f"({error}): python -m pip install pyarrow, or give a pandas DataFrame or a dict "
                "of columns."
            ) from None
    elif (convert := getattr(data, "_to_pandas", getattr(data, "toPandas", None))) is not None:
        frame = convert()  # of Modin, of Spark
    elif hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        try:
            frame = pyarrow.table(data).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError):
            _fail_table(data)
    else:
        _fail_table(data)
    if not isinstance(frame, pd.DataFrame):
        _fail_table(data)
    if frame.columns.nlevels > 1:
        raise ColumnTypeError(
            "the columns of data have names of several levels (a MultiIndex); make one of each: "
            "data.columns = ['_'.join(map(str, c)) for c in data.columns]."
        )
    if len(frame) == 0:
        raise EmptyDataError("the data has no rows.")
    return frame


def _package(data: Any) -> str:
    """Package that a table is of."""
    return type(data).__module__.partition(".")[0]


def _fail_table(data: Any) -> NoReturn:
    kind = f"the type {data.__name__}" if isinstance(data, type) else f"a {type(data).__name__}"
    raise ColumnTypeError(
        f"data is {kind}; expected a pandas DataFrame, or an object with to_pandas()."
    )


def _from_mapping(data: Mapping[Any, Any]) -> pd.DataFrame:
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


def own_labels(index: pd.Index) -> pd.Index:
    """Copy labels: those of a few rows of a large table would keep the labels of all its rows."""
    if isinstance(index, pd.RangeIndex):
        return index
    if isinstance(index, pd.MultiIndex) and max(map(len, index.levels), default=0) > len(index):
        index = index.remove_unused_levels()
    return index.copy(deep=True)


def column_named(name: str, frame: pd.DataFrame) -> Any:
    """Column of a name: itself, in backticks, or a number with this text; the name if none is."""
    plain = name[1:-1] if len(name) > 2 and name[0] == name[-1] == "`" else name
    if plain in frame.columns:
        return plain
    return next((c for c in frame.columns if str(c) == plain), name)


def check_index(value: Any, argument: str, index: pd.Index) -> None:
    """Refuse a Series of values of rows whose index is not that of the rows."""
    if isinstance(value, pd.Series) and not value.index.equals(index):
        raise ColumnTypeError(f"{argument} is a Series whose index differs from the data's index.")


def values_of_rows(argument: str, value: Any, n: int, of: str = "fit") -> pd.Series:
    """Labels or numbers given for rows, one each, by their positions; a Series keeps its name."""
    try:
        values: Any = value.array if isinstance(value, pd.Series) else np.asarray(value)
    except ValueError:  # lists of different lengths
        values = np.array(None)
    if np.shape(values) != (n,):
        flat = np.ndim(values) == 1
        seen = f" has {len(values)} values" if flat else f"{brief(value)} is no list of values"
        raise ArgumentError(f"{argument}={seen}; the {of} has {n} rows: give one value for each.")
    return pd.Series(values, name=getattr(value, "name", None))


def row_vector(value: Any, argument: str, frame: pd.DataFrame) -> Vector | None:
    """Look up an argument with one value a row (a column's name, or the values) as floats."""
    if value is None:
        return None
    if isinstance(value, str):
        value = column_named(value, frame)
        if value not in frame.columns:
            columns = ", ".join(map(str, frame.columns))
            hint = did_you_mean(value, map(str, frame.columns))
            raise MissingColumnError(
                f"{argument} column '{value}' is not in the data; columns are: {columns}.{hint}"
            )
        value = frame[value]
        if isinstance(value, pd.DataFrame):
            raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}'.")
    else:
        check_index(value, argument, frame.index)
    shape, n = np.shape(value), len(frame)
    if len(shape) == 1 and shape != (n,):
        raise ColumnTypeError(f"{argument} has {shape[0]} values, but the data has {n} rows.")
    if len(shape) != 1:
        raise ColumnTypeError(f"{argument} must be numbers, one for each of the {n} rows.")
    return float_vector(argument, value)


def float_vector(name: str, value: Any) -> Vector:
    """Convert a column of real numbers to a new array of floats, NaN where a value is missing."""
    if isinstance(value, pd.DataFrame):
        raise ColumnTypeError(f"the data has several columns named '{value.columns[0]}' ({name}).")
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "biuf":
        return value.astype(float)
    column = value if isinstance(value, pd.Series) else pd.Series(value)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "mMc":
        raise ColumnTypeError(f"{name} must be numbers, not {column.dtype} (complex or dates).")
    try:
        return np.array(column.to_numpy(dtype=float, na_value=np.nan, copy=True))
    except (TypeError, ValueError):
        raise ColumnTypeError(f"{name} must be numbers; it holds {column.iloc[0]!r}.") from None
