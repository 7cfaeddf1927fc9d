"""Strata with an unbounded likelihood.

A stratum whose rows can be interpolated by the random effects (under REML also by the fixed
effects) has residuals of zero, and the likelihood grows without bound as its residual standard
deviation goes to zero: no estimate exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.errors import DispersionError

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Larger strata are not checked: the cost is that of a least-squares fit of the stratum's rows.
_MAX_ROWS = 200
# With more strata than this the message proposes to model them as draws from a distribution.
_FEW_STRATA = 5
# A largest absolute residual below this share of the largest response is rounding.
_INTERPOLATED = 1e-10


def check_degenerate_strata(
    design: Design,
    codes: Codes,
    stratum_label: Callable[[int], str],
    variables: Sequence[str],
    *,
    reml: bool,
) -> None:
    """
    Raise for a stratum that the model can interpolate, given the strata ``codes`` of the rows.

    Interpolated are strata whose response lies in the span of their rows of ``[X Z]`` although
    the columns that are integrated out (``[X Z]`` under REML, ``Z`` under ML) have a lower rank
    than the stratum has rows.
    """
    counts = np.bincount(codes)
    response = design.rows.response_less_offset
    threshold = _INTERPOLATED * max(np.abs(response).max(), 1e-300)
    for stratum in np.flatnonzero(counts <= _MAX_ROWS).tolist():
        rows = np.flatnonzero(codes == stratum)
        Z = np.column_stack([np.zeros((len(rows), 0)), *_random_effect_columns(design.rows, rows)])
        XZ = np.column_stack([design.rows.X[rows], Z])
        integrated = XZ if reml else Z
        rank = int(np.linalg.matrix_rank(integrated)) if integrated.size else 0
        y = response[rows]
        residuals = y - XZ @ np.linalg.lstsq(XZ, y, rcond=None)[0] if XZ.size else y
        if rank < len(rows) and np.abs(residuals).max() <= threshold:
            label = stratum_label(int(rows[0]))
            what = "can be fitted perfectly"
            raise_degenerate_stratum(design, label, variables, len(counts), len(rows), what)


def _random_effect_columns(rows: ModelRows, selected: Codes) -> list[Matrix]:
    """Columns of ``Z`` that are not zero in some rows, one matrix per term and effect."""
    columns = []
    for random_term in rows.random_terms:
        levels, codes = np.unique(random_term.codes[selected], return_inverse=True)
        for j in range(random_term.model_matrix.shape[1]):
            column = np.zeros((len(selected), len(levels)))
            column[np.arange(len(selected)), codes.ravel()] = random_term.model_matrix[selected, j]
            columns.append(column)
    return columns


def raise_degenerate_stratum(
    design: Design, label: str, variables: Sequence[str], n_strata: int, n_rows: int, what: str
) -> NoReturn:
    """Raise :class:`DispersionError` for a stratum, with the alternatives."""
    rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
    many = n_strata > _FEW_STRATA and len(variables) == 1
    group = variables[0] if many else next(iter(design.spec.formula.groups), "group")
    raise DispersionError(
        f"stratum {label} ({rows}) {what}: the likelihood is highest as "
        "its residual standard deviation goes to zero, often without bound, and there is no "
        "estimate. Use fewer strata (join it with others), or let the strata share a distribution: "
        f"dispersion='~ 1 + (1 | {group})'."
    )


def vanishing(argument: str, names: Sequence[str], params: Vector) -> DispersionError:
    """Error where standard deviations go to zero by coefficients, of which it names the largest."""
    sizes = np.abs(params)
    large = sizes > 0.5 * sizes.max(initial=0.0)
    free = names[-len(params) :]  # an intercept is sigma
    listed = ", ".join(name for name, is_large in zip(free, large, strict=False) if is_large)
    return DispersionError(
        f"{argument}: residual standard deviations go to zero by {listed}: the model fits some "
        "rows ever more closely, and there is no estimate. Join a level within which the response "
        "does not vary with others, or leave the term out."
    )
