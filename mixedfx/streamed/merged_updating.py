"""Fit of a changed formula to a source of a generalised model that was read into memory.

Columns that the fit does not have tell rows apart that were merged as equal ones: the source is
read again, and its rows are merged anew where that pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from mixedfx.design.predictors import family_design
from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.request import request_columns
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula
from mixedfx.rebuilding import Criterion
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import DataSource
from mixedfx.streamed.generalized import GeneralizedFit, fit_generalized_source
from mixedfx.streamed.loading import reason_for_memory
from mixedfx.streamed.merging import TableRequest, read_table
from mixedfx.streamed.updating import CompleteSource, check_same_rows, source_again


def is_of_source(fit: FittedModel, data: Any) -> bool:
    """Whether data are rows of which a fit has merged ones, or a source of a generalised fit."""
    if fit.rows.n_merged or data is None or isinstance(data, pd.DataFrame):
        return data is not None and bool(fit.rows.n_merged)
    return not fit.spec.residual.linear and as_source(data) is not None


def updated_from_merged_source(
    fit: FittedModel, formula: Formula, data: Any, how: Criterion
) -> FittedModel:
    """Fit another formula to the rows of the source of a fit, with its offset and family."""
    how.check(fit)
    spec = fit.spec
    residual: Any = spec.residual
    weights = _weights_column(fit)
    parts: Mapping[str, Formula] = getattr(residual, "formulas", {})
    relmat = {g: known for g, known in spec.relationships.items() if g in formula.groups} or None
    source = _complete(fit, source_again(data, "update"))
    offset = spec.offset_column if spec.offset_is_argument else None
    env = spec.env.with_outer_namespace(how.env.namespace)
    request = TableRequest(
        source,
        formula,
        tuple(parts.values()),
        spec.family,
        weights=weights,
        offset=offset,
        is_chunked=False,
        in_memory_for=reason_for_memory(formula, residual.nagq, {"relmat": relmat, **parts}),
    )
    table = read_table(request)
    if table is None:
        in_blocks = GeneralizedFit(spec.family, how.control, lambda _: None)
        changed = fit_generalized_source(
            formula, source, {"weights": weights, "offset": offset}, env, in_blocks
        )
    else:
        given = {"weights": table.weights, "offset": offset, "family": spec.family, "env": env}
        design = family_design(formula, table.frame, parts, residual.nagq, relmat, given)
        design = table.counted(design)
        changed = fit_design(design, engine="auto", reml=False, control=how.control)
        changed = replace(changed, notes=(*changed.notes, *table.notes))
    check_same_rows(changed, fit.nobs)
    return changed


def _weights_column(fit: FittedModel) -> str | None:
    """Column of the weights, where there are some; those of merged rows are their numbers."""
    column = None if fit.rows.n_merged else fit.spec.weights_column
    if fit.has_prior_weights and column is None and fit.spec.response.n_parts == 1:
        raise ArgumentError(
            "the weights of this fit are values that no column of data= is known to have: call "
            "glmer() anew, with the name of a column."
        )
    return column


def _complete(fit: FittedModel, source: DataSource) -> DataSource:
    """The rows that the fit used: those that are complete in the columns of all its formulas."""
    if not fit.rows.n_dropped:
        return source
    designs = [fit.design, *fit.rows.residual.designs.values()]
    for spec in (design.spec for design in designs):
        arguments = {
            "weights": spec.weights_column,
            "offset": spec.offset_column if spec.offset_is_argument else None,
        }
        request = request_columns(
            spec.formula, source.columns, spec.env, arguments, family=spec.family
        )
        source = CompleteSource(source, ChunkDesign(request, spec, None))
    return source
