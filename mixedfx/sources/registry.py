"""Which adapter reads what: the first of the list that knows the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mixedfx.errors import ArgumentError, check_count
from mixedfx.sources import arrow, dask, duckdb, frames, polars
from mixedfx.sources.source import DataSource

Adapter = Callable[[Any, int | None], DataSource | None]


def _files(data: Any, chunk_rows: int | None) -> DataSource | None:
    if isinstance(data, str | Path):
        return arrow.FilesSource(tuple(arrow.files_of(str(data))), chunk_rows)
    if isinstance(data, list | tuple) and data and all(isinstance(d, str | Path) for d in data):
        return arrow.FilesSource(tuple(f for d in data for f in arrow.files_of(str(d))), chunk_rows)
    return None


def _of_class(package: str, name: str, adapter: Callable[..., DataSource]) -> Adapter:
    """Adapter of a class of another package, which need not be installed."""

    def adapt(data: Any, chunk_rows: int | None) -> DataSource | None:
        found = any(
            c.__module__.split(".")[0].lstrip("_") == package and c.__name__ == name
            for c in type(data).__mro__
        )
        return adapter(data, chunk_rows) if found else None

    return adapt


def _callable(data: Any, chunk_rows: int | None) -> DataSource | None:
    if not callable(data) or isinstance(data, type):
        return None
    made = data()
    if hasattr(made, "schema") and hasattr(made, "read_next_batch"):
        made.close()
        return arrow.ReaderSource(data, chunk_rows)
    if hasattr(made, "close"):
        made.close()
    return frames.CallableSource(data, chunk_rows)


def _own(data: Any, _: int | None) -> DataSource | None:
    is_source = not isinstance(data, type) and hasattr(data, "chunks") and hasattr(data, "columns")
    return data if is_source and isinstance(data, DataSource) else None


def _chunked_frame(data: Any, chunk_rows: int | None) -> DataSource | None:
    is_chunked = isinstance(data, pd.DataFrame) and chunk_rows is not None
    return frames.FrameSource(data, chunk_rows) if is_chunked else None


_ADAPTERS: tuple[Adapter, ...] = (
    _chunked_frame,
    _files,
    _of_class("pyarrow", "Dataset", lambda *given: arrow.DatasetSource(*given)),
    _of_class("polars", "LazyFrame", lambda *given: polars.PolarsSource(*given)),
    _of_class("duckdb", "DuckDBPyRelation", lambda *given: duckdb.DuckDBSource(*given)),
    _of_class("dask", "DataFrame", lambda *given: dask.DaskSource(*given)),
    _own,
    _callable,
)


def as_source(
    data: Any, *, chunk_rows: int | None = None, connection: Any = None
) -> DataSource | None:
    """Source of data that are read in chunks; None for tables in memory."""
    if chunk_rows is not None:
        chunk_rows = check_count("chunk_rows", chunk_rows, most=1_000_000_000)
    if connection is not None:
        if not isinstance(data, str):
            raise ArgumentError(
                "connection= is that of a database in which data names a table: give its name as "
                "text, such as lmer(formula, 'ratings', connection=con)."
            )
        data = connection.table(data)
    if chunk_rows is None and isinstance(data, pd.DataFrame):
        return None
    for adapt in _ADAPTERS:
        source = adapt(data, chunk_rows)
        if source is not None:
            return source
    if chunk_rows is not None and not isinstance(data, pd.DataFrame):
        raise ArgumentError(
            "chunk_rows= is of data that are read in chunks; a table in memory other than a pandas "
            "DataFrame is fitted whole: leave chunk_rows= out."
        )
    return None
