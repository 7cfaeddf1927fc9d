"""Strata that a model fits perfectly, whose standard deviation has no estimate."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionDesign
from mixedfx.errors import DispersionError

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Only strata of so many rows are looked at.
_FEW_ROWS = 200
# More strata than this can be said to come from a distribution.
_FEW_STRATA = 5


def refuse_degenerate_strata(design: Design, scale: DispersionDesign, *, reml: bool) -> None:
    """Refuse strata whose own standard deviation can go to zero without end."""
    codes = scale.strata()
    counts = np.bincount(codes)
    if len(counts) != len(scale.names):
        return
    for s in np.flatnonzero(counts <= _FEW_ROWS).tolist():
        rows = np.flatnonzero(codes == s)
        Z = np.column_stack([np.zeros((len(rows), 0)), *_spread(design, rows)])
        both = np.column_stack([design.X[rows], Z])
        rank = int(np.linalg.matrix_rank(both if reml else Z)) if (both if reml else Z).size else 0
        y = design.y[rows]
        rest = y - both @ np.linalg.lstsq(both, y, rcond=None)[0] if both.size else y
        if rank < len(rows) and np.abs(rest).max() <= 1e-10 * max(np.abs(design.y).max(), 1e-300):
            fail_stratum(design, scale, int(rows[0]), len(rows), "can be fitted perfectly")


def _spread(design: Design, rows: Codes) -> list[Matrix]:
    """Columns of the random effects that some rows have."""
    found = []
    for block in design.blocks:
        levels, at = np.unique(block.codes[rows], return_inverse=True)
        for j in range(block.values.shape[1]):
            column = np.zeros((len(rows), len(levels)))
            column[np.arange(len(rows)), at.ravel()] = block.values[rows, j]
            found.append(column)
    return found


def fail_stratum(
    design: Design, scale: DispersionDesign, row: int, count: int, what: str
) -> NoReturn:
    """Say that a stratum has no estimate, and what can be done."""
    rows = "1 row" if count == 1 else f"{count} rows"
    own = list(scale.read)
    many = len(np.unique(scale.strata())) > _FEW_STRATA and len(own) == 1
    group = own[0] if many else next(iter(design.formula.groups), "group")
    raise DispersionError(
        f"stratum {scale.describe(row)} ({rows}) {what}: the likelihood is highest as its "
        "residual standard deviation goes to zero, often without bound, and there is no estimate. "
        "Use fewer strata (join it with others), or let the strata share a distribution: "
        f"dispersion='~ 1 + (1 | {group})'."
    )
