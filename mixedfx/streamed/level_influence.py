"""Influence of the levels of a group on a linear fit of a source, which is read once more."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import SourceChangedError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.influence import (
    LinearDeletion,
    estimates_of,
    no_estimates,
    table_of_changes,
)
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.deleted_rows import has_independent_columns
from mixedfx.likelihood.stream.deleted_levels import DeletedLevels, SumsByLevel
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import naming_origin
from mixedfx.streamed.updating import source_again

Vector = npt.NDArray[np.float64]


def level_influence(fit: FittedModel, group: str, method: str, data: Any) -> pd.DataFrame:
    """Change of the estimates on leaving out each level of a group."""
    deleted, deletion = sums_by_level(fit, group, data, "influence"), LinearDeletion(fit)
    levels = fit.spec.levels_of(group)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        estimates = [_estimates(fit, deleted.without(i), method) for i in range(len(levels))]
    changes = np.array(estimates) - deletion.estimates
    labels = levels.labels.rename(group)
    return table_of_changes(fit, changes, deletion.names, deleted.counts, labels)


@single_threaded_blas(0)  # as the pass of a fit
def sums_by_level(fit: FittedModel, group: str, data: Any, method: str) -> DeletedLevels:
    """Cross-products by level, of the fit's columns and weights."""
    design = cast(StreamedRows, fit.rows).design
    sums = SumsByLevel(fit.crossprod, group)
    source, request = source_again(data, method), design.request
    for frame in read_chunks(source, request.names, "rows", request.coded):
        with naming_origin(frame):
            rows = design.kept_rows(frame)
        if rows.n:
            sums = sums.plus(rows)
    if not sums.are_those_of_the_fit:
        raise SourceChangedError(
            f"data= are not the {fit.crossprod.n:,} rows that the fit used: give the source that "
            "it was fitted to."
        )
    return sums.total()


def _estimates(fit: FittedModel, crossprod: CrossProducts, method: str) -> Vector:
    """Estimates from the rows of the other levels; NaN where they do not exist."""
    if not has_independent_columns(crossprod):
        return no_estimates(fit)
    return estimates_of(fit, fit.design, lambda: crossprod, method)
