"""DataFrames of Dask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedfx.sources.source import chunk_length, errors_named, split


@dataclass(frozen=True)
class DaskSource:
    """A DataFrame of Dask, by its partitions."""

    table: Any
    chunk_rows: int | None = None

    @property
    def in_memory(self) -> bool:
        """The rows are where the partitions are."""
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(map(str, self.table.columns))

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Partitions one after the other, cut where they are longer than a chunk."""
        length = chunk_length(len(names), self.chunk_rows)
        labels = dict(zip(self.columns, self.table.columns, strict=True))
        selected = self.table[[labels[name] for name in names]]
        for i in range(selected.npartitions):
            origin = f"partition {i} of the Dask DataFrame"
            with errors_named(origin):
                frame = selected.partitions[i].compute()
            yield from split(frame.set_axis(list(names), axis=1), length, origin)
