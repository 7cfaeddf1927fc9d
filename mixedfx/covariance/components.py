"""Positions of the effects of a covariance, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Relative to a standard deviation of this many residual ones (after scaling the term's
# columns to unit root mean square), a standard deviation is called zero: lme4's isSingular.
ZERO = 1e-4
# Most points whose distances are all computed for their mean.
_MAX_POINTS = 2_000


@dataclass(frozen=True, eq=False)
class Positions:
    """
    Number of a term's effects, and their coordinates in time or space.

    Parameters
    ----------
    k : int
        Number of effects.
    coordinates : ndarray of shape (k, d), optional
        Increasing whole numbers of a structure of levels; times or points in space of one of
        coordinates; None for 0, 1, ..., k - 1.
    """

    k: int
    coordinates: Matrix | None = None

    @cached_property
    def points(self) -> Matrix:
        """The coordinates, (k, d)."""
        if self.coordinates is not None:
            return self.coordinates
        return np.arange(self.k, dtype=float)[:, None]

    def followed_by(self, points: Matrix) -> Positions:
        """These positions, and further points (m, d)."""
        return Positions(self.k + len(points), np.concatenate([self.points, points]))

    @cached_property
    def distances(self) -> Matrix:
        """Euclidean distances, (k, k): of levels, numbers of steps."""
        differences = self.points[:, None, :] - self.points[None, :, :]
        distances = np.abs(differences[:, :, 0])
        if self.points.shape[1] > 1:
            distances = np.sqrt((differences**2).sum(axis=2))
        distances.setflags(write=False)
        return distances

    @cached_property
    def mean_distance(self) -> float:
        """Mean of the positive distances; of very many points, of those of some."""
        if self.k > _MAX_POINTS:
            every = -(-self.k // _MAX_POINTS)
            points = self.points[::every]
            return Positions(len(points), points).mean_distance
        return float(self.distances.sum()) / (self.k * (self.k - 1))

    @cached_property
    def lags(self) -> Matrix:
        """The distinct positive distances, in increasing order."""
        return np.unique(self.distances[np.triu_indices(self.k, 1)])


ComponentKind = Literal["sd", "corr", "range", "rate", "smoothness"]


@dataclass(frozen=True)
class Component:
    """
    One standard deviation, correlation or range, as it is reported.

    Parameters
    ----------
    kind : {"sd", "corr", "range", "rate", "smoothness"}
        Standard deviation or correlation; distance over which a correlation falls, rate at which
        it does, and how smooth it is at zero.
    effects : tuple of int
        The effects it belongs to; empty for all of the term.
    value : float
        Relative to sigma for a standard deviation; NaN for a correlation with a zero one.
    parameter : int, optional
        Index of the structure's parameter that alone determines it, as an increasing function:
        it then has a profile likelihood.
    limits : tuple of float
        Limits of a correlation, range, rate or smoothness as its parameter goes to minus and
        plus infinity; profile intervals that have no end within end there.
    label : str, optional
        What tells it from others of its kind that belong to all of the term: ``"lag 2"``.
    """

    kind: ComponentKind
    effects: tuple[int, ...]
    value: float
    parameter: int | None = None
    limits: tuple[float, float] = (-1.0, 1.0)
    label: str = ""
