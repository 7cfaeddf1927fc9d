"""Lazy tables of Polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from mixedfx.sources.source import chunk_length, errors_named, split


def to_pandas_in_order(table: Any) -> pd.DataFrame:
    """
    A DataFrame of Polars as one of pandas, with the levels in the order that Polars sorts them in.

    An Enum has the order of its declaration. A Categorical sorts as text; what pandas is given is
    the order in which the values were met, which changes when the rows are sorted.
    """
    frame: pd.DataFrame = table.to_pandas()
    for name, dtype in table.schema.items():
        if type(dtype).__name__ == "Categorical":
            column = frame[name]
            frame[name] = column.cat.reorder_categories(sorted(column.cat.categories))
    return frame


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
                yield from split(to_pandas_in_order(batch), length, "the LazyFrame")
