"""DataFrames of Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mixedfx.errors import EmptyDataError
from mixedfx.sources.source import chunk_length, errors_named, reduce_part, split, with_columns


@dataclass(frozen=True)
class DaskSource:
    """A DataFrame of Dask, by its partitions."""

    table: Any
    chunk_rows: int | None = None
    in_memory: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(map(str, self.table.columns))

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Partitions one after the other, cut where they are longer than a chunk."""
        length = chunk_length(len(names), self.chunk_rows)
        selected = with_columns(self.table, names)
        for i in range(selected.npartitions):
            origin = _origin(i)
            with errors_named(origin):
                frame = selected.partitions[i].compute()
            yield from split(frame.set_axis(list(names), axis=1), length, origin)

    def reduce(
        self,
        names: Sequence[str],
        function: Callable[[pd.DataFrame], Any],
        combine: Callable[[Any, Any], Any],
    ) -> Any:
        """Reduce the partitions where they are, and combine neighbours as a tree."""
        from dask.delayed import delayed

        parts = with_columns(self.table, names).to_delayed()
        with errors_named("the Dask DataFrame"):
            first_columns = with_columns(self.table, names[:1]).to_delayed()
            lengths = delayed(list)([delayed(len)(part) for part in first_columns]).compute()
            if not sum(lengths):
                raise EmptyDataError("the source has no rows.")
            shared = delayed(function, pure=False, traverse=False)
            starts = np.cumsum(lengths) - lengths
            results = [
                delayed(reduce_part)(part, names, _origin(i), int(starts[i]), shared)
                for i, part in enumerate(parts)
                if lengths[i]
            ]
            pair = delayed(combine)
            while len(results) > 1:
                last = results[len(results) // 2 * 2 :]
                results = [pair(*ab) for ab in zip(results[::2], results[1::2], strict=False)]
                results += last
            return results[0].compute()


def _origin(partition: int) -> str:
    return f"partition {partition} of the Dask DataFrame"
