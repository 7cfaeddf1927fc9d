"""Columns less a number and over another, which are learned from the rows of the fit.

``scale(x)`` is R's: less the mean, over the standard deviation of n - 1 degrees of freedom.
``standardize(x)`` is patsy's, whose standard deviation has n; here it is learned at once, not
row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from patsy import stateful_transform

from mixedfx.design.splines import in_row_order

Array = npt.NDArray[np.float64]
Amount = bool | float


class _Moments:
    """Number, mean and sum of squares about the mean of each column, added up over chunks."""

    learned_in_chunks = True

    def __init__(self) -> None:
        self._n = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def _add(self, x: Any) -> None:
        """Add the rows of a chunk (Chan, Golub and LeVeque 1983, Am. Stat. 37, 242-247)."""
        values = _float_columns(x)
        n = len(values)
        if not n:
            return
        mean = values.mean(axis=0)
        change, total = mean - self._mean, self._n + n
        within = ((values - mean) ** 2).sum(axis=0)
        self._squares = self._squares + within + change**2 * (self._n * n / total)
        self._mean = self._mean + change * (n / total)
        self._n = total

    def memorize_finish(self) -> None:
        """Nothing is left to do."""


class _Scale(_Moments):
    """R's ``scale``: ``center`` and ``scale`` are whether to learn a number, or the number."""

    def memorize_chunk(
        self, x: Any, center: Amount = True, scale: Amount = True, **patsy_names: Amount
    ) -> None:
        _in_r(scale, patsy_names)
        self._add(x)

    def transform(
        self, x: Any, center: Amount = True, scale: Amount = True, **patsy_names: Amount
    ) -> Array:
        scale, ddof = _in_r(scale, patsy_names)
        about = self._mean if center is True else 0.0 if center is False else float(center)
        values = _float_columns(x) - about
        if scale is not True:
            return values if scale is False else values / float(scale)
        squares = self._squares + self._n * (self._mean - about) ** 2
        return np.asarray(values / np.sqrt(squares / max(self._n - ddof, 1)))


class _Standardize(_Moments):
    """patsy's ``standardize``."""

    def memorize_chunk(
        self, x: Any, center: bool = True, rescale: bool = True, ddof: int = 0
    ) -> None:
        self._add(x)

    def transform(self, x: Any, center: bool = True, rescale: bool = True, ddof: int = 0) -> Array:
        values = _float_columns(x) - (self._mean if center else 0.0)
        return values / np.sqrt(self._squares / max(self._n - ddof, 1)) if rescale else values


def _in_r(scale: Amount, patsy_names: dict[str, Amount]) -> tuple[Amount, float]:
    """``scale`` and degrees of freedom that are taken off, of arguments by patsy's names."""
    unknown = patsy_names.keys() - {"rescale", "ddof"}
    if unknown:
        raise TypeError(
            f"scale() has no argument '{min(unknown)}'; it has center, scale, and patsy's rescale "
            "and ddof"
        )
    return patsy_names.get("rescale", scale), float(patsy_names.get("ddof", 1))


def _float_columns(x: Any) -> Array:
    """Columns as floats, in the order of the rows."""
    try:
        return np.asarray(in_row_order(x), dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            "a column that is scaled holds numbers, and this one is non-numeric"
        ) from None


scale = stateful_transform(_Scale)
standardize = stateful_transform(_Standardize)
