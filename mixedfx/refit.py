"""Refit of a model to another response, sharing the cross-products that do not contain it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.response import Observed, response_values
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ColumnTypeError, InfiniteValueError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.known_optimum import KnownOptimum
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.likelihood.accumulate import with_response
from mixedfx.likelihood.likelihood import GaussianLikelihood

_CONTROL = Control()


def refit(
    fit: FittedModel,
    y: Any,
    *,
    engine: str,
    reml: bool,
    control: Control,
    optimum: KnownOptimum | None = None,
) -> FittedModel:
    """Fit the model of a fit to another response, from its optimum where that leads to its own."""
    original = fit.original_design
    response = new_response(y, fit.spec, original.rows)
    if fit.residual.model.estimator != "engine" or fit.priors.specified:
        design = original.with_response(response.y).with_weights(response.weights)
        return fit_design(design, engine=engine, reml=reml, control=control, priors=fit.priors)
    design = fit.design.with_response(response.y)
    likelihood = GaussianLikelihood(with_response(fit.crossprod, design.rows), reml)
    return fit_response(optimum, design, likelihood, engine=engine, control=control)


def fit_response(
    optimum: KnownOptimum | None,
    design: Design,
    likelihood: GaussianLikelihood,
    *,
    engine: str = "profiled",
    control: Control = _CONTROL,
) -> FittedModel:
    """Fit a linear model to another response, from a known optimum where that leads to its own."""
    near = None if optimum is None else optimum.fit(design, likelihood)
    return near or fit_design(
        design,
        engine=engine,
        reml=likelihood.reml,
        control=control,
        crossprod=likelihood.crossprod,
    )


def optimum_for_refits(fit: FittedModel) -> KnownOptimum | None:
    """The optimum of a fit from which those of many responses are found, of large models."""
    if fit.residual.model.estimator != "engine" or fit.priors.specified:
        return None
    return KnownOptimum.of(fit.likelihood, fit.solution.factors)


def new_response(y: Any, spec: ModelSpec, rows: ModelRows) -> Observed:
    """New response on the scale of the mean, in the order of the fit's rows, and its weights."""
    if isinstance(y, pd.Series | pd.DataFrame):
        if not rows.index.isin(y.index).all() or not y.index.is_unique:
            raise ColumnTypeError(
                "the new response's index does not hold each row that the fit used, once."
            )
        y = y.loc[rows.index]
    values = _typed(y)
    if len(values) != rows.n:
        raise ColumnTypeError(
            f"the new response has shape {np.shape(y)}; the fit used {rows.n} rows, so give "
            f"{rows.n} values, or a Series with the data's index."
        )
    missing = np.asarray(pd.isna(values)).reshape(rows.n, -1).any(axis=1)
    if values.dtype.kind == "f":
        missing = missing | ~np.isfinite(values).reshape(rows.n, -1).all(axis=1)
    if missing.any():
        raise InfiniteValueError(
            f"the new response is missing or infinite in {missing.sum()} rows; refit needs every "
            "row that the fit used. Fit anew to leave rows out."
        )
    name = spec.formula.response
    return response_values(spec.response, name, values, spec.family, rows.weights, rows.index)


def _typed(y: Any) -> Any:
    """Values as an array of floats, (n,) or (n, columns), or of objects where they are levels."""
    if isinstance(y, pd.DataFrame) or np.ndim(y) != 1:
        values: Any = y
    else:
        values = pd.Series(y)
        if isinstance(values.dtype, pd.CategoricalDtype):
            return values.to_numpy(dtype=object)
    try:
        values = np.array(values, dtype=float)
    except (TypeError, ValueError):
        values = np.array(values, dtype=object)
    if values.ndim not in (1, 2):
        raise ColumnTypeError(
            f"the new response has shape {values.shape}; give a value for each row."
        )
    return values
