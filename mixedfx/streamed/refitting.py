"""Another response of a fit whose rows are in a file: block by block, to a file of its own.

The columns and levels in the file stay as they are. Values in the order of the rows are all that is
needed; those of a column, and those of a Series, whose labels the file does not have, take a pass
over the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.response import Successes, check_response, response_values
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.request import complete_rows
from mixedfx.design.stream.streamed_rows import StreamedRows, known
from mixedfx.errors import ColumnTypeError, RowsNotInMemory, SourceChangedError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.fit import fit_generalized
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.stream.row_blocks import ResponseWriter
from mixedfx.refit import check_complete, column_of, response_columns, typed_response
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import naming_origin
from mixedfx.streamed.family_summaries import completed
from mixedfx.streamed.updating import source_again

Values = npt.NDArray[Any]
# Values of some rows, and the labels of these.
Part = tuple[Values, pd.Index]

# Distinct values of a block by which it is seen that a response varies, and has all categories.
_WITNESSES = 64


def refit_from_file(fit: FittedModel, y: Any, data: Any, control: Control) -> FittedModel:
    """Fit the model of rows in a file to another response."""
    if fit.spec.residual.linear:
        raise RowsNotInMemory(
            "fit.refit needs the rows, and this fit read them in chunks: another response is a "
            "column of their source, fit.update('column ~ .', data=source)."
        )
    own, rows = cast(StreamedRows, fit.rows), rows_of(fit.design)
    assert isinstance(rows, BlockedRows)
    writer = ResponseWriter(rows, known(own).in_memory)
    _write(fit, rows, _parts(fit, y, data), writer)
    drawn = writer.rows()
    design = replace(fit.design, rows=cast(ModelRows, own.with_response_of(drawn, writer.kept())))
    residual: Any = fit.spec.residual
    again = completed(fit_generalized(design, residual, control=control, rows=drawn))
    text = (
        f"the columns of {rows.n:,} rows are those in the file of another fit, whose formula and "
        "rows this one has; its response is in a file of its own."
    )
    return replace(again, notes=(*again.notes, Note(text)))


def _write(
    fit: FittedModel, rows: BlockedRows, parts: Iterator[Part], writer: ResponseWriter
) -> None:
    """Write the response in the blocks of the rows; refuse one that is constant."""
    spec, buffer = fit.spec, _Buffer(parts)
    name, witnesses = spec.formula.response, _Witnesses()
    for block in rows.blocks:
        values, labels = buffer.take(len(block.y))
        check_complete(values)
        found = response_values(
            spec.response, name, values, spec.family, block.weights, labels, is_part=True
        )
        writer.add(*found, has_own_weights=_has_own_trials(fit, values))
        witnesses.add(*found)
    buffer.finish()
    witnesses.check(fit)


def _has_own_trials(fit: FittedModel, values: Values) -> bool:
    """Whether a response has trials beside its successes, which take the place of the fit's."""
    return isinstance(fit.spec.response, Successes) and values.ndim == 2


def _parts(fit: FittedModel, y: Any, data: Any) -> Iterator[Part]:
    """Values of the rows of the fit, in their order."""
    n, names = fit.rows.n, response_columns(y, data)
    if names is not None:
        columns = [column_of(c, source_again(data, "refit").columns) for c in names]
        one: Any = columns[0] if len(columns) == 1 else columns
        yield from _of_source(fit, data, columns, lambda frame, labels: frame.loc[labels, one])
    elif isinstance(y, pd.Series | pd.DataFrame):
        yield from _of_source(fit, data, [], _by_label(y, data))
    else:
        values = typed_response(y)
        if len(values) != n:
            raise ColumnTypeError(
                f"the new response has shape {np.shape(y)}; the fit used {n} rows, so give {n} "
                "values in their order, or the name of a column, data=source."
            )
        yield values, pd.RangeIndex(n)


def _by_label(y: pd.Series | pd.DataFrame, data: Any) -> Callable[[pd.DataFrame, pd.Index], Any]:
    """Values of rows by the labels of the data, which are the rows' numbers in other sources."""
    own = data.index if isinstance(data, pd.DataFrame) else None

    def values(_: pd.DataFrame, numbers: pd.Index) -> Any:
        labels = numbers if own is None else own[numbers]
        if not y.index.is_unique or not labels.isin(y.index).all():
            raise ColumnTypeError(
                "the new response's index does not hold each row that the fit used, once."
            )
        return y.loc[labels]

    return values


def _of_source(
    fit: FittedModel,
    data: Any,
    columns: list[str],
    values: Callable[[pd.DataFrame, pd.Index], Any],
) -> Iterator[Part]:
    """Values of the complete rows of each chunk."""
    source, rows = source_again(data, "refit"), cast(StreamedRows, fit.rows)
    request, categories = rows.design.request, rows.design.spec.categories
    wanted, n, n_dropped = {*request.names, *columns}, 0, 0
    names = [c for c in source.columns if c in wanted]
    for frame in read_chunks(source, names, "response"):
        with naming_origin(frame):
            found = complete_rows(request, frame, categories)
            n, n_dropped = n + found.n, n_dropped + found.n_dropped
            if n > rows.n:
                break
            part = typed_response(values(frame, found.index))
        if found.n:
            yield part, found.index
    if (n, n_dropped) != (rows.n, rows.n_dropped):
        raise SourceChangedError(
            f"data= are not the {rows.n:,} rows that the fit used: give the source that it was "
            "fitted to."
        )


class _Buffer:
    """Values of rows in parts of any lengths, taken so many at a time."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self._parts = parts
        self._waiting: list[Part] = []

    def take(self, n: int) -> Part:
        """The next rows; the parts have as many as are taken."""
        while sum(len(values) for values, _ in self._waiting) < n:
            self._waiting.append(next(self._parts))
        values, labels = self._waiting[0]
        if len(self._waiting) > 1:  # else it may be all rows, which are not copied
            values = np.concatenate([v for v, _ in self._waiting])
            labels = labels.append([own for _, own in self._waiting[1:]])
        self._waiting = [(values[n:], labels[n:])]
        return values[:n], labels[:n]

    def finish(self) -> None:
        """Read the parts to their end, where it is seen that there are no further rows."""
        for _ in self._parts:
            pass


class _Witnesses:
    """Rows with values of a response that are distinct within blocks, and the most trials."""

    def __init__(self) -> None:
        self._y: list[npt.NDArray[np.float64]] = []
        self._weights: list[npt.NDArray[np.float64]] = []

    def add(self, y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None) -> None:
        """Those of a block."""
        w = np.ones(len(y)) if weights is None else weights
        at = np.flatnonzero(w > 0.0)
        if len(at):
            _, first = np.unique(y[at], return_index=True)
            chosen = np.union1d(at[first[:_WITNESSES]], at[[w[at].argmax()]])
            self._y.append(y[chosen])
            self._weights.append(w[chosen])

    def check(self, fit: FittedModel) -> None:
        """Refuse a response that is one value, or lacks a category, in all rows."""
        y, w = np.concatenate(self._y), np.concatenate(self._weights)
        spec = fit.spec
        takes_none = not spec.family.takes_trials or bool((w == 1.0).all())
        name, weights = spec.formula.response, None if takes_none else w
        check_response(name, y, spec.family, weights, pd.RangeIndex(len(y)))
