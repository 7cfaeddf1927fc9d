"""What a fit keeps of rows that were read in chunks: their number, and a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import ModelRows
from mixedfx.design.slim import SlimRows
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.strata import weighted_by_stratum

Vector = npt.NDArray[np.float64]

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
    # Mean over the rows of the residual variance over sigma**2, by sums of 1 / prior weight of the
    # strata, where there are several.
    mean_variance: float = 1.0
    inverse_weights: Vector | None = None
    given: StreamedRows | None = None  # without the estimated weights, where there are some

    def as_given(self, prior_weights: Callable[[], Any]) -> StreamedRows:
        """Without the estimated weights."""
        return self.given or self

    def with_stratum_weights(self, relative: Vector) -> StreamedRows:
        """Multiply the prior weights by those of the strata."""
        assert self.design.strata is not None
        assert self.inverse_weights is not None
        strata = replace(self.design.strata, weights=relative)
        return replace(
            self,
            has_weights=True,
            given=self,
            sample=weighted_by_stratum(self.sample, relative),
            random_sample=weighted_by_stratum(self.random_sample, relative),
            design=replace(self.design, strata=strata),
            mean_variance=float((self.inverse_weights / relative).sum()) / self.n,
        )
