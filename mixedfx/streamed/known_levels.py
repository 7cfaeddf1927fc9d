"""Levels of grouping factors that are known before all rows are read.

They are the categories of a column, or the integers between the bounds that a source knows. Of the
latter few may be without rows, as sums are made for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.stream.request import ColumnRequest
from mixedfx.sources.source import BoundedSource, DataSource

Group = tuple[str, ...]

# Integers whose sums are small beside a chunk's rows, whether they are levels or not.
_FEW = 1 << 17
# Share of the integers, of those expected in the rows seen where all are levels, that are levels.
_DENSE = 0.5


def known_levels(
    source: DataSource, request: ColumnRequest, frames: Sequence[pd.DataFrame]
) -> Mapping[Group, pd.Series] | None:
    """Levels of each grouping factor, given the first rows; None where some are not known."""
    found = {}
    for group in dict.fromkeys(term.group for term in request.formula.random):
        levels = _levels_of(source, decode(group[0]), frames) if len(group) == 1 else None
        if levels is None:
            return None
        found[group] = levels
    return found


def _levels_of(source: DataSource, name: str, frames: Sequence[pd.DataFrame]) -> pd.Series | None:
    if name not in frames[0]:
        return None
    dtype = frames[0][name].dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(dtype.categories)
    if not is_integer(dtype) or not isinstance(source, BoundedSource):
        return None
    bounds = source.bounds(name)
    if bounds is None:
        return None
    low, high = bounds
    if high - low >= _FEW and not _is_dense(high - low + 1, [f[name].to_numpy() for f in frames]):
        return None
    return pd.Series(np.arange(low, high + 1))


def is_integer(dtype: Any) -> bool:
    """Whether a column has plain integers, which are never missing."""
    return isinstance(dtype, np.dtype) and dtype.kind == "i"


def _is_dense(n_integers: int, columns: Sequence[npt.NDArray[Any]]) -> bool:
    """Whether about as many of the integers occur as where each row has any of them."""
    n = sum(map(len, columns))
    expected = n_integers * -np.expm1(-n / n_integers)
    return bool(len(np.unique(np.concatenate(columns))) >= _DENSE * expected)
