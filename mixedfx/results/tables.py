"""Fitted values, residuals, influence, and broom's tables ``glance`` and ``augment``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from mixedfx.design.source import as_frame
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import ArgumentError, brief, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference import blocked_influence, prediction, several_prediction
from mixedfx.inference import influence as influences
from mixedfx.inference.information_criteria import aic, bic
from mixedfx.inference.streamed_responses import is_of_sums
from mixedfx.inference.variance_explained import variance_shares
from mixedfx.results.frames import FRAMES, converted
from mixedfx.streamed import level_influence as streamed_influence
from mixedfx.streamed import updating
from mixedfx.streamed.output import with_rows_of, write_parts


def fitted_values(fit: FittedModel) -> pd.Series:
    """Mean of each row given the random effects, offset included."""
    return pd.Series(prediction.fitted(fit), index=fit.rows.index, name="fitted")


def residuals(fit: FittedModel) -> pd.Series:
    """Response less fitted values."""
    values = fit.design.rows.y - prediction.fitted(fit)
    return pd.Series(values, index=fit.rows.index, name="resid")


def glance(fit: FittedModel) -> pd.DataFrame:
    """Size, criteria and shares of variance of a fit, in one row."""
    shares, scale = variance_shares(fit), fit.residual.scale(fit.solution.sigma)
    row = {
        "nobs": fit.nobs,
        "sigma": math.sqrt(scale) if scale is not None else math.nan,
        "llf": -0.5 * fit.deviance,
        "aic": aic(fit),
        "bic": bic(fit),
        "deviance": fit.deviance,
        "df_resid": fit.nobs - fit.crossprod.p,
        "icc": shares.icc.iloc[-1],
        "r2_marginal": shares.r2["marginal"],
        "r2_conditional": shares.r2["conditional"],
    }
    return pd.DataFrame([row])


def augment(fit: FittedModel, data: Any, to: Any) -> Any:
    """Fitted values, residuals and leverages beside the data, or beside a source's in files."""
    if _in_memory(to):
        return converted(_augmented(fit, data), to or "pandas")

    def joined(frame: pd.DataFrame) -> pd.DataFrame:
        own = with_rows_of(fit, frame)
        return frame if own is None else _augmented(own, frame)

    return write_parts(data, to, "fitted values", joined)


def predict(fit: FittedModel, data: Any, to: Any, **options: Any) -> Any:
    """Predictions, or the rows of a source with predictions in files."""
    if _in_memory(to):
        return converted(several_prediction.predict(fit, data, **options), to or "pandas")

    def joined(frame: pd.DataFrame) -> pd.DataFrame:
        found = several_prediction.predict(fit, frame, **options)
        table = found.to_frame("predicted") if isinstance(found, pd.Series) else found
        if table.columns.nlevels > 1:  # of a file's columns each has one name
            table = table.set_axis([" ".join(names) for names in table.columns], axis=1)
        _check_not_taken(table, frame)
        return pd.concat([frame, table], axis=1)

    return write_parts(data, to, "predictions", joined)


def _in_memory(to: Any) -> bool:
    """Whether a table is asked for, by the name of its library, and not files in a folder."""
    if to is not None and not isinstance(to, str | Path):
        listed = ", ".join(map(repr, FRAMES))
        raise ArgumentError(
            f"to={brief(to)} must be one of {listed}, or the path of a new folder for files."
        )
    return to is None or to in FRAMES


def _check_not_taken(computed: pd.DataFrame, table: pd.DataFrame) -> None:
    taken = [name for name in computed if name in table]
    if taken:
        raise ArgumentError(
            f"the data have a column named '{taken[0]}' already; rename it, or join "
            "fit.fittedvalues and fit.resid yourself."
        )


def _augmented(fit: FittedModel, data: Any = None) -> pd.DataFrame:
    """Join fitted values, residuals and leverages to the data."""
    index = fit.rows.index
    computed = pd.DataFrame(
        {
            "fitted": fitted_values(fit),
            "resid": residuals(fit),
            "fixed": several_prediction.predict(fit, random="none"),
            "hat": influences.leverages(fit),
        },
        index=index,
    )
    table = fit.rows.model_frame if data is None else as_frame(data)
    _check_not_taken(computed, table)
    if data is None:
        return pd.concat([table, computed], axis=1)
    if not (table.index.is_unique and index.isin(table.index).all()):
        raise ArgumentError("the data's index does not hold each row that was fitted, once.")
    return table.join(computed)


def influence(
    fit: FittedModel, of: str = "obs", method: str = "one_step", data: Any = None
) -> pd.DataFrame:
    """Influence of the rows, or of the levels of a grouping factor."""
    check_choice("method", method, ("one_step", "refit"))
    groups = influences.influence_groups(fit)
    check_choice("of", of, ("obs", *groups))
    updating.check_in_chunks(fit, data)
    if of in groups and is_of_sums(fit):
        return streamed_influence.level_influence(fit, of, method, data)
    if of in groups and isinstance(fit.rows, StreamedRows):
        return blocked_influence.level_influence(fit, of, method)
    if of in groups:
        return influences.level_influence(fit, of, method)
    return influences.row_influence(fit)
