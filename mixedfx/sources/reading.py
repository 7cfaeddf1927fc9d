"""Reading ahead in a thread, and progress over the chunks of a pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import Any

import pandas as pd

from mixedfx._progress import DELAY
from mixedfx.errors import EmptyDataError
from mixedfx.sources.source import CodedSource, DataSource

# Seconds between looks at whether the reader is still wanted.
_WAIT = 0.1


def read_chunks(
    source: DataSource, names: Sequence[str], title: str, coded: Collection[str] = ()
) -> Iterator[pd.DataFrame]:
    """
    Chunks of a pass, the next one read while one is used; row numbers go on over chunks.

    Texts of the columns that are ``coded`` may be categories: see :class:`CodedSource`.
    """

    def chunks() -> Iterator[pd.DataFrame]:
        if coded and isinstance(source, CodedSource):
            return source.coded_chunks(names, coded)
        return source.chunks(names)

    n_rows, bar, start = 0, None, time.monotonic()
    try:
        for frame in numbered(_ahead(chunks)):
            n_rows += len(frame)
            yield frame
            if bar is not None:
                bar.update(len(frame))
            elif time.monotonic() - start > DELAY:
                bar = _bar(title, n_rows, time.monotonic() - start)
    finally:
        if bar is not None:
            bar.close()
    if n_rows == 0:
        raise EmptyDataError("the source has no rows.")


def _bar(title: str, n_rows: int, seconds: float) -> Any:
    """Bar of a pass that has taken some seconds: its import takes as long as a short pass."""
    from tqdm.auto import tqdm

    bar = tqdm(desc=title, unit=" rows", unit_scale=True, initial=n_rows, leave=False)
    bar.start_t -= seconds
    bar.initial = 0  # rows a second are those since the start
    bar.refresh()
    return bar


def numbered(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The same rows, their index being their number among those of all chunks."""
    start = 0
    for frame in frames:
        stop = start + len(frame)
        own = frame.set_axis(pd.RangeIndex(start, stop), axis=0)
        own.attrs.update(frame.attrs)
        yield own
        start = stop


def _ahead(make: Callable[[], Iterator[pd.DataFrame]]) -> Iterator[pd.DataFrame]:
    """Items of an iterator, each made in a thread while the one before is used."""
    items: Queue[tuple[str, Any]] = Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=_WAIT)
                return True
            except Full:
                continue
        return False

    def read() -> None:
        try:
            for frame in make():
                if not put(("chunk", frame)):
                    return
            put(("end", None))
        except BaseException as error:  # raised again where the chunks are used
            put(("error", error))

    thread = threading.Thread(target=read, name="mixedfx reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        _drain(items)
        thread.join()


def _drain(items: Queue[tuple[str, Any]]) -> None:
    while True:
        try:
            items.get_nowait()
        except Empty:
            return
