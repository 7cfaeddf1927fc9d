"""Functions of many columns, a few at a time, on all processors.

A chunk of columns stays in the cache; SciPy's sparse products and NumPy release the interpreter.
What is computed for a column does not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from mixedfx.linalg.cholesky.block_matrix import Array

T = TypeVar("T")
R = TypeVar("R")

# Columns of a chunk.
CHUNK = 8


def in_chunks(function: Callable[[Array], tuple[Array, ...]], columns: Array) -> list[Array]:
    """Apply to chunks of columns, (r, m); the results side by side."""
    parts = [
        np.ascontiguousarray(columns[:, j : j + CHUNK]) for j in range(0, columns.shape[1], CHUNK)
    ]
    return [
        np.concatenate(found, axis=-1) for found in zip(*for_each(function, parts), strict=True)
    ]


def for_each(function: Callable[[T], R], values: list[T]) -> list[R]:
    """Results of a function, computed in as many threads as there are processors."""
    workers = min(len(values), _processors())
    if workers < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, values))


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
