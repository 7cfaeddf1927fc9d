"""What may be fitted: each bad response, weight, group or column has its own error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import DataError, GroupingError, InfiniteValueError, ResponseError, WeightsError
from mixedfx.formula.terms import Formula, RandomTerm

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# A fixed column whose part outside the span of those before it is smaller than this share of
# its length is dependent: the tolerance of R's lm and lme4.
RANK_TOLERANCE = 1e-7

# Precisions further apart than this leave too few digits of double precision for the lesser one.
_MOST_UNEVEN = 1e13

# Squares of numbers beyond these do not fit in double precision.
_SMALLEST, _LARGEST = 1e-145, 1e145


def checked_response(value: Any, formula: Formula, index: pd.Index) -> Vector:
    """Read the response as numbers."""
    name = formula.response
    array = np.asarray(value)
    if array.dtype.kind in "OUS" or isinstance(getattr(value, "dtype", None), pd.CategoricalDtype):
        raise ResponseError(
            f"the response '{name}' is not numeric: it holds {odd_one(array)}. Make it numbers, "
            "for example with pandas.to_numeric."
        )
    if array.ndim == 2 and array.shape[1] != 1:
        raise ResponseError(f"the response '{name}' has {array.shape[1]} columns; it must be one.")
    y = array.reshape(-1).astype(float)
    check_length(name, len(y), len(index))
    check_finite(f"the response '{name}'", y, index)
    if y.min() == y.max():
        raise ResponseError(f"the response '{name}' is {y[0]:g} in every row: nothing to explain.")
    return y


def odd_one(array: Any) -> str:
    """Show the first value that is no number."""
    values = np.asarray(array, dtype=object).ravel()
    odd = pd.to_numeric(pd.Series(values).astype(str), errors="coerce").isna().to_numpy()
    return f"{values[int(np.argmax(odd))]!s:.40}"


def check_finite(what: str, values: Vector, index: pd.Index) -> None:
    """Refuse values that are infinite, undefined, or too large or small to be squared."""
    # Of a finite sum of squares every part is finite; only odd columns need the closer look.
    with np.errstate(all="ignore"):
        squares = float(values @ values)
        if _SMALLEST**2 * len(values) < squares < _LARGEST**2:
            return
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


def check_positive(what: str, values: Vector | None, index: pd.Index) -> None:
    """Refuse weights or standard deviations that are not positive."""
    if values is None:
        return
    check_finite(what, values, index)
    if (values <= 0).any():
        at = int(np.argmax(values <= 0))
        raise WeightsError(
            f"{what} must be positive; {(values <= 0).sum()} are not, the first is "
            f"{values[at]:g} in row {index[at]}. Leave such rows out."
        )


def check_even(what: str, weights: Vector | None, index: pd.Index) -> None:
    """Refuse weights of which one drowns all others in its rounding errors."""
    if weights is None:
        return
    at, middle = int(np.argmax(weights)), float(np.median(weights))
    if weights[at] > _MOST_UNEVEN * middle:
        raise WeightsError(
            f"{what} makes row {index[at]} {weights[at] / middle:.0e} times as precise as the "
            "median row: beside it the others are lost in double precision. Give it a residual "
            "standard deviation nearer to the others', or leave it out."
        )


def check_length(name: str, length: int, n: int) -> None:
    """Refuse a term that does not give one value per row."""
    if length != n:
        raise DataError(f"term '{name}' gives {length} values, but there are {n} rows.")


def check_group(
    term: RandomTerm, levels: int, values: Matrix, n: int, *, alone: bool = False
) -> None:
    """Refuse a grouping factor whose variance the rows cannot tell."""
    name = term.group_name
    if levels < 2:
        raise GroupingError(
            f"grouping factor '{name}' has only one level; a variance between levels needs two."
        )
    if alone:
        return
    if levels >= n:
        raise GroupingError(
            f"grouping factor '{name}' has {levels} levels for {n} rows: with one row per level "
            "its variance cannot be told from the residual's, unless residual_sd= gives that, as "
            "in a meta-analysis."
        )
    if levels * values.shape[1] >= n:
        raise GroupingError(
            f"random term {term} has {levels * values.shape[1]} effects ({values.shape[1]} for "
            f"each of {levels} levels of '{name}') for {n} rows: its variances cannot be told "
            "from the residual's. Use fewer effects."
        )


def independent_columns(X: Matrix) -> Codes:
    """
    Find the columns that do not depend on those before them.

    Notes
    -----
    A column is dependent if its part outside the span of the kept ones before it is below
    ``RANK_TOLERANCE`` of its length: the limited pivoting of R's ``lm``. The cross-products
    alone decide the clear cases; only close ones cost a QR factorisation of the rows.
    """
    p = X.shape[1]
    ZtZ = X.T @ X
    lengths = np.sqrt(np.diag(ZtZ))
    if p and (lengths > 0).all():
        scaled = ZtZ / np.outer(lengths, lengths)
        if np.linalg.eigvalsh(scaled)[0] > 1e-6:
            return np.arange(p)
    lengths = np.linalg.norm(X, axis=0)
    basis = np.zeros((X.shape[0], 0))
    kept = []
    for j in range(p):
        if lengths[j] == 0.0:
            continue
        rest = X[:, j] / lengths[j]
        for _ in range(2):  # twice is enough (Kahan, in Parlett 1980)
            rest = rest - basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > RANK_TOLERANCE:
            kept.append(j)
            basis = np.column_stack([basis, rest / size])
    return np.array(kept, dtype=np.intp)
