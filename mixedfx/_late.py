"""Modules, and names of them, that a package imports when they are first used.

A first fit uses a third of the modules. A package whose ``__getattr__`` is made by :func:`late`
gives ``from package import module`` a stand-in, which imports the module when an attribute of it
is read; ``from package.module import name`` imports at once, as ever. The values of a registry are
imported one by one, by a :class:`LateMapping`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")


class LateModule(ModuleType):
    """Stands for a module, whose attributes it has; they are read anew each time."""

    __slots__ = ("_module",)
    _module: ModuleType | None  # once it is imported as a whole

    def __init__(self, name: str) -> None:
        """Import nothing."""
        super().__init__(name)
        object.__setattr__(self, "_module", None)

    def __getattribute__(self, name: str) -> Any:
        # A module without the attribute takes microseconds to say so: it is not asked.
        module = object.__getattribute__(self, "_module")
        if module is None or name[:2] == "__":
            return super().__getattribute__(name)
        return getattr(module, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(_imported(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_imported(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_imported(self), name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # of dir() and vars()
        return vars(_imported(self))


def _imported(late: LateModule) -> ModuleType:
    # Threads that come first together wait for each other here, as in any import.
    module = import_module(late.__name__)
    object.__setattr__(late, "_module", module)
    return module


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


class _Home(NamedTuple):
    """Where a value is made from: a name in a module."""

    module: str
    name: str


class LateMapping(MutableMapping[str, T]):
    """
    Values by name, each imported when it is first looked up.

    ``homes`` are modules of the package, with the name in each: ``"spatial.Matern"``; ``make``
    makes the value of what has that name.
    """

    def __init__(
        self, package: str, homes: Mapping[str, str], make: Callable[[Any], T] = lambda value: value
    ) -> None:
        """Import nothing."""
        self._make, self._lock = make, Lock()
        self._values: dict[str, T | _Home] = {}
        for name, home in homes.items():
            module, _, attribute = home.rpartition(".")
            self._values[name] = _Home(f"{package}.{module}", attribute)

    def __getitem__(self, name: str) -> T:
        """Return a value, imported at the first time."""
        value = self._values[name]
        if not isinstance(value, _Home):
            return value
        made = self._make(getattr(import_module(value.module), value.name))
        with self._lock:
            if self._values[name] is value:  # no other thread has made or set one
                self._values[name] = made
        return cast(T, self._values[name])

    def __setitem__(self, name: str, value: T) -> None:
        """Set a value, in the place of one that may not have been imported."""
        with self._lock:
            self._values[name] = value

    def __delitem__(self, name: str) -> None:
        """Take a value out."""
        with self._lock:
            del self._values[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a value of the name, which need not be imported for that."""
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        """Names, in order."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show all values."""
        return repr(dict(self))
