"""A user's statistic of a fit, as named numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel

# From a fitted model to the value of the user's function.
Statistic = Callable[[FittedModel], Any]


def statistic_values(value: Any) -> pd.Series:
    """A number, a sequence, a mapping or a Series as numbers by name; an ArgumentError if none."""
    try:
        if isinstance(value, pd.Series | Mapping):
            series = pd.Series(value, dtype=float)
            return series.set_axis([str(name) for name in series.index])
        numbers = np.asarray(np.empty((0, 0)) if value is None else value, dtype=float)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim > 1:
        raise ArgumentError(
            f"statistic= returned {type(value).__name__}; it must return a number, a sequence of "
            "numbers, a Series or a dictionary of numbers."
        )
    if numbers.ndim == 0:
        return pd.Series({"statistic": float(numbers)})
    return pd.Series(numbers, index=[f"statistic[{i}]" for i in range(len(numbers))])
