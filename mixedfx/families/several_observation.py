"""An observation with several linear predictors, at a typical predictor of the conditional part.

The others are those of the rows: with the mean ``m_i`` of the response at the typical predictor
eta and its variance ``V_i``, both with the zero part and at the dispersion of row i,

    V = mean V_i,      M = mean m_i,      dM / d eta = mean d m_i / d eta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixedfx._cached import cached_property
from mixedfx.families.derivatives import Array
from mixedfx.families.family import Vector
from mixedfx.families.links import Link
from mixedfx.families.several_predictors import SeveralPredictors


@dataclass(frozen=True)
class ObservationOfSeveral:
    """An observation of a density by all predictors; see :mod:`~.observation_variance`."""

    density: SeveralPredictors
    typical_mean: Callable[[], float]  # of the family, which gives the typical predictor
    others: Array  # (m - 1, n) of the rows
    params: Vector
    counts: Vector | None  # (n,) rows of the data that each row stands for

    @property
    def link(self) -> Link:
        """Of the family's mean."""
        return self.density.link

    @cached_property
    def _etas(self) -> Array:
        """All predictors, (m, n)."""
        eta = float(self.link.link(np.array([self.typical_mean()]))[0])
        return np.array([np.full(self.others.shape[1], eta), *self.others])

    @property
    def delta(self) -> float:
        """By the slope of the mean of the response."""
        variance = self.density.variance(self._etas, None, self.params)
        slope = self.density.mean_slopes(self._etas, self.params)[0]
        return float(self._average(variance) / self._average(slope) ** 2)

    @property
    def squared_variation(self) -> float:
        """By the slope, which is the mean for a log link without truncation."""
        return self.delta

    def _average(self, values: Array) -> float:
        return float(np.average(values, weights=self.counts))
