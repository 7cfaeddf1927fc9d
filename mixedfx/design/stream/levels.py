"""Levels of grouping factors, collected over chunks, and their look-up in a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.columns import as_patsy_column, is_text
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.design.variables import Factor, factor_of

Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# A table of codes by value is made for integers of a range of at most so many times their number.
_SPARSEST = 64


def read_factor(column: pd.Series) -> Factor | None:
    """Text or categories as a factor of levels in any order; None of other values."""
    array: Any = column.array
    if isinstance(column.dtype, pd.CategoricalDtype):
        return Factor.of_categories(array)
    if not is_text(column.dtype, array):
        return None
    codes, texts = pd.factorize(array)
    return Factor(codes, _objects(texts))


def coded_values(factor: Factor, keep: Mask | None) -> pd.Series:
    """Levels of some rows, None for all, as categories that are objects: all of them occur."""
    used: Any = factor.used(keep)
    dtype = pd.CategoricalDtype(pd.Index(_objects(used.levels), dtype=object))
    return pd.Series(pd.Categorical.from_codes(used.codes, dtype=dtype, validate=False))


class LevelCollector:
    """Distinct values of a grouping factor, or combinations of several, in the rows so far."""

    def __init__(self, factors: Sequence[str]) -> None:
        self.factors = tuple(factors)
        self._integers: _Integers | None = None  # of a narrow range
        self._numbers: npt.NDArray[Any] | None = None  # other ones, if there are numbers alone
        self._keys: dict[Any, None] = {}  # anything else, in the order in which it came
        self._combined: pd.DataFrame | None = None  # of several factors

    def add(self, values: Sequence[pd.Series]) -> None:
        """Add the values of a chunk's complete rows, of each factor."""
        if not len(values[0]):
            return
        if len(values) > 1:
            frame = pd.DataFrame(dict(enumerate(values))).drop_duplicates()
            if self._combined is not None:
                frame = pd.concat([self._combined, frame]).drop_duplicates()
            self._combined = frame.reset_index(drop=True)
            return
        factor = factor_of(values[0])
        self._add(values[0].to_numpy() if factor is None else _objects(factor.levels))

    def merge(self, other: LevelCollector) -> None:
        """Add the values of later rows."""
        if other._combined is not None:
            self.add([other._combined[i] for i in range(len(self.factors))])
        elif len(other):
            self._add(other._values)

    def _add(self, array: npt.NDArray[Any]) -> None:
        """Add values of one factor."""
        kind = array.dtype.kind
        if kind in "iu" and self._numbers is None and not self._keys:
            if self._integers is None:
                self._integers = _Integers(array)
            if self._integers.add(array):
                return
        known = self._values
        self._integers = None
        if kind in "iufb" and not self._keys:
            self._numbers = np.union1d(known, array) if len(known) else np.unique(array)
            return
        if not self._keys:
            self._numbers, self._keys = None, dict.fromkeys(known.tolist())
        self._keys.update(dict.fromkeys(array.tolist()))

    @property
    def _values(self) -> npt.NDArray[Any]:
        """Distinct values of one factor."""
        if self._integers is not None:
            return self._integers.values
        if self._numbers is not None:
            return self._numbers
        return np.fromiter(self._keys, dtype=object, count=len(self._keys))

    def __len__(self) -> int:
        """Count the levels."""
        return len(self._values if self._combined is None else self._combined)

    def levels(self, dtypes: Sequence[Any]) -> Levels:
        """Levels in the order that they have in memory; dtypes are those of the columns."""
        columns = [self._values]
        if self._combined is not None:
            columns = [self._combined[i].to_numpy() for i in range(len(self.factors))]
        found = []
        for factor, values, dtype in zip(self.factors, columns, dtypes, strict=True):
            series = pd.Series(values)
            if isinstance(dtype, pd.CategoricalDtype):
                series = pd.Series(pd.Categorical(values, categories=dtype.categories))
            found.append(factorize(as_patsy_column(factor, series)))
        return combine(found)[0]


def _objects(values: Any) -> npt.NDArray[Any]:
    """Values as Python's objects."""
    return np.asarray(values, dtype=object)


def _as_objects(values: pd.Index) -> pd.Index:
    return values.astype(object) if isinstance(values.dtype, pd.StringDtype) else values


class _Integers:
    """Which integers of a range have occurred."""

    def __init__(self, first: npt.NDArray[Any]) -> None:
        self._dtype, self._low = first.dtype, int(first.min())
        self._present = np.zeros(1, dtype=bool)
        self._n = 0

    def add(self, array: npt.NDArray[Any]) -> bool:
        """Mark the values of a chunk; False, and nothing done, where their range is wide."""
        self._n += len(array)
        low, high = min(int(array.min()), self._low), int(array.max())
        high = max(high, self._low + len(self._present) - 1)
        if high - low > _SPARSEST * self._n + 1024:
            return False
        if low < self._low or high - low >= len(self._present):
            present = np.zeros(high - low + 1, dtype=bool)
            start = self._low - low
            present[start : start + len(self._present)] = self._present
            self._present, self._low = present, low
        self._present[array.astype(np.int64) - self._low if self._low else array] = True
        return True

    @property
    def values(self) -> npt.NDArray[Any]:
        """Those that have, in order."""
        return np.asarray(np.flatnonzero(self._present) + self._low).astype(self._dtype)


class LevelEncoder:
    """Look-up of the levels of chunks; of integers by a table."""

    def __init__(self, levels: Levels) -> None:
        # Text as objects, which is what the values of rows are: pandas makes it so at each look-up.
        self.levels = Levels(tuple(map(_as_objects, levels.factor_values)), levels.value_positions)
        values = levels.factor_values[0].to_numpy()
        self._low, self._table, self._are_range = 0, None, False
        if len(levels.factor_values) == 1 and values.dtype.kind in "iu" and len(values):
            low, high = int(values.min()), int(values.max())
            if high - low < _SPARSEST * len(values) + 1024:
                table = np.full(high - low + 1, -1, dtype=np.intp)
                table[values.astype(np.int64) - low] = np.arange(len(values))
                self._low, self._table = low, table
                self._are_range = np.array_equal(table, np.arange(len(table)))

    def encode(self, values: Sequence[pd.Series]) -> Codes:
        """Level of each row, -1 where it is none."""
        table = self._table
        if table is not None and getattr(values[0].dtype, "kind", "O") in "iu" and len(values[0]):
            array = values[0].to_numpy()
            low = self._low
            if int(array.min()) >= low and int(array.max()) < low + len(table):
                if self._are_range:
                    codes = array.astype(np.intp)
                    codes -= low
                    return codes
                return np.asarray(table[array.astype(np.int64) - low] if low else table[array])
        return self.levels.encode(list(values))
