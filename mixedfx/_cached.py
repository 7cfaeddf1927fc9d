"""A property that is computed once, and without a lock: that of Python 3.12."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property as cached_property
else:
    # Before, a lock of the class is held while a value is computed, and threads with fits of their
    # own wait for each other. Two that ask a frozen value at once compute the same.
    class cached_property(functools.cached_property):  # noqa: N801
        """The same without a lock."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            """Compute the value and keep it in the instance, where it is found from then on."""
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value
