"""Number of BLAS threads while small matrices are factorised.

Splitting a matrix of a hundred columns between threads gains nothing, and on a busy machine the
threads wait for each other: fits were measured to take a hundred times longer. For large dense
blocks the user's setting applies.

The number is one of the process. Where several Python threads limit it at once, the first stores
the user's setting and the last restores it: each restoring what it found could leave the limit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Columns of a dense block from which several threads are faster than one.
_MULTITHREADED_SIZE = 1500


class _Threads:
    """Threads of the BLAS libraries that are loaded, as threadpoolctl's controller limits them."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController

        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        self._libraries: list[Any] = list(libraries)
        self._limited: list[tuple[Any, int]] = []  # with the number before

    def limit(self, *, limits: int, user_api: str) -> _Threads:
        """Set the number of threads; a library that has it already is not called."""
        before = [(library, library.get_num_threads()) for library in self._libraries]
        self._limited = [(library, number) for library, number in before if number != limits]
        for library, _ in self._limited:
            library.set_num_threads(limits)
        return self

    def restore_original_limits(self) -> None:
        """Set it to what it was."""
        for library, number in self._limited:
            library.set_num_threads(number)


class _Limit:
    """Limit of one BLAS thread, held by any number of blocks at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._limiter: Any = None

    def acquire(self) -> None:
        with self._lock:
            if not self._holders:
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@contextmanager
def single_threaded_blas(columns: int) -> Iterator[None]:
    """Limit BLAS to one thread for a dense block of few columns."""
    if columns >= _MULTITHREADED_SIZE:
        yield
        return
    _LIMIT.acquire()
    try:
        yield
    finally:
        _LIMIT.release()


@cache
def _controller() -> _Threads:
    return _Threads()
