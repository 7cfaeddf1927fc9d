"""Rows that a first pass keeps: a random sample, and those that show all values of factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.variables import Numbers, variable
from mixedfx.sources.source import TEXTS

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

SAMPLE_ROWS = 10_000
SEED = 20_240_601
_TEXT = pd.Series(["text"]).dtype  # pandas' own
# Combinations of factors' values beyond which no further ones are kept.
_MOST_COMBINATIONS = 10_000


class Reservoir:
    """Uniform sample of the rows, the same however they are cut into chunks and merged."""

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self._size = size
        self._parts: list[pd.DataFrame] = []
        self._keys = np.zeros(0)
        self._limit = np.inf  # keys from here on are not among the smallest

    def add(self, frame: pd.DataFrame, positions: Codes) -> None:
        """Offer the complete rows of a chunk: those with the smallest random keys are kept."""
        if not len(frame):
            return
        # A row's key depends on its number alone: PCG64 takes one step a key.
        from_first = np.random.PCG64(SEED).advance(int(frame.index[0]))
        keys = np.random.Generator(from_first).random(len(frame))
        if len(positions) < len(frame):
            keys = keys[positions]
        if self._limit < np.inf:
            candidates = np.flatnonzero(keys < self._limit)
            keys, positions = keys[candidates], positions[candidates]
        elif len(keys) > self._size:
            first = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, positions = keys[first], positions[first]
        if not len(keys):
            return
        self._keep(frame.iloc[positions], keys)

    def merge(self, other: Reservoir) -> None:
        """Take over the sample of later rows."""
        if len(other._keys):
            rows = other.rows()
            self._keep(rows, other._keys)

    def _keep(self, rows: pd.DataFrame, keys: Vector) -> None:
        """Add rows; some more than the sample are kept, as leaving rows out takes time."""
        self._parts.append(rows)
        self._keys = np.concatenate([self._keys, keys])
        if len(self._keys) >= (2 if self._limit < np.inf else 1) * self._size:
            self._leave_out()

    def _leave_out(self) -> None:
        """Keep the rows with the smallest keys."""
        if len(self._keys) > self._size:
            kept = np.sort(np.argpartition(self._keys, self._size)[: self._size])
            self._keys = self._keys[kept]
            self._parts = [concatenated(self._parts).iloc[kept]]
        if len(self._keys) == self._size:
            self._limit = float(self._keys.max())

    def rows(self) -> pd.DataFrame:
        """The sample, in the order of the rows."""
        self._leave_out()
        return concatenated(self._parts)


class FirstRows:
    """First row of each combination of some columns' values."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, ...]] = set()

    def find(self, columns: Sequence[npt.NDArray[Any] | pd.Categorical]) -> Codes:
        """Positions of rows with combinations that are new."""
        if not columns or not len(columns[0]) or len(self._seen) > _MOST_COMBINATIONS:
            return np.zeros(0, dtype=np.intp)
        first = ~pd.DataFrame(dict(enumerate(columns))).duplicated().to_numpy()
        found = []
        for at in np.flatnonzero(first)[: _MOST_COMBINATIONS + 1].tolist():
            key = tuple(column[at] for column in columns)
            if key not in self._seen:
                self._seen.add(key)
                found.append(at)
        return np.array(found, dtype=np.intp)

    @property
    def too_many(self) -> bool:
        """Whether further combinations are not kept."""
        return len(self._seen) > _MOST_COMBINATIONS


class Extremes:
    """Rows of the smallest and the largest value of numeric columns."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, bool], tuple[float, pd.DataFrame]] = {}

    def add(self, frame: pd.DataFrame, variables: Mapping[str, Any], positions: Codes) -> None:
        """Compare those of a chunk with the known ones."""
        for name, column in variables.items():
            own = variable(column)
            if not isinstance(own, Numbers) or not len(column):
                continue
            values = own.values
            for largest in (False, True):
                value = float(values.max() if largest else values.min())
                if self._is_further(name, largest, value):
                    at = int(values.argmax() if largest else values.argmin())
                    row = frame.iloc[positions[at : at + 1]]
                    self._rows[name, largest] = value, row.copy()

    def merge(self, other: Extremes) -> None:
        """Compare those of later rows with the known ones."""
        for (name, largest), (value, row) in other._rows.items():
            if self._is_further(name, largest, value):
                self._rows[name, largest] = value, row

    def _is_further(self, name: str, largest: bool, value: float) -> bool:
        """Whether a value is beyond the known extreme of its column, or the first."""
        known = self._rows.get((name, largest))
        return known is None or (value > known[0] if largest else value < known[0])

    def rows(self) -> list[pd.DataFrame]:
        """The rows, one by one."""
        return [row for _, row in self._rows.values()]


class ColumnTypes:
    """Types of the columns over all chunks: categories in the order in which they come."""

    def __init__(self) -> None:
        self._dtypes: dict[str, Any] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Join the categories of a chunk to those known."""
        texts = frame.attrs.get(TEXTS, ())
        dtypes = {str(name): dtype for name, dtype in frame.dtypes.items()}
        self._join(dtypes | dict.fromkeys(texts, _TEXT))

    def merge(self, other: ColumnTypes) -> None:
        """Join those of later rows."""
        self._join(other._dtypes)

    def _join(self, dtypes: Mapping[str, Any]) -> None:
        for name, dtype in dtypes.items():
            known = self._dtypes.get(name)
            if known is None or not isinstance(dtype, pd.CategoricalDtype):
                self._dtypes.setdefault(name, dtype)
            elif isinstance(known, pd.CategoricalDtype) and not dtype.categories.equals(
                known.categories
            ):
                further = dtype.categories.difference(known.categories, sort=False)
                joined = known.categories.append(further)
                self._dtypes[name] = pd.CategoricalDtype(joined, known.ordered)

    def of(self, name: str) -> Any:
        """Type of one column."""
        return self._dtypes.get(name)

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows with all categories, and text as such."""
        other = {
            name: known
            for name, own in frame.dtypes.items()
            if isinstance(known := self.of(str(name)), pd.CategoricalDtype)
            or (known == _TEXT and isinstance(own, pd.CategoricalDtype))
        }
        return frame.astype(other) if other else frame


def concatenated(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of some tables, categories joined."""
    if len(parts) == 1:
        return parts[0]
    if not any(isinstance(dtype, pd.CategoricalDtype) for part in parts for dtype in part.dtypes):
        return pd.concat(parts)
    joined: dict[str, pd.Series] = {}
    for name in parts[0].columns:
        columns = [part[name] for part in parts]
        dtypes = {str(column.dtype) for column in columns}
        if any(isinstance(c.dtype, pd.CategoricalDtype) for c in columns) and (
            len(dtypes) > 1 or not all(c.dtype == columns[0].dtype for c in columns)
        ):
            columns = [c.astype(object) for c in columns]
        joined[name] = pd.concat(columns)
    return pd.DataFrame(joined)
