"""Shape of the tail of importance weights.

The largest ``min(n / 5, 3 sqrt(n))`` of n weights follow, over the largest of the rest, nearly a
generalised Pareto distribution; moments of the weights exist up to the order ``1 / k`` of its
shape k (Vehtari, Simpson, Gelman, Yao and Gabry 2024, Journal of Machine Learning Research 25:72),
which is estimated as by Zhang and Stephens (2009, Technometrics 51:316).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

# Fewer excesses than this give no estimate.
_MIN_EXCESSES = 5
# Points of the profile's grid beyond the root of the number of excesses.
_GRID = 30
# The prior of the shape, one half, counts as many excesses.
_PRIOR_EXCESSES = 10


def pareto_k(log_weights: Vector) -> float:
    """Shape k of the weights' tail; NaN of too few, or of equal ones."""
    ordered = np.sort(log_weights - log_weights.max())
    n = len(ordered)
    m = math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))
    if m < _MIN_EXCESSES or n <= m:
        return math.nan
    excesses = np.exp(ordered[-m:]) - np.exp(ordered[-m - 1])
    return _generalised_pareto_shape(excesses) if excesses[0] > 0.0 else math.nan


def _generalised_pareto_shape(x: Vector) -> float:
    """Shape of sorted positive excesses: the mean of ``-k`` over the profile of ``b = k / s``."""
    n, size = len(x), _GRID + int(math.sqrt(len(x)))
    quartile = x[int(n / 4.0 + 0.5) - 1]
    grid = 1.0 / x[-1] + (1.0 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))) / (3.0 * quartile)
    shapes = np.log1p(-grid[:, None] * x).mean(axis=1)
    profile = n * (np.log(-grid / shapes) - shapes - 1.0)
    weights = np.exp(profile - profile.max())
    b = float(grid @ weights / weights.sum())
    k = float(np.log1p(-b * x).mean())
    return (n * k + 0.5 * _PRIOR_EXCESSES) / (n + _PRIOR_EXCESSES)
