"""Distribution of the responses of new rows, given the linear predictor and its error.

The linear predictor is normal with the variance of its error and that of the effects of levels that
the fit does not know; the response has its family's distribution about it
(:mod:`mixedfx.residuals.predictive`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.prediction import rows_of_predictor, unknown_effects_variance
from mixedfx.inference.residual_prediction import errors_of_means, known_residuals
from mixedfx.likelihood.prediction_variance import conditional_residuals
from mixedfx.residuals.predictive import Predictive

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PredictedRows:
    """Rows whose responses are predicted."""

    eta: Vector = field(repr=False)  # (m,) linear predictor
    variance: Vector = field(repr=False)  # (m,) of its error, new effects included
    around: Predictive = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.eta, self.variance)


def predicted_rows(fit: FittedModel, data: pd.DataFrame, weights: Vector | None) -> PredictedRows:
    """New rows at their prior weights; effects of unseen levels have a mean of zero."""
    groups = (*fit.formula.groups, *fit.residual.residual_groups)
    _, eta, rows = rows_of_predictor(fit, data, groups, "population", effects=True)
    sigma2, known = fit.solution.sigma**2, known_residuals(fit, data, groups)
    if known is not None:
        eta = eta + known.weights @ conditional_residuals(fit.rows, fit.solution)
    uncertainty = fit.residual.parameter_uncertainty(fit.solution)
    errors = errors_of_means(fit, rows, known, uncertainty)
    errors = replace(errors, conditional=errors.conditional + rows.left_of_known)
    variance = sigma2 * errors.variance + unknown_effects_variance(fit, rows)
    if known is not None:
        variance = variance - sigma2 * known.explained
    around: Any = fit.residual.predictive_of_new(data, fit.solution.sigma, lambda: weights)
    if weights is not None:
        around = around.at_weights(weights)
    return PredictedRows(eta, np.asarray(variance), around)
