"""Modules, and names of them, that a package imports when they are first used.

A first fit uses a third of the package; to import the rest would take longer than the fit. A
package whose ``__getattr__`` is made by :func:`late` gives ``from package import module`` a
stand-in, which imports the module when an attribute of it is read (as SPEC 1 of Scientific Python
has submodules). ``from package.module import name`` imports at once, as ever.
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

    def __dir__(self) -> list[str]:
        return dir(import_module(self.__name__))


def late(package: str, **homes: str) -> Callable[[str], Any]:
    """
    Make the ``__getattr__`` of a package: its modules before they are imported, and names of them.

    ``homes`` are the names that the package gives, with the module of each; where the package's
    own modules import each other by :func:`late`, its ``__init__`` cannot import from them.
    """

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
