"""Percentile, basic and normal bootstrap intervals (Davison and Hinkley 1997, chapter 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from mixedfx.errors import check_choice, name_list

Vector = npt.NDArray[np.float64]

IntervalName = Literal["percentile", "basic", "normal"]
INTERVALS: tuple[IntervalName, ...] = ("percentile", "basic", "normal")


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
