"""Fit of a changed formula to the source of a fit, which is read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from patsy import EvalEnvironment

from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.request import ColumnRequest, complete_rows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import ArgumentError, RowsNotInMemory, SourceChangedError, brief
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.terms import Formula
from mixedfx.rebuilding import Criterion
from mixedfx.sources.frames import FrameSource
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import DataSource, naming_origin
from mixedfx.streamed import loading
from mixedfx.streamed.fit import StreamedFit, fit_or_reason
from mixedfx.streamed.generalized import GeneralizedFit, fit_generalized_source


@dataclass(frozen=True)
class CompleteSource:
    """The rows of a source that a fit used: those without a gap in the columns that it read."""

    source: DataSource
    design: ChunkDesign

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return self.source.columns

    @property
    def in_memory(self) -> bool:
        """As of the source."""
        return self.source.in_memory

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Chunks of the source without the incomplete rows."""
        request, categories = self.design.request, self.design.spec.categories
        wanted = {*names, *request.names}
        for frame in self.source.chunks([c for c in self.columns if c in wanted]):
            with naming_origin(frame):
                found = complete_rows(request, frame, categories)
            if found.n:
                yield frame.iloc[found.positions][list(names)]


def source_again(data: Any, method: str) -> DataSource:
    """The source of a fit's rows that a method is given."""
    if data is None:
        raise RowsNotInMemory(
            f"fit.{method} needs the rows, and this fit read them in chunks: give the source that "
            f"it read, fit.{method}(..., data=source), which is read again."
        )
    source = FrameSource(data) if isinstance(data, pd.DataFrame) else as_source(data)
    if source is None:
        raise ArgumentError(f"data={brief(data)} is neither a DataFrame nor a source of rows.")
    return source


def check_in_chunks(fit: FittedModel, data: Any) -> None:
    """Refuse a source that is given for a fit whose rows are in memory."""
    if data is not None and not isinstance(fit.rows, StreamedRows):
        raise ArgumentError(
            "data= is a source that is read again, and the rows of this fit are in memory: leave "
            "it out."
        )


def updated_from_source(
    fit: FittedModel, formula: Formula, data: Any, how: Criterion
) -> FittedModel:
    """Fit another formula to the source of a fit, with its weights, offset and residual model."""
    source, n = complete_source(fit, data)
    how.check(fit)
    request = cast(StreamedRows, fit.rows).design.request
    env = request.env.with_outer_namespace(how.env.namespace)
    fit_again = _linear if fit.spec.residual.linear else _generalized
    changed = fit_again(request, formula, source, env, how)
    check_same_rows(changed, n)
    return changed


def complete_source(fit: FittedModel, data: Any) -> tuple[DataSource, int]:
    """The rows of a source that a fit used, and their number."""
    source, rows = source_again(data, "update"), cast(StreamedRows, fit.rows)
    return CompleteSource(source, rows.design) if rows.n_dropped else source, rows.n


def check_same_rows(changed: FittedModel, n: int) -> None:
    """Raise where a source does not have so many rows, those of the fit."""
    found = changed.nobs + changed.rows.n_dropped
    if found != n:
        raise SourceChangedError(
            f"this fit is of {n:,} rows, and the source has {found:,} of that kind: an update is "
            "of the same rows. For other rows call lmer() or glmer() anew."
        )


def _linear(
    request: ColumnRequest,
    formula: Formula,
    source: DataSource,
    env: EvalEnvironment,
    how: Criterion,
) -> FittedModel:
    options = {"engine": how.engine}
    fitted = StreamedFit(how.engine, how.reml, how.control, lambda _: None, request.dispersion)
    found = fit_or_reason(formula, source, request.arguments, options, env, fitted)
    if isinstance(found, str):
        raise _needs_all_rows(found, "lmer")
    return found


def _generalized(
    request: ColumnRequest,
    formula: Formula,
    source: DataSource,
    env: EvalEnvironment,
    how: Criterion,
) -> FittedModel:
    if (reason := loading.term_of_all_rows(formula)) is not None:
        raise _needs_all_rows(reason, "glmer")
    fitted = GeneralizedFit(request.family, how.control, lambda _: None)
    return fit_generalized_source(formula, source, request.arguments, env, fitted)


def _needs_all_rows(reason: str, function: str) -> ArgumentError:
    return ArgumentError(
        f"{reason} needs all rows at once, and update() reads those of this fit in chunks: call "
        f"{function}() anew, which reads the columns used into memory."
    )
