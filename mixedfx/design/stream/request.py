"""What a model reads of each chunk, and the complete rows of a chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._cached import cached_property
from mixedfx._names import decode, encode
from mixedfx.design.categories import Categories, with_categories
from mixedfx.design.columns import (
    as_patsy_column,
    factor_codes,
    factor_columns,
    formula_environment,
    plain_columns,
    used_columns,
)
from mixedfx.design.completeness import evaluated_values, missing_values
from mixedfx.design.row_dependence import NewVariables
from mixedfx.design.source import column_named, row_vector
from mixedfx.design.stream.levels import coded_values, read_factor
from mixedfx.design.table import Table
from mixedfx.design.term_values import evaluate_terms
from mixedfx.design.variables import WIDEST, Factor, Numbers, missing_in, variable
from mixedfx.errors import ArgumentError, MissingColumnError, did_you_mean
from mixedfx.families.family import Family
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.expansion import of_columns, resolve_dotted
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ColumnRequest:
    """A formula on the columns of a source, and the columns that its arguments name."""

    formula: Formula  # any dot expanded
    env: EvalEnvironment = field(repr=False)  # the caller's functions and variables that are read
    names: tuple[str, ...]  # columns that are read
    arguments: Mapping[str, str]  # column of weights and of offset, where they are given
    dispersion: Formula | None = None  # of the residual variance
    family: Family = NORMAL

    @property
    def formulas(self) -> tuple[Formula, ...]:
        """All formulas that are read."""
        return (self.formula,) if self.dispersion is None else (self.formula, self.dispersion)

    @cached_property
    def coded(self) -> frozenset[str]:
        """Columns of which, if they are text, the codes of the distinct values are enough."""
        names = map(decode, factor_columns(*self.formulas))
        return frozenset(names).difference(self.arguments.values())

    def columns(self, frame: pd.DataFrame) -> dict[str, pd.Series]:
        """Columns that the formulas read."""
        table = Table(frame)
        own = used_columns(self.formula, table, self.env)
        if self.dispersion is None:
            return dict(own)
        return dict(used_columns(self.dispersion, table, self.env, part="dispersion") | own)


@dataclass(frozen=True)
class CompleteRows:
    """Complete rows of a chunk: variables typed as those of new data, and their labels."""

    variables: NewVariables
    vectors: Mapping[str, Vector]  # of the arguments
    positions: Codes  # among the rows of the chunk
    index: pd.Index  # labels
    missing: Mapping[str, int]  # incomplete rows, by column, argument or term; zeros too
    n_dropped: int

    @property
    def n(self) -> int:
        """Number of complete rows."""
        return len(self.positions)

    @property
    def sums(self) -> dict[str, float]:
        """Sums of the numeric variables."""
        return {name: of_values for name, (of_values, _) in self._sums.items()}

    @property
    def squares(self) -> dict[str, float]:
        """Sums of their squares."""
        return {name: of_squares for name, (_, of_squares) in self._sums.items()}

    @cached_property
    def _sums(self) -> dict[str, tuple[float, float]]:
        found = {}
        for name, column in self.variables.items():
            own = variable(column)
            if isinstance(own, Numbers):
                values = own.values.astype(float, copy=False)
                found[name] = float(values.sum()), float(values @ values)
        return found


def request_columns(
    formula: Formula,
    columns: Sequence[str],
    env: EvalEnvironment | None,
    arguments: Mapping[str, Any],
    dispersion: Formula | None = None,
    family: Family = NORMAL,
) -> ColumnRequest:
    """Find the columns that a model and its arguments read; those not there are an error."""
    formula = of_columns(formula, list(columns))
    dispersion = None if dispersion is None else resolve_dotted(dispersion, columns)
    empty = pd.DataFrame(columns=list(columns), dtype=object)
    env = formula_environment(env, [formula, dispersion], map(encode, columns))
    given = {name: value for name, value in arguments.items() if value is not None}
    found = {name: _argument_column(name, value, columns) for name, value in given.items()}
    request = ColumnRequest(formula, env, (), found, dispersion, family)
    wanted = {*map(decode, request.columns(empty)), *found.values()}
    # Without a column an intercept alone still needs the number of rows: the response is one.
    return replace(request, names=tuple(c for c in columns if c in wanted))


def _argument_column(argument: str, value: Any, columns: Sequence[str]) -> str:
    """Column that an argument names."""
    if not isinstance(value, str):
        raise ArgumentError(
            f"{argument}= of rows that are read in chunks is the name of a column, not an array: "
            "add the values to the data as a column."
        )
    name = str(column_named(value, pd.DataFrame(columns=list(columns))))
    if name not in columns:
        raise MissingColumnError(
            f"{argument} column '{value}' is not in the data; columns are: {', '.join(columns)}."
            f"{did_you_mean(value, columns)}"
        )
    return name


def complete_rows(
    request: ColumnRequest, frame: pd.DataFrame, categories: Categories
) -> CompleteRows:
    """Evaluate a chunk's expressions, and leave its incomplete rows out."""
    m, formulas = len(frame), request.formulas
    columns = request.columns(frame)
    terms = {}
    if any(code not in columns for formula in formulas for code, _ in factor_codes(formula)):
        terms = evaluate_terms(formulas, with_categories(columns, categories), request.env, m)
    vectors = {name: row_vector(column, name, frame) for name, column in request.arguments.items()}
    plain = set().union(*(plain_columns(formula, columns) for formula in formulas))
    plainly = {name: column for name, column in columns.items() if name in plain}
    factors = _read_factors(request, columns)
    masks = {
        name: factors[name].missing() if name in factors else missing_in(column)
        for name, column in plainly.items()
    }
    missing = missing_values(masks, terms, vectors)
    keep = ~np.logical_or.reduce(list(missing.values())) if missing else None
    shared = keep is None and not terms  # no function is given the columns, which could write
    variables = {
        name: coded_values(factors[name], keep)
        if name in factors
        else _values(name, column, keep, shared=shared)
        for name, column in columns.items()
    }
    values = evaluated_values(terms, keep, m, new_data=True) if terms else {}
    positions = np.arange(m) if keep is None else np.flatnonzero(keep)
    return CompleteRows(
        NewVariables(with_categories(variables, categories), values),
        {name: v if keep is None else v[keep] for name, v in vectors.items() if v is not None},
        positions,
        frame.index if keep is None else frame.index[keep],
        {
            name: int(missing[name].sum()) if name in missing else 0
            for name in (*plainly, *vectors, *terms)
        },
        m - len(positions),
    )


def _read_factors(request: ColumnRequest, columns: Mapping[str, pd.Series]) -> dict[str, Factor]:
    """Columns of text and of categories of which the levels are enough."""
    names = factor_columns(*request.formulas) & columns.keys()
    found = {name: read_factor(columns[name]) for name in names}
    return {name: factor for name, factor in found.items() if factor is not None}


def _values(name: str, column: pd.Series, keep: Mask | None, *, shared: bool) -> pd.Series:
    """Values of some rows, None for all; not copied where they are shared."""
    if shared and _is_wide(column):
        return Numbers(column.to_numpy()).series
    return as_patsy_column(name, column if keep is None else column[keep], new_data=True)


def _is_wide(column: pd.Series) -> bool:
    """Whether a column is of numbers in their widest type, as patsy evaluates them."""
    dtype: Any = column.dtype
    return isinstance(dtype, np.dtype) and dtype == WIDEST.get(dtype.kind)
