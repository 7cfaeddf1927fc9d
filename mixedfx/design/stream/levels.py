"""Levels of grouping factors, collected over chunks, and their look-up in a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.columns import as_patsy_column
from mixedfx.design.levels import Levels, combine, factorize

Codes = npt.NDArray[np.intp]

# A table of codes by value is made for integers of a range of at most so many times their number.
_SPARSEST = 64


class LevelCollector:
    """Distinct values of a grouping factor, or combinations of several, in the rows so far."""

    def __init__(self, factors: Sequence[str]) -> None:
        self.factors = tuple(factors)
        self._seen: Any = None
        self._integers: _Integers | None = None

    def add(self, values: Sequence[pd.Series]) -> None:
        """Add the values of a chunk's complete rows, of each factor."""
        if not len(values[0]):
            return
        if len(values) > 1:
            frame = pd.DataFrame(dict(enumerate(values))).drop_duplicates()
            if self._seen is not None:
                frame = pd.concat([self._seen, frame]).drop_duplicates()
            self._seen = frame.reset_index(drop=True)
            return
        array = values[0].to_numpy()
        if self._seen is None and array.dtype.kind in "iu":
            if self._integers is None:
                self._integers = _Integers(array)
            if self._integers.add(array):
                return
        self._add_other(array)

    def merge(self, other: LevelCollector) -> None:
        """Add the values of later rows."""
        if len(self.factors) > 1:
            if other._seen is not None:
                self.add([other._seen[i] for i in range(len(self.factors))])
        elif len(other):
            found = other._seen if other._integers is None else other._integers.values
            self.add([pd.Series(found)])

    def _add_other(self, array: npt.NDArray[Any]) -> None:
        """Values that are no integers of a narrow range."""
        if self._integers is not None:
            self._seen, self._integers = self._integers.values, None
        own = np.asarray(pd.unique(array))
        if self._seen is not None:
            if own.dtype.kind in "iufb" and self._seen.dtype.kind in "iufb":
                own = np.union1d(self._seen, own)
            else:
                own = pd.unique(np.concatenate([self._seen.astype(object), own.astype(object)]))
        self._seen = own

    def __len__(self) -> int:
        """Count the levels."""
        if self._integers is not None:
            return len(self._integers.values)
        return 0 if self._seen is None else len(self._seen)

    def levels(self, dtypes: Sequence[Any]) -> Levels:
        """Levels in the order that they have in memory; dtypes are those of the columns."""
        columns = [self._seen if self._integers is None else self._integers.values]
        if len(self.factors) > 1:
            columns = [self._seen[i].to_numpy() for i in range(len(self.factors))]
        found = []
        for factor, values, dtype in zip(self.factors, columns, dtypes, strict=True):
            series = pd.Series(values)
            if isinstance(dtype, pd.CategoricalDtype):
                series = pd.Series(pd.Categorical(values, categories=dtype.categories))
            found.append(factorize(as_patsy_column(factor, series)))
        return combine(found)[0]


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
        self.levels = levels
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
        array = values[0].to_numpy()
        table = self._table
        if table is not None and array.dtype.kind in "iu" and len(array):
            low = self._low
            if int(array.min()) >= low and int(array.max()) < low + len(table):
                if self._are_range:
                    codes = array.astype(np.intp)
                    codes -= low
                    return codes
                return np.asarray(table[array.astype(np.int64) - low] if low else table[array])
        return self.levels.encode(list(values))
