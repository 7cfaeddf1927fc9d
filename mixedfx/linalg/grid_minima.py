"""Local minima of a function on a grid, which is made finer around the lowest points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# The grid is halved in as few dimensions as these, around this many of its lowest points.
_MAX_DIMENSIONS, _MAX_POINTS = 3, 40


@dataclass(frozen=True)
class GridMinimum:
    """A point of a grid that is no higher than its neighbours."""

    value: float
    point: Vector  # (dimensions,)
    step: float  # of the grid there
    vertex: Vector  # (dimensions,) of the parabolas through it and its neighbours along the axes


def minima_on_grid(
    function: Callable[[Matrix], Vector], axis: Vector, dimensions: int, *, near: float
) -> list[GridMinimum]:
    """
    Local minima of ``function`` of many points (B, dimensions), all of one axis, equally spaced.

    A point is compared with its neighbours along the axes; in few dimensions along the diagonals
    too, and around the points that are within ``near`` of the lowest on a grid of half the step.
    """
    indices = _all_indices(len(axis), dimensions)
    values = function(axis[indices]).reshape((len(axis),) * dimensions)
    step = float(axis[1] - axis[0])
    minima = _local_minima(values, diagonals=dimensions <= _MAX_DIMENSIONS)
    lowest = float(values.min())
    if not 1 < dimensions <= _MAX_DIMENSIONS or not np.isfinite(lowest):
        return _minima(values, axis, minima, step)
    is_near = values <= min(lowest + near, _at_rank(values, _MAX_POINTS))
    fine_axis = np.empty(2 * len(axis) - 1)
    fine_axis[::2], fine_axis[1::2] = axis, 0.5 * (axis[1:] + axis[:-1])
    fine = np.full((len(fine_axis),) * dimensions, np.inf)
    around, even = np.zeros(fine.shape, dtype=bool), (slice(None, None, 2),) * dimensions
    fine[even], around[even] = values, is_near
    beside = _neighbourhood(around)
    added = np.nonzero(beside & np.isinf(fine))
    fine[added] = function(fine_axis[np.array(added).T])
    low = _local_minima(fine) & (fine <= fine.min() + near) & beside
    return [
        *_minima(fine, fine_axis, low, 0.5 * step),
        *_minima(values, axis, minima & ~is_near, step),
    ]


def _minima(values: Array, axis: Vector, minima: Mask, step: float) -> list[GridMinimum]:
    found = zip(*(at.tolist() for at in np.nonzero(minima)), strict=True)
    return [
        GridMinimum(float(values[i]), axis[list(i)], step, _vertex(values, axis, i, step))
        for i in found
    ]


def _vertex(values: Array, axis: Vector, at: tuple[int, ...], step: float) -> Vector:
    """Where the parabola along each axis is lowest, within half a step of the point."""
    vertex = axis[list(at)]
    value = float(values[at])
    for d, i in enumerate(at):
        if 0 < i < values.shape[d] - 1:
            before = float(values[(*at[:d], i - 1, *at[d + 1 :])])
            after = float(values[(*at[:d], i + 1, *at[d + 1 :])])
            curvature = before - 2.0 * value + after
            if 0.0 < curvature < np.inf:
                vertex[d] += 0.5 * step * (before - after) / curvature
    return vertex


@lru_cache(maxsize=16)
def _all_indices(points: int, dimensions: int) -> Ints:
    """Indices (points**dimensions, dimensions) of a grid."""
    indices = np.indices((points,) * dimensions).reshape(dimensions, -1).T
    indices.flags.writeable = False
    return indices


def _at_rank(values: Array, rank: int) -> float:
    """The value that so many are not above, at most."""
    flat = values.ravel()
    return float(np.partition(flat, rank - 1)[rank - 1]) if rank < flat.size else np.inf


def _local_minima(values: Array, *, diagonals: bool = True) -> Mask:
    """Whether a point is finite and no neighbour, on request diagonal ones included, is lower."""
    lowest = values
    for axis in range(values.ndim):
        before = (lowest if diagonals else values).swapaxes(0, axis)
        after = before.copy()
        np.minimum(after[1:], before[:-1], out=after[1:])
        np.minimum(after[:-1], before[1:], out=after[:-1])
        lowest = np.minimum(lowest, after.swapaxes(0, axis))
    return np.asarray(np.isfinite(values) & (values <= lowest))


def _neighbourhood(points: Mask) -> Mask:
    """The points and their neighbours, diagonal ones included."""
    return np.asarray(~_local_minima(np.where(points, 0.0, 1.0)) | points)
