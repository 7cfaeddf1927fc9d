"""Offset and weights of new rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.new_data import formula_offset, new_argument, new_trials
from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]


def new_offset(fit: FittedModel, frame: pd.DataFrame) -> Any:
    """Offset of new rows: of the formula, and of the argument."""
    of_formula = formula_offset(fit.spec, frame)
    if not fit.spec.offset_is_argument:
        return of_formula
    advice = (
        "the offset as a column's name to predict, or add it to the prediction of a fit without."
    )
    argument = new_argument("offset", fit.spec.offset_column, frame, advice=advice)
    return argument + of_formula


def new_weights(fit: FittedModel, frame: pd.DataFrame) -> Vector | None:
    """Prior weights of new rows, or numbers of trials, which the response has; None: ones."""
    if fit.spec.response.n_parts > 1:
        return new_trials(fit.spec, frame)
    if not fit.has_prior_weights:
        return None
    advice = "weights as a column's name to simulate new responses."
    return new_argument("weights", fit.spec.weights_column, frame, advice=advice)
