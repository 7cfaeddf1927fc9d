"""Plots of data and fitted lines: one panel a level, or all levels in one panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.plots.axes import (
    BLUE,
    DARK_GREY,
    GREY,
    MAX_TICK_LABELS,
    VERMILION,
    despine,
    flatten_axes,
    format_label,
    label_rows,
    legend,
    rasterize,
    size_for_rows,
    subplots,
)
from mixedfx.plots.plot_data import is_number

# Up to so many levels have a panel each; of more than MAX_LINES in one panel a sample is shown.
MAX_PANELS, MAX_LINES = 30, 500
# Width and height of a panel in inches, by the largest number of panels it holds for.
_PANEL_SIZES = ((1, (4.8, 3.6)), (2, (3.4, 3.2)), (6, (2.4, 2.2)), (np.inf, (1.8, 1.65)))
_PARTIALLY_POOLED, _POPULATION, _UNPOOLED = "partially pooled", "population", "unpooled"


@dataclass(frozen=True)
class FittedLines:
    """
    Tables of a plot of fitted lines.

    Parameters
    ----------
    points : pandas.DataFrame
        ``level x response``, the rows of the data; without x if there is no covariate.
    lines : pandas.DataFrame
        ``level x partial population unpooled inside``, new rows; ``inside`` where x is within
        its range in the level's own rows.
    population : pandas.DataFrame
        ``x population``, the other covariates at their values over all rows.
    group : str
        The grouping factor.
    x : str or None
        The covariate on the horizontal axis, if any.
    response : str
        The response.
    n_levels : int
        Number of levels, also of those not shown.
    held_at : str
        Levels of the factors that vary within levels, at which all lines are; empty without.
    unit : str
        What the mean of the response is, where it is not on the response's own scale.
    """

    points: pd.DataFrame
    lines: pd.DataFrame
    population: pd.DataFrame
    group: str
    x: str | None
    response: str
    n_levels: int
    held_at: str = ""
    unit: str = ""

    @property
    def response_label(self) -> str:
        """Label of the axis of the response."""
        label = format_label(self.response)
        return f"{label} ({self.unit})" if self.unit else label


def fitted(table: FittedLines, *, unpooled: bool = True, ax: Any = None) -> Any:
    """Plot data and fitted lines by level."""
    levels = list(dict.fromkeys(table.lines["level"]))
    if table.x is None:
        return _one_row_per_level(table, unpooled, ax)
    count = None if ax is None else len(flatten_axes(ax))
    if count not in (None, 1, len(levels)):
        raise ArgumentError(
            f"{len(levels)} axes are needed, one for each level, or one for all; got {count}."
        )
    if (len(levels) > MAX_PANELS and count is None) or count == 1 < len(levels):
        return _all_in_one(table, ax)
    return _one_panel_per_level(table, levels, unpooled, ax)


def _one_panel_per_level(table: FittedLines, levels: Sequence[Any], unpooled: bool, ax: Any) -> Any:
    ncols = 2 if len(levels) == 4 else int(np.clip(np.ceil(np.sqrt(1.6 * len(levels))), 1, 6))
    size = next(size for count, size in _PANEL_SIZES if len(levels) <= count)
    axes = subplots(ax, len(levels), size=size, what="level", ncols=ncols, shared=True)
    to_x, categories = _x_positions(table)
    points = dict(list(table.points.groupby("level", sort=False, observed=True)))
    lines = dict(list(table.lines.groupby("level", sort=False, observed=True)))
    for one, level in zip(axes, levels, strict=True):
        x, y = to_x(points[level]["x"]), points[level]["response"]
        one.plot(x, y, "o", color=DARK_GREY, markersize=3, markeredgewidth=0)
        markers = {"marker": "" if categories is None else "o", "markersize": 3.5}
        _draw_lines(one, lines[level], to_x, unpooled, markers)
        title = format_label(level, max_length=int(11 * size[0]))
        one.set_title(title, fontsize=9, pad=3)
        _set_category_ticks(one, categories, max_length=5 * size[0])
        if categories is None and len(levels) > 2:
            one.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
        despine(one)
    _label_panels(table, axes, own_figure=ax is None)
    return axes


def _draw_lines(
    ax: Any, line: pd.DataFrame, to_x: Any, unpooled: bool, markers: Mapping[str, Any]
) -> None:
    x = to_x(line["x"])
    ax.plot(x, line["population"], color=VERMILION, linewidth=1, label=_POPULATION, **markers)
    if unpooled:
        observed = line[line["inside"]]
        ax.plot(
            to_x(observed["x"]),
            observed["unpooled"],
            "--",
            color=GREY,
            linewidth=1.3,
            label=_UNPOOLED,
            **markers,
        )
    ax.plot(x, line["partial"], color=BLUE, linewidth=1.5, label=_PARTIALLY_POOLED, **markers)


def _label_panels(table: FittedLines, axes: Any, *, own_figure: bool) -> None:
    """Label the figure if it holds only these panels, else each panel."""
    if own_figure:
        figure = axes[0].figure
        figure.supxlabel(format_label(table.x), fontsize=10)
        figure.supylabel(table.response_label, fontsize=10)
        if table.held_at:
            figure.suptitle(f"Lines at {table.held_at}", fontsize=8, x=0.02, ha="left")
        handles, labels = axes[0].get_legend_handles_labels()
        legend(figure, handles=handles, labels=labels, loc="outside upper right", ncols=3)
        return
    _write_held_at(table, axes[0])
    for one in axes:
        one.set_xlabel(format_label(table.x))
        one.set_ylabel(table.response_label)
    legend(axes[0])


def _write_held_at(table: FittedLines, ax: Any, *, room: float = 0.0) -> None:
    """Write at which levels of other factors the lines are, with some room above the rows."""
    if table.held_at:
        bottom, top = ax.get_ylim()
        if room:
            ax.set_ylim(bottom, top + room)
        place = {"transform": ax.transAxes, "ha": "left", "va": "top", "fontsize": 8}
        ax.text(0.01, 0.99, f"Lines at {table.held_at}", **place)


def _all_in_one(table: FittedLines, ax: Any) -> Any:
    axes = subplots(ax, 1, size=(6.0, 4.6))
    (ax,) = axes

    to_x, categories = _x_positions(table)
    points, lines = table.points, table.lines[table.lines["inside"]]
    many = len(points) > 2_000
    ax.plot(
        to_x(points["x"]),
        points["response"],
        "o",
        color=GREY,
        markersize=2 if many else 3,
        alpha=0.5,
        markeredgewidth=0,
        zorder=1,
        rasterized=rasterize(len(points)),
    )
    polylines = [
        np.column_stack([to_x(line["x"]), line["partial"]])
        for _, line in lines.groupby("level", sort=False, observed=True)
    ]
    _draw_polylines(ax, polylines)
    population = table.population
    x = to_x(population["x"])
    ax.plot(x, population["population"], color=VERMILION, linewidth=2.2, label=_POPULATION)
    ax.autoscale_view()
    _set_category_ticks(ax, categories, max_length=40.0)
    ax.set_xlabel(format_label(table.x))
    ax.set_ylabel(table.response_label)
    ax.set_title(_level_count(table, len(polylines)), fontsize=10, loc="left")
    _write_held_at(table, ax)
    despine(ax)
    legend(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    for handle in ax.get_legend().get_lines():
        handle.set_alpha(1.0)
    return axes


def _draw_polylines(ax: Any, polylines: Sequence[Any]) -> None:
    """Add the fitted lines of all levels, those of one point as dashes."""
    from matplotlib.collections import LineCollection

    style: dict[str, Any] = {"alpha": float(np.clip(25 / len(polylines), 0.15, 0.8)), "zorder": 2}
    lines = LineCollection(polylines, colors=BLUE, linewidths=0.8, label=_PARTIALLY_POOLED, **style)
    ax.add_collection(lines)
    single = np.array([line[0] for line in polylines if len(line) == 1]).reshape(-1, 2)
    ax.plot(*single.T, "_", color=BLUE, markersize=5, **style)


def _one_row_per_level(table: FittedLines, unpooled: bool, ax: Any) -> Any:
    """Plot without a covariate: points and means of each level in a row of its own."""
    lines = table.lines.iloc[np.argsort(table.lines["partial"].to_numpy(), kind="stable")]
    axes = subplots(ax, 1, size=size_for_rows(lines["level"], 5.2))
    (ax,) = axes
    many = len(lines) > MAX_TICK_LABELS
    y = np.arange(len(lines))
    points = table.points
    y_of_level = pd.Series(y, index=lines["level"].to_numpy())
    y_of_points = y_of_level.reindex(points["level"].to_numpy()).to_numpy()
    ax.plot(
        points["response"],
        y_of_points,
        "o",
        color=DARK_GREY,
        markersize=2 if many else 3,
        alpha=0.5,
        markeredgewidth=0,
        rasterized=rasterize(len(points)),
        label=format_label(table.response),
    )
    size = 2.0 if many else 5.5
    population = lines["population"].to_numpy()
    if np.ptp(population) <= 1e-9 * np.abs(population).max(initial=0.0):
        ax.axvline(population[0], color=VERMILION, linewidth=1.2, zorder=1, label=_POPULATION)
    else:
        ax.plot(population, y, "|", color=VERMILION, markersize=2 * size, label=_POPULATION)
    if unpooled:
        edge = {"markeredgecolor": GREY, "markeredgewidth": 0.6 if many else 1.0}
        ax.plot(lines["unpooled"], y, "o", color="white", markersize=size, **edge, label=_UNPOOLED)
    ax.plot(lines["partial"], y, "o", color=BLUE, markersize=size * 0.8, label=_PARTIALLY_POOLED)
    ax.set_xlabel(table.response_label)
    label_rows(ax, lines["level"], table.group)
    _write_held_at(table, ax, room=max(0.8, 0.04 * len(lines)))
    if len(lines) < table.n_levels:
        ax.set_title(_level_count(table, len(lines)), fontsize=10, loc="left", pad=22)
    despine(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.0)
    return axes


def _level_count(table: FittedLines, count: int) -> str:
    shown = f"{count:,} of {table.n_levels:,}" if count < table.n_levels else f"{count:,}"
    return f"{shown} levels of {format_label(table.group)}"


def _x_positions(table: FittedLines) -> tuple[Any, list[str] | None]:
    """Map from values of x to positions, and the tick labels if x is categorical."""
    column = table.lines["x"]
    if is_number(column) or is_number(pd.Series(column.tolist())):
        return (lambda x: x.to_numpy(dtype=float)), None
    values = list(dict.fromkeys(column))
    position = {value: i for i, value in enumerate(values)}
    labels = list(map(format_label, values))
    return (lambda x: np.array([position[value] for value in x], dtype=float)), labels


def _set_category_ticks(ax: Any, labels: list[str] | None, *, max_length: float) -> None:
    """Label the categories of x, rotated if the labels exceed a number of characters."""
    if labels is not None:
        rotate = sum(map(len, labels)) > max_length
        alignment = "right" if rotate else "center"
        ax.set_xticks(range(len(labels)), labels, rotation=45 if rotate else 0, ha=alignment)
        ax.set_xlim(-0.4, len(labels) - 0.6)
