"""Former public names, served for one release with a ``FutureWarning``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from mixedfx._warnings import warn_caller
from mixedfx.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller of the calling function that a name has changed."""
    text = f"{old} is now {new}; the old name works for one release more."
    warn_caller(text, FutureWarning)


def renamed_attribute(owner: str, old: str, new: str) -> property:
    """Property under the old name of an attribute of class ``owner``."""

    def read(self: Any) -> Any:
        warn_renamed(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(read, doc=f"Former name of :attr:`{new}`.")


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function whose keyword argument ``old`` is now called ``new``."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def translated(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise ArgumentError(f"{old}= is the former name of {new}=; give {new}= alone.")
                warn_renamed(f"{function.__name__}({old}=)", f"{function.__name__}({new}=)")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return translated

    return decorate
