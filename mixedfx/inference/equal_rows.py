"""Rows of the data that the rows of a fit stand for, where equal ones were merged."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class EqualRows:
    """Rows of the data, those that are equal one after another, without an array of all."""

    ends: Codes = field(repr=False)  # number of rows of the data up to each row of the fit

    @staticmethod
    def of(counts: Vector) -> EqualRows:
        """Given how many equal ones each row stands for."""
        return EqualRows(np.cumsum(np.round(counts).astype(np.intp)))

    def __len__(self) -> int:
        """Count the rows of the data."""
        return int(self.ends[-1])

    def positions(self, numbers: Codes) -> Codes:
        """Row of the fit that stands for each of some rows of the data."""
        return np.searchsorted(self.ends, numbers, side="right").astype(np.intp)
