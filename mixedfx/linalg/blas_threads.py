"""Keep small linear algebra on one thread.

A BLAS that splits a matrix of a hundred columns between threads gains nothing, and on a busy
machine its threads wait for each other: fits were seen to take a hundred times longer. From
a certain size on the threads are left as the user has set them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

# Columns of a dense block from which several threads pay.
_LARGE = 1500


def single_threaded_blas(columns: int) -> AbstractContextManager[Any]:
    """Limit BLAS to one thread while small matrices are worked on."""
    if columns >= _LARGE:
        return nullcontext()
    limits: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limits


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
