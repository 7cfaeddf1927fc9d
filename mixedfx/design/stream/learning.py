"""First pass over rows in chunks: levels, categories, transforms, and a sample of the rows.

The specification is that of a design of the kept rows (a random sample, the extremes of each
column, and a first row of each combination of factors' values), with the levels, and the state of
stateful transforms, of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo

from mixedfx._names import decode, written
from mixedfx.design.build import Design, build
from mixedfx.design.categories import categories_read
from mixedfx.design.checks import check_finite, check_grouping_factor, check_positive
from mixedfx.design.columns import as_patsy_column, factor_codes, used_columns
from mixedfx.design.dispersion import DispersionRows
from mixedfx.design.evaluation import (
    build_matrices,
    built_response,
    group_depends_on_rows,
    group_values,
    learn_design_infos,
)
from mixedfx.design.levels import Levels
from mixedfx.design.row_dependence import NewVariables
from mixedfx.design.spec import ModelSpec
from mixedfx.design.stream.cells import Cells
from mixedfx.design.stream.levels import LevelCollector
from mixedfx.design.stream.request import ColumnRequest, CompleteRows, complete_rows
from mixedfx.design.stream.sampling import (
    ColumnTypes,
    Extremes,
    Reservoir,
    concatenated,
)
from mixedfx.design.stream.strata import Strata
from mixedfx.design.stream.transforms import learn_transforms
from mixedfx.design.table import Table
from mixedfx.design.variables import Numbers, variable
from mixedfx.errors import DataError, EmptyDataError
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.positions import ALL_ROWS
from mixedfx.formula.response import response_code
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource, naming_origin

Vector = npt.NDArray[np.float64]

# Names of the columns that stand for grouping factors in the design of the kept rows.
_STAND_IN = "_group_{}"
# Rows by which the categorical factors are told from the others.
HEAD_ROWS = 1000


@dataclass(frozen=True)
class PassTotals:
    """What a pass found, by which the next one is recognised."""

    n: int  # complete rows
    n_dropped: int
    sums: Mapping[str, float]  # of the numeric variables, over the complete rows
    squares: Mapping[str, float]


@dataclass(frozen=True)
class Learned:
    """What is known after the first pass."""

    request: ColumnRequest
    spec: ModelSpec  # with the levels of all rows
    sample: Design  # of the kept rows; its grouping factors are stand-ins
    drawn: pd.DataFrame = field(repr=False)  # those of the random sample
    response_info: DesignInfo | None  # of a response that is an expression
    totals: PassTotals
    strata: Strata | None  # of equal residual variance, where there are several
    sample_is_all: bool
    n_passes: int  # over the rows

    @property
    def unweighted(self) -> Learned:
        """The same of rows without weights."""
        rows = self.sample.rows.replaced(weights=None)
        return replace(self, sample=replace(self.sample, rows=rows))


def learn(source: DataSource, request: ColumnRequest) -> Learned:
    """Read all rows once, and again where transforms have a state."""
    if isinstance(source, PartitionedSource):
        collect = partial(collected, request=request, head=_head(source, request))
        first = source.reduce(request.names, collect, merged)
        return learned_of(first, source)
    first = FirstPass(request)
    for frame in read_chunks(source, request.names, "levels", request.coded):
        with naming_origin(frame):
            first.add(frame)
    return learned_of(first, source)


def _head(source: DataSource, request: ColumnRequest) -> pd.DataFrame | None:
    """The first complete rows, by which factors are told from numbers."""
    for frame in source.chunks(request.names):
        found = complete_rows(request, frame, {})
        if found.n:
            return frame.iloc[found.positions[:HEAD_ROWS]]
    return None


def collected(frame: pd.DataFrame, request: ColumnRequest, head: pd.DataFrame | None) -> FirstPass:
    """What a first pass collects from one chunk."""
    first = FirstPass(request, head)
    first.add(frame)
    return first


def merged(first: FirstPass, other: FirstPass) -> FirstPass:
    """What it collects from the chunks of both."""
    first.merge(other)
    return first


class FirstPass:
    """What is collected over chunks; of chunks that are elsewhere, merged in their order."""

    def __init__(self, request: ColumnRequest, head: pd.DataFrame | None = None) -> None:
        self.request, self.head = request, head
        groups = dict.fromkeys(term.group for term in request.formula.random)
        self.levels = {group: LevelCollector(group) for group in groups}
        self.types, self.reservoir, self.extremes = ColumnTypes(), Reservoir(), Extremes()
        self.cells: Cells | None = None
        self.further: list[pd.DataFrame] = []
        self.n = self.n_dropped = 0
        self.missing: dict[str, int] = {}
        self.sums: dict[str, float] = {}
        self.squares: dict[str, float] = {}

    def add(self, frame: pd.DataFrame) -> CompleteRows:
        """Collect from one chunk; its complete rows."""
        self.types.add(frame)
        found = complete_rows(self.request, frame, {})
        self.n += found.n
        self.n_dropped += found.n_dropped
        _add(self.missing, found.missing)
        self.reservoir.add(frame, found.positions)
        if not found.n:
            return found
        self._add_levels(found)
        check_values(self.request, found)
        self.extremes.add(frame, found.variables, found.positions)
        _add(self.sums, found.sums)
        _add(self.squares, found.squares)
        if self.head is None:
            self.head = frame.iloc[found.positions[:HEAD_ROWS]]
        self._add_further(frame, found)
        return found

    def merge(self, other: FirstPass) -> None:
        """Take over what was collected of later rows."""
        self.types.merge(other.types)
        self.n += other.n
        self.n_dropped += other.n_dropped
        _add(self.missing, other.missing)
        _add(self.sums, other.sums)
        _add(self.squares, other.squares)
        self.reservoir.merge(other.reservoir)
        for group, collector in self.levels.items():
            collector.merge(other.levels[group])
        self.extremes.merge(other.extremes)
        for frame in other.further:
            self._add_further(frame, complete_rows(self.request, frame, {}))

    def _add_further(self, frame: pd.DataFrame, found: CompleteRows) -> None:
        """Keep the first row of each combination of factors' values."""
        if self.cells is None:
            assert self.head is not None
            self.cells = Cells(self.request, complete_rows(self.request, self.head, {}))
            for known in self.further:
                self.cells.find_new(complete_rows(self.request, known, {}))
        new = self.cells.find_new(found)
        if len(new):
            self.further.append(frame.iloc[found.positions[new]])

    def __getstate__(self) -> dict[str, Any]:
        """Without the functions that evaluate factors, which are made anew from the head."""
        return vars(self) | {"cells": None}

    def _add_levels(self, found: CompleteRows) -> None:
        for group, collector in self.levels.items():
            collector.add(
                [group_values(f, found.variables, self.request.env, found.n) for f in group]
            )


def learned_of(first: FirstPass, source: DataSource) -> Learned:
    """Specification of all rows, which are read again for transforms that have a state."""
    if not first.n:
        counts = ", ".join(f"{name} ({count})" for name, count in first.missing.items() if count)
        raise EmptyDataError(
            f"no row is complete: of {first.n_dropped} rows, missing values are in {counts}."
        )
    one_row_levels = first.request.family != NORMAL
    for term in first.request.formula.random:
        if term.group != (ALL_ROWS,):
            n_levels = len(first.levels[term.group])
            check_grouping_factor(term, n_levels, first.n, one_row_levels=one_row_levels)
    return specified(first, source)


def specified(first: FirstPass, source: DataSource) -> Learned:
    """The same, whatever the number of rows and of levels."""
    request = first.request
    drawn = first.types.apply(first.reservoir.rows())
    further = [first.types.apply(part) for part in [*first.extremes.rows(), *first.further]]
    rows = concatenated([drawn, *further])
    rows = rows[~rows.index.duplicated()].sort_index()
    sample, strata = _with_strata(_sample_design(request, rows))
    response_info = response_design_info(request, sample)
    levels = {
        group: collector.levels([first.types.of(decode(name)) for name in group])
        for group, collector in first.levels.items()
    }
    spec = _with_levels(request, sample, rows, levels)
    _check_rowwise(request, rows, spec)
    infos = [spec.fixed_info, *(t.info for t in spec.random_terms if t.info is not None)]
    infos += [] if response_info is None else [response_info]
    chunks = partial(_variables_of_chunks, source, request, spec)
    n_passes = learn_transforms(infos, chunks)
    if n_passes:
        sample = _with_transforms(sample, response_info)
    totals = PassTotals(first.n, first.n_dropped, first.sums, first.squares)
    is_all, passes = sample.rows.n == first.n, 1 + n_passes
    return Learned(request, spec, sample, drawn, response_info, totals, strata, is_all, passes)


def _add(totals: dict[str, Any], further: Mapping[str, Any]) -> None:
    """Add numbers by name; a name that is new starts from zero."""
    for name, value in further.items():
        totals[name] = totals.get(name, 0) + value


def check_values(request: ColumnRequest, found: CompleteRows) -> None:
    """Refuse infinite numbers and weights that are not positive, in the chunk where they are."""
    for code, _ in (pair for formula in request.formulas for pair in factor_codes(formula)):
        own = variable(found.variables.get(code))
        if isinstance(own, Numbers) and own.values.dtype.kind == "f":
            check_finite(f"column '{decode(code)}'", own.values, found.index)
    if not request.family.takes_trials:
        check_positive("weights", found.vectors.get("weights"), found.index)


def _sample_design(request: ColumnRequest, rows: pd.DataFrame) -> Design:
    """Design of the kept rows, with all checks; grouping factors are replaced by two levels."""
    formula, data = request.formula, rows.copy()
    groups = list(dict.fromkeys(term.group for term in formula.random))
    for i in range(len(groups)):
        data[_STAND_IN.format(i)] = np.arange(len(data)) % 2
    random = tuple(
        replace(term, group=(_STAND_IN.format(groups.index(term.group)),))
        for term in formula.random
    )
    return build(
        replace(formula, random=random),
        data,
        env=request.env,
        weights=request.arguments.get("weights"),
        offset=request.arguments.get("offset"),
        residual=request.dispersion,
        family=request.family,
    )


def _with_strata(sample: Design) -> tuple[Design, Strata | None]:
    """The kept rows by their strata: among them is each combination of the columns read."""
    residual = sample.rows.residual
    if not isinstance(residual, DispersionRows):
        return sample, None
    strata = Strata.of(residual)
    own = strata.rows(residual.variables, sample.rows.index)
    return replace(sample, rows=replace(sample.rows, residual=own)), strata


def _with_levels(
    request: ColumnRequest, sample: Design, rows: pd.DataFrame, levels: Mapping[Any, Levels]
) -> ModelSpec:
    """Specification of the formula as it is, with the levels of all rows."""
    formula, spec = request.formula, sample.spec
    terms = tuple(
        replace(own, formula_term=term, levels=levels[term.group])
        for own, term in zip(spec.random_terms, formula.random, strict=True)
    )
    found = complete_rows(request, rows, {})
    columns = {
        name: as_patsy_column(name, column.iloc[found.positions])
        for name, column in used_columns(formula, Table(rows), request.env).items()
    }
    return replace(
        spec,
        formula=formula,
        random_terms=terms,
        variables=tuple(map(decode, columns)),
        env=request.env,
        categories=categories_read(formula, columns),
        nesting={},
    )


def _check_rowwise(request: ColumnRequest, rows: pd.DataFrame, spec: ModelSpec) -> None:
    """Refuse terms and grouping factors that are computed from other rows than their own."""
    found = list(spec.row_dependent)
    variables = complete_rows(request, rows, spec.categories).variables
    n = len(rows)
    for factor in dict.fromkeys(f for term in request.formula.random for f in term.group):
        if factor in variables or factor == ALL_ROWS:
            continue
        plain = NewVariables(variables)
        values = group_values(factor, plain, request.env, n)
        if group_depends_on_rows(factor, values, plain, request.env):
            found.append(factor)
    if found:
        raise DataError(
            f"term '{written(found[0])}' is computed from other rows than its own, and the rows "
            "are read in chunks: write center(x), scale(x), group_mean(x, g) or within(x, g), or "
            "add its values to the data as a column."
        )


def response_design_info(request: ColumnRequest, sample: Design) -> DesignInfo | None:
    """What patsy learns of a response that is an expression."""
    codes = response_code(request.formula.response).parts
    variables = sample.rows.variables
    if len(codes) != 1 or codes[0] in variables:
        return None
    terms = terms_of("0 + " + request.formula.response)
    return learn_design_infos([terms], variables, request.env)[0]


def _with_transforms(sample: Design, response_info: DesignInfo | None) -> Design:
    """The kept rows with columns of transforms whose state is that of all rows."""
    spec, rows = sample.spec, sample.rows
    X = build_matrices([spec.fixed_info], rows.variables, rows.n)[0][:, spec.kept_columns]
    random = tuple(
        own
        if term.info is None
        else replace(own, model_matrix=build_matrices([term.info], rows.variables, rows.n)[0])
        for own, term in zip(rows.random_terms, spec.random_terms, strict=True)
    )
    y = rows.y
    if response_info is not None:
        matrix = build_matrices([response_info], rows.variables, rows.n)[0]
        built = built_response(response_info, matrix, rows.variables)
        y = spec.response.observe(spec.formula.response, (built,), rows.weights).y
    return replace(sample, rows=replace(rows, X=X, random_terms=random, y=y))


def _variables_of_chunks(
    source: DataSource, request: ColumnRequest, spec: ModelSpec
) -> Iterator[Mapping[str, Any]]:
    """Variables of the complete rows of each chunk."""
    for frame in read_chunks(source, request.names, "transforms", request.coded):
        with naming_origin(frame):
            found = complete_rows(request, frame, spec.categories)
            if found.n:
                yield found.variables
