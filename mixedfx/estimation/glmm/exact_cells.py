"""Cells of a dispersion formula whose rows the mean explains exactly: no dispersion is estimated.

There the density rises without end as the dispersion of the cell goes to its end. The search ends
on the way, or cannot start, so that the reason is looked for in the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design

Matrix = npt.NDArray[np.float64]

# Residuals below this share of the largest response are rounding.
_EXACT = 1e-10
_MOST_NAMED = 3

ADVICE = "join its level with another in dispersion=, or leave the term out"


def exact_cells(designs: Mapping[str, Design]) -> tuple[str, ...]:
    """Statements of cells, by the formula's 0/1 columns; ``designs`` are by argument."""
    if "dispersion" not in designs:
        return ()
    mean, dispersion = designs["formula"], designs["dispersion"]
    parameter = mean.spec.family.dispersion_param
    X, names = dispersion.rows.X, dispersion.spec.X_names
    indicator = np.logical_and.reduce(np.isin(X, (0.0, 1.0)), axis=0)
    cells, cell_of_row = np.unique(X[:, indicator], axis=0, return_inverse=True)
    of_cells = [name for name, is_indicator in zip(names, indicator, strict=True) if is_indicator]
    if not of_cells:
        return ()
    y = mean.rows.response_less_offset
    found = []
    for number, cell in enumerate(cells):
        rows = np.flatnonzero(cell_of_row.ravel() == number)
        if _is_exact(mean.rows.X[rows], y[rows]):
            found.append(
                f"the mean explains all {len(rows):,} rows exactly {_where(cell, of_cells)}, so "
                f"that {parameter} has no estimate there: {ADVICE}"
            )
    return tuple(found[:_MOST_NAMED])


def _is_exact(X: Matrix, y: Matrix) -> bool:
    """Whether columns explain rows, and are fewer than these."""
    coefficients, _, rank, _ = np.linalg.lstsq(X, y, rcond=None)
    largest = float(np.abs(y).max(initial=0.0))
    left = float(np.abs(y - X @ coefficients).max())
    return bool(rank < len(y)) and left <= _EXACT * largest


def _where(cell: Matrix, names: list[str]) -> str:
    """Words for a cell: its columns that are one, or that all are zero."""
    ones = [name for name, value in zip(names, cell, strict=True) if value and name != "Intercept"]
    others = [name for name in names if name != "Intercept"]
    if ones:
        return f"where {' and '.join(ones)} of dispersion= {'is' if len(ones) == 1 else 'are'} 1"
    return f"where {' and '.join(others)} of dispersion= {'is' if len(others) == 1 else 'are'} 0"
