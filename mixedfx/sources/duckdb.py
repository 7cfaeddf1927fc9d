"""Tables and queries of DuckDB."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from mixedfx._extras import import_extra
from mixedfx.sources.source import chunk_length, errors_named, with_origin
from mixedfx.sources.texts import texts_of, to_frame


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
        return self.coded_chunks(names, ())

    def coded_chunks(self, names: Sequence[str], coded: Collection[str]) -> Iterator[pd.DataFrame]:
        """The same, with the codes of texts."""
        pyarrow = import_extra("pyarrow", "the results of DuckDB are read by")
        length = chunk_length(len(names), self.chunk_rows)
        quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        with errors_named("the DuckDB relation"):
            for batch in self.relation.project(quoted).to_arrow_reader(length):
                if batch.num_rows:
                    table = pyarrow.Table.from_batches([batch])
                    frame = to_frame(table, texts_of(table.schema, coded))
                    yield with_origin(frame, "the DuckDB relation")
