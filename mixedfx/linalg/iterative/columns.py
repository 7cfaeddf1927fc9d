"""Functions of many columns, a few at a time, on all processors.

A chunk of columns stays in the cache; SciPy's sparse products and NumPy release the interpreter.
What is computed for a column does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.threads import for_each

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
