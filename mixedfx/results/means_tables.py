"""Tables of the plots of means, slopes and predictions: estimates, and the data behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedfx import plots
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.emmeans import emmeans
from mixedfx.inference.emmeans.marginal_means import EMMeans
from mixedfx.inference.emmeans.means_formula import means_request
from mixedfx.inference.emmeans.means_grid import grid_variables
from mixedfx.inference.emmeans.reference_grid import grid_levels, level_text
from mixedfx.inference.emmeans.response_means import on_scale
from mixedfx.inference.emmeans.scale import TransformedResponse, mean_function
from mixedfx.inference.emmeans.slopes import variable_ranges
from mixedfx.inference.residual_kinds import residuals_of_kind
from mixedfx.results.plot_inputs import response_name, rows_drawn

# Values of a number along the horizontal axis, rows drawn at most, and values with colours.
_POINTS, _MOST_ROWS = 80, 6_000
_AROUND = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class PlotRequest:
    """What a plot of means shows: variables of x, colours and panels, and on which scale."""

    names: tuple[str, ...]
    at: Mapping[str, Any]
    which: str
    data: str | bool

    @property
    def roles(self) -> tuple[str, str | None, str | None]:
        """Variables of x, colours and panels."""
        first, *others = self.names
        color, panel = (*others, None, None)[:2]
        return first, color, panel


def requested(
    fit: FittedModel, x: Any, by: Any, at: Mapping[str, Any] | None, which: str, data: Any
) -> PlotRequest:
    """Check what a plot of means shows; numbers of which there is one value get several."""
    check_choice("which", which, ("linear", "mean"))
    if not isinstance(data, bool):
        check_choice("data", data, ("raw", "partial"))
    variables = grid_variables(fit)
    request = means_request(x, by, variables, argument="x")
    names = (*request.specs, *request.by)
    if not names:
        raise ArgumentError(f"x={x!r} names no variable to draw along the horizontal axis.")
    if len(names) > 3:
        raise ArgumentError(
            f"{len(names)} variables ({', '.join(names)}) are more than an axis, colours and "
            "panels can show: name three, and give others a value with at=."
        )
    grid_levels(variables, at)  # checked before it is added to
    values = dict(at or {})
    for name in names[1:]:
        if variables[name].at_mean and name not in values:
            values[name] = _around_mean(fit, name)
    return PlotRequest(names, values, which, data)


def _around_mean(fit: FittedModel, name: str) -> list[float]:
    """The mean of a number and one standard deviation on either side, to three digits."""
    column = np.asarray(fit.rows.columns[name], dtype=float)
    mean, sd = float(column.mean()), float(column.std())
    low, high = variable_ranges(fit)[name]
    return sorted({float(f"{np.clip(mean + k * sd, low, high):.3g}") for k in _AROUND})


def drawn_as(fit: FittedModel, request: PlotRequest) -> tuple[PlotRequest, Callable[..., Any]]:
    """What is drawn and its plot: curves over the range of a number without values, or points."""
    x = request.names[0]
    if not grid_variables(fit)[x].at_mean or x in request.at:
        return request, plots.means
    low, high = variable_ranges(fit)[x]
    along = replace(request, at={**request.at, x: np.linspace(low, high, _POINTS)})
    return along, plots.curves


def means_of(
    fit: FittedModel, ddf: DenominatorDf, request: PlotRequest, *, conf_level: float
) -> EMMeans:
    """Marginal means that a plot shows."""
    names = list(request.names)
    means = emmeans(fit, ddf, names, at=request.at, conf_level=conf_level)
    return on_scale(fit, means, request.which, bias_adjust=False)


def drawn_table(
    fit: FittedModel, request: PlotRequest, means: EMMeans, *, what: str, connect: bool = False
) -> plots.MeansTable:
    """Tables of a plot of means or slopes; the data are drawn unless they are of another scale."""
    estimates = _roles(means.table, request.roles)
    name = next(n for n in ("emmean", "slope") if n in means.table)
    estimates = estimates.assign(
        estimate=means.table[name],
        conf_low=means.table["conf_low"],
        conf_high=means.table["conf_high"],
    )
    points = _points(fit, request, estimates)
    caption = _caption(means, what, request)
    if points is not None and len(points) == _MOST_ROWS < fit.rows.n:
        caption += f"; {_MOST_ROWS:,} random rows"
    return plots.MeansTable(
        estimates=estimates,
        points=points,
        names=request.roles,
        response=response_label(fit, request.which),
        caption=caption,
        connect=connect,
        spread=0.0 if request.data == "partial" else _spread(fit),
    )


def slopes_table(
    fit: FittedModel, request: PlotRequest, slopes: EMMeans, variable: str
) -> plots.MeansTable:
    """Tables of a plot of slopes along a variable, with a line at zero."""
    table = drawn_table(fit, request, slopes, what=f"Slopes by {variable}")
    label = f"slope of {response_label(fit, request.which)} by {plots.format_label(variable)}"
    return replace(table, response=label, null=0.0)


def _roles(table: pd.DataFrame, roles: Sequence[str | None]) -> pd.DataFrame:
    """Columns x, color and panel of a table of levels; one level of those without a variable."""
    pairs = zip(("x", "color", "panel"), roles, strict=True)
    blank = np.full(len(table), "")
    return pd.DataFrame({k: blank if n is None else np.asarray(table[n]) for k, n in pairs})


def response_label(fit: FittedModel, which: str) -> str:
    """Label of the axis of means on some scale."""
    mean = mean_function(fit)
    if isinstance(mean, TransformedResponse):
        return plots.format_label(mean.link.column if which == "mean" else mean.link.code)
    name, unit = response_name(fit)
    label = plots.format_label(name)
    if which == "linear":
        unit = fit.spec.family.predictor_name
    return f"{label} ({unit})" if unit else label


def _caption(means: EMMeans, what: str, request: PlotRequest) -> str:
    """What is drawn, over what it is averaged and where other variables are."""
    behind = " and partial residuals" if request.data == "partial" else ""
    parts = [f"{what} with {100 * means.conf_level:g}% confidence intervals{behind}"]
    if means.averaged_over:
        parts.append(f"averaged over {', '.join(means.averaged_over)}")
    if means.fixed_at:
        values = (f"{name} = {_short(value)}" for name, value in means.fixed_at.items())
        parts.append(f"at {', '.join(values)}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else level_text(value)


# ---------------------------------------------------------------- the data


def _points(fit: FittedModel, request: PlotRequest, estimates: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of the data at the levels that are drawn, on the scale of the means."""
    if request.data is False:
        return None
    drawn, _ = rows_drawn(fit)
    if not drawn.rows.in_memory:
        return None
    points = _roles(drawn.rows.model_frame, request.roles)
    kept = np.ones(len(points), dtype=bool)
    for column, name in zip(("x", "color", "panel"), request.roles, strict=True):
        levels = pd.Index(estimates[column].unique())
        number = plots.is_number(pd.Series(levels))
        if name is None or (column == "x" and number):
            continue
        if number:
            points[column] = _nearest(points[column], levels)
        else:
            kept &= points[column].isin(levels).to_numpy()
    response = _response(drawn, request)
    if request.data == "partial":
        response = _curve_at(points, estimates) + _partial_residuals(drawn, request)
    if response is None:
        return None
    shown: pd.DataFrame = points.assign(response=response).loc[kept & np.isfinite(response)]
    if len(shown) > _MOST_ROWS:
        shown = shown.sample(_MOST_ROWS, random_state=np.random.default_rng(0)).sort_index()
    return shown


def _nearest(values: pd.Series, levels: pd.Index) -> Any:
    """The level that each number is nearest to."""
    known = levels.to_numpy(dtype=float)
    return known[np.abs(values.to_numpy(float)[:, None] - known).argmin(axis=1)]


def _response(fit: FittedModel, request: PlotRequest) -> Any:
    """Response of each row on the scale drawn; None where it has no values there."""
    mean, y = mean_function(fit), np.asarray(fit.rows.y, dtype=float)
    transformed = isinstance(mean, TransformedResponse)
    if request.which == "linear":
        return y if transformed or not mean.predictor_name else None
    return mean.mean(y) if transformed else y


def _curve_at(points: pd.DataFrame, estimates: pd.DataFrame) -> Any:
    """Estimate at each row's x, colour and panel, interpolated along a number."""
    values = np.full(len(points), np.nan)
    number = plots.is_number(estimates["x"])
    for key, own in estimates.groupby(["color", "panel"], sort=False, observed=True):
        rows = np.asarray((points["color"] == key[0]) & (points["panel"] == key[1]))
        x = points["x"][rows]
        if number:
            own = own.sort_values("x")
            values[rows] = np.interp(x.to_numpy(float), own["x"].to_numpy(float), own["estimate"])
        else:
            values[rows] = x.map(own.set_index("x")["estimate"]).to_numpy(float)
    return values


def _partial_residuals(fit: FittedModel, request: PlotRequest) -> Any:
    """Residuals of the rows, given their random effects, on the scale drawn."""
    mean, kind = mean_function(fit), "response"
    if isinstance(mean, TransformedResponse):
        if request.which == "mean":
            raise ArgumentError(
                f"data='partial': residuals are of {mean.link.code}: add which='linear', or draw "
                "the data, data='raw'."
            )
    elif request.which == "linear" and mean.predictor_name:
        kind = "working"
    return residuals_of_kind(fit, kind, random="fitted", rng=0).to_numpy(float)


def _spread(fit: FittedModel) -> float:
    """Vertical jitter of a response of two values."""
    values = np.unique(np.asarray(fit.rows.y)) if fit.rows.in_memory else np.zeros(0)
    return 0.05 * float(np.ptp(values)) if len(values) == 2 else 0.0
