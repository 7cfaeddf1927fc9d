"""Tables with a row for each row of a source, written in parts while the source is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.learning import response_design_info
from mixedfx.design.stream.request import request_columns
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import ArgumentError, brief
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.family_estimates import linear_predictor
from mixedfx.inference.sampled_rows import with_rows
from mixedfx.sources.arrow import import_arrow
from mixedfx.sources.frames import FrameSource
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import naming_origin


def write_parts(
    data: Any, to: str | Path, title: str, compute: Callable[[pd.DataFrame], pd.DataFrame]
) -> Path:
    """Write a table computed of each chunk of all columns, as Parquet files in a new folder."""
    source = FrameSource(data) if isinstance(data, pd.DataFrame) else as_source(data)
    if source is None:
        raise ArgumentError(
            f"to={str(to)!r} is a folder for files, and data={brief(data)} is neither a DataFrame "
            "nor a source of rows, so there is nothing to write."
        )
    import_arrow()
    folder = _new_folder(to)
    for i, frame in enumerate(read_chunks(source, source.columns, title)):
        with naming_origin(frame):
            compute(frame).to_parquet(folder / f"part-{i:05d}.parquet", index=False)
    return folder


def _new_folder(to: str | Path) -> Path:
    folder = Path(to).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"to={str(to)!r} is there already; give the path of a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def with_rows_of(fit: FittedModel, frame: pd.DataFrame) -> FittedModel | None:
    """A fit of a source with the rows of a chunk; None where the chunk has no complete row."""
    of_chunk = _chunk_design(fit, frame).kept_rows(frame)
    if not of_chunk.n:
        return None
    own = with_rows(fit, of_chunk)
    return replace(own, residual=own.residual.at_rows(of_chunk, linear_predictor(own)))


def _chunk_design(fit: FittedModel, frame: pd.DataFrame) -> ChunkDesign:
    """What makes the rows of a chunk: of rows in chunks, or of rows that were merged."""
    rows, spec = fit.rows, fit.spec
    if isinstance(rows, StreamedRows):
        return rows.design
    if not rows.in_memory or not rows.weights_are_counts:
        raise ArgumentError(
            "to= writes what a fit of a source computes of each row, and the rows of this fit are "
            "in memory: write the table that fit.augment() gives."
        )
    if fit.residual.predictors:
        raise ArgumentError(
            f"to= of a model with {' and '.join(fit.residual.predictors)} writes predictions, "
            "fit.predict(source, to='folder'), and no residuals."
        )
    columns = list(map(str, frame.columns))
    request = request_columns(
        spec.formula, columns, spec.env, {"offset": spec.offset_column}, family=spec.family
    )
    return ChunkDesign(request, spec, response_design_info(request, fit.design))
