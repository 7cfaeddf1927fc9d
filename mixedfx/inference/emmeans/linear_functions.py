"""Linear functions of the fixed effects on a reference grid, and their estimability.

Each row of a grid gives a row of ``X`` over all columns of the formula, those dropped from the fit
included. If in the data the dropped columns are ``X_d = X_k C`` of the kept ones, a row
``(x_k, x_d)`` is estimable where ``x_d - x_k C = 0`` (Searle 1971, section 5.4). Means and
contrasts are linear combinations of such rows; each is estimable where its ``x_d - x_k C`` is
zero, so a contrast can be estimable although its means are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.design.build import fixed_matrix
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import wald
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.reference_grid import level_text

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A sum is rounding where it is below this share of its terms: sums of coefficients, and
# residuals of least squares.
_ROUNDING, _ALIASING = 1e-13, 1e-8


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

    def select(self, rows: slice) -> LinearFunctions:
        """Select some of the functions."""
        return LinearFunctions(self.rows[rows], self.non_estimable[rows], self.offset[rows])

    def combine(self, weights: Matrix) -> LinearFunctions:
        """Linear combinations of the functions, ``weights`` (s, r)."""
        size = np.abs(weights)

        def combined(values: npt.NDArray[np.float64], tolerance: float) -> Matrix:
            return _zero_rounding(weights @ values, size @ np.abs(values), tolerance)

        return LinearFunctions(
            combined(self.rows, _ROUNDING),
            combined(self.non_estimable, _ALIASING),
            combined(self.offset, _ROUNDING),
        )

    def average_cells(self, n_cells: int) -> LinearFunctions:
        """Means with equal weights of each ``n_cells`` consecutive functions."""

        def mean(values: Matrix, tolerance: float) -> Matrix:
            cells = values.reshape(len(values) // n_cells, n_cells, values.shape[1])
            return _zero_rounding(cells.mean(axis=1), np.abs(cells).mean(axis=1), tolerance)

        return LinearFunctions(
            mean(self.rows, _ROUNDING),
            mean(self.non_estimable, _ALIASING),
            self.offset[::n_cells].copy(),
        )

    def estimable_rows(self) -> Matrix:
        """Rows that span the estimable combinations of the functions."""
        if self.estimable.all():
            return self.rows
        return np.asarray(self.combine(linalg.null_space(self.non_estimable.T).T).rows)


def _zero_rounding(values: Matrix, size: Matrix, tolerance: float) -> Matrix:
    """Set sums to zero that are rounding relative to the size of their terms."""
    return np.where(np.abs(values) <= tolerance * size, 0.0, values)


def linear_functions(fit: FittedModel, grid: pd.DataFrame) -> LinearFunctions:
    """Fixed part of the linear predictor in each row of a grid; the offset is at its mean."""
    spec, rows = fit.spec, fit.rows
    # New data is evaluated in the columns kept; here the dropped ones are needed, too.
    all_columns = replace(spec, kept_columns=np.arange(len(spec.column_names)))
    X = np.asarray(evaluate_new_data(all_columns, grid, groups=())[1])
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = ", ".join(f"{name} = {level_text(grid[name].iloc[row])}" for name in grid.columns)
        raise ArgumentError(
            f"fixed column '{spec.column_names[column]}' is not finite at {where}: choose other "
            "values with at=."
        )
    X_kept = X[:, spec.kept_columns]
    dropped = np.setdiff1d(np.arange(X.shape[1]), spec.kept_columns)
    non_estimable = np.zeros((len(X), 0))
    if len(dropped):
        aliases = _aliases(rows.X, fixed_matrix(fit.design)[:, dropped])
        size = np.abs(X[:, dropped]) + np.abs(X_kept) @ np.abs(aliases)
        non_estimable = _zero_rounding(X[:, dropped] - X_kept @ aliases, size, _ALIASING)
    offset = 0.0 if rows.offset is None else float(rows.offset.mean())
    return LinearFunctions(X_kept, non_estimable, np.full(len(X), offset))


def _aliases(X_kept: Matrix, X_dropped: Matrix) -> Matrix:
    """Least-squares ``C`` of ``X_d = X_k C``, (p, d), with columns at unit root mean square."""
    size_kept = np.sqrt(np.square(X_kept).mean(axis=0))
    size_dropped = np.sqrt(np.square(X_dropped).mean(axis=0))
    size_dropped[size_dropped == 0.0] = 1.0  # a column of a cell without rows
    C = np.linalg.lstsq(X_kept / size_kept, X_dropped / size_dropped, rcond=None)[0]
    C[np.abs(C) < _ALIASING] = 0.0
    C *= size_dropped / size_kept[:, None]
    return np.asarray(C)


def estimate_functions(
    fit: FittedModel, ddf: DenominatorDf, functions: LinearFunctions, conf_level: float
) -> pd.DataFrame:
    """Estimate, t test and interval of each function; NaN for those that are not estimable."""
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
