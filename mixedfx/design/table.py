"""A user's table and its columns by the identifiers that formulas have for them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

import pandas as pd

from mixedfx._names import encode
from mixedfx.errors import ColumnTypeError


class Table:
    """A table, the texts of whose labels are made once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self._labels: Sequence[Hashable] = frame.columns.tolist()
        self.names = list(map(str, self._labels))

    @cached_property
    def identifiers(self) -> Mapping[str, Sequence[Hashable]]:
        """Labels by identifier; several where texts are equal, as of 5 and "5"."""
        found: dict[str, list[Hashable]] = {}
        for name, label in zip(self.names, self._labels, strict=True):
            found.setdefault(encode(name), []).append(label)
        return found

    def column(self, identifier: str) -> pd.Series:
        """One column; among those with equal texts the one that is text."""
        labels = self.identifiers[identifier]
        chosen = [c for c in labels if isinstance(c, str)] or labels
        column = self.frame[chosen[0]]
        if len(chosen) > 1 or isinstance(column, pd.DataFrame):
            listed = ", ".join(map(repr, chosen))
            raise ColumnTypeError(
                f"the data has several columns named '{identifier}' ({listed}): rename all but one."
            )
        return column

    def get(self, identifier: str) -> pd.Series | None:
        """One column; None where there is none."""
        return self.column(identifier) if identifier in self.identifiers else None
