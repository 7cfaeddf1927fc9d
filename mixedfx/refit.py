"""Refit of a model to another response, sharing the cross-products that do not contain it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.rows import ModelRows
from mixedfx.errors import ColumnTypeError, InfiniteValueError, ResponseError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.likelihood.accumulate import with_response

Vector = npt.NDArray[np.float64]


def refit(fit: FittedModel, y: Any, *, engine: str, reml: bool, control: Control) -> FittedModel:
    """Fit the model of a fit to another response."""
    response = _checked_response(y, fit.rows)
    if fit.residual.model.n_params or fit.priors.specified:
        design = fit.original_design.with_response(response)
        return fit_design(design, engine=engine, reml=reml, control=control, priors=fit.priors)
    design = fit.design.with_response(response)
    crossprod = with_response(fit.crossprod, design.rows)
    return fit_design(design, engine=engine, reml=reml, control=control, crossprod=crossprod)


def _checked_response(y: Any, rows: ModelRows) -> Vector:
    """New response as numbers, in the order of the fit's rows."""
    n = rows.n
    if isinstance(y, pd.Series):
        if not rows.index.isin(y.index).all() or not y.index.is_unique:
            raise ColumnTypeError(
                "the new response's index does not hold each row that the fit used, once."
            )
        y = y.loc[rows.index]
    try:
        values = np.array(y, dtype=float)
    except (TypeError, ValueError):
        raise ResponseError("the new response is not numeric.") from None
    if values.shape != (n,):
        raise ColumnTypeError(
            f"the new response has shape {values.shape}; the fit used {n} rows, so give {n} "
            "values, or a Series with the data's index."
        )
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InfiniteValueError(
            f"the new response is missing or infinite in {count} rows; refit needs every row "
            "that the fit used. Fit anew to leave rows out."
        )
    if values.min() == values.max():
        raise ResponseError(f"the new response is {values[0]:g} in every row.")
    return values
