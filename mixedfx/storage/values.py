"""Plain values, arrays and pandas objects as JSON, with the numbers of arrays beside it.

A JSON value is null, a truth value, a finite number or text; everything else is an object with one
key, which says what it is: ``{"float": "inf"}``, ``{"array": 3}``, ``{"tuple": [...]}``.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import StorageError
from mixedfx.storage.state import Node

Json = Any
Array = npt.NDArray[Any]

_TREE = (
    *(
        "tuple",
        "list",
        "set",
        "frozenset",
        "dict",
        "mapping",
        "broadcast",
        "narrow",
        "warning",
        "same",
    ),
    *("object", "design", "environment", "formula function", "module", "function"),
)
_NUMPY_KINDS = "biufcmMUS"
_MAX_ITEM = 2**16  # bytes of one value
# Types with a text from which pandas or the standard library makes them again.
_TEXTS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    datetime.date: ("date", datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: ("time", datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: (
        "duration",
        lambda d: f"{d.days} {d.seconds} {d.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
    datetime.datetime: (
        "datetime",
        datetime.datetime.isoformat,
        datetime.datetime.fromisoformat,
    ),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    complex: ("complex", repr, complex),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
}
_FROM_TEXT = {kind: make for kind, _, make in _TEXTS.values()}


def import_path(name: str, function: Any) -> str:
    """``module:name`` from which a function of a formula can be imported."""
    module = str(getattr(function, "__module__", None) or type(function).__module__)
    path = str(getattr(function, "__qualname__", getattr(function, "__name__", "")))
    try:
        found = sys.modules[module]
        for part in path.split("."):
            found = getattr(found, part)
    except (AttributeError, KeyError):
        found = None
    if found is not function or module == "__main__":
        raise StorageError(
            f"the fit cannot be saved: its formula uses '{name}', which cannot be imported from a "
            f"module. Define it at the top of a module of its own, as 'def {name}(...)', or "
            "compute its column before the fit."
        )
    return f"{module}:{path}"


class ValueWriter:
    """JSON of trees, and the arrays that it refers to by number."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._number: dict[int, int] = {}
        self._kept: list[Array] = []  # arrays alive, so that their ids are their own

    def json(self, node: Node) -> Json:
        """JSON of a tree."""
        if node is None or type(node) in (bool, str):
            return node
        if type(node) is int:
            return node if abs(node) < 2**53 else {"int": str(node)}
        if type(node) is float:
            return node if math.isfinite(node) else {"float": repr(node)}
        if type(node) in _TEXTS:
            kind, text, _ = _TEXTS[type(node)]
            return {kind: text(node)}
        if isinstance(node, tuple):
            return self._tree(node)
        if isinstance(node, dict):  # fields by name
            return {"fields": {name: self.json(v) for name, v in node.items()}}
        if isinstance(node, list):
            return [self.json(v) for v in node]
        return self._leaf(node)

    def _tree(self, node: tuple[Any, ...]) -> Json:
        if node[0] == "function":
            return {"function": [node[1], import_path(node[1], node[2])]}
        if node[0] == "other":
            raise StorageError(
                f"the fit holds a {type(node[1]).__name__} ({node[1]!r:.60}), which has no place "
                "in a file; a pickle can keep it."
            )
        return {node[0]: [self.json(v) for v in node[1:]]}

    def _leaf(self, value: Any) -> Json:
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, pd.Series):
            index, name = self._index(value.index), self._label(value.name)
            return {"series": [self._values(value.array), index, name]}
        if isinstance(value, pd.DataFrame):
            columns = [self._values(value.iloc[:, j].array) for j in range(value.shape[1])]
            return {"frame": [columns, self._index(value.columns), self._index(value.index)]}
        if isinstance(value, pd.Index):
            return self._index(value)
        return self._label(value)

    def _array(self, value: Array) -> Json:
        if value.dtype.kind == "O":
            labels = [self._label(v) for v in value.ravel().tolist()]
            return {"objects": [labels, list(value.shape)]}
        if value.dtype.kind not in _NUMPY_KINDS or value.dtype.names:
            raise StorageError(f"an array of {value.dtype} has no place in a file.")
        if id(value) not in self._number:
            self._number[id(value)] = len(self.arrays)
            self._kept.append(value)
            self.arrays.append(value)
        return {"array": self._number[id(value)]}

    def _scalar(self, value: Any) -> Json:
        number = value.astype(np.int64) if value.dtype.kind in "mM" else value
        return {"scalar": [value.dtype.str, self.json(number.item())]}

    def _values(self, array: Any) -> Json:
        """Values of a column or an index."""
        dtype = array.dtype
        if isinstance(array, pd.Categorical):
            codes = self._array(array.codes)
            return {"categorical": [codes, self._index(array.categories), bool(array.ordered)]}
        if isinstance(dtype, pd.DatetimeTZDtype):
            return {"moments": [self._array(array.asi8), dtype.unit, _checked_zone(str(dtype.tz))]}
        if isinstance(dtype, pd.PeriodDtype):
            freq = dtype.name.removeprefix("period[")[:-1]
            return {"periods": [self._array(np.asarray(array.asi8)), freq]}
        if isinstance(dtype, pd.IntervalDtype):
            return {"intervals": [self._index(array.left), self._index(array.right), dtype.closed]}
        if isinstance(dtype, pd.StringDtype):
            missing = "nan" if isinstance(dtype.na_value, float) else "NA"
            texts = [None if pd.isna(v) else str(v) for v in array]
            return {"texts": [texts, dtype.storage, missing]}
        if isinstance(array, np.ndarray | pd.arrays.NumpyExtensionArray) or isinstance(
            dtype, np.dtype
        ):
            return self._array(np.asarray(array))
        if hasattr(array, "_mask") and hasattr(array, "_data"):  # Int64, Float64, boolean
            data, mask = self._array(array._data), self._array(array._mask)
            return {"masked": [data, mask, dtype.name]}
        values = [self._label(None if pd.isna(v) else v) for v in array]
        return {"extension": [values, str(dtype)]}

    def _index(self, index: Any) -> Json:
        if isinstance(index, pd.MultiIndex):
            levels = [self._index(level) for level in index.levels]
            codes = [self._array(np.asarray(c)) for c in index.codes]
            return {"multiindex": [levels, codes, [self._label(n) for n in index.names]]}
        name = self._label(index.name)
        if isinstance(index, pd.RangeIndex):
            return {"range": [index.start, index.stop, index.step, name]}
        moments = isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex)
        freq = index.freqstr if moments else None
        return {"index": [self._values(index.array), name, freq]}

    def _label(self, value: Any) -> Json:
        """Label of a row, a column or a level."""
        if isinstance(value, pd.Timestamp | pd.Timedelta | pd.Period | pd.Interval):
            return {"label": self._values(pd.array([value]))}
        if value is pd.NaT or value is pd.NA:
            return {"missing": "NaT" if value is pd.NaT else "NA"}
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, tuple):
            return {"pair": [self._label(v) for v in value]}
        if value is None or isinstance(value, bool | int | float | str) or type(value) in _TEXTS:
            return self.json(value)
        raise StorageError(
            f"the fit holds a {type(value).__name__} ({value!r:.60}), which has no place in a "
            "file; a pickle can keep it."
        )


class ValueReader:
    """Trees of JSON; arrays are looked up by number."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays
        self._made: dict[str, Callable[..., Any]] = {
            "int": int,
            "float": _non_finite,
            "array": self._array,
            "scalar": lambda v: _scalar(*self.node(list(v))),
            "pair": lambda v: tuple(self.node(list(v))),
            "fields": lambda v: {name: self.node(x) for name, x in dict(v).items()},
            "missing": {"NaT": pd.NaT, "NA": pd.NA}.__getitem__,
            "label": lambda v: self.node(v)[0],
            **_FROM_TEXT,
        }
        self._of_parts: dict[str, Callable[..., Any]] = {
            "objects": _objects,
            "series": _series,
            "frame": _frame,
            "categorical": lambda codes, categories, ordered: pd.Categorical.from_codes(
                codes, categories, ordered
            ),
            "moments": _moments,
            "periods": _periods,
            "intervals": lambda left, right, closed: pd.arrays.IntervalArray.from_arrays(
                left, right, closed
            ),
            "texts": _texts,
            "masked": _masked,
            "extension": lambda values, dtype: pd.array(values, dtype=dtype),
            "multiindex": lambda levels, codes, names: pd.MultiIndex(levels, codes, names=names),
            "range": lambda start, stop, step, name: pd.RangeIndex(start, stop, step, name=name),
            "index": _index,
        }

    def node(self, value: Json) -> Node:
        """Tree of JSON."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [self.node(v) for v in value]
        ((kind, content),) = value.items()
        if kind in _TREE:
            return (kind, *self.node(list(content)))
        if kind in self._of_parts:
            return self._of_parts[kind](*self.node(list(content)))
        return self._made[kind](content)

    def _array(self, number: int) -> Array:
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} is no number of an array")
        return self._arrays[number]


def _non_finite(text: str) -> float:
    return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[text]


def _scalar(dtype: str, value: Any) -> Any:
    made = np.dtype(dtype)
    if made.kind not in _NUMPY_KINDS or made.itemsize > _MAX_ITEM:
        raise ValueError(f"{dtype!r} is no type of a number")
    return np.array(value).astype(made)[()]


def _series(values: Any, index: pd.Index, name: Any) -> pd.Series:
    dtype = values.dtype if isinstance(values, np.ndarray) else None
    return pd.Series(values, index=index, dtype=dtype, name=name, copy=False)


def _objects(values: list[Any], shape: list[int]) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(shape)


def _frame(columns: list[Any], names: pd.Index, index: pd.Index) -> pd.DataFrame:
    frame = pd.DataFrame(dict(enumerate(columns)), index=index)
    return frame.set_axis(names, axis=1)


def _moments(values: Array, unit: str, zone: str) -> Any:
    dates = pd.DatetimeIndex(values.view(f"M8[{unit}]")).tz_localize("UTC")
    return dates.tz_convert(_checked_zone(zone)).array


def _checked_zone(zone: str) -> str:
    """Name of a time zone, not of a file."""
    if not re.fullmatch(r"[A-Za-z][\w+\-]*(:\d\d|/[\w+\-]+)*", zone) or zone[:8] == "dateutil":
        raise StorageError(f"the time zone {zone!r:.40} has no name that a file can keep")
    return zone


def _periods(values: Array, freq: str) -> Any:
    return pd.arrays.PeriodArray(values, dtype=pd.PeriodDtype(freq))


def _texts(values: list[str | None], storage: str, missing: str) -> Any:
    options: dict[str, Any] = {"na_value": np.nan} if missing == "nan" else {}
    dtype: Any = pd.StringDtype(storage, **options)
    return pd.array(values, dtype=dtype)


def _masked(data: Any, mask: Array, dtype: Any) -> Any:
    made = pd.array(data, dtype=dtype)
    made[mask] = pd.NA
    return made


def _index(values: Any, name: Any, freq: str | None) -> Any:
    dtype = values.dtype if isinstance(values, np.ndarray) else None  # objects stay objects
    index: Any = pd.Index(values, dtype=dtype, name=name, tupleize_cols=False)
    if freq is not None:
        index.freq = freq
    return index
