"""Validity of a response, weights, grouping factors and columns; each fault has its own error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import DataError, GroupingError, InfiniteValueError, WeightsError
from mixedfx.formula.terms import RandomTerm
from mixedfx.linalg.symmetric import eigenvalues

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# A fixed column is linearly dependent if its component orthogonal to the columns before it is
# shorter than this fraction of its length about its mean: the tolerance of R's lm and lme4.
RANK_TOLERANCE = 1e-7
# And where that component is rounding, relative to the length of the column.
_ROUNDING = 1e-13

# Weights whose ratio exceeds this leave too few digits of double precision for the smaller one.
_LARGEST_WEIGHT_RATIO = 1e13

# Squares of numbers outside this range underflow or overflow in double precision.
_SMALLEST, _LARGEST = 1e-145, 1e145

# Largest number whose exponential is finite.
_LARGEST_EXPONENT = float(np.log(np.finfo(float).max))


def first_non_numeric(array: Any) -> str:
    """Text of the first value that is not a number."""
    values = np.asarray(array, dtype=object).ravel()
    non_numeric = pd.to_numeric(pd.Series(values).astype(str), errors="coerce").isna().to_numpy()
    return f"{values[int(np.argmax(non_numeric))]!s:.40}"


def check_finite(what: str, values: Vector, index: pd.Index) -> None:
    """Raise for values that are infinite, undefined, or too large or small to be squared."""
    # A sum of squares within the range implies that every value is: one pass for most columns.
    if _SMALLEST**2 * len(values) < float(np.vdot(values, values)) < _LARGEST**2:
        return
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~np.isfinite(values))
        size = float(np.abs(values).max(initial=0.0))
    if not len(bad) and (size >= _LARGEST or 0.0 < size <= _SMALLEST):
        raise DataError(
            f"{what} has values of about {size:.0e}, whose squares leave double precision: "
            "change its unit."
        )
    if len(bad):
        raise InfiniteValueError(
            f"{what} is {values[bad[0]]} in {len(bad)} rows, first in row {index[bad[0]]}; "
            "correct these values, or make them missing to leave the rows out."
        )


def are_finite(columns: Matrix) -> bool:
    """Whether sums of squares show that each column has finite values of a usual size, not zero."""
    return are_usual(np.einsum("nk,nk->k", columns, columns), len(columns))


def are_usual(squares: Vector, n: int) -> bool:
    """The same, given those sums of n squares."""
    return all(_SMALLEST**2 * n < square < _LARGEST**2 for square in squares.tolist())


def check_positive(what: str, values: Vector | None, index: pd.Index) -> None:
    """Raise for weights or standard deviations that are not positive."""
    if values is None:
        return
    check_finite(what, values, index)
    if (values <= 0).any():
        at = int(np.argmax(values <= 0))
        raise WeightsError(
            f"{what} must be positive; {(values <= 0).sum()} are not, the first is "
            f"{values[at]:g} in row {index[at]}. Leave such rows out."
        )


def check_weight_range(what: str, weights: Vector | None, index: pd.Index) -> None:
    """Raise for a weight next to which the others are lost in rounding errors."""
    if weights is None:
        return
    at, middle = int(np.argmax(weights)), float(np.median(weights))
    if weights[at] > _LARGEST_WEIGHT_RATIO * middle:
        raise WeightsError(
            f"{what} makes row {index[at]} {weights[at] / middle:.0e} times as precise as the "
            "median row: beside it the others are lost in double precision. Give it a residual "
            "standard deviation nearer to the others', or leave it out."
        )


def check_offset_range(offset: Vector, mean: Callable[[Vector], Vector], index: pd.Index) -> None:
    """Raise for an offset beyond which the mean, as a function of it, leaves double precision."""
    size = np.abs(offset)
    if size.max(initial=0.0) <= _LARGEST_EXPONENT:
        return
    with np.errstate(all="ignore"):
        at_offset, further = mean(size), mean(2.0 * size)
    overflows = (size > _LARGEST_EXPONENT) & (~np.isfinite(at_offset) | (at_offset == further))
    if overflows.any():
        at = int(np.argmax(overflows))
        raise DataError(
            f"offset is {offset[at]:g} in row {index[at]}, where the mean leaves double precision "
            f"({overflows.sum()} rows). The offset is on the scale of the linear predictor: of an "
            "exposure it is the logarithm, such as offset(log(time))."
        )


def check_length(name: str, length: int, n: int) -> None:
    """Raise for a term that does not give one value a row."""
    if length != n:
        raise DataError(f"term '{name}' gives {length} values, but there are {n} rows.")


def check_grouping_factor(
    term: RandomTerm, levels: int, n: int, *, one_row_levels: bool = False
) -> None:
    """
    Raise for a grouping factor with a single level, or with one row per level.

    Rows may have a level each where they have no residual variance that is estimated.
    What else is not identified is told by :mod:`mixedfx.likelihood.identifiability`.
    """
    name = term.group_name
    if levels < 2:
        raise GroupingError(
            f"grouping factor '{name}' has only one level; a variance between levels needs two."
        )
    if levels >= n and not one_row_levels:
        raise GroupingError(
            f"grouping factor '{name}' has {levels} levels for {n} rows: with one row per level "
            "its variance cannot be told from the residual's, unless residual_sd= gives that, as "
            "in a meta-analysis."
        )


def independent_columns(
    X: Matrix, indicators: Mask | None = None, *, products: Matrix | None = None
) -> Codes:
    """
    Indices of the columns that are linearly independent of those before them.

    The limited pivoting of R's ``lm``, with ``RANK_TOLERANCE`` of the length that is left of a
    column when the indicators before it are taken out: about its mean where there is an intercept,
    and about those of cells in an interaction. A column far from zero depends on no other one.
    Indicators are columns of -1, 0 and 1, unless they are told. Where the smallest eigenvalue of
    the scaled cross-products (``products`` are X'X) rules dependence out, the rows are not
    orthogonalised.
    """
    p = X.shape[1]
    XtX = X.T @ X if products is None else products
    lengths = np.sqrt(XtX.diagonal())
    if min(lengths.tolist(), default=1.0) > 0.0:
        correlations = XtX / (lengths[:, None] * lengths)
        if p < 2 or eigenvalues(correlations)[0] > 1e-6:
            return np.arange(p)
    is_indicator = ((X == 0.0) | (np.abs(X) == 1.0)).all(axis=0)
    if indicators is not None:
        is_indicator = indicators
    lengths = np.linalg.norm(X, axis=0)
    R = np.asarray(np.linalg.qr(X / np.where(lengths > 0.0, lengths, 1.0), mode="r"))
    Q = Q_indicators = np.zeros((len(R), 0))
    independent = []
    for j in range(p):
        if lengths[j] == 0.0:
            continue
        within, residual = _less_projection(R[:, j], Q_indicators), _less_projection(R[:, j], Q)
        length, norm = float(np.linalg.norm(within)), float(np.linalg.norm(residual))
        if norm > max(RANK_TOLERANCE * length, _ROUNDING):
            independent.append(j)
            Q = np.column_stack([Q, residual / norm])
            if is_indicator[j]:
                Q_indicators = np.column_stack([Q_indicators, within / length])
    return np.array(independent, dtype=np.intp)


def _less_projection(column: Vector, Q: Matrix) -> Vector:
    """Component of a column orthogonal to those of Q."""
    for _ in range(2):  # reorthogonalise: twice is enough (Kahan, in Parlett 1980)
        column = column - Q @ (Q.T @ column)
    return column
