"""Fit of a changed formula to a source of a generalised model that was read into memory.

Columns that the fit does not have tell rows apart that were merged as equal ones: the source is
read again, and its rows are merged anew where that pays.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixedfx.design.stream.chunk_rows import ChunkDesign
from mixedfx.design.stream.request import request_columns
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.terms import Formula
from mixedfx.rebuilding import Criterion
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import DataSource
from mixedfx.streamed.family_model import FamilyModel
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
    relmat = {g: known for g, known in spec.relationships.items() if g in formula.groups}
    model = FamilyModel(
        formula,
        spec.family,
        spec.env.with_outer_namespace(how.env.namespace),
        how.control,
        weights=_weights_column(fit),
        offset=spec.offset_column if spec.offset_is_argument else None,
        nagq=residual.nagq,
        parts=getattr(residual, "formulas", {}),
        relmat=relmat or None,
    )
    changed = model.fit(_complete(fit, source_again(data, "update")))
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
