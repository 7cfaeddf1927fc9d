"""Values that cannot be written to: dataclasses freeze their names, this their arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def freeze(*values: Any) -> None:
    """
    Make arrays read-only; whatever is no array is left alone.

    Parameters
    ----------
    *values : object
        Arrays, or anything else.

    Examples
    --------
    >>> a = np.zeros(2)
    >>> freeze(a, None, "text")
    >>> a.flags.writeable
    False
    """
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
