"""A fit of rows in chunks with the rows that it drew at random, for what a sample can tell."""

from __future__ import annotations

from dataclasses import replace

from mixedfx.design.rows import ModelRows
from mixedfx.design.stream import streamed_rows
from mixedfx.estimation.fitted_model import FittedModel


def with_sampled_rows(fit: FittedModel) -> FittedModel:
    """The fit itself, or with the sample where its rows were read in chunks."""
    rows = fit.rows
    if rows.in_memory or not isinstance(rows, streamed_rows.StreamedRows):
        return fit
    return with_rows(fit, rows.random_sample)


def with_rows(fit: FittedModel, rows: ModelRows) -> FittedModel:
    """A fit of a source with other rows, such as those of a chunk."""
    design = replace(fit.design, rows=rows)
    return replace(fit, design=design, residual=fit.residual.on_rows(rows.residual))


def sampled_share(fit: FittedModel) -> str:
    """What part of the rows the sample is, in parentheses; empty where it is all of them."""
    n = with_sampled_rows(fit).rows.n
    return f" ({n:,} random rows)" if n < fit.rows.n else ""
