"""The contract of a table that is read in chunks, and what its adapters share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from mixedfx.errors import DataError, MissingColumnError, SourceError, did_you_mean

# Bytes of a chunk's columns by default: small beside the sums of a large model, and large beside
# the fixed cost of a chunk.
_CHUNK_BYTES = 1 << 24
_LEAST_ROWS, _BYTES_OF_VALUE = 10_000, 8
# Key of the attributes of a chunk, of its columns of text that are given as categories.
TEXTS = "texts"


@runtime_checkable
class DataSource(Protocol):
    """A table that is read in chunks, as often as it is asked to."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether the rows are in memory anyway."""
        ...

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Read some columns anew, in chunks of rows; ``attrs['origin']`` may say where from."""
        ...


@runtime_checkable
class PartitionedSource(DataSource, Protocol):
    """A table whose parts can be reduced where they are: only what is made of them is moved."""

    def reduce(
        self,
        names: Sequence[str],
        function: Callable[[pd.DataFrame], Any],
        combine: Callable[[Any, Any], Any],
    ) -> Any:
        """
        ``function`` of each part that has rows, combined in the order of the parts.

        The index of a part numbers its rows among all; functions and results can be pickled.
        """
        ...


@runtime_checkable
class CodedSource(DataSource, Protocol):
    """A table whose texts can be read as codes of their distinct values."""

    def coded_chunks(self, names: Sequence[str], coded: Collection[str]) -> Iterator[pd.DataFrame]:
        """
        Read as ``chunks`` does, but texts of some columns as categories in any order.

        The columns that are text for all that are named in ``attrs[TEXTS]`` of a chunk.
        """
        ...


@runtime_checkable
class BoundedSource(DataSource, Protocol):
    """A table that knows ranges of integer columns without its rows being read."""

    def bounds(self, name: str) -> tuple[int, int] | None:
        """Integers between which all values of a column are; None where that is not known."""
        ...


def reduce_part(
    frame: pd.DataFrame, names: Sequence[str], origin: str, first_row: int, function: Any
) -> Any:
    """``function`` of a part of a table, where the part is."""
    numbered = frame.set_axis(list(names), axis=1)
    numbered = numbered.set_axis(pd.RangeIndex(first_row, first_row + len(frame)), axis=0)
    part = with_origin(numbered, origin)
    with naming_origin(part):
        return function(part)


def chunk_length(n_columns: int, chunk_rows: int | None) -> int:
    """Rows of a chunk: as asked for, or by the bytes of its columns."""
    if chunk_rows is not None:
        return chunk_rows
    return max(_CHUNK_BYTES // (_BYTES_OF_VALUE * max(n_columns, 1)), _LEAST_ROWS)


def split(frame: pd.DataFrame, length: int, origin: str) -> Iterator[pd.DataFrame]:
    """Parts of a table of at most so many rows, each with its origin."""
    for start in range(0, len(frame), length):
        part = frame if len(frame) <= length else frame.iloc[start : start + length]
        yield with_origin(part, origin)


def with_columns(table: Any, names: Sequence[str]) -> Any:
    """Some columns of a DataFrame, of pandas or Dask, by their labels as text."""
    labels = dict(zip(map(str, table.columns), table.columns, strict=True))
    return table[[labels[name] for name in names]]


def with_origin(frame: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The same rows, with the name of the file, row group, partition they are from."""
    part = frame.copy(deep=False)
    part.attrs["origin"] = origin
    return part


@contextmanager
def naming_origin(frame: pd.DataFrame) -> Iterator[None]:
    """Add to an error in a chunk where the chunk is from."""
    try:
        yield
    except DataError as error:
        origin = frame.attrs.get("origin")
        if origin and origin not in str(error):
            error.args = (f"{error} (In {origin}.)", *error.args[1:])
        raise


def check_columns(names: Sequence[str], columns: Sequence[str], origin: str) -> None:
    """Refuse a part of a table that lacks columns."""
    for name in names:
        if name not in columns:
            raise MissingColumnError(
                f"{origin} has no column '{name}'; its columns are: "
                f"{', '.join(map(str, columns))}.{did_you_mean(name, map(str, columns))}"
            )


def check_not_empty(n_rows: int, origin: str) -> None:
    """Refuse a part of a table without rows."""
    if n_rows == 0:
        raise SourceError(f"{origin} has no rows; leave it out.")


@contextmanager
def errors_named(origin: str) -> Iterator[None]:
    """Errors of an engine become errors of the source, which name it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise SourceError(f"{origin} cannot be read: {error}") from error
