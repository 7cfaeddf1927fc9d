"""Levels of grouping factors that are known before all rows are read.

They are the categories of a column, or the integers between the bounds that a source knows. Of the
latter few may be without rows, as sums are made for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.stream.request import ColumnRequest
from mixedfx.sources.source import TEXTS, BoundedSource, DataSource

Group = tuple[str, ...]

# Integers that are counted as levels without a look at how many of them are.
_FEW = 1 << 17
# Share of the integers, of those expected in the rows seen where all are levels, that are levels.
_DENSE = 0.5
# Integers for each row seen, beyond which those rows do not tell.
_SPARSEST = 64


class KnownLevels(NamedTuple):
    """Levels of a grouping factor, and whether few of them are without rows, as it seems."""

    values: pd.Series
    are_dense: bool


def known_levels(
    source: DataSource, request: ColumnRequest, frames: Sequence[pd.DataFrame]
) -> Mapping[Group, KnownLevels] | None:
    """Levels of each grouping factor, given the first rows; None where some are not known."""
    found = {}
    for group in dict.fromkeys(term.group for term in request.formula.random):
        levels = _levels_of(source, decode(group[0]), frames) if len(group) == 1 else None
        if levels is None:
            return None
        found[group] = levels
    return found


def _levels_of(source: DataSource, name: str, frames: Sequence[pd.DataFrame]) -> KnownLevels | None:
    if name not in frames[0]:
        return None
    dtype = frames[0][name].dtype
    if name in frames[0].attrs.get(TEXTS, ()):
        return None
    if isinstance(dtype, pd.CategoricalDtype):
        return KnownLevels(pd.Series(dtype.categories), are_dense=True)
    if not is_integer(dtype) or not isinstance(source, BoundedSource):
        return None
    bounds = source.bounds(name)
    if bounds is None:
        return None
    low, high = bounds
    values = [frame[name].to_numpy().astype(np.int64) for frame in frames]
    are_dense = _are_dense(low, high, np.concatenate(values))
    if high - low >= _FEW and not are_dense:
        return None
    return KnownLevels(pd.Series(np.arange(low, high + 1)), are_dense)


def is_integer(dtype: Any) -> bool:
    """Whether a column has plain integers, which are never missing."""
    return isinstance(dtype, np.dtype) and dtype.kind == "i"


def _are_dense(low: int, high: int, values: npt.NDArray[np.int64]) -> bool:
    """Whether about as many of the integers occur as where each row has any of them."""
    n, n_integers = len(values), high - low + 1
    if n_integers > _SPARSEST * n or values.min() < low or values.max() > high:
        return False
    occurs = np.zeros(n_integers, dtype=bool)
    occurs[values - low] = True
    expected = n_integers * -np.expm1(-n / n_integers)
    return bool(np.count_nonzero(occurs) >= _DENSE * expected)
