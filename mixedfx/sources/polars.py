"""Lazy tables of Polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from mixedfx.sources.source import chunk_length, errors_named, split


@dataclass(frozen=True)
class PolarsSource:
    """A LazyFrame of Polars: its query is run by the streaming engine, for the columns read."""

    query: Any
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the query's schema."""
        return tuple(self.query.collect_schema().names())

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Batches of the query's result."""
        length = chunk_length(len(names), self.chunk_rows)
        selected = self.query.select(list(names))
        with errors_named("the LazyFrame"):
            for batch in selected.collect_batches(chunk_size=length, maintain_order=True):
                yield from split(batch.to_pandas(), length, "the LazyFrame")
