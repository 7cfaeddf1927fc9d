"""Fit of a linear model to rows that are read in chunks: two passes, and a search without rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from patsy import EvalEnvironment

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.residual import ResidualRows
from mixedfx.design.stream.learning import Learned, learn
from mixedfx.design.stream.request import request_columns
from mixedfx.design.stream.strata import StratumRows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula
from mixedfx.likelihood.stream.assembly import (
    StreamedModel,
    assemble,
    crossproduct_bytes,
    plan_reduction,
)
from mixedfx.likelihood.stream.sums import (
    ReductionPlan,
    RowSums,
    added,
    combine,
    reduce_chunk,
    reduce_rows,
)
from mixedfx.linalg.available_memory import size_text
from mixedfx.residuals.streamed import StreamedLogLinear
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, PartitionedSource, naming_origin
from mixedfx.streamed.summaries import with_summaries

Vector = npt.NDArray[np.float64]

# Chunks whose rows are summed at a time.
_SUMMED = 2


@dataclass(frozen=True)
class StreamedFit:
    """How the model of a source is fitted."""

    engine: str
    reml: bool
    control: Control
    start: Callable[[int], Vector | None]  # of so many parameters, checked
    dispersion: Formula | None = None


def fit_source(
    formula: Formula,
    source: DataSource,
    arguments: Mapping[str, Any],
    env: EvalEnvironment,
    how: StreamedFit,
) -> FittedModel:
    """Read the rows twice, and fit their cross-products."""
    request = request_columns(formula, source.columns, env, arguments, how.dispersion)
    learned = learn(source, request)
    plan = plan_reduction(learned)
    sums = reduce_source(source, plan)
    model = assemble(learned, plan, sums)
    design = Design(model.spec, streamed_rows(learned, plan, sums, model))  # type: ignore[arg-type]
    fit = fit_design(
        design,
        engine=how.engine,
        reml=how.reml,
        control=how.control,
        start=how.start(model.crossprod.parametrization.size),
        crossprod=model.crossprod,
    )
    n_bytes = crossproduct_bytes(model.crossprod)
    size = size_text(n_bytes) if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"
    note = Note(
        f"{sums.n + sums.n_dropped:,} rows were read in chunks, in {learned.n_passes + 1} passes; "
        f"their cross-products have {size}."
    )
    return replace(with_summaries(fit, model, sums), notes=(*fit.notes, note))


def reduce_source(source: DataSource, plan: ReductionPlan) -> RowSums:
    """Second pass: sums of all chunks."""
    names = plan.design.request.names
    if isinstance(source, PartitionedSource):
        reduced: RowSums = source.reduce(names, partial(reduce_chunk, plan=plan), combine)
        return reduced

    # Rows of a chunk are made while those before it are summed, and these added, in their order.
    total: Future[RowSums] | None = None
    waiting: deque[Future[RowSums]] = deque()
    with (
        ThreadPoolExecutor(_SUMMED, thread_name_prefix="mixedfx sums") as sums,
        ThreadPoolExecutor(1, thread_name_prefix="mixedfx total") as adding,
    ):
        for frame in read_chunks(source, names, "cross-products"):
            with naming_origin(frame):
                rows = plan.design.rows(frame)
            if len(waiting) == _SUMMED:
                total = _following(adding, total, waiting.popleft())
            waiting.append(sums.submit(reduce_rows, *rows, plan))
            del rows
        for own in waiting:
            total = _following(adding, total, own)
        assert total is not None
        return total.result()


def _following(
    adding: ThreadPoolExecutor, total: Future[RowSums] | None, own: Future[RowSums]
) -> Future[RowSums]:
    """Add the sums of the next chunk; waits for both, so that few chunks are in memory."""
    return adding.submit(added, None if total is None else total.result(), own.result())


def streamed_rows(
    learned: Learned, plan: ReductionPlan, sums: RowSums, model: StreamedModel
) -> StreamedRows:
    """What is kept of the rows."""
    sample, spec = learned.sample.rows, model.spec
    chunk_design = replace(plan.design, spec=spec)
    drawn = chunk_design.kept_rows(learned.drawn)
    w, by_stratum = sample.weights, sums.by_stratum
    return StreamedRows(
        n=sums.n,
        n_dropped=sums.n_dropped,
        has_weights="weights" in learned.request.arguments,
        has_offset=spec.has_offset,
        residual=_residual(learned, model),
        summaries={},
        sample=sample,
        random_sample=drawn,
        missing={name: count for name, count in sums.missing.items() if count},
        design=chunk_design,
        weight_ratio=1.0 if w is None else float(sums.largest.values[3] / np.median(w)),
        inverse_weights=None if by_stratum is None else by_stratum.inverse_weights,
    )


def _residual(learned: Learned, model: StreamedModel) -> ResidualRows:
    """Residual model of the strata, where there are several."""
    spec = model.spec.residual
    if learned.strata is None or model.strata is None or not isinstance(spec, DispersionSpec):
        return ResidualRows()
    return StreamedLogLinear(spec, StratumRows(learned.strata), model.strata)
