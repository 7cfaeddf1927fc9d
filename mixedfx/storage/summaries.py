"""Summaries of the rows that a fit's summary prints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.residual_kinds import pearson_residuals

Vector = npt.NDArray[np.float64]


@summary_of_rows("residual quantiles")
def residual_quantiles(fit: FittedModel) -> Vector:
    """Extremes and quartiles of the residuals over their standard deviations, (5,)."""
    return np.asarray(np.quantile(pearson_residuals(fit), [0.0, 0.25, 0.5, 0.75, 1.0]))
