"""Summaries of the rows that a fit's summary prints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import prediction

Vector = npt.NDArray[np.float64]


@summary_of_rows("residual quantiles")
def residual_quantiles(fit: FittedModel) -> Vector:
    """Extremes and quartiles of the residuals over their standard deviations, (5,)."""
    scaled = (fit.rows.y - prediction.fitted(fit)) / fit.solution.sigma
    if fit.rows.weights is not None:
        scaled = scaled * np.sqrt(fit.rows.weights)
    return np.asarray(np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0]))
