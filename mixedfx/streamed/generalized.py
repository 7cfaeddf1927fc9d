"""Fit of a generalised model to a source whose rows do not fit in memory.

Two passes, as of a linear model; the second writes what the model needs of each row to a file, in
blocks, which the search reads for each evaluation. A file of plain arrays is read at the speed of
memory while the system keeps it there; a source would be parsed and coded again each time. The file
is there as long as the fit is, for profiles and for fits of smaller models and of other responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from patsy import EvalEnvironment

from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.learning import Learned, learn
from mixedfx.design.stream.request import request_columns
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.fit import fit_generalized
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.family import Family
from mixedfx.formula.terms import Formula
from mixedfx.likelihood.stream.assembly import assemble_unchecked, plan_reduction
from mixedfx.likelihood.stream.moments import RowMoments
from mixedfx.likelihood.stream.reduced import ReducedBlocks
from mixedfx.likelihood.stream.row_blocks import BlockPlan, BlockWriter, blocked_rows
from mixedfx.likelihood.stream.sums import RowSums
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.sources.array_blocks import ArrayBlocks
from mixedfx.sources.reading import read_chunks
from mixedfx.sources.source import DataSource, naming_origin
from mixedfx.streamed.family_summaries import with_family_summaries
from mixedfx.streamed.fit import kept_size, streamed_rows
from mixedfx.streamed.reduction import Summation
from mixedfx.streamed.summaries import with_summaries

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class GeneralizedFit:
    """How the generalised model of a source is fitted."""

    family: Family
    control: Control
    start: Callable[[int], Vector | None]  # of so many parameters, checked


def fit_generalized_source(
    formula: Formula,
    source: DataSource,
    arguments: Mapping[str, Any],
    env: EvalEnvironment,
    how: GeneralizedFit,
) -> FittedModel:
    """Write the rows to a file in blocks, and fit them."""
    request = request_columns(formula, source.columns, env, arguments, family=how.family)
    learned = learn(source, request)
    unweighted = learned.unweighted
    reduction = plan_reduction(unweighted)
    plan = BlockPlan.of(learned, reduction)
    store = ArrayBlocks(float(plan.row_bytes) * learned.totals.n)
    with store.during_fit():
        sums, positions = _write(source, plan, store, _numbers(learned))
        model = assemble_unchecked(unweighted, reduction, sums)
        spec = replace(model.spec, residual=FamilyResidual(model.spec.family))
        model = replace(model, spec=spec)
        rows = blocked_rows(plan, sums, model, store)
        moments = RowMoments.of(model, sums)
        kept = streamed_rows(learned, reduction, sums, model)
        kept = replace(
            kept,
            has_weights=learned.sample.rows.weights is not None,
            weight_ratio=1.0,
            reduced=ReducedBlocks(rows, moments, positions),
        )
        fit = fit_generalized(
            Design(spec, cast(ModelRows, kept)),
            FamilyResidual(spec.family),
            control=how.control,
            start=how.start(rows.parametrization.size),
        )
        fit = with_family_summaries(with_summaries(fit, moments), rows, moments)
        text = (
            f"{sums.n + sums.n_dropped:,} rows were read in chunks, in {learned.n_passes + 1} "
            f"passes, and what the model needs of them was kept in a file of "
            f"{kept_size(store.n_bytes)}, which the fit read {store.passes} times."
        )
    return replace(fit, notes=(*fit.notes, Note(text)))


@single_threaded_blas(0)  # as the pass of a linear model
def _write(
    source: DataSource, plan: BlockPlan, store: ArrayBlocks, numbers: Sequence[Codes]
) -> tuple[RowSums, tuple[Codes, ...]]:
    """
    Second pass: blocks of all rows, and sums without weights.

    Of rows of these numbers, in order, their positions among the complete rows.
    """
    design, writer = plan.reduction.design, BlockWriter(plan, store)
    positions: list[list[Codes]] = [[] for _ in numbers]
    start = n = 0
    with Summation(plan.reduction) as summation:
        request = design.request
        for frame in read_chunks(source, request.names, "rows", request.coded):
            with naming_origin(frame):
                rows, found = design.rows(frame)
            summation.add(rows.replaced(weights=None), found)
            writer.add(rows)
            own, stop = found.index.to_numpy(), start + len(frame)
            for of_rows, parts in zip(numbers, positions, strict=True):
                first, end = np.searchsorted(of_rows, [start, stop])
                parts.append(n + np.searchsorted(own, of_rows[first:end]))
            start = stop
            n += found.n
        writer.finish()
        return summation.total(), tuple(map(np.concatenate, positions))


def _numbers(learned: Learned) -> tuple[Codes, Codes]:
    """Numbers of the rows that are kept in memory: the sample, and the random one."""
    return learned.sample.rows.index.to_numpy(), learned.drawn.index.to_numpy()
