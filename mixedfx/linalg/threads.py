"""Functions of many values in threads, where they release the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def for_each(
    function: Callable[[T], R], values: Sequence[T], *, most: int | None = None
) -> list[R]:
    """Results of a function, in as many threads as there are processors, or in at most so many."""
    workers = min(len(values), processors(), len(values) if most is None else most)
    if workers < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, values))


def processors() -> int:
    """Number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
