"""Averages of functions over the rows of a fit, all of them or within levels of variables.

Each row is at its own values, or at those that ``at`` gives to all: the average is over what was
observed, where a marginal mean is over a balanced grid. Merged rows count as often as they occur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx.design.slim import raise_without_rows
from mixedfx.design.source import as_frame
from mixedfx.errors import ArgumentError, MissingColumnError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.linear_functions import (
    LinearFunctions,
    grid_offset,
    linear_functions,
)
from mixedfx.inference.emmeans.means_formula import means_request
from mixedfx.inference.emmeans.means_grid import grid_variables
from mixedfx.inference.emmeans.reference_grid import (
    Variable,
    grid_levels,
    offset_variables,
    with_offset_variables,
)

Vector = npt.NDArray[np.float64]

# More distinct values of variables are hardly levels.
_MAX_LEVELS = 1_000
_WITHOUT = (
    "this fit has none in memory: give some of them, a random sample of all perhaps, as data=."
)


@dataclass(frozen=True)
class RowGroups:
    """Rows of a fit and the groups that they are averaged in."""

    specs: tuple[str, ...]
    by: tuple[str, ...]
    levels: pd.DataFrame  # of each group: those of ``by``, then of ``specs``
    weights: sparse.csr_matrix  # (groups, n), each row of sum one
    frame: pd.DataFrame  # the variables of the rows
    offset_beside: Vector  # what each row has as offset beside that of the variables
    fixed_at: Mapping[str, Any] = field(default_factory=dict)  # values in all rows

    def __post_init__(self) -> None:
        """Make the array read-only."""
        set_readonly(self.offset_beside)

    def functions(self, fit: FittedModel, frame: pd.DataFrame | None = None) -> LinearFunctions:
        """Fixed part of the linear predictor in each row, or with other values of variables."""
        at = linear_functions(fit, self.frame if frame is None else frame)
        return replace(at, offset=at.offset + self.offset_beside)

    def average(self, functions: LinearFunctions) -> LinearFunctions:
        """Averages within the groups."""
        W = self.weights
        return LinearFunctions(
            np.asarray(W @ functions.rows),
            np.asarray(W @ np.abs(functions.non_estimable)),
            np.asarray(W @ functions.offset),
        )


def row_groups(
    fit: FittedModel,
    by: Any,
    at: Mapping[str, Any] | None = None,
    data: Any = None,
    *,
    keep: Sequence[str] = (),
) -> RowGroups:
    """
    Groups of rows by the levels of variables, or a formula of them; one without any.

    The rows are those of the fit, or of ``data``: of these the columns that the fixed part and the
    offset read, and those to ``keep``.
    """
    variables = with_offset_variables(fit, grid_variables(fit), at)
    request = means_request(() if by is None else by, None, variables, argument="by")
    if data is None:
        if not fit.rows.in_memory:
            raise_without_rows(_WITHOUT)
        frame = fit.rows.model_frame.reset_index(drop=True)
        counts, beside = fit.rows.counts, np.zeros(len(frame))
        if fit.rows.offset is not None:
            beside = fit.rows.offset - grid_offset(fit, frame)
    else:
        given = as_frame(data)
        kept = [*keep, *(name for name in offset_variables(fit) if name in given)]
        frame = _columns(given, variables, kept).reset_index(drop=True)
        counts, beside = None, np.zeros(len(frame))
    frame = _with_values(frame, variables, at)
    # The first of several varies fastest, and those behind the bar slowest.
    order = [*reversed(request.by), *reversed(request.specs)]
    codes, levels = _numbered(frame, variables, order)
    n = np.ones(len(frame)) if counts is None else np.asarray(counts, dtype=float)
    shares = n / np.bincount(codes, n)[codes]
    rows = np.arange(len(frame))
    return RowGroups(
        specs=request.specs,
        by=request.by,
        levels=levels[[*request.by, *request.specs]],
        weights=sparse.csr_matrix((shares, (codes, rows)), shape=(len(levels), len(frame))),
        frame=frame,
        offset_beside=beside,
        fixed_at=dict(at or {}),
    )


def _columns(
    frame: pd.DataFrame, variables: Mapping[str, Variable], keep: Sequence[str]
) -> pd.DataFrame:
    """Variables of the fixed part in the data, and those to keep."""
    wanted = list(dict.fromkeys([*variables, *keep]))
    missing = [name for name in wanted if name not in frame]
    if missing:
        part = "fixed part" if missing[0] in variables else "random part"
        raise MissingColumnError(f"data has no column '{missing[0]}', which the {part} reads.")
    return frame[wanted]


def _with_values(
    frame: pd.DataFrame, variables: Mapping[str, Variable], at: Mapping[str, Any] | None
) -> pd.DataFrame:
    """Rows with the values of ``at`` in all of them."""
    levels = grid_levels(variables, at)  # refuses what is no mapping
    chosen = {name: levels[name] for name in at or {}}
    for name, values in chosen.items():
        if len(values) > 1:
            raise ArgumentError(f"at: '{name}' has {len(values)} values; rows are averaged at one.")
        frame[name] = values.iloc[np.zeros(len(frame), dtype=int)].set_axis(frame.index)
    return frame


def _numbered(
    frame: pd.DataFrame, variables: Mapping[str, Variable], order: list[str]
) -> tuple[npt.NDArray[np.intp], pd.DataFrame]:
    """Group of each row, and the levels of each group, sorted by their order on a grid."""
    if not order:
        return np.zeros(len(frame), dtype=np.intp), pd.DataFrame(index=range(1))
    positions = {}
    for name in order:
        values = np.asarray(frame[name])
        if variables[name].numeric:
            positions[name] = np.unique(values, return_inverse=True)[1]
        else:
            known = pd.Index(np.asarray(variables[name].levels))
            positions[name] = known.get_indexer(pd.Index(values))
    key = pd.DataFrame(positions)
    codes = key.groupby(order, sort=True).ngroup().to_numpy(dtype=np.intp)
    count = int(codes.max()) + 1
    if count > _MAX_LEVELS:
        raise ArgumentError(
            f"by: {', '.join(order)} has {count:,} levels in the rows, more than {_MAX_LEVELS:,}; "
            "name variables with few levels, or values of a number with at=."
        )
    first = np.unique(codes, return_index=True)[1]
    return np.asarray(codes, dtype=np.intp), frame.loc[first, order].reset_index(drop=True)
