"""Levels of grouping factors that are known before all rows are read, or seem to be.

They are the categories of a column, or the integers between the bounds that a source knows. Of the
latter few may be without rows, as sums are made for each. Otherwise they are taken to be those of
the first rows, where each has two of them at least: the number of unseen levels is estimated by
f1**2 / (2 f2), with f1 and f2 levels that were seen once and twice (Chao 1984, Scandinavian Journal
of Statistics 11, 265-270, equation 10). A level that comes later ends the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.evaluation import group_values
from mixedfx.design.stream.request import ColumnRequest, CompleteRows
from mixedfx.design.stream.sampling import concatenated
from mixedfx.sources.source import TEXTS, BoundedSource, DataSource

Group = tuple[str, ...]

# Integers that are counted as levels without a look at how many of them are.
_FEW = 1 << 17
# Share of the integers, of those expected in the rows seen where all are levels, that are levels.
_DENSE = 0.5
# Integers for each row seen, beyond which those rows do not tell.
_SPARSEST = 64
# Rows of each level that are seen, where all levels are taken to be among them.
_SEEN = 2


class KnownLevels(NamedTuple):
    """Levels of a grouping factor, and whether few of them are without rows, as it seems."""

    values: tuple[pd.Series, ...]  # of each factor that is combined
    are_dense: bool
    are_certain: bool = True  # no other level can come


def known_levels(
    source: DataSource,
    request: ColumnRequest,
    frames: Sequence[pd.DataFrame],
    seen: Sequence[CompleteRows] = (),
    *,
    is_all: bool = False,
) -> Mapping[Group, KnownLevels] | None:
    """
    Levels of each grouping factor, given the first rows; None where some are not known.

    The levels that were ``seen`` may be all of them, and are where these rows are all there are;
    without these rows that is not assumed.
    """
    found = {}
    for group in dict.fromkeys(term.group for term in request.formula.random):
        levels = _levels_of(source, decode(group[0]), frames) if len(group) == 1 else None
        levels = levels or _levels_seen(group, request, seen, 1 if is_all else _SEEN)
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
        return KnownLevels((pd.Series(dtype.categories),), are_dense=True)
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
    return KnownLevels((pd.Series(np.arange(low, high + 1)),), are_dense)


def _levels_seen(
    group: Group, request: ColumnRequest, seen: Sequence[CompleteRows], least: int
) -> KnownLevels | None:
    """Levels of some rows, where each has so many of these at least."""
    parts = [
        pd.DataFrame(
            {i: group_values(f, r.variables, request.env, r.n) for i, f in enumerate(group)}
        )
        for r in seen
    ]
    if not sum(map(len, parts)):
        return None
    counts = concatenated(parts).groupby(list(range(len(group))), sort=False, observed=True).size()
    if int(counts.min()) < least:
        return None
    levels = counts.index.to_frame(index=False)
    values = tuple(levels.iloc[:, i] for i in range(len(group)))
    return KnownLevels(values, are_dense=True, are_certain=False)


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
