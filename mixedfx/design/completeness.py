"""Complete cases: rows without a missing value in any variable that a formula uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.columns import as_patsy_column
from mixedfx.errors import EmptyDataError

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def complete_cases(
    variables: Mapping[str, pd.Series], row_vectors: Mapping[str, Vector | None]
) -> Mask | None:
    """Mark the complete rows; None if all are, an error if none is."""
    missing = {name: _is_missing(column) for name, column in variables.items()}
    missing |= {name: np.isnan(v) for name, v in row_vectors.items() if v is not None}
    if not any(m.any() for m in missing.values()):
        return None
    complete = ~np.logical_or.reduce(list(missing.values()))
    if not complete.any():
        counts = ", ".join(f"{name} ({m.sum()})" for name, m in missing.items() if m.any())
        raise EmptyDataError(
            f"no row is complete: of {len(complete)} rows, missing values are in {counts}."
        )
    return np.asarray(complete)


def select_complete_cases(
    variables: Mapping[str, pd.Series], n: int
) -> tuple[dict[str, pd.Series], Codes]:
    """Variables of the complete ones of n new rows, typed for patsy, and the rows' positions."""
    if not variables:
        return {}, np.arange(n)
    complete = ~np.logical_or.reduce([_is_missing(c) for c in variables.values()])
    columns = {
        name: as_patsy_column(name, column[complete], new_data=True)
        for name, column in variables.items()
    }
    return columns, np.flatnonzero(complete)


def _is_missing(column: pd.Series) -> Mask:
    return np.asarray(column.isna(), dtype=bool)
