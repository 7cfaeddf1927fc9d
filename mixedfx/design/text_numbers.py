"""Columns of text that reads as numbers, which as factors would have a level for every value.

Where such a column stands by itself in the response, the fixed part or the effects of a random
term, it is refused if

- it holds numbers beside text, mostly numbers;
- or some of its text does not read as a number, at most a fifth of the rows, and the rest has a
  decimal fraction, more than 12 values, or at least four, if all that does not read is a mark of
  missing values or a misspelt number (``"n/a"``, ``"-"``, ``"1,5"``), or stands in one row each
  while there are five rows a value;
- or all of it reads as numbers, and has a decimal fraction, or more than 20 values with fewer than
  five rows each.

Other text of digits, such as the codes "1", "2", "3", is a factor, as are ``C(x)``, categoricals,
and grouping factors of any text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._names import decode, written
from mixedfx.design.columns import factor_codes
from mixedfx.design.variables import TableColumn
from mixedfx.errors import ColumnTypeError, ResponseError
from mixedfx.formula.expansion import names_in
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

_LARGEST_STRAY_SHARE = 0.2
_MANY_VALUES_WITH_STRAYS, _FEW_VALUES = 12, 4
_MANY_VALUES, _ROWS_PER_VALUE = 20, 5

# Marks of missing values, and numbers with a comma, a unit, a sign of currency or an inequality.
_MISSING = {"", "-", "--", "---", ".", "..", "?", "n/a", "na", "#n/a", "n.a.", "nan", "null", "nil"}
_MISSING |= {"none", "missing", "unknown", "#value!", "#div/0!", "#ref!", "inf", "-inf"}
_MISSPELT = re.compile(r"[<>~≈=$€£]*\s*[-+]?\d[\d.,' ]*\s*([%$€£]|[a-zA-Zµ°/²³]{1,5})?")


@dataclass(frozen=True)
class _Text:
    """Values of a column that are not missing, and which of them read as numbers."""

    column: pd.Series
    values: pd.Series  # distinct values
    counts: np.ndarray[Any, np.dtype[np.intp]]  # rows of each
    numbers: pd.Series  # NaN where a value does not read as one

    @property
    def share_of_strays(self) -> float:
        """Share of the rows whose text does not read as a number."""
        return float(self.counts[self.numbers.isna()].sum() / self.counts.sum())

    @property
    def n_numbers(self) -> int:
        """Distinct numbers."""
        return int(self.numbers.nunique())

    @property
    def has_fractions(self) -> bool:
        """Whether a number is no integer."""
        read = self.numbers.dropna()
        return bool((read != np.rint(read)).any())

    @property
    def holds_numbers(self) -> bool:
        """Whether some values are numbers, not text, and those are at least half of the rows."""
        kinds = np.array([isinstance(v, int | float | np.number) for v in self.values])
        return bool(kinds.any() and self.counts[kinds].sum() >= 0.5 * self.counts.sum())


@lru_cache(maxsize=256)
def _covariates(formula: Formula) -> tuple[str, ...]:
    """Code of the response, of the fixed part and of the effects of random terms."""
    terms = tuple(replace(t, group=()) for t in formula.random)
    return tuple(sorted(code for code, _ in factor_codes(replace(formula, random=terms))))


def check_text_numbers(
    formula: Formula,
    columns: Mapping[str, pd.Series],
    read: Mapping[str, TableColumn],
    index: pd.Index,
    *,
    two_levels: bool = False,
) -> None:
    """
    Refuse text that is meant as numbers, naming its column, a value and the row of that.

    With ``two_levels`` the response may be any text of two values.
    """
    response = response_code(formula.response).parts
    for name in _covariates(formula):
        if name not in columns or not read[name].may_read_as_numbers():
            continue
        text = _text_of(columns[name])
        if text is not None and not (two_levels and name in response and len(text.values) == 2):
            _check(name, text, index, is_response=name in response)


def _text_of(column: pd.Series) -> _Text | None:
    """Text of a column that is neither numeric nor categorical, if any of it reads as one."""
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        return None
    if not str(dtype).startswith(("object", "str", "large_string")):
        return None
    try:
        codes, values = pd.factorize(column.to_numpy(dtype=object))
    except TypeError:  # unhashable objects have their own error
        return None
    kinds = {type(v) for v in values}
    if str not in kinds or not kinds <= {str, int, float} | set(np.sctypeDict.values()):
        return None
    texts = np.array([str(value).strip() for value in values], dtype=object)
    numbers = np.asarray(pd.to_numeric(texts, errors="coerce"), dtype=float)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if np.isnan(numbers).all():
        return None
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    return _Text(column, pd.Series(values, dtype=object), counts, pd.Series(numbers))


def _check(name: str, text: _Text, index: pd.Index, *, is_response: bool) -> None:
    strays = text.values[text.numbers.isna()]
    shown, rows = decode(name), len(text.column)
    coerced = f"pandas.to_numeric(data[{shown!r}], errors='coerce')"
    if len(strays):
        if not (is_response or text.holds_numbers or _are_strays(text, strays)):
            return
        value = strays.iloc[0]
        count = int(text.counts[text.numbers.isna()].sum())
        problem = f"is numbers but for {count} of {rows} rows, the first {value!r}"
        advice = (
            f"Make it numbers, with these rows missing: {coerced}, or na_values=[{value!r}] where "
            "the file is read"
        )
    else:
        if not (is_response or text.holds_numbers or _are_numbers(text)):
            return
        value = next(v for v in text.values if isinstance(v, str))
        problem = f"is text that reads as numbers, such as {value!r}"
        advice = f"Make it numbers: {coerced}"
    row = index[int(np.argmax((text.column == value).to_numpy(dtype=bool, na_value=False)))]
    if is_response:
        raise ResponseError(
            f"the response '{shown}' is not numeric: it {problem} in row {row}. {advice}."
        )
    raise ColumnTypeError(
        f"column '{shown}' {problem} in row {row}: as a factor it would have {len(text.values)} "
        f"levels. {advice}; or write C({written(name)}) if levels are meant."
    )


def _are_strays(text: _Text, strays: pd.Series) -> bool:
    """Whether the values that do not read as numbers stand in a column of numbers."""
    if text.share_of_strays > _LARGEST_STRAY_SHARE:
        return False
    if text.has_fractions or text.n_numbers > _MANY_VALUES_WITH_STRAYS:
        return True
    marks = all(_is_mark(str(value).strip()) for value in strays)
    alone = int(text.counts.sum()) >= _ROWS_PER_VALUE * len(text.values) and bool(
        (text.counts[text.numbers.isna()] == 1).all()
    )
    return (marks or alone) and text.n_numbers >= _FEW_VALUES


def _is_mark(value: str) -> bool:
    return value.lower() in _MISSING or _MISSPELT.fullmatch(value) is not None


def _are_numbers(text: _Text) -> bool:
    """Whether text that all reads as numbers is measurements rather than codes."""
    rows = float(text.counts.sum())
    many = text.n_numbers > _MANY_VALUES and rows < _ROWS_PER_VALUE * text.n_numbers
    return text.has_fractions or many


def text_in_expression(code: str, variables: Mapping[str, Any]) -> str:
    """Advice where an expression reads text that is mostly numbers; empty if it reads none."""
    for name in sorted(names_in(code)):
        column = variables.get(name)
        text = _text_of(column.astype(object)) if isinstance(column, pd.Series) else None
        if text is None or text.share_of_strays > _LARGEST_STRAY_SHARE:
            continue
        value = next(v for v in text.values if isinstance(v, str))
        if text.numbers.isna().any():
            value = text.values[text.numbers.isna()].iloc[0]
        shown = decode(name)
        return (
            f". Column '{shown}' holds text, such as {value!r}: make it numbers, "
            f"pandas.to_numeric(data[{shown!r}], errors='coerce')."
        )
    return ""
