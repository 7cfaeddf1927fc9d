"""Arrays that are read alone, for the fields of frozen dataclasses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_ONE = np.ones(1)
_ONE.setflags(write=False)


def set_readonly(*values: Any) -> None:
    """Make the arrays among the values read-only."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)


def all_finite(*arrays: npt.NDArray[np.float64]) -> bool:
    """Whether all numbers are finite: their sum of squares says so at once, unless it overflows."""
    return all(math.isfinite(np.vdot(a, a)) or bool(np.isfinite(a).all()) for a in arrays)


def column_of_ones(n: int) -> npt.NDArray[np.float64]:
    """Ones (n, 1) that take no memory: the steps from row to row are zero."""
    return np.ndarray((n, 1), np.float64, _ONE, 0, (0, 0))
