"""Modules, and names of them, that a package imports when they are first used.

A first fit uses a third of the modules. A package whose ``__getattr__`` is made by :func:`late`
gives ``from package import module`` a stand-in, which imports the module when an attribute of it
is read; ``from package.module import name`` imports at once, as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class LateModule(ModuleType):
    """Stands for a module, whose attributes it has; they are read anew each time."""

    def __getattr__(self, name: str) -> Any:
        # Threads that come first together wait for each other here, as in any import.
        return getattr(import_module(self.__name__), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(import_module(self.__name__), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(import_module(self.__name__), name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # of dir() and vars()
        return vars(import_module(self.__name__))


def late(package: str, **homes: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package: its modules, and names given with their modules."""

    def attribute(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, value)
            return value
        module = f"{package}.{name}"
        if name.startswith("__") or find_spec(module) is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return LateModule(module)

    return attribute
