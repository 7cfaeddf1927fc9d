"""False discovery rates of several tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def false_discovery_rates(p_values: Vector) -> Vector:
    """
    Benjamini and Hochberg's adjusted p-values; NaN where there is none.

    References
    ----------
    .. [1] Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57:289.
    """
    out = np.full(len(p_values), np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known])[::-1]]
    ranks = np.arange(len(order), 0, -1)
    # A ratio of one is exact: no value falls below its own p-value by rounding.
    adjusted = p_values[order] * (len(order) / ranks)
    out[order] = np.minimum.accumulate(np.minimum(adjusted, 1.0))
    return out
