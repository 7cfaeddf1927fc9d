"""Predictions of new rows from the residuals of their subjects, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.prediction_variance import (
    ParameterUncertainty,
    PredictionErrors,
    PredictionRows,
    prediction_errors,
    prediction_rows,
)
from mixedfx.likelihood.row_combinations import RowCombinations, combination_errors
from mixedfx.residuals.correlated_new import KnownResiduals


def known_residuals(fit: FittedModel, data: Any, groups: Sequence[str]) -> KnownResiduals | None:
    """Prediction of new rows' residuals, where it is asked for and residuals are correlated."""
    if data is None or not set(fit.residual.residual_groups) & set(groups):
        return None
    return fit.residual.known_residuals(fit.rows, data)


def errors_of_means(
    fit: FittedModel,
    rows: PredictionRows,
    known: KnownResiduals | None,
    uncertainty: ParameterUncertainty,
) -> PredictionErrors:
    """
    Errors of ``x'beta + z'b + c'e`` over sigma, e the residuals of the rows used.

    As ``e = y - X beta - Z b`` they are those of the rows ``x - X'c`` and ``z - Z'c``.
    """
    if known is None:
        return prediction_errors(fit.solution, rows, uncertainty)
    crossprod = fit.crossprod
    of_rows = RowCombinations.of_rows(crossprod, prediction_rows(fit.rows))
    new = RowCombinations.of_rows(crossprod, rows)
    return combination_errors(fit.solution, new.less(of_rows.times(known.weights)), uncertainty)
