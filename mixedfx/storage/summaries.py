"""Summaries of the rows that a fit's summary prints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.residual_kinds import pearson_residuals

Vector = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@summary_of_rows("residual quantiles")
def residual_quantiles(fit: FittedModel) -> Vector:
    """Extremes and quartiles of the residuals over their standard deviations, (5,)."""
    counts, weights = fit.rows.counts, fit.rows.weights
    if counts is None or weights is None:
        return np.asarray(np.quantile(pearson_residuals(fit), _SHARES))
    # Of one of the equal rows that a row stands for.
    rows = fit.rows.replaced(weights=weights / counts)
    one = replace(fit, design=replace(fit.design, rows=rows))
    return _counted_quantiles(pearson_residuals(one), counts.astype(np.int64))


def _counted_quantiles(values: Vector, counts: Counts) -> Vector:
    """Quantiles of values that occur so often each, interpolated as those of all of them."""
    order = np.argsort(values)
    ends = np.cumsum(counts[order])
    at = _SHARES * (ends[-1] - 1)
    below, above = (
        values[order][np.searchsorted(ends, places, side="right")]
        for places in (np.floor(at), np.ceil(at))
    )
    return np.asarray(below + (at - np.floor(at)) * (above - below))
