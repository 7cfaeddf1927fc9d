"""Refit of a model to another response, sharing the cross-products that do not contain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.response import Observed, response_values
from mixedfx.design.rows import ModelRows
from mixedfx.design.source import column_named
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import (
    ArgumentError,
    ColumnTypeError,
    InfiniteValueError,
    MissingColumnError,
    brief,
    did_you_mean,
)
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
    data: Any = None,
) -> FittedModel:
    """Fit the model of a fit to another response, from its optimum where that leads to its own."""
    original = fit.original_design
    response = new_response(_values(y, data), fit.spec, original.rows)
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


def _values(y: Any, data: Any) -> Any:
    """The values themselves, or those of the columns of the data that are named."""
    names = response_columns(y, data)
    if names is None:
        return y
    if not isinstance(data, pd.DataFrame):
        raise ArgumentError(
            f"data={brief(data)} must be a DataFrame with the column that is the new response."
        )
    found = [column_of(name, list(data.columns)) for name in names]
    return data[found[0]] if len(found) == 1 else data[found]


def response_columns(y: Any, data: Any) -> Sequence[str] | None:
    """Names of the columns of a new response, one or those of successes; None of its values."""
    if isinstance(y, str):
        return (y,)
    is_list = data is not None and isinstance(y, list | tuple)
    return list(y) if is_list and y and all(isinstance(name, str) for name in y) else None


def column_of(name: str, columns: Sequence[Any]) -> Any:
    """The column of a name; MissingColumnError where there is none."""
    found = column_named(name, pd.DataFrame(columns=list(columns)))
    if found not in columns:
        listed = ", ".join(map(str, columns))
        raise MissingColumnError(
            f"the new response '{name}' is not a column of data=, which are: {listed or 'none'}."
            f"{did_you_mean(name, list(map(str, columns)))}"
        )
    return found


def new_response(y: Any, spec: ModelSpec, rows: ModelRows) -> Observed:
    """New response on the scale of the mean, in the order of the fit's rows, and its weights."""
    if isinstance(y, pd.Series | pd.DataFrame):
        if rows.n_merged and len(y) != rows.n:
            raise ColumnTypeError(
                "equal rows were merged when the source of this fit was read, and another response "
                "tells them apart: fit.update('column ~ .', data=source) reads it again."
            )
        if not rows.index.isin(y.index).all() or not y.index.is_unique:
            raise ColumnTypeError(
                "the new response's index does not hold each row that the fit used, once."
            )
        y = y.loc[rows.index]
    values = typed_response(y)
    if len(values) != rows.n:
        raise ColumnTypeError(
            f"the new response has shape {np.shape(y)}; the fit used {rows.n} rows, so give "
            f"{rows.n} values, or a Series with the data's index."
        )
    check_complete(values)
    name = spec.formula.response
    return response_values(spec.response, name, values, spec.family, rows.weights, rows.index)


def check_complete(values: npt.NDArray[Any]) -> None:
    """Raise InfiniteValueError where a new response has no value."""
    n = len(values)
    missing = np.asarray(pd.isna(values)).reshape(n, -1).any(axis=1)
    if values.dtype.kind == "f":
        missing = missing | ~np.isfinite(values).reshape(n, -1).all(axis=1)
    if missing.any():
        raise InfiniteValueError(
            f"the new response is missing or infinite in {missing.sum()} rows; refit needs every "
            "row that the fit used. Fit anew to leave rows out."
        )


def typed_response(y: Any) -> Any:
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
