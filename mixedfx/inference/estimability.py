"""What the rows of a fit do not determine, in words: the cells without data that it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import encode
from mixedfx.design.cells import Cell, cells_of_rows, empty_cells, list_cells
from mixedfx.design.columns import as_patsy_column
from mixedfx.design.new_data import evaluate_new_data
from mixedfx.design.slim import summary_of_rows
from mixedfx.design.source import as_frame
from mixedfx.estimation.fitted_model import FittedModel

Mask = npt.NDArray[np.bool_]


@summary_of_rows("cells without data")
def cells_without_data(fit: FittedModel) -> list[Cell]:
    """Combinations of factors' levels in the fixed part that no row of the fit has."""
    if fit.spec.aliases is None:
        return []
    return empty_cells(fit.spec.fixed_info, fit.rows.variables)


def needed_cells(fit: FittedModel, rows: pd.DataFrame) -> list[Cell]:
    """Cells without data that rows which are not estimable are in, or else the rows' levels."""
    names = [name for name in fit.spec.variables if name in rows]
    variables = {
        encode(name): as_patsy_column(name, rows[name].reset_index(drop=True), new_data=True)
        for name in names
    }
    return cells_of_rows(fit.spec.fixed_info, variables, cells_without_data(fit))


def not_estimable_note(fit: FittedModel, data: Any) -> str | None:
    """Say which new rows are in cells that the fit has no data for; None if there are none."""
    if fit.spec.aliases is None:
        return None
    frame = as_frame(data)
    is_nan = _nan_rows(evaluate_new_data(fit.spec, frame, groups=()).X)
    incomplete = replace(fit.spec, aliases=None)
    is_nan &= ~_nan_rows(evaluate_new_data(incomplete, frame, groups=()).X)
    if not is_nan.any():
        return None
    count = int(is_nan.sum())
    cells = list_cells(needed_cells(fit, frame.loc[is_nan]))
    return (
        f"{count} of {len(frame)} rows {'is' if count == 1 else 'are'} not estimable and NaN: the "
        f"fit has no data to tell the fixed part at {cells}. Without the interaction, or the "
        "columns that were left out, the model predicts them from its other terms."
    )


def _nan_rows(X: npt.NDArray[np.float64]) -> Mask:
    return np.asarray(np.isnan(X).any(axis=1))
