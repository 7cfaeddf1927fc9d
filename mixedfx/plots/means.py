"""Plots of means, slopes and predictions with their intervals, over the data.

One variable is along the horizontal axis, a second has a colour for each level, a third a panel.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.plots.axes import (
    BLUE,
    DARK_GREY,
    GREY,
    VERMILION,
    despine,
    format_label,
    legend,
    rasterize,
    subplots,
)
from mixedfx.plots.plot_data import is_number

Vector = npt.NDArray[np.float64]

# Okabe and Ito's colours, the two that are easiest to tell apart first.
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MAX_PANELS, MAX_CATEGORIES = 16, 40
# Width of what belongs to one category, in distances of categories: with data, and without.
_SPREAD, _NARROW = 0.66, 0.24
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class MeansTable:
    """
    Tables of a plot of means.

    Parameters
    ----------
    estimates : pandas.DataFrame
        ``x color panel estimate conf_low conf_high``; the last two absent without intervals.
    points : pandas.DataFrame or None
        ``x color panel response``, the data behind.
    names : tuple of str or None
        Variables of x, of the colours and of the panels.
    response : str
        Label of the vertical axis.
    caption : str
        What is drawn, in a sentence.
    connect : bool
        Whether the means of categories are joined by lines.
    null : float or None
        Value of a horizontal line: no effect.
    spread : float
        Width of vertical jitter of the points, for responses of few values.
    """

    estimates: pd.DataFrame
    points: pd.DataFrame | None
    names: tuple[str, str | None, str | None]
    response: str
    caption: str = ""
    connect: bool = False
    null: float | None = None
    spread: float = 0.0

    def __post_init__(self) -> None:
        """Refuse more levels than can be told apart."""
        limits = (("color", self.names[1], len(COLORS)), ("panel", self.names[2], MAX_PANELS))
        for column, name, most in limits:
            count = self.estimates[column].nunique()
            if count > most:
                raise ArgumentError(
                    f"'{name}' has {count} levels, and {most} {column}s can be told apart: give "
                    f"some of them, as at={{{name!r}: [...]}}, or put it on the horizontal axis."
                )
        categories = self.estimates["x"].nunique()
        if not is_number(self.estimates["x"]) and categories > MAX_CATEGORIES:
            raise ArgumentError(
                f"'{self.names[0]}' has {categories} levels, more than {MAX_CATEGORIES}, which an "
                f"axis shows: give some of them, as at={{{self.names[0]!r}: [...]}}."
            )

    @property
    def has_intervals(self) -> bool:
        """Whether estimates have intervals."""
        return "conf_low" in self.estimates

    def levels(self, column: str) -> list[Any]:
        """Levels of x, of the colours or of the panels, in order."""
        return list(dict.fromkeys(self.estimates[column]))


def means(table: MeansTable, *, ax: Any = None) -> Any:
    """Plot means as points with intervals, side by side by colour, along levels or numbers."""
    levels, number = table.levels("x"), is_number(table.estimates["x"])
    colors = table.levels("color")
    width = max(3.6, 1.2 + 0.5 * len(levels) * max(1.0, 0.55 * len(colors)))
    axes, own = _panels(table, min(width, 11.0), ax)
    at, to_x = _positions(table.estimates["x"], levels)
    gap = float(np.diff(np.sort(at)).min(initial=1.0 if len(at) == 1 else np.inf))
    step = gap * (_NARROW if table.points is None else _SPREAD) / len(colors)
    for one, panel in zip(axes, table.levels("panel"), strict=True):
        _null_line(table, one)
        for i, color in enumerate(colors):
            shift = (i - 0.5 * (len(colors) - 1)) * step
            _points(table, one, panel, color, to_x, shift, 0.0 if number else step)
            drawn = _of(table.estimates, panel, color)
            _mean_points(table, one, to_x(drawn["x"]) + shift, drawn, COLORS[i], color)
        room = 14.0 * one.figure.get_size_inches()[0] / len(axes)
        _set_levels(one, at, [format_label(_level_text(level)) for level in levels], room=room)
        ends = to_x(table.points["x"]) if number and table.points is not None else at
        one.set_xlim(min(at.min(), *ends) - 0.6 * gap, max(at.max(), *ends) + 0.6 * gap)
    _finish(table, axes, own)
    return axes


def _positions(column: pd.Series, levels: list[Any]) -> tuple[Vector, Any]:
    """Positions of the levels, and the map from values to them: numbers are their own."""
    if is_number(column):
        return np.array(levels, dtype=float), lambda values: values.to_numpy(float)
    position = {level: i for i, level in enumerate(levels)}
    at = np.arange(len(levels), dtype=float)
    return at, lambda values: np.array([position[value] for value in values], dtype=float)


def curves(table: MeansTable, *, ax: Any = None) -> Any:
    """Plot the means along a number as lines with bands."""
    axes, own = _panels(table, 5.4, ax)
    for one, panel in zip(axes, table.levels("panel"), strict=True):
        _null_line(table, one)
        for i, color in enumerate(table.levels("color")):
            _points(table, one, panel, color, lambda x: x.to_numpy(float), 0.0, 0.0)
            drawn = _of(table.estimates, panel, color).sort_values("x")
            x = drawn["x"].to_numpy(float)
            if table.has_intervals:
                limits = drawn["conf_low"].to_numpy(float), drawn["conf_high"].to_numpy(float)
                one.fill_between(x, *limits, color=COLORS[i], alpha=0.16, linewidth=0, zorder=2)
            label = _color_label(table, color)
            one.plot(x, drawn["estimate"], color=COLORS[i], linewidth=2.0, label=label, zorder=3)
        one.margins(x=0.02)
    _finish(table, axes, own)
    return axes


def _panels(table: MeansTable, width: float, ax: Any) -> tuple[Any, bool]:
    """Axes of the panels, and whether they are of a new figure."""
    count = len(table.levels("panel"))
    size = (width, 3.7) if count == 1 else (max(2.6, 0.55 * width), 3.0)
    if count == 1 and table.names[1] is not None:
        size = (width + 0.9, size[1])
    ncols = min(count, 4 if count > 4 else count)
    axes = subplots(ax, count, size=size, what="panel", ncols=ncols, shared=ax is None)
    for one, level in zip(axes, table.levels("panel"), strict=True):
        if table.names[2] is not None:
            title = f"{format_label(table.names[2])}: {format_label(_level_text(level))}"
            one.set_title(title, fontsize=9, pad=3, loc="left")
        despine(one)
    return axes, ax is None


def _null_line(table: MeansTable, ax: Any) -> None:
    if table.null is not None:
        ax.axhline(table.null, color=GREY, linewidth=1.0, zorder=0)


def _of(table: pd.DataFrame, panel: Any, color: Any) -> pd.DataFrame:
    here: pd.DataFrame = table.loc[(table["panel"] == panel) & (table["color"] == color)]
    return here


def _points(
    table: MeansTable, ax: Any, panel: Any, color: Any, to_x: Any, shift: float, width: float
) -> None:
    """Draw the data faintly, jittered within a width."""
    if table.points is None:
        return
    points = _of(table.points, panel, color)
    i = table.levels("color").index(color)
    n, count = len(table.points), len(points)
    # The fractional parts of multiples of the golden ratio are evenly spread in any order.
    even = (np.arange(count) * _GOLDEN) % 1.0 - 0.5
    x = to_x(points["x"]) + shift + 0.7 * width * even
    y = points["response"].to_numpy(float)
    y = y + table.spread * ((np.arange(count) * np.sqrt(2.0)) % 1.0 - 0.5)
    ax.plot(
        x,
        y,
        "o",
        color=COLORS[i] if table.names[1] is not None else DARK_GREY,
        markersize=3.5 if n <= 2_000 else 2.0,
        alpha=float(np.clip(12.0 / np.sqrt(max(n, 1)), 0.08, 0.32)),
        markeredgewidth=0,
        rasterized=rasterize(n),
        zorder=1,
    )


def _mean_points(
    table: MeansTable, ax: Any, x: Vector, drawn: pd.DataFrame, paint: str, color: Any
) -> None:
    """Draw means and intervals of one colour, joined by lines if the plot says so."""
    estimate = drawn["estimate"].to_numpy(float)
    if table.connect:
        order = np.argsort(x)
        ax.plot(x[order], estimate[order], "-", color=paint, linewidth=1.4, alpha=0.8, zorder=3)
    if table.has_intervals:
        ax.vlines(x, drawn["conf_low"], drawn["conf_high"], color=paint, linewidth=2.0, zorder=3)
    style = {"color": paint, "markeredgecolor": "white", "markersize": 7.5, "zorder": 4}
    ax.plot(x, estimate, "o", label=_color_label(table, color), **style)


def _level_text(level: Any) -> str:
    number = isinstance(level, float | np.floating)
    return f"{level:.4g}" if number else str(level)


def _color_label(table: MeansTable, color: Any) -> str:
    return "_" if table.names[1] is None else format_label(_level_text(color))


def _set_levels(ax: Any, at: Vector, labels: list[str], *, room: float) -> None:
    """Label levels, rotated where they would overlap in a number of characters."""
    rotate = sum(map(len, labels)) + len(labels) > room
    alignment = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if rotate else {}
    ax.set_xticks(at, labels, **alignment)


def _finish(table: MeansTable, axes: Any, own: bool) -> None:
    """Axis labels, legend and caption, of the figure or of the axes given."""
    xlabel, several = format_label(table.names[0]), len(axes) > 1
    for one in axes:
        if not (own and several):
            one.set_xlabel(xlabel)
            one.set_ylabel(table.response)
    figure = axes[0].figure
    if own and several:
        figure.supxlabel(xlabel, fontsize=10)
        figure.supylabel(table.response, fontsize=10)
    if table.names[1] is not None:
        title = {"title": format_label(table.names[1]), "title_fontsize": 8.5, "alignment": "left"}
        if own:
            handles, labels = axes[0].get_legend_handles_labels()
            legend(figure, handles=handles, labels=labels, loc="outside right center", **title)
        else:
            legend(axes[-1], **title)
    if own and table.caption:
        text = textwrap.fill(table.caption, int(13.5 * figure.get_size_inches()[0]))
        figure.suptitle(text, fontsize=8, color=DARK_GREY, x=0.01, ha="left")
