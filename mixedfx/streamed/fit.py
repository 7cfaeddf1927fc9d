"""Fit of a linear model to rows in chunks: one or two passes, and a search without rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from patsy import EvalEnvironment

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.residual import ResidualRows
from mixedfx.design.stream.learning import Learned
from mixedfx.design.stream.request import request_columns
from mixedfx.design.stream.strata import StratumRows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import TooManyStrata
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
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.likelihood.stream.reduced import ReducedSums
from mixedfx.likelihood.stream.sums import ReductionPlan, RowSums
from mixedfx.linalg.available_memory import size_text
from mixedfx.residuals.streamed import StreamedLogLinear
from mixedfx.sources.source import DataSource
from mixedfx.streamed.loading import reason_for_all_rows
from mixedfx.streamed.one_pass import read_once
from mixedfx.streamed.reduction import reduce_source
from mixedfx.streamed.summaries import with_summaries

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StreamedFit:
    """How the model of a source is fitted."""

    engine: str
    reml: bool
    control: Control
    start: Callable[[int], Vector | None]  # of so many parameters, checked
    dispersion: Formula | None = None


def fit_or_reason(
    formula: Formula,
    source: DataSource,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    env: EvalEnvironment,
    how: StreamedFit,
) -> FittedModel | str:
    """Fit rows that are read in chunks; or what of the model needs all rows at once."""
    reason = reason_for_all_rows(formula, how.dispersion, options, source.columns, env)
    if reason is not None:
        return reason
    try:
        return fit_source(formula, source, arguments, env, how)
    except TooManyStrata:
        return f"dispersion='{how.dispersion}', of so many values,"


def fit_source(
    formula: Formula,
    source: DataSource,
    arguments: Mapping[str, Any],
    env: EvalEnvironment,
    how: StreamedFit,
) -> FittedModel:
    """Read the rows, and fit their cross-products."""
    request = request_columns(formula, source.columns, env, arguments, how.dispersion)
    learned, reduced = read_once(source, request)
    n_passes = learned.n_passes
    if reduced is None:
        plan, n_passes = plan_reduction(learned), n_passes + 1
        reduced = plan, reduce_source(source, plan)
    plan, sums = reduced
    model = assemble(learned, plan, sums)
    sums = replace(sums, pairs={})  # the model has them
    moments = RowMoments.of(model, sums)
    rows = streamed_rows(learned, plan, sums, model)
    rows = replace(rows, reduced=ReducedSums(model.crossprod, moments, model.strata))
    design = Design(model.spec, rows)  # type: ignore[arg-type]
    fit = fit_design(
        design,
        engine=how.engine,
        reml=how.reml,
        control=how.control,
        start=how.start(model.crossprod.parametrization.size),
        crossprod=model.crossprod,
    )
    note = Note(
        f"{sums.n + sums.n_dropped:,} rows were read in chunks, in {n_passes} pass"
        f"{'es' if n_passes > 1 else ''}; "
        f"their cross-products have {kept_size(crossproduct_bytes(model.crossprod))}."
    )
    return replace(with_summaries(fit, moments), notes=(*fit.notes, note))


def kept_size(n_bytes: int) -> str:
    """Size of what is kept of the rows, which may be small."""
    return size_text(n_bytes) if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"


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
