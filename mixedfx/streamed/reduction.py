"""Sums of the rows of a source: where its partitions are, or chunk by chunk in some threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.request import CompleteRows
from mixedfx.likelihood.stream.sums import (
    ChunkColumns,
    ReductionPlan,
    RowSums,
    added,
    combine,
    reduce_chunk,
    reduce_rows,
)
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.threads import processors
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource, naming_origin

# Chunks whose rows are summed at a time, beside the making of further ones: on two processors two
# take a ninth less time than one, as each waits for the interpreter now and then.
_SUMMED = min(2, processors())


# Threads of BLAS would wait for each other at the products of each chunk, beside those that sum.
@single_threaded_blas(0)
def reduce_source(source: DataSource, plan: ReductionPlan) -> RowSums:
    """Second pass: sums of all chunks."""
    request = plan.design.request
    if isinstance(source, PartitionedSource):
        reduced: RowSums = source.reduce(request.names, partial(reduce_chunk, plan=plan), combine)
        return reduced
    with Summation(plan) as summation:
        for frame in read_chunks(source, request.names, "cross-products", request.coded):
            with naming_origin(frame):
                rows = plan.design.rows(frame)
            summation.add(*rows)
            del rows
        return summation.total()


class Summation:
    """Sums of the rows of chunks, added in the order of these while the next rows are made."""

    def __init__(self, plan: ReductionPlan) -> None:
        self._plan = plan
        self._threads = ThreadPoolExecutor(_SUMMED, thread_name_prefix="mixedfx sums")
        self._running: deque[Future[RowSums]] = deque()
        self._spare: list[RowSums] = []  # of chunks that were added: new arrays take time
        self._total: Future[RowSums] | None = None

    def __enter__(self) -> Summation:
        """Threads are started when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def add(self, rows: ModelRows, found: CompleteRows) -> None:
        """Add the rows of a chunk; waits for some before, so that few are in memory."""
        chunk = ChunkColumns(rows, found, self._plan)
        if len(self._running) > _SUMMED:
            self._running.popleft().result()
        self._total = self._threads.submit(self._added, self._total, chunk)
        self._running.append(self._total)

    def _added(self, before: Future[RowSums] | None, chunk: ChunkColumns) -> RowSums:
        """Sums up to a chunk, given those up to the one before, which was begun before."""
        own = reduce_rows(chunk, self._take_spare())
        if before is None:
            return added(None, own)
        total = added(before.result(), own)
        self._spare.append(own)
        return total

    def _take_spare(self) -> RowSums | None:
        """Arrays that another chunk's sums may be put into, if any are left."""
        try:
            return self._spare.pop()
        except IndexError:  # not asked for beforehand: another thread may take them in between
            return None

    def total(self) -> RowSums:
        """Sums of all chunks."""
        assert self._total is not None
        return self._total.result()
