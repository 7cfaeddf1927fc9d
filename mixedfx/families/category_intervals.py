"""Intervals between the thresholds of ordered categories, and what is computed from these alone."""

from __future__ import annotations

from collections.abc import Sequence
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
    sides: tuple[Matrix, Matrix]  # of the ends above the categories, and below them, (r, K) each
    width: Width  # (K,) between the ends

    def of_rows(self, k: npt.NDArray[np.intp], eta: Array) -> tuple[Array, Array, Width]:
        """Ends about the category of each row, less its predictor, and the widths between them."""
        below = k - 1
        return self.ends.take(below) - eta, self.ends.take(k) - eta, self.width.take(below)

    def by_coordinates(
        self,
        k: npt.NDArray[np.intp],
        by_high: Sequence[Array],
        by_low: Sequence[Array],
        scale: Array | float,
    ) -> list[Array]:
        """Derivatives by the coordinates, (r, ..., n), from those by the ends of each row."""
        shape = (len(self.by_ends), *(1,) * (by_high[0].ndim - 1), -1)
        high, low = (scale * self.by_ends.take(at, 1).reshape(shape) for at in (k, k - 1))
        return [high * a + low * b for a, b in zip(by_high, by_low, strict=True)]


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
    width = Width.of(ends[1:] - ends[:-1])
    sides = by_ends[:, 1:].copy(), by_ends[:, :-1].copy()
    set_readonly(ends, by_ends, *sides, *width)
    return Intervals(ends, by_ends, sides, width)
