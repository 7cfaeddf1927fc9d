"""Second derivatives of the log probabilities of ordered categories by their thresholds.

A row of category k has the log probability of an interval, ``l(high, low)`` with
``high = alpha_k - eta`` and ``low = alpha_(k-1) - eta``. Its derivatives by two coordinates c of
the thresholds are those by two ends, and as thresholds are linear in some coordinates and in the
exponentials of the others,

    d2 alpha / dc_i dc_j = d alpha / dc_i   for i = j and a logarithm c_i, else 0:

sums over the rows are a tridiagonal matrix and a vector by the ends of the intervals, whose
entries are sums over the rows of a category.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.families.category_intervals import Intervals
from mixedfx.families.derivatives import (
    AllDerivatives,
    Array,
    ParamDerivatives,
    RowDerivatives,
)
from mixedfx.families.log_intervals import EndCurvature

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCurvature:
    """Rows of categories, and the thresholds by their coordinates."""

    category: npt.NDArray[np.intp]  # (n,) from 1 on
    weights: Array | float  # of the rows
    between: Intervals = field(repr=False)
    logarithms: npt.NDArray[np.bool_]  # (r,) coordinates that are logarithms of distances
    ends: EndCurvature

    def of_rows(self) -> AllDerivatives:
        """The derivatives: a shift is minus the predictor, and w minus a second derivative."""
        ends, w = self.ends, self.weights
        value, first, weight, slope = self.between.by_coordinates(
            self.category, ends.high, ends.low, w
        )
        moved = zip(ends.high, ends.low, strict=True)
        by_shift, twice, thrice, fourth = (w * (a + b) for a, b in moved)
        return AllDerivatives(
            RowDerivatives(w * ends.value, -by_shift, -twice, thrice),
            ParamDerivatives(value, -first, -weight),
            -fourth,
            slope,
            self._by_two,
        )

    def _by_two(self, a: Array | float, b: Array | float, c: Array | float) -> Matrix:
        """Sums of derivatives by two coordinates: g and w are minus derivatives by the shift."""
        ends, J = self.ends, self.between.by_ends
        rows = (
            _combined(a, b, c, ends.high_twice),
            _combined(a, b, c, ends.low_twice),
            a * ends.high_low,
            _combined(a, b, c, ends.high[:3]),
            _combined(a, b, c, ends.low[:3]),
        )
        n_ends, below = J.shape[1], self.category - 1
        of_rows = (self.category, below, below, self.category, below)
        sums = [
            np.bincount(at, self.weights * values, n_ends)
            for at, values in zip(of_rows, rows, strict=True)
        ]
        cross = (J[:, :-1] * sums[2][:-1]) @ J[:, 1:].T
        found = (J * (sums[0] + sums[1])) @ J.T + cross + cross.T
        found.flat[:: len(found) + 1] += self.logarithms * (J @ (sums[3] + sums[4]))
        return np.asarray(found)


def _combined(
    a: Array | float, b: Array | float, c: Array | float, moved: tuple[Array, Array, Array]
) -> Array:
    """``a`` times a derivative, and ``-b`` and ``-c`` times those of it by the shift."""
    return np.asarray(a * moved[0] - b * moved[1] - c * moved[2])
