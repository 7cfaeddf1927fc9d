"""DataFrames, and functions that yield them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.errors import SourceError, brief
from mixedfx.sources.source import check_columns, check_not_empty, chunk_length, split, with_columns


@dataclass(frozen=True)
class FrameSource:
    """Rows of a DataFrame, in chunks."""

    frame: pd.DataFrame
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(map(str, self.frame.columns))

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Slices."""
        part = with_columns(self.frame, names).set_axis(list(names), axis=1)
        yield from split(part, chunk_length(len(names), self.chunk_rows), "the DataFrame")


@dataclass(frozen=True)
class CallableSource:
    """Tables that a function yields, anew at each call."""

    function: Callable[[], Iterable[Any]]
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the first table."""
        tables = iter(self._tables())
        try:
            first = next(tables, None)
        finally:
            close = getattr(tables, "close", None)
            if close is not None:
                close()
        if first is None:
            raise SourceError(f"{self._name}() yields no DataFrame: there are no rows to fit.")
        return tuple(map(str, as_table(first, f"chunk 1 of {self._name}()").columns))

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def _tables(self) -> Iterable[Any]:
        tables = self.function()
        if isinstance(tables, pd.DataFrame):
            return [tables]
        if not isinstance(tables, Iterable):
            self._fail(tables)
        return tables

    def _fail(self, value: Any) -> NoReturn:
        raise SourceError(
            f"{self._name}() gives {brief(value)}; a function that is a source yields DataFrames, "
            "anew at each call."
        )

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Call the function, and cut long tables."""
        length = chunk_length(len(names), self.chunk_rows)
        for i, table in enumerate(self._tables(), start=1):
            origin = f"chunk {i} of {self._name}()"
            frame = as_table(table, origin)
            frame = frame.set_axis(list(map(str, frame.columns)), axis=1)
            check_columns(names, list(frame.columns), origin)
            check_not_empty(len(frame), origin)
            yield from split(frame[list(names)], length, origin)


def as_table(table: Any, origin: str) -> pd.DataFrame:
    """A chunk as a DataFrame, from anything with to_pandas()."""
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    if not isinstance(frame, pd.DataFrame):
        raise SourceError(f"{origin} is {brief(table)}, which is no DataFrame.")
    return frame
