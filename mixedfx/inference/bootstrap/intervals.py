"""Percentile, basic, normal and BCa bootstrap intervals (Davison and Hinkley 1997, chapter 5).

BCa limits are the quantiles of the draws at ``Phi(w + (w + z) / (1 - a (w + z)))`` with normal
quantiles z, ``w = Phi^-1`` of the share of draws below the estimate, and the acceleration
``a = sum L^3 / (6 (sum L^2)^(3/2))`` of the influences L of the levels (equations 5.20 to 5.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, ndtri

from mixedfx.errors import ArgumentError, check_choice, name_list

Vector = npt.NDArray[np.float64]

Matrix = npt.NDArray[np.float64]

IntervalName = Literal["percentile", "basic", "normal", "bca"]
INTERVALS: tuple[IntervalName, ...] = ("percentile", "basic", "normal", "bca")


def select_columns(names: list[str], parm: str | Sequence[str] | None) -> list[int]:
    """Positions of parameters by name, of all for None; a name can occur twice."""
    if parm is None:
        return list(range(len(names)))
    selected = list(dict.fromkeys(name_list("parm", parm)))
    for name in selected:
        check_choice("parm", name, names)
    return [i for name in selected for i, other in enumerate(names) if other == name]


def interval_limits(draws: pd.DataFrame, estimates: Vector, alpha: float, method: str) -> Vector:
    """Lower and upper limits, (2, parameters); missing draws are left out."""
    if method == "normal":
        bias = draws.mean().to_numpy() - estimates
        half = -ndtri(alpha / 2) * draws.std().to_numpy()
        return np.asarray(np.stack([estimates - bias - half, estimates - bias + half]))
    low, high = draws.quantile([alpha / 2, 1 - alpha / 2]).to_numpy()
    return np.stack([low, high] if method == "percentile" else 2 * estimates - [high, low])


def bca_limits(
    draws: pd.DataFrame, estimates: Vector, frequencies: pd.DataFrame | None, alpha: float
) -> Vector:
    """Lower and upper limits, (2, parameters), corrected for bias and acceleration."""
    if frequencies is None:
        raise ArgumentError("method='bca' needs resampled cases: bootstrap(kind='cases').")
    n, n_levels = frequencies.shape
    if n <= n_levels + 1:
        raise ArgumentError(
            f"method='bca' needs more draws than the {n_levels} levels that are resampled, and "
            f"there are {n}: bootstrap(n=1000, kind='cases')."
        )
    limits = np.full((2, len(estimates)), np.nan)
    for j, estimate in enumerate(estimates):
        values = draws.iloc[:, j].to_numpy(dtype=float)
        present = ~np.isnan(values)
        values, counts = values[present], frequencies.to_numpy(dtype=float)[present]
        if len(values) <= n_levels + 1 or np.ptp(values) == 0.0:
            continue
        w = ndtri(((values < estimate).mean() + (values <= estimate).mean()) / 2)
        a = _acceleration(_influences(values, counts))
        z = w + ndtri([alpha / 2, 1 - alpha / 2])
        limits[:, j] = np.quantile(values, ndtr(w + z / (1 - a * z)))
    return limits


def _influences(values: Vector, frequencies: Matrix) -> Vector:
    """Influence of each level: draws regressed on the shares of the levels (section 2.7.4)."""
    shares = frequencies / frequencies.sum(axis=1, keepdims=True)
    centred = shares - 1.0 / shares.shape[1]
    found = np.linalg.lstsq(np.column_stack([np.ones(len(values)), centred]), values, rcond=None)
    influences = found[0][1:]
    return np.asarray(influences - influences.mean())


def _acceleration(influences: Vector) -> float:
    squares = float(np.square(influences).sum())
    return float((influences**3).sum()) / (6.0 * squares**1.5) if squares > 0.0 else 0.0
