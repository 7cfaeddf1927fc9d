"""Sums of the rows of a source: where its partitions are, or chunk by chunk in some threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.request import CompleteRows
from mixedfx.likelihood.stream.sums import (
    ReductionPlan,
    RowSums,
    added,
    combine,
    reduce_chunk,
    reduce_rows,
)
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource, naming_origin

# Chunks whose rows are summed at a time.
_SUMMED = 2


def reduce_source(source: DataSource, plan: ReductionPlan) -> RowSums:
    """Second pass: sums of all chunks."""
    names = plan.design.request.names
    if isinstance(source, PartitionedSource):
        reduced: RowSums = source.reduce(names, partial(reduce_chunk, plan=plan), combine)
        return reduced
    with Summation(plan) as summation:
        for frame in read_chunks(source, names, "cross-products"):
            with naming_origin(frame):
                rows = plan.design.rows(frame)
            summation.add(*rows)
            del rows
        return summation.total()


class Summation:
    """Sums of the rows of chunks, added in the order of these while the next rows are made."""

    def __init__(self, plan: ReductionPlan) -> None:
        self.plan = plan
        self._sums = ThreadPoolExecutor(_SUMMED, thread_name_prefix="mixedfx sums")
        self._adding = ThreadPoolExecutor(1, thread_name_prefix="mixedfx total")
        self._waiting: deque[Future[RowSums]] = deque()
        self._total: Future[RowSums] | None = None

    def __enter__(self) -> Summation:
        """Threads are started when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        for pool in (self._sums, self._adding):
            pool.shutdown(cancel_futures=True)

    def add(self, rows: ModelRows, found: CompleteRows) -> None:
        """Add the rows of a chunk; waits for those before, so that few are in memory."""
        if len(self._waiting) == _SUMMED:
            self._add_first()
        self._waiting.append(self._sums.submit(reduce_rows, rows, found, self.plan))

    def total(self) -> RowSums:
        """Sums of all chunks."""
        while self._waiting:
            self._add_first()
        assert self._total is not None
        return self._total.result()

    def _add_first(self) -> None:
        own = self._waiting.popleft().result()
        before = None if self._total is None else self._total.result()
        self._total = self._adding.submit(added, before, own)
