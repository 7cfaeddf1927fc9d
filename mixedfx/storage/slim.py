"""A fitted model without its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from mixedfx.design.predictors import PredictorRows
from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.slim import SlimResidualRows, SlimRows
from mixedfx.errors import ArgumentError, StorageError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.several_estimate import SeveralEstimate
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.inference.emmeans.linear_functions import (
    column_rms,
    mean_argument_offset,
    mean_offset,
)
from mixedfx.inference.emmeans.means_grid import observed_counts
from mixedfx.inference.emmeans.nesting import observed_levels
from mixedfx.inference.emmeans.reference_grid import fixed_variables
from mixedfx.inference.emmeans.slopes import variable_ranges
from mixedfx.inference.estimability import cells_without_data
from mixedfx.inference.family_estimates import family_deviance
from mixedfx.inference.hypothesis_basis import coding_rms
from mixedfx.inference.random_variance import group_variances
from mixedfx.inference.recoding import qr_R_of_rows
from mixedfx.inference.variance_explained import variance_shares
from mixedfx.residuals.log_linear import LogLinear
from mixedfx.residuals.model import FamilyModel, Homoscedastic, KnownVariances
from mixedfx.storage.summaries import residual_quantiles

# Computed from the rows while they are there; each is of the size of the model. Those of a linear
# predictor, and those of the response.
_OF_PREDICTOR = (
    *(
        fixed_variables,
        column_rms,
        mean_offset,
        mean_argument_offset,
        cells_without_data,
        coding_rms,
        qr_R_of_rows,
    ),
    *(observed_levels, observed_counts, variable_ranges, group_variances),
)
_OF_RESPONSE = (variance_shares, residual_quantiles, family_deviance)


class _Recorder:
    """Rows that record what is summarized."""

    def __init__(self, rows: ModelRows) -> None:
        self._rows, self.summaries = rows, dict[str, Any]()

    def summarized(self, name: str, compute: Any) -> Any:
        self.summaries[name] = compute()
        return self.summaries[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def slim_model(fit: FittedModel) -> FittedModel:
    """Leave out the rows, and what has their number."""
    if isinstance(fit.rows, SlimRows):
        rows = fit.rows.without_file()
        return fit if rows is fit.rows else _with_rows(fit, cast(ModelRows, rows))
    own = fit.residual.model.without_rows()
    residual = own if own is not None else _slim_residual(fit)
    estimate = fit.residual.without_rows()
    summaries = {**_summarized(fit, _OF_PREDICTOR), **_summarized(fit, _OF_RESPONSE)}
    summaries["residual variance"] = fit.residual_variance
    if own is not None:
        estimate = replace(estimate, model=own)
    elif residual is not None:
        model = replace(cast(LogLinear, estimate.model), rows=cast(Any, residual))
        estimate = replace(estimate, model=model)
    kept: ResidualRows = fit.rows.residual if residual is None else residual
    if isinstance(estimate, SeveralEstimate):
        parts = {name: _slim_predictor(part) for name, part in estimate.parts.items()}
        estimate = replace(estimate, parts=parts)
        kept = PredictorRows({name: part.design for name, part in parts.items()})
    return _without_rows(fit, kept, estimate, summaries)


def _slim_predictor(fit: FittedModel) -> FittedModel:
    """The same of a further linear predictor, which has no response of its own."""
    estimate, summaries = fit.residual.without_rows(), _summarized(fit, _OF_PREDICTOR)
    return _without_rows(fit, fit.rows.residual, estimate, summaries)


def _summarized(fit: FittedModel, functions: Sequence[Callable[[Any], Any]]) -> dict[str, Any]:
    """What these functions summarize, but for those that the model refuses with its rows too."""
    recorder = _Recorder(fit.rows)
    recording = _with_rows(fit, cast(ModelRows, recorder))
    for summarize in functions:
        with contextlib.suppress(ArgumentError):
            summarize(recording)
    return recorder.summaries


def _without_rows(
    fit: FittedModel,
    residual: ResidualRows,
    estimate: ResidualEstimate,
    summaries: Mapping[str, Any],
) -> FittedModel:
    rows = SlimRows(
        n=fit.rows.n,
        n_merged=fit.rows.n_merged,
        n_dropped=fit.rows.n_dropped,
        has_weights=fit.rows.has_weights,
        has_offset=fit.rows.has_offset,
        residual=residual,
        summaries=summaries,
    )
    slim = _with_rows(fit, cast(ModelRows, rows))
    return replace(
        slim, optimizer_result=replace(fit.optimizer_result, raw=None), residual=estimate
    )


def _with_rows(fit: FittedModel, rows: ModelRows) -> FittedModel:
    return replace(fit, design=replace(fit.design, rows=rows))


def _slim_residual(fit: FittedModel) -> SlimResidualRows | None:
    """Residual model without rows; None where it has none."""
    model = fit.residual.model
    if isinstance(model, Homoscedastic | KnownVariances | FamilyModel):
        return None
    if not isinstance(model, LogLinear):
        raise StorageError(
            f"the residual model {fit.spec.residual.argument} keeps rows of its own, so the fit "
            "cannot be without them; keep the full fit."
        )
    coordinates = model.coordinates
    n_columns = coordinates.stratum_columns.shape[1]
    coordinates = replace(coordinates, stratum_columns=np.zeros((0, n_columns)))
    none = np.zeros(0, dtype=np.intp)
    terms = tuple(
        RandomTermRows(term.group, term.n_levels, none, term.model_matrix[:0].copy())
        for term in model.rows.random_terms
    )
    return SlimResidualRows(terms, {"coordinates": coordinates})
