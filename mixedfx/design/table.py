"""A user's table and its columns by the identifiers that formulas have for them."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedfx._names import encode
from mixedfx.errors import ColumnTypeError


@dataclass(frozen=True)
class _Labels:
    """Labels of a table's columns, their texts, and positions by identifier."""

    labels: Sequence[Hashable]
    are_distinct: bool  # two may be equal whose texts differ, 1 and True
    names: list[str]
    positions: Mapping[str, Sequence[int]]  # several where texts are equal, as of 5 and "5"

    @staticmethod
    def of(columns: pd.Index) -> _Labels:
        labels = columns.tolist()
        names, positions = list(map(str, labels)), dict[str, list[int]]()
        for position, name in enumerate(names):
            positions.setdefault(encode(name), []).append(position)
        return _Labels(labels, len(set(labels)) == len(labels), names, positions)


class _LatestLabels:
    """Labels of the latest table, as long as its index of columns lives: it may be fitted again."""

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[pd.Index], _Labels] | None = None

    def of(self, columns: pd.Index) -> _Labels:
        known = self._known  # which another thread may replace
        if known is not None and known[0]() is columns:
            return known[1]
        found = _Labels.of(columns)
        self._known = weakref.ref(columns, self._forget), found
        return found

    def _forget(self, reference: weakref.ref[pd.Index]) -> None:
        known = self._known
        if known is not None and known[0] is reference:
            self._known = None


_LATEST = _LatestLabels()


class Table:
    """A table, the texts of whose labels are made once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self._labels = _LATEST.of(frame.columns)

    @property
    def names(self) -> list[str]:
        """Texts of the labels."""
        return self._labels.names

    @property
    def identifiers(self) -> Mapping[str, Sequence[int]]:
        """Positions of the columns by identifier; several where texts are equal."""
        return self._labels.positions

    def position(self, identifier: str) -> int:
        """Position of a column; among those with equal texts of the one that is text."""
        found, labels = self._labels.positions[identifier], self._labels.labels
        if self._labels.are_distinct and len(found) == 1:
            return found[0]
        chosen = [i for i in found if isinstance(labels[i], str)] or found
        if labels.count(labels[chosen[0]]) > 1 or len(chosen) > 1:
            listed = ", ".join(repr(labels[i]) for i in chosen)
            raise ColumnTypeError(
                f"the data has several columns named '{identifier}' ({listed}): rename all but one."
            )
        return chosen[0]

    def column(self, identifier: str) -> pd.Series:
        """One column."""
        column: pd.Series = self.frame[self._labels.labels[self.position(identifier)]]
        return column

    def array(self, identifier: str) -> Any:
        """
        Array of one column, of NumPy or of an extension.

        pandas takes twenty times as long to make a Series, which most columns are not asked for.
        """
        frame: Any = self.frame
        if hasattr(frame, "_get_column_array"):
            return frame._get_column_array(self.position(identifier))
        return self.column(identifier).array

    def get(self, identifier: str) -> pd.Series | None:
        """One column; None where there is none."""
        return self.column(identifier) if identifier in self.identifiers else None


class UsedColumns(Mapping[str, pd.Series]):
    """Some columns of a table by identifier, each as pandas' Series when it is asked for."""

    def __init__(self, table: Table, names: Iterable[str]) -> None:
        self._table = table
        self._made: dict[str, pd.Series | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> pd.Series:
        """Return one column."""
        column = self._made[name]
        if column is None:
            column = self._made[name] = self._table.column(name)
        return column

    def __iter__(self) -> Iterator[str]:
        """Iterate over the identifiers."""
        return iter(self._made)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self._made)

    def __contains__(self, name: object) -> bool:
        """Whether a column of this identifier is used."""
        return name in self._made

    def __or__(self, other: UsedColumns) -> UsedColumns:
        """Columns of either, of one table."""
        return UsedColumns(self._table, [*self._made, *other._made])

    def array(self, name: str) -> Any:
        """Array of one column."""
        return self._table.array(name)
