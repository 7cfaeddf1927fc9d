"""Means of a column within groups and deviations from them, learned from the rows of the fit.

``group_mean(x, g)`` is the mean of x over the rows of its group, and ``within(x, g)`` is x minus
it: the between and within parts of a predictor (Mundlak 1978, Econometrica 46, 69-85). A group that
the fit does not have gets the mean over all rows, with a warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import stateful_transform

from mixedfx._keys import positions_of_keys
from mixedfx._warnings import warn_caller
from mixedfx.design.splines import float_column, in_row_order
from mixedfx.errors import ExtrapolationWarning

Vector = npt.NDArray[np.float64]

# Sums of more chunks are added up before all are read.
_MOST_CHUNKS = 16


class _GroupMean:
    """Mean of a column in each group, learned by patsy's protocol from the rows in chunks."""

    name = "group_mean"
    learned_in_chunks = True

    def __init__(self) -> None:
        self._chunks: list[pd.DataFrame] = []

    def memorize_chunk(self, x: Any, g: Any) -> None:
        part = pd.DataFrame({"n": 1.0, "x": float_column(self.name, x), "g": _keys(g)})
        self._chunks.append(part.groupby("g", sort=False)[["n", "x"]].sum())
        if len(self._chunks) > _MOST_CHUNKS:
            self._chunks = [pd.concat(self._chunks).groupby(level=0, sort=False).sum()]

    def memorize_finish(self) -> None:
        sums = pd.concat(self._chunks).groupby(level=0, sort=False).sum()
        self._chunks = []
        self._groups, self._means = sums.index, (sums["x"] / sums["n"]).to_numpy()
        self._grand_mean = float(sums["x"].sum() / sums["n"].sum())

    def transform(self, x: Any, g: Any) -> Vector:
        keys = _keys(g)
        at = positions_of_keys(keys, self._groups)
        if (at < 0).any():
            warn_caller(
                f"{self.name}() has no mean of the group {keys[at < 0][0]!r}, which the fit does "
                f"not have: it takes that of all rows, {self._grand_mean:g}.",
                ExtrapolationWarning,
            )
        return np.where(at < 0, self._grand_mean, self._means[at])


class _Within(_GroupMean):
    """Deviation of a column from its mean in each group."""

    name = "within"

    def transform(self, x: Any, g: Any) -> Vector:
        return float_column(self.name, x) - super().transform(x, g)


def _keys(g: Any) -> pd.Index:
    keys: pd.Index = pd.Index(np.asarray(in_row_order(g)))
    return keys


group_mean = stateful_transform(_GroupMean)
within = stateful_transform(_Within)
