"""Number of BLAS threads while small matrices are factorised.

Splitting a matrix of a hundred columns between threads gains nothing, and on a busy machine the
threads wait for each other: fits were measured to take a hundred times longer. For large dense
blocks the user's setting applies.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

# Columns of a dense block from which several threads are faster than one.
_MULTITHREADED_SIZE = 1500


def single_threaded_blas(columns: int) -> AbstractContextManager[Any]:
    """Limit BLAS to one thread for a dense block of few columns."""
    if columns >= _MULTITHREADED_SIZE:
        return nullcontext()
    limits: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limits


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
