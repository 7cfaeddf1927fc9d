"""Warnings at the caller's line, each text once a line as Python's default filter has it.

Python's own record of what a line has shown is emptied by every ``warnings.catch_warnings`` of any
library; a fit runs several. The record here is emptied where the filters in force have changed, or
where the module's record was deleted, as IPython does before each cell.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

# Their frames between a warning and the caller are passed over; code that patsy evaluates has no
# name.
_PASSED_OVER = ("mixedfx", "patsy", "functools", "contextlib", "")


class _Record:
    """What each line has shown under one list of filters."""

    def __init__(self) -> None:
        self._filters: Any = None
        self._contents: list[Any] = []
        self._by_line: dict[tuple[Any, ...], Any] = {}  # to its module's __warningregistry__

    def has(self, key: tuple[Any, ...], module: dict[str, Any]) -> bool:
        if self._filters is not warnings.filters or self._contents != list(warnings.filters):
            self._filters, self._contents = warnings.filters, list(warnings.filters)
            self._by_line = {}
        registry = self._by_line.get(key)
        return registry is not None and registry is module.get("__warningregistry__")

    def add(self, key: tuple[Any, ...], module: dict[str, Any]) -> None:
        self._by_line[key] = module.get("__warningregistry__")


_record = _Record()
_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Warn of nothing in this thread, as for fits whose notes are reported otherwise.

    The filters of all threads stay as they are, which ``warnings.catch_warnings`` changes.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def warn_caller(text: str, category: type[Warning]) -> None:
    """Warn at the line that called the package."""
    if _quiet.get():
        return
    frame, level = _caller()
    module, line = frame.f_globals, frame.f_lineno
    key = (frame.f_code.co_filename, line, category, text)
    once = _action(text, category, str(module.get("__name__", "")), line) == "default"
    if once and _record.has(key, module):
        return
    warnings.warn(text, category, stacklevel=level)
    _record.add(key, module)


def _caller() -> tuple[FrameType, int]:
    """First frame outside this package and patsy, and its level for the function that asks."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in _PASSED_OVER:
            break
        frame, level = frame.f_back, level + 1
    return frame, level


def _action(text: str, category: type[Warning], module: str, line: int) -> str:
    """Action of the first filter that applies."""
    for action, message, kind, where, at in warnings.filters:
        if (
            _matches(message, text)
            and issubclass(category, kind)
            and _matches(where, module)
            and at in (0, line)
        ):
            return str(action)
    return str(getattr(warnings, "defaultaction", "default"))


def _matches(pattern: Any, text: str) -> bool:
    """Whether a filter's pattern applies; those of the interpreter itself are plain text."""
    if pattern is None or isinstance(pattern, str):
        return pattern is None or pattern == text
    return bool(pattern.match(text))
