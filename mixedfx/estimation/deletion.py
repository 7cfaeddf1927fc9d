"""Estimates of a fit without some of its rows: the contract."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Deletion(Protocol):
    """Estimates of a fit without some of its rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the estimates: the p coefficients first."""
        ...

    @property
    def estimates(self) -> Vector:
        """Estimates of all rows."""
        ...

    def without(self, keep: Mask, method: str) -> Vector:
        """Estimates of some of the rows, by a step or a search; NaN where there are none."""
        ...
