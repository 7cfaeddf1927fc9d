"""Table of a source's rows in memory for a generalised model, equal ones merged where that pays.

A row that stands for w equal ones has w times their log density: of a count by its weight, of a
binomial response by w times as many successes and trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mixedfx._names import decode
from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.errors import SizeError
from mixedfx.estimation.notes import Note
from mixedfx.families.family import Family
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula
from mixedfx.sources.source import DataSource
from mixedfx.streamed.loading import (
    GENERALIZED_COPIES,
    TRIALS,
    has_binary_response,
    load_columns,
    load_merged,
)

# Share of distinct rows up to which rows that are asked for in chunks are merged.
_FEW = 0.5


@dataclass(frozen=True)
class TableRequest:
    """A model, and the source of its rows."""

    source: DataSource
    formula: Formula
    parts: tuple[Formula, ...]  # of further predictors
    family: Family
    weights: Any
    offset: Any
    is_chunked: bool  # whether rows are asked for in chunks
    in_memory_for: str | None  # what needs all rows at once

    @property
    def formulas(self) -> Sequence[Formula]:
        """All formulas that are read."""
        return (self.formula, *self.parts)

    @property
    def has_trials(self) -> bool:
        """Whether the response says how many trials a row has."""
        return bool(response_code(self.formula.response).function)

    @property
    def merges(self) -> bool:
        """Whether a row can stand for equal ones."""
        if self.weights is not None:
            return False
        if not self.family.takes_trials:
            return self.family.discrete
        if self.parts or not self.family.mergeable:
            return False
        return self.has_trials or has_binary_response(self.formula, self.source)


@dataclass(frozen=True)
class SourceTable:
    """Rows of a source, and how many of them each stands for."""

    frame: pd.DataFrame
    weights: Any  # argument of the model
    n: int | None = None  # rows of the source, where equal ones were merged
    has_trials: bool = False
    notes: tuple[Note, ...] = ()

    def counted(self, design: Design) -> Design:
        """The design with rows that count those of the source, which has no column of weights."""
        if self.n is None:
            return design
        spec = replace(design.spec, weights_column=None)
        return Design(spec, self._counted(design.rows))

    def _counted(self, rows: ModelRows) -> ModelRows:
        assert self.n is not None
        counts = self.frame.loc[rows.index, TRIALS].to_numpy(float)
        rows = rows.counting(counts, trials=self.has_trials)
        columns = [decode(name) for name in rows.missing]
        missing = {
            name: int(self.frame.loc[self.frame[column].isna(), TRIALS].sum())
            for name, column in zip(rows.missing, columns, strict=True)
            if set(columns) <= set(self.frame)  # of a term's values it is not known which
        }
        return replace(rows, n_dropped=self.n - rows.n - rows.n_merged, missing=missing)


def read_table(request: TableRequest) -> SourceTable | None:
    """Rows of a source that fit in memory; None of others, and of those asked for in chunks."""
    in_blocks = request.in_memory_for is None
    try:
        merged = _merged(request) if request.merges else None
        if merged is not None or (request.is_chunked and in_blocks):
            return merged
        return SourceTable(_columns(request), request.weights)
    except SizeError as error:
        if in_blocks:
            return None
        advice = f"Without {request.in_memory_for} the rows need not be in memory."
        raise SizeError(f"{error} {advice}") from None


def _columns(request: TableRequest) -> pd.DataFrame:
    given = (request.weights, request.offset)
    reason = "a generalised model"
    return load_columns(request.formulas, request.source, given, reason, GENERALIZED_COPIES)


def _merged(request: TableRequest) -> SourceTable | None:
    """Distinct rows with their numbers; None where they are many."""
    frame = load_merged(request.formulas, request.source, (request.offset,))
    if frame is None:
        return None
    n = int(frame[TRIALS].sum())
    if request.is_chunked and request.in_memory_for is None and len(frame) > _FEW * n:
        return None
    if len(frame) == n:
        return SourceTable(frame.drop(columns=TRIALS), None)
    text = f"{n:,} rows were read in chunks, in 1 pass; {len(frame):,} of them are distinct, and "
    counted = "trials" if request.family.takes_trials else "weights"
    counted = "multiples of their trials" if request.has_trials else counted
    note = Note(f"{text}were fitted with their numbers as {counted}.")
    weights = None if request.has_trials else TRIALS
    return SourceTable(frame, weights, n, request.has_trials, (note,))
