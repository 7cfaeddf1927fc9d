"""Positions of correlated residuals: what is read, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._names import decode
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.design.levels import factorize
from mixedfx.design.position_numbers import column_numbers, is_time, position_numbers
from mixedfx.errors import ArgumentError
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def position_columns(
    text: str, structure: CovarianceStructure, formula: Formula, columns: Mapping[str, Any]
) -> list[str]:
    """Names of the variables before the bar; :class:`ArgumentError` for anything else."""
    name, what = structure.name, f"residual={text!r}"
    points = structure.design == "coordinates"
    example = f"{name}({'time' if points else 'visit'} | patient)"
    _check_subject(what, structure, formula, example)
    found = [p.strip() for p in formula.random[-1].effects.removeprefix("0 + ").split(" + ")]
    bare = text.partition("(")[2].partition("|")[0].replace(" ", "")
    if found == ["1"] or "1" in bare.split("+"):
        raise ArgumentError(
            f"{what} has an intercept, and residuals have none: name what tells the rows of a "
            f"subject apart, as in '{example}'."
        )
    unknown = [decode(p) for p in map(column_of, found) if p not in columns]
    if unknown:
        raise ArgumentError(
            f"{what}: '{unknown[0]}' is no column. Positions are columns of the data: make one of "
            f"it before, and write '{example}'."
        )
    largest = structure.max_coordinates if points else 1
    if len(found) > largest:
        takes = "one variable of positions" if largest == 1 else f"at most {largest} coordinates"
        more = "; for distances in the plane write 'exp(lon + lat | site)'" if largest == 1 else ""
        raise ArgumentError(
            f"{what}: '{name}' takes {takes}, and here are {len(found)}: "
            f"{', '.join(map(decode, found))}{more}."
        )
    return found


def column_of(code: str) -> str:
    """Column of a position: of ``C(visit)`` that of the categories."""
    return code[2:-1] if is_factor(code) else code


def is_factor(code: str) -> bool:
    """Whether a position is written ``C(visit)``: its values are levels, one step apart."""
    return code.startswith("C(") and code.endswith(")") and code[2:-1].isidentifier()


def _check_subject(
    what: str, structure: CovarianceStructure, formula: Formula, example: str
) -> None:
    """Refuse all but one term, or one within a factor."""
    terms = formula.random
    if not terms:
        raise ArgumentError(
            f"{what} names no subject: write a bar and the factor whose rows are correlated, such "
            f"as '{example}'."
        )
    nested = len(terms) == 2 and terms[1].group[:1] == terms[0].group
    if len({(t.effects, t.structure) for t in terms}) > 1 or not (len(terms) == 1 or nested):
        raise ArgumentError(
            f"{what} is not one structure of one subject: write '{example}', or "
            f"'{example.replace('patient', 'arm / patient')}' for a covariance in each arm."
        )
    if any(t.structure == "diag" for t in terms):
        raise ArgumentError(
            f"{what}: '||' leaves out correlations, which '{structure.name}' is made of: "
            f"write a single bar, as in '{example}', or residual='diag(...)'."
        )


def read_positions(
    structure: CovarianceStructure, columns: Sequence[pd.Series], names: Sequence[str], text: str
) -> tuple[tuple[Any, ...], Matrix, Codes]:
    """Labels and coordinates of the positions, and the position of each row."""
    if structure.design == "coordinates":
        return _points(structure, columns, names, text)
    found, codes = factorize(columns[0])
    if structure.design == "levels":
        at = _steps(structure, found, columns[0], names[0], text)
    else:
        at = np.arange(len(found), dtype=float)
    return tuple(found), at[:, None], codes


def _points(
    structure: CovarianceStructure, columns: Sequence[pd.Series], names: Sequence[str], text: str
) -> tuple[tuple[Any, ...], Matrix, Codes]:
    """Distinct points of numbers."""
    coordinates = []
    for name, column in zip(names, columns, strict=True):
        numbers = column_numbers(column)
        if numbers is None:
            raise ArgumentError(
                f"residual={text!r}: '{structure.name}' takes distances, and '{name}' is no number "
                f"(the first is {str(column.iloc[0])!r}): make numbers of '{name}', or write "
                f"'ar1({name} | ...)' for levels in order."
            )
        coordinates.append(numbers)
        if not np.isfinite(numbers).all():
            row = column.index[int(np.argmin(np.isfinite(numbers)))]
            raise ArgumentError(
                f"residual={text!r}: '{name}' is not finite in row {row}: leave the row out, or "
                "give its position."
            )
    values = np.column_stack(coordinates)
    distinct, first, codes = np.unique(values, axis=0, return_index=True, return_inverse=True)
    if distinct.shape[1] > 1:
        labels: list[Any] = list(map(tuple, distinct.tolist()))
    else:  # dates as they are
        own = columns[0].iloc[first] if is_time(columns[0]) else distinct[:, 0].tolist()
        labels = list(own)
    return tuple(labels), distinct, codes.ravel()


def _steps(
    structure: CovarianceStructure, found: pd.Index, column: pd.Series, name: str, text: str
) -> Matrix:
    """Whole positions, as :func:`mixedfx.design.positions.build_positions` counts them, (k,)."""
    array = found.to_numpy()
    if is_time(found):
        days = position_numbers(found)
        assert days is not None
        if (days != np.rint(days)).any():
            raise ArgumentError(
                f"residual={text!r}: '{structure.name}' counts whole days, and '{name}' has times "
                f"of day, such as {str(found[int(np.argmax(days != np.rint(days)))])!r}: take the "
                f"days, data['{name}'].dt.normalize(), or write 'ou({name} | ...)' for real times."
            )
        return days
    is_category = isinstance(column.dtype, pd.CategoricalDtype)
    if is_category or array.dtype.kind not in "iuf":
        texts = [str(v) for v in found]
        # Text comes as categories that are sorted; other categories are as the user has them.
        if texts == sorted(texts) and not (is_category and column.cat.ordered):
            _check_order_of_text(structure, texts, name, text)
        return np.arange(len(array), dtype=float)
    numbers = array.astype(float)
    fractions = numbers[numbers != np.rint(numbers)]
    if len(fractions):
        raise ArgumentError(
            f"residual={text!r}: '{structure.name}' counts steps between whole positions, and "
            f"'{name}' has {fractions[0]:g}; for real times write 'ou({name} | ...)', or make "
            "ordered categories of them."
        )
    return numbers


def _check_order_of_text(
    structure: CovarianceStructure, texts: list[str], name: str, text: str
) -> None:
    """Refuse text with numbers whose alphabetical order is another: v1, v10, v2."""
    parts = [t.rstrip("0123456789") for t in texts]
    tails = [t[len(p) :] for t, p in zip(texts, parts, strict=True)]
    if len(set(parts)) > 1 or not all(tails):
        return
    numbers = [int(tail) for tail in tails]
    for i, (a, b) in enumerate(itertools.pairwise(numbers)):
        if a > b:
            raise ArgumentError(
                f"residual={text!r}: '{structure.name}' takes '{name}' in order, and its text is "
                f"sorted {texts[i]!r}, {texts[i + 1]!r}: make whole numbers of it, or an ordered "
                "pd.Categorical with its categories in order."
            )
