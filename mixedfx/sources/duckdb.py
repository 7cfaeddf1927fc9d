"""Tables and queries of DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from mixedfx.sources.source import chunk_length, errors_named, with_origin


@dataclass(frozen=True)
class DuckDBSource:
    """A relation of DuckDB, which reads the columns that are named."""

    relation: Any
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the relation's columns."""
        return tuple(self.relation.columns)

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Batches of the query's result."""
        length = chunk_length(len(names), self.chunk_rows)
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        with errors_named("the DuckDB relation"):
            for batch in self.relation.project(quoted).to_arrow_reader(length):
                if batch.num_rows:
                    frame = batch.to_pandas(split_blocks=True)
                    yield with_origin(frame, "the DuckDB relation")
