"""What a fit keeps of rows that were read in chunks: their number, and a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mixedfx.design.rows import ModelRows
from mixedfx.design.slim import SlimRows
from mixedfx.design.stream.chunk_rows import ChunkDesign

_STREAMED = (
    "this fit read them in chunks: fit.augment(source, to='folder') writes the fitted values and "
    "residuals of all rows to files, and fit.predict(source, to='folder') predictions. Everything "
    "else that needs rows has them where the data are a DataFrame in memory."
)


@dataclass(frozen=True)
class StreamedRows(SlimRows):
    """Stands for rows that were read in chunks."""

    reason: ClassVar[str] = _STREAMED

    # Of each combination of factors' values some row; grouping factors are stand-ins.
    sample: ModelRows
    random_sample: ModelRows  # rows drawn at random, with their levels
    missing: Mapping[str, int]
    weight_ratio: float
    design: ChunkDesign  # makes the rows of a chunk
