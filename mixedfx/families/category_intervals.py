"""Intervals between the thresholds of ordered categories, and what is computed from these alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.families.derivatives import Array
from mixedfx.families.log_intervals import FAR, Width
from mixedfx.families.thresholds import Thresholds

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """The K - 1 thresholds between ends beyond all values."""

    ends: Vector  # (K + 1,)
    by_ends: Matrix  # (r, K + 1) derivatives of the ends by the coordinates
    width: Width  # (K,) between the ends

    def of_rows(self, k: npt.NDArray[np.intp], eta: Array) -> tuple[Array, Array, Width]:
        """Ends about the category of each row, less its predictor, and the widths between them."""
        below = k - 1
        return self.ends.take(below) - eta, self.ends.take(k) - eta, self.width.take(below)


def intervals_between(thresholds: Thresholds, n: int, params: Vector) -> Intervals:
    """Between the n thresholds at their parameters."""
    return _intervals(thresholds, n, np.asarray(params, dtype=np.float64).tobytes())


# Rows are evaluated again and again at the same thresholds.
@lru_cache(maxsize=16)
def _intervals(thresholds: Thresholds, n: int, params: bytes) -> Intervals:
    """At the values of the parameters."""
    values, design = np.frombuffer(params), thresholds.design(n)
    ends = np.concatenate([[-FAR], design @ values, [FAR]])
    by_ends = np.zeros((len(values), n + 2))  # the ends beyond all values stay
    with np.errstate(all="ignore"):
        by_coordinates = thresholds.natural_jacobian(thresholds.coordinates(values))
    by_ends[:, 1:-1] = (design @ by_coordinates).T
    set_readonly(ends, by_ends)
    return Intervals(ends, by_ends, Width.of(np.diff(ends)))
