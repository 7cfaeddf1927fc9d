"""Adapter of a fit to the package marginaleffects, by its class of models.

marginaleffects asks a model for coefficients, their covariance, data, and predictions at any
coefficients; it takes derivatives of these by differences. Predictions are the mean of the response
at random effects of zero, ``m(x'beta + offset)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.linear_functions import linear_functions
from mixedfx.inference.emmeans.means_grid import grid_variables
from mixedfx.inference.emmeans.scale import mean_function
from mixedfx.results.plot_inputs import response_name


def marginaleffects_model(fit: FittedModel, covariance: Any) -> Any:
    """Model that the functions of marginaleffects take, with a covariance of the coefficients."""
    try:
        import polars as pl
        from marginaleffects.classes import ModelAbstract, ModelVault
    except ImportError:
        message = "this needs the package marginaleffects: python -m pip install marginaleffects"
        raise ImportError(message) from None

    class Model(ModelAbstract):  # type: ignore[misc]
        """A fit of mixedfx; the last column of its design matrix is the offset."""

        def get_exog(self, newdata: Any) -> Any:
            """Columns of the fixed part, then the offset."""
            return _design(fit, newdata.to_pandas())

        def get_predict(self, params: Any, newdata: Any) -> Any:
            """Mean of the response in each row."""
            X = newdata if isinstance(newdata, np.ndarray) else self.get_exog(newdata)
            mean = mean_function(fit).mean(X[:, :-1] @ params + X[:, -1])
            rows = pl.Series(range(len(mean)), dtype=pl.Int32)
            return pl.DataFrame({"rowid": rows, "estimate": mean})

        def get_vcov(self, vcov: Any = True) -> Any:
            """The covariance, or one that is given; None without errors."""
            if vcov is False or vcov is None:
                return None
            if vcov is True:
                return np.asarray(covariance)
            raise ArgumentError("vcov= is True, False or a matrix of the coefficients kept.")

    response, _ = response_name(fit)
    frame = fit.rows.model_frame.reset_index(drop=True)
    data = frame[list(grid_variables(fit))].assign(**{response: np.asarray(fit.rows.y)})
    vault = ModelVault(
        coef=np.array(fit.solution.beta),
        coefnames=np.array(fit.spec.X_names),
        modeldata=pl.DataFrame({name: _column(pl, data[name]) for name in data}),
        package="mixedfx",
        vcov=np.asarray(covariance),
        variable_names=[response, *grid_variables(fit)],
        # A function in the place of a formula: marginaleffects would read it by other rules.
        formula=lambda data: (None, _design(fit, data.to_pandas())),
    )
    return Model(fit, vault)


def _design(fit: FittedModel, frame: pd.DataFrame) -> Any:
    """Columns of the fixed part, then the offset."""
    at = linear_functions(fit, _as_fitted(fit, frame))
    return np.column_stack([at.rows, at.offset])


def _column(pl: Any, column: pd.Series) -> Any:
    """A column of polars: what has levels is an Enum of them, in their order."""
    if isinstance(column.dtype, pd.CategoricalDtype) or column.dtype.kind not in "biuf":
        levels = column.astype("category").cat.categories
        return pl.Series(list(map(str, column)), dtype=pl.Enum(list(map(str, levels))))
    return pl.Series(column.to_numpy())


def _as_fitted(fit: FittedModel, frame: pd.DataFrame) -> pd.DataFrame:
    """Levels as the fit has them, where they became text."""
    columns = {}
    for name, variable in grid_variables(fit).items():
        column = frame[name]
        if not variable.numeric and column.dtype.kind not in "biuf":
            known = {str(level): i for i, level in enumerate(variable.levels)}
            rows = [known[str(value)] for value in column]
            column = variable.levels.iloc[rows].set_axis(frame.index)
        columns[name] = column
    return pd.DataFrame(columns)
