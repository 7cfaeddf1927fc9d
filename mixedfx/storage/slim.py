"""A fitted model without its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.slim import SlimResidualRows, SlimRows
from mixedfx.errors import StorageError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.emmeans.linear_functions import column_rms, mean_offset
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

# Computed from the rows while they are there; each is of the size of the model.
_SUMMARIES = (
    *(fixed_variables, column_rms, mean_offset, cells_without_data, coding_rms, qr_R_of_rows),
    *(observed_levels, observed_counts, variable_ranges, group_variances, variance_shares),
    *(residual_quantiles, family_deviance),
)


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
        return fit
    fit.spec.residual.check_one_predictor("slim()", "pickle the fit with its rows")
    own = fit.residual.model.without_rows()
    residual = own if own is not None else _slim_residual(fit)
    recorder = _Recorder(fit.rows)
    recording = _with_rows(fit, cast(ModelRows, recorder))
    for summarize in _SUMMARIES:
        summarize(recording)
    rows = SlimRows(
        n=fit.rows.n,
        n_merged=fit.rows.n_merged,
        n_dropped=fit.rows.n_dropped,
        has_weights=fit.rows.has_weights,
        has_offset=fit.rows.has_offset,
        residual=residual if residual is not None else fit.rows.residual,
        summaries={**recorder.summaries, "residual variance": fit.residual_variance},
    )
    slim = _with_rows(fit, cast(ModelRows, rows))
    result = replace(fit.optimizer_result, raw=None)
    estimate = fit.residual.without_rows()
    if own is not None:
        estimate = replace(estimate, model=own)
    elif residual is not None:
        model = replace(cast(LogLinear, estimate.model), rows=cast(Any, residual))
        estimate = replace(estimate, model=model)
    return replace(slim, optimizer_result=result, residual=estimate)


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
    term = model.rows.random_term
    if term is not None:
        none = np.zeros(0, dtype=np.intp)
        term = RandomTermRows(term.group, term.n_levels, none, np.zeros((0, 1)))
    return SlimResidualRows(term, {"coordinates": coordinates})
