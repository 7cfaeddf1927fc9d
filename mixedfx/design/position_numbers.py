"""Numbers of positions: of dates and times the days, of periods their place on the calendar.

Distances of days are those of the calendar; a time zone's times are read off its clock. Periods,
such as ``2024-03`` of months, are whole numbers of their unit, so that neighbours are one apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Vector = npt.NDArray[np.float64]

_DAY = np.timedelta64(1, "D")
_ORIGIN = np.datetime64("1970-01-01")


def position_numbers(values: Any) -> Vector | None:
    """Number of each of some positions; None of what has no distances, such as text."""
    index = pd.Index(values)
    if isinstance(index, pd.CategoricalIndex):
        index = pd.Index(np.asarray(index))
    if index.dtype == object and index.inferred_type in ("date", "datetime", "datetime64"):
        index = pd.DatetimeIndex(index)
    if index.dtype == object and index.inferred_type == "period":
        index = pd.PeriodIndex(index)
    if isinstance(index, pd.PeriodIndex):
        return np.asarray(index.asi8, dtype=float)
    if isinstance(index, pd.DatetimeIndex):
        return np.asarray((index.tz_localize(None).to_numpy() - _ORIGIN) / _DAY, dtype=float)
    if isinstance(index, pd.TimedeltaIndex):
        return np.asarray(index.to_numpy() / _DAY, dtype=float)
    if pd.api.types.is_numeric_dtype(index.dtype):
        return np.asarray(index.to_numpy(dtype=float))
    return None


def is_time(values: Any) -> bool:
    """Whether positions are dates, times, durations or periods."""
    index = pd.Index(values)
    return not pd.api.types.is_numeric_dtype(index.dtype) and position_numbers(index) is not None


def column_numbers(column: pd.Series) -> Vector | None:
    """Number of each row of a column of numbers or times, whose times may be categories."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return position_numbers(column)
    of_categories = position_numbers(column.cat.categories)
    if of_categories is None or not is_time(column.cat.categories):
        return None
    return of_categories[column.cat.codes.to_numpy()]
