"""Effects at positions: an effect for each level of one variable, or for each point of coordinates.

A structure of levels, ``ar1(visit | g)``, counts whole numbers as they are, so that a gap is a gap;
dates of whole days are numbers of days. Other levels are counted 0, 1, ...: text in sorted order,
categories in theirs. A structure of coordinates, ``exp(lon + lat | g)``, takes numbers, and equal
points are one effect. A row's column is one at its position, and zero elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx._names import decode
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.checks import check_finite
from mixedfx.design.evaluation import position_values
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.design.position_numbers import column_numbers, is_time, position_numbers
from mixedfx.errors import DataError, SizeError
from mixedfx.formula.positions import position_codes
from mixedfx.formula.terms import RandomTerm
from mixedfx.linalg.available_memory import check_memory

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Arrays of (positions, positions, levels) at the peak of a fit.
_COPIES = 6
# Numbers of these matrices from which a fit takes more than some minutes, where positions are of
# many levels: times that no levels share.
_MOST_NUMBERS = 4e8


@dataclass(frozen=True)
class EffectPositions:
    """The distinct positions of a term's effects."""

    levels: Levels  # the values of each variable, combined
    coordinates: Matrix  # (k, d)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.coordinates)

    def indicators(self, codes: Codes) -> Matrix:
        """One in the column of each row's position, all zeros where it is unknown, (n, k)."""
        matrix = np.zeros((len(codes), len(self.levels)), order="F")
        known = np.flatnonzero(codes >= 0)
        matrix[known, codes[known]] = 1.0
        return matrix


def build_positions(
    term: RandomTerm, variables: Mapping[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[EffectPositions, Codes]:
    """Positions of a term's effects, and that of each row."""
    codes = position_codes(term.effects)
    structure = STRUCTURES[term.structure]
    values = [position_values(code, variables, env, len(index)) for code in codes]
    if structure.design == "levels":
        found, of_rows = factorize(values[0])
        levels, of_rows = combine([(found, of_rows)])
        is_category = isinstance(values[0].dtype, pd.CategoricalDtype)
        coordinates = _whole_positions(term, found, is_category)[:, None]
    else:
        factors = []
        for code, column in zip(codes, values, strict=True):
            what = f"coordinate '{decode(code)}' of {term}"
            numbers = column_numbers(column)
            if numbers is None:
                raise DataError(
                    f"{what} is no number, of which '{term.structure}' takes distances; for levels "
                    "in order there are ar1() and toep()."
                )
            check_finite(what, numbers, index)
            is_date = isinstance(column.dtype, pd.CategoricalDtype)
            factors.append(factorize(column if is_date else pd.Series(numbers)))
        levels, of_rows = combine(factors)
        points = zip(levels.factor_values, levels.value_positions, strict=True)
        coordinates = np.column_stack([_numbers(values)[at] for values, at in points])
    if len(levels) < 2:
        raise DataError(
            f"{term} has a single position, '{_names(term, levels)[0]}', and so no correlation; "
            f"write '(1 | {decode(':'.join(term.group))})'."
        )
    return EffectPositions(levels, coordinates), of_rows


def _whole_positions(term: RandomTerm, values: pd.Index, is_category: bool) -> Matrix:
    """Positions of the sorted levels of one variable, (k,)."""
    if is_time(values):
        return _whole_days(term, values)
    array = values.to_numpy()
    if is_category or array.dtype.kind not in "iufb":
        return np.arange(len(array), dtype=float)
    numbers = array.astype(float)
    fractions = numbers[numbers != np.rint(numbers)]
    if len(fractions):
        name = decode(position_codes(term.effects)[0])
        raise DataError(
            f"the positions '{name}' of {term} are not whole numbers, the first is "
            f"{fractions[0]:g}: {term.structure}() counts steps. Write "
            f"'ou({name} | {decode(':'.join(term.group))})' for a correlation that falls with the "
            "time between, or make ordered categories of them."
        )
    return numbers


def _numbers(values: pd.Index) -> Matrix:
    """Numbers of values that have them."""
    numbers = position_numbers(values)
    assert numbers is not None
    return numbers


def _whole_days(term: RandomTerm, values: pd.Index) -> Matrix:
    """Days of dates, or places of periods; refuses times of day."""
    days = _numbers(values)
    within = days != np.rint(days)
    if within.any():
        name, group = decode(position_codes(term.effects)[0]), decode(":".join(term.group))
        raise DataError(
            f"the positions '{name}' of {term} have times of day, such as "
            f"{str(values[int(np.argmax(within))])!r}, and {term.structure}() counts whole days: "
            f"take the days, data['{name}'].dt.normalize(), or write 'ou({name} | {group})'."
        )
    return days


def position_names(term: RandomTerm, positions: EffectPositions) -> tuple[str, ...]:
    """Names of the effects, ``visit[3]`` or ``lon[1.5]:lat[2]``."""
    return _names(term, positions.levels)


def _names(term: RandomTerm, levels: Levels) -> tuple[str, ...]:
    codes = [decode(code) for code in position_codes(term.effects)]
    columns = [
        [f"{name}[{_text(value)}]" for value in values[at]]
        for name, values, at in zip(
            codes, levels.factor_values, levels.value_positions, strict=True
        )
    ]
    return tuple(":".join(parts) for parts in zip(*columns, strict=True))


def _text(value: Any) -> str:
    """Text of a value: numbers in short, dates without midnight."""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, pd.Timestamp) and value == value.normalize():
        return str(value.date())
    return str(value)


def encode_positions(
    term: RandomTerm,
    positions: EffectPositions,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    n: int,
) -> Codes:
    """Position of each of n rows, -1 where it is not one of the fit."""
    values = [position_values(code, variables, env, n) for code in position_codes(term.effects)]
    return positions.levels.encode(values)


def new_points(
    term: RandomTerm,
    positions: EffectPositions,
    variables: Mapping[str, Any],
    env: EvalEnvironment,
    n: int,
) -> Matrix:
    """Coordinates of n rows, (n, d); NaN where a value is none of the structure's kind."""
    values = [position_values(code, variables, env, n) for code in position_codes(term.effects)]
    if STRUCTURES[term.structure].design == "coordinates":
        return np.column_stack([_new_numbers(column) for column in values])
    known, [column] = positions.levels.factor_values[0], values
    is_plain = known.dtype.kind in "iuf" and not isinstance(column.dtype, pd.CategoricalDtype)
    points = _new_numbers(column) if is_plain or is_time(known) else np.full(n, np.nan)
    return np.asarray(np.where(points == np.rint(points), points, np.nan)[:, None])


def _new_numbers(column: pd.Series) -> Any:
    """Values as numbers, of times the days, NaN where they are none."""
    numbers = column_numbers(column)
    if numbers is None:
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    return numbers


def check_size_of_positions(term: RandomTerm, k: int, levels: int) -> None:
    """Refuse more positions than memory or minutes suffice for, with a matrix for each level."""
    what = f"{term} has {k:,} positions, and for each of {levels:,} levels a matrix of that size"
    advice = (
        "Round the positions, so that fewer are distinct, or give each level a part of the "
        "rows; a correlation of residuals, residual=, has no such matrix."
    )
    check_memory(what, 8.0 * k**2 * levels, copies=_COPIES, advice=advice)
    if levels > 1 and float(k) ** 2 * levels > _MOST_NUMBERS:
        raise SizeError(f"{what}: a fit takes many minutes. {advice}")


def unknown_positions(term: RandomTerm, rows: pd.DataFrame) -> Sequence[str]:
    """Text of the positions of some rows, for messages."""
    codes = position_codes(term.effects)
    if not all(code in rows.columns for code in codes):
        return [f"row {i}" for i in rows.index[:5]]
    labels = rows[list(codes)].astype(str).agg(", ".join, axis=1).unique()
    return [str(label) for label in labels]
