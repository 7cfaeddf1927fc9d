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

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.families.category_intervals import Intervals
from mixedfx.families.derivatives import AllDerivatives, Array, ParamDerivatives
from mixedfx.families.log_intervals import EndCurvature
from mixedfx.families.thresholds import Thresholds

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCurvature(AllDerivatives):
    """Rows of categories, and the thresholds by their coordinates."""

    category: npt.NDArray[np.intp]  # (n,) from 1 on
    weights: Array | None  # of the rows
    between: Intervals = field(repr=False)
    thresholds: Thresholds  # which say what coordinates are logarithms of distances
    curvature: Callable[[], EndCurvature] = field(repr=False)

    @cached_property
    def ends(self) -> EndCurvature:
        """By the ends of the intervals."""
        return self.curvature()

    # A shift is minus the predictor, and w minus a second derivative.

    @cached_property
    def _by_coordinates(self) -> Array:
        """Derivatives by the coordinates, and of those by the shift to the third, (4, r, n)."""
        (high, low), at, by = self.between.sides, self.category - 1, self.ends.by_end
        found = by[0, :, None] * high.take(at, 1)
        found += by[1, :, None] * low.take(at, 1)
        return found if self.weights is None else np.asarray(self.weights * found)

    @property
    def by_params(self) -> ParamDerivatives:
        """By the coordinates of the thresholds."""
        found = self._by_coordinates
        return ParamDerivatives(found[0], -found[1], -found[2])

    @property
    def weight_curvature(self) -> Array:
        """Minus the fourth derivative."""
        fourth = self.ends.by_end[:, 3].sum(axis=0)
        return np.asarray(-fourth if self.weights is None else -self.weights * fourth)

    @property
    def weight_slope(self) -> Array:
        """Of the third derivatives."""
        return np.asarray(self._by_coordinates[3])

    def by_two(self, a: Array | float, b: Array | float, c: Array | float) -> Matrix:
        """Sums of derivatives by two coordinates: g and w are minus derivatives by the shift."""
        by, of_width, (high, low) = self.ends.by_end, self.ends.by_width, self.between.sides
        rows = np.empty((5, len(self.category)))
        # By the ends once, twice by each of them, and by both.
        once, twice = rows[:2], rows[2:4]
        np.subtract(a * by[:, 0], b * by[:, 1] + c * by[:, 2], out=once)
        np.subtract(a * by[:, 1], b * by[:, 2] + c * by[:, 3], out=twice)
        rows[4] = a * of_width
        twice += rows[4]
        if self.weights is not None:
            rows *= self.weights
        # Few categories: a product with their indicators costs less than sums over an index.
        of_high, of_low, high_twice, low_twice, both = rows @ self._indicators()
        cross = (low * -both) @ high.T
        found = (high * high_twice) @ high.T + (low * low_twice) @ low.T
        found += cross + cross.T
        logarithms = self.thresholds.logarithms(len(found))
        found.flat[:: len(found) + 1] += logarithms * (high @ of_high + low @ of_low)
        return np.asarray(found)

    def _indicators(self) -> Matrix:
        """Of the categories, (n, K)."""
        K = len(self.between.width.slope)
        return np.equal(self.category[:, None], np.arange(1, K + 1)).astype(float)
