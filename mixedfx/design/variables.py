"""Variables of a formula as arrays: numbers, or codes of levels.

A column is taken from the user's table once. The rows where it has no value, the levels of the rows
that are used, and the columns of terms that are products follow from its array. pandas' Series of
it, which expressions and patsy read, is made when it is asked for.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.design.levels import distinct_values, used_categories

Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

# Types of numbers and truth values in NumPy's arrays, widened.
WIDEST = {"f": np.dtype(np.float64), "i": np.dtype(np.int64), "b": np.dtype(np.bool_)}
# Levels of a factor up to which what patsy learns of it is kept.
_MOST_LEVELS = 64
_DIGIT = re.compile("[0-9]")


class TableColumn(ABC):
    """A column of a table, or some rows of it."""

    def may_read_as_numbers(self) -> bool:
        """Whether it may hold text that reads as numbers."""
        return True

    @abstractmethod
    def missing(self) -> Mask | None:
        """Rows without a value; None if there are none."""

    @abstractmethod
    def used(self, keep: Mask | None) -> Variable:
        """Copy of some rows, None for all, in the widest type, with the levels that occur."""


class Variable(TableColumn):
    """A column in the types that patsy evaluates."""

    @property
    @abstractmethod
    def series(self) -> pd.Series:
        """The values as pandas has them, numbered from zero."""

    @property
    @abstractmethod
    def type(self) -> tuple[Any, ...] | None:
        """What patsy's design depends on beside the formula; None where that is long."""

    @property
    @abstractmethod
    def n_levels(self) -> int:
        """Number of levels, one of numbers."""

    @abstractmethod
    def distinct(self) -> tuple[pd.Index | Values, Codes]:
        """Values that occur, in order, and the number of each row's."""

    @abstractmethod
    def learned(self, info: Any) -> Values | None:
        """Numbers, or codes of levels, if they are of the type that patsy learned."""


@dataclass(frozen=True, eq=False)
class Numbers(Variable):
    """Numbers or truth values."""

    values: Values  # (n,)

    def may_read_as_numbers(self) -> bool:
        """They are numbers, not text."""
        return False

    def missing(self) -> Mask | None:
        """Rows without a value; None if there are none."""
        if self.values.dtype.kind != "f":
            return None
        if not math.isnan(np.vdot(self.values, self.values)):  # squares of numbers add up to one
            return None
        return np.isnan(self.values)

    def used(self, keep: Mask | None) -> Variable:
        """Copy of some rows, None for all, in the widest type."""
        values = self.values if keep is None else self.values[keep]
        return Numbers(values.astype(WIDEST[values.dtype.kind]))

    @cached_property
    def series(self) -> pd.Series:
        """The values as pandas has them, numbered from zero."""
        return pd.Series(self.values, copy=False)

    @property
    def type(self) -> tuple[Any, ...] | None:
        """Kind of numbers."""
        return (self.values.dtype.kind,)

    @property
    def n_levels(self) -> int:
        """One: numbers have no levels."""
        return 1

    def distinct(self) -> tuple[Values, Codes]:
        """Values that occur, in order, and the number of each row's."""
        return distinct_values(self.values)

    def learned(self, info: Any) -> Values | None:
        """Numbers, or codes of truth values, if they are of the type that patsy learned."""
        kind = self.values.dtype.kind
        if info.type == "numerical":
            return self.values if kind != "b" and info.num_columns == 1 else None
        is_truth = kind == "b" and info.categories == (False, True)
        return self.values.astype(np.intp) if is_truth else None


@dataclass(frozen=True, eq=False)
class Factor(Variable):
    """Levels: those of a categorical column, or the sorted texts of another one."""

    codes: npt.NDArray[np.integer[Any]]  # (n,) -1 where there is no value
    levels: pd.Index | npt.NDArray[np.object_]
    ordered: bool = False
    # No row lacks a value, all levels occur, and the codes are no one else's
    is_whole: bool = False

    @staticmethod
    def of_categories(values: Any) -> Factor:
        """The array of a categorical column as it is."""
        return Factor(values.codes, values.categories, bool(values.ordered))

    @staticmethod
    def of_few(texts: list[str]) -> Factor:
        """Texts of a few rows; a TypeError where one is missing, which does not compare."""
        levels = sorted(set(texts))
        if not isinstance(levels[0], str):
            raise TypeError("all are missing")
        rank = {level: i for i, level in enumerate(levels)}
        codes = np.fromiter(map(rank.__getitem__, texts), np.intp, len(texts))
        return Factor(codes, np.array(list(map(str, levels)), dtype=object), is_whole=True)

    @staticmethod
    def of_texts(codes: Codes, texts: npt.NDArray[np.object_]) -> Factor:
        """Texts in order, of codes that number them otherwise."""
        known = list(map(str, texts))
        order = np.array(sorted(range(len(known)), key=known.__getitem__), dtype=np.intp)
        rank = np.full(len(known) + 1, -1, dtype=np.intp)  # the last one is that of no value
        rank[order] = np.arange(len(known))
        return Factor(rank[codes], np.array(known, dtype=object)[order])

    def may_read_as_numbers(self) -> bool:
        """Whether some text has a digit; categories are meant as such."""
        is_text = isinstance(self.levels, np.ndarray)
        return is_text and _DIGIT.search("".join(self.levels)) is not None

    def missing(self) -> Mask | None:
        """Rows without a value; None if there are none."""
        if self.is_whole:
            return None
        is_missing = self.codes < 0
        return is_missing if is_missing.any() else None

    def used(self, keep: Mask | None) -> Variable:
        """Copy of some rows, None for all, with the levels that occur."""
        if self.is_whole and keep is None:
            return self
        codes = self.codes.copy() if keep is None else self.codes[keep]
        occurs = np.zeros(len(self.levels) + 1, dtype=bool)  # the last one is that of no value
        occurs[codes] = True
        occurs[-1] = False
        if occurs[:-1].all():
            return Factor(codes, self.levels, self.ordered)
        rank = np.where(occurs, np.cumsum(occurs) - 1, -1)
        return Factor(rank[codes], self.levels[occurs[:-1]], self.ordered)

    @cached_property
    def series(self) -> pd.Series:
        """The values as pandas has them, numbered from zero."""
        dtype = pd.CategoricalDtype(pd.Index(self.levels), self.ordered)
        values = pd.Categorical.from_codes(self.codes, dtype=dtype, validate=False)
        return pd.Series(values, copy=False)

    @cached_property
    def type(self) -> tuple[Any, ...] | None:
        """Levels with their types and texts: 1, 1.0 and True are equal, with different names."""
        if len(self.levels) > _MOST_LEVELS:
            return None
        levels = tuple(self.levels.tolist())
        return "O", levels, tuple(map(type, levels)), tuple(map(str, levels))

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def distinct(self) -> tuple[pd.Index | Values, Codes]:
        """Levels that occur, in order, and the number of each row's."""
        codes = self.codes.astype(np.intp, copy=False)
        if isinstance(self.levels, np.ndarray):  # of text: all occur
            return self.levels, codes
        return used_categories(self.levels, codes)

    def learned(self, info: Any) -> Values | None:
        """Codes of the levels among those that patsy learned, if these are all of them."""
        codes, levels = self.codes.astype(np.intp, copy=False), tuple(self.levels.tolist())
        if info.type != "categorical" or codes.min(initial=0) < 0:
            return None
        if levels == info.categories:
            return codes
        known = {level: i for i, level in enumerate(info.categories)}  # as patsy looks them up
        at = np.array([known.get(level, -1) for level in levels], dtype=np.intp)
        return None if (at < 0).any() else at[codes]


class Variables(Mapping[str, pd.Series]):
    """Variables of a formula by name, each as pandas' Series when it is asked for."""

    def __init__(
        self, columns: Mapping[str, Variable], evaluated: Mapping[str, Any] | None = None
    ) -> None:
        self.columns = columns
        self.evaluated = evaluated or {}  # values of expressions by code, in the same rows

    def __getitem__(self, name: str) -> pd.Series:
        """Return the values of one variable."""
        return self.columns[name].series

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.columns)

    def __len__(self) -> int:
        """Count the variables."""
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        """Whether there is a variable of this name."""
        return name in self.columns

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle, or copy, as a dict of Series."""
        return dict, (dict(self),)


def variable(values: Any) -> Variable | None:
    """Variable of a Series of numbers, truth values or categories; None of anything else."""
    if not isinstance(values, pd.Series):
        return None
    dtype: Any = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        return Numbers(values.to_numpy())
    if isinstance(dtype, pd.CategoricalDtype):
        return Factor.of_categories(values.array)
    return None


def factor_of(values: Any) -> Factor | None:
    """Factor that values are; None of anything else."""
    found = values if isinstance(values, Variable) else variable(values)
    return found if isinstance(found, Factor) else None


def plain(values: Any) -> Any:
    """A factor as pandas has it, anything else as it is."""
    return values.series if isinstance(values, Factor) else values


def variable_of(variables: Mapping[str, Any], name: str) -> Variable | None:
    """Variable of a name among variables; None if there is none, or it is of another type."""
    if isinstance(variables, Variables):
        return variables.columns.get(name)
    values = variables.get(name)
    return variable(values)


def missing_in(column: pd.Series) -> Mask | None:
    """Rows in which a column of a table has no value; None if there are none."""
    found = variable(column)
    if found is not None:
        return found.missing()
    is_missing = np.asarray(column.isna(), dtype=bool)
    return is_missing if is_missing.any() else None
