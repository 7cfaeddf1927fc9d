"""Linear functions of the fixed effects on a reference grid, and their estimability.

Each row of a grid gives a row of ``X`` over all columns of the formula, those dropped from the fit
included. If in the data the dropped columns are ``X_d = X_k C`` of the kept ones, a row
``(x_k, x_d)`` is estimable where ``x_d - x_k C = 0`` (Searle 1971, section 5.4). Means and
contrasts are linear combinations of such rows; each is estimable where its ``x_d - x_k C`` is
zero, so a contrast can be estimable although its means are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.design.estimability import ALIASING, alias_residuals, zero_rounding
from mixedfx.design.new_data import (
    evaluate_new_data,
    formula_offset,
    offset_beside_formula,
)
from mixedfx.design.slim import summary_of_rows
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import wald
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.reference_grid import level_text, offset_variables

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A sum of coefficients is rounding where it is below this share of its terms.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class LinearFunctions:
    """Linear functions ``rows @ beta + offset``, emmeans' ``linfct``."""

    rows: Matrix  # (r, p), over the columns of X
    non_estimable: Matrix  # (r, d): x_d - x_k C of each dropped column, zero where estimable
    offset: Vector  # (r,)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def estimable(self) -> npt.NDArray[np.bool_]:
        """Whether each is estimable, (r,)."""
        return np.asarray(~self.non_estimable.any(axis=1))

    def values(self, beta: Vector) -> Vector:
        """Values at coefficients, (r,)."""
        return np.asarray(self.rows @ beta + self.offset)

    def linearised(self, values: Vector, rows: Matrix, beta: Vector) -> LinearFunctions:
        """Functions with these values and gradients ``rows`` at ``beta``, linear about it."""
        return replace(self, rows=rows, offset=values - rows @ beta)

    def select(self, rows: slice | npt.NDArray[np.bool_]) -> LinearFunctions:
        """Select some of the functions."""
        return LinearFunctions(self.rows[rows], self.non_estimable[rows], self.offset[rows])

    def combine(self, weights: Matrix) -> LinearFunctions:
        """Linear combinations of the functions, ``weights`` (s, r)."""
        size = np.abs(weights)

        def combined(values: npt.NDArray[np.float64], tolerance: float) -> Matrix:
            return zero_rounding(weights @ values, size @ np.abs(values), tolerance)

        return LinearFunctions(
            combined(self.rows, _ROUNDING),
            combined(self.non_estimable, ALIASING),
            combined(self.offset, _ROUNDING),
        )

    @staticmethod
    def sum_of(parts: Sequence[LinearFunctions], weights: Matrix) -> LinearFunctions:
        """Weighted sums of the same functions in several parts, weights (parts, r)."""

        def total(values: Sequence[Matrix], tolerance: float) -> Matrix:
            w = weights if values[0].ndim == 1 else weights[:, :, None]
            terms = [one * value for one, value in zip(w, values, strict=True)]
            size = np.sum(np.abs(terms), axis=0)
            return zero_rounding(np.sum(terms, axis=0), size, tolerance)

        return LinearFunctions(
            total([part.rows for part in parts], _ROUNDING),
            total([part.non_estimable for part in parts], ALIASING),
            total([part.offset for part in parts], _ROUNDING),
        )

    def average_cells(self, weights: Matrix) -> LinearFunctions:
        """Weighted means of consecutive functions, weights (means, cells)."""
        n_cells = weights.shape[1]

        def mean(values: Matrix, tolerance: float) -> Matrix:
            cells = values.reshape(len(values) // n_cells, n_cells, values.shape[1])
            means = np.einsum("mc,mcp->mp", weights, cells)
            size = np.einsum("mc,mcp->mp", weights, np.abs(cells))
            return zero_rounding(means, size, tolerance)

        return LinearFunctions(
            mean(self.rows, _ROUNDING),
            mean(self.non_estimable, ALIASING),
            np.einsum("mc,mc->m", weights, self.offset.reshape(-1, n_cells)),
        )

    def covariance(self, ddf: DenominatorDf) -> Matrix:
        """Joint covariance of the functions, (r, r)."""
        return np.asarray(ddf.covariance.of(self.rows))

    def estimate(self, fit: FittedModel, ddf: DenominatorDf, conf_level: float) -> pd.DataFrame:
        """Estimate, t test and interval of each function; NaN for those that are not estimable."""
        return _estimate(fit, ddf, self, conf_level)

    def estimable_rows(self) -> Matrix:
        """Rows that span the estimable combinations of the functions."""
        if self.estimable.all():
            return self.rows
        return np.asarray(self.combine(linalg.null_space(self.non_estimable.T).T).rows)


def linear_functions(fit: FittedModel, grid: pd.DataFrame) -> LinearFunctions:
    """Fixed part of the linear predictor in each row of a grid, offset included."""
    spec = fit.spec
    # New data is evaluated in the columns kept; here the dropped ones are needed, too.
    all_columns = replace(spec, kept_columns=np.arange(len(spec.column_names)), aliases=None)
    X = np.asarray(evaluate_new_data(all_columns, grid, groups=())[1])
    if not np.isfinite(X).all():
        bad = np.argwhere(~np.isfinite(X))
        row, names = bad[0, 0], spec.column_names
        # All columns of a row in which a term is missing are: the term is an expression.
        of_row = [c for r, c in bad if r == row]
        column = next((c for c in of_row if "(" in names[c]), of_row[0])
        where = ", ".join(f"{name} = {level_text(grid[name].iloc[row])}" for name in grid.columns)
        raise ArgumentError(
            f"fixed column '{names[column]}' is not finite at {where}: choose other "
            "values with at=."
        )
    X_kept = X[:, spec.kept_columns]
    non_estimable = alias_residuals(X, spec.kept_columns, spec.aliases)
    return LinearFunctions(X_kept, non_estimable, grid_offset(fit, grid))


def grid_offset(fit: FittedModel, grid: pd.DataFrame) -> Vector:
    """
    Offset in each row of a grid: its mean, as emmeans has it of lme4's fits.

    Where the grid has the variables that the formula's offset alone reads it is evaluated, and what
    an argument of the fit adds is at its mean.
    """
    names = offset_variables(fit)
    if names and set(names) <= set(grid.columns):
        return formula_offset(fit.spec, grid) + mean_argument_offset(fit)
    return np.full(len(grid), mean_offset(fit))


def mean_argument_offset(fit: FittedModel) -> float:
    """Mean over the rows of an offset that is an argument of the fit, beside the formula's."""
    return _mean_beside_formula(fit) if fit.spec.offset_is_argument else 0.0


@summary_of_rows("mean offset beside the formula's")
def _mean_beside_formula(fit: FittedModel) -> float:
    rows = fit.rows
    assert rows.offset is not None
    beside = offset_beside_formula(fit.spec, rows.offset, rows.model_frame)
    return float(np.average(beside, weights=rows.counts))


@summary_of_rows("mean offset")
def mean_offset(fit: FittedModel) -> float:
    """Mean of the offset over the rows."""
    offset = fit.rows.offset
    return 0.0 if offset is None else float(np.average(offset, weights=fit.rows.counts))


@summary_of_rows("column rms")
def column_rms(fit: FittedModel) -> Vector:
    """Root mean square of each column of X, (p,)."""
    return np.asarray(np.sqrt(np.square(fit.rows.X).mean(axis=0)))


def _estimate(
    fit: FittedModel, ddf: DenominatorDf, functions: LinearFunctions, conf_level: float
) -> pd.DataFrame:
    estimable, rows = functions.estimable, functions.rows
    tested = estimable & rows.any(axis=1)
    tests = wald.t_tests(
        fit,
        ddf,
        rows[tested],
        [""] * int(tested.sum()),
        values=-functions.offset[tested],
        conf_level=conf_level,
    ).drop(columns="term")
    table = pd.DataFrame(np.nan, index=range(len(rows)), columns=tests.columns)
    table.loc[tested] = tests.to_numpy()
    # A contrast whose row is zero has the value zero, and no test.
    table.loc[estimable & ~tested, ["estimate", "std_error"]] = 0.0
    for name in ("estimate", "conf_low", "conf_high"):
        table[name] += functions.offset
    order = ["estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
    return table[order]
