"""Data and fitted lines to pictures: small multiples of a few levels, one overlay of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.plots.axes import (
    ACCENT,
    DARK,
    GREY,
    INK,
    MOST_NAMES,
    as_pixels,
    axes_for,
    bare,
    legend,
    listed,
    name_rows,
    shown,
    size_for,
)
from mixedfx.plots.plot_data import is_number

# So many levels have a panel each; of more than can be told apart in one, a sample is shown.
MOST_PANELS, MOST_LINES = 30, 500
# Width and height of panels, in inches, for up to so many.
_SIZES = ((1, (4.8, 3.6)), (2, (3.4, 3.2)), (6, (2.4, 2.2)), (np.inf, (1.8, 1.65)))
_PARTIAL, _SHARED, _ALONE = "partially pooled", "population", "unpooled"


@dataclass(frozen=True)
class Lines:
    """
    What a picture of fitted lines shows.

    Parameters
    ----------
    points : pandas.DataFrame
        ``level x response``, a row of the data each; without x if nothing runs.
    lines : pandas.DataFrame
        ``level x partial population unpooled inside``, new rows; ``inside`` where x is in the
        range that it has in the level's own rows.
    population : pandas.DataFrame
        ``x population``, all else as in all rows together.
    group, x, response : str or None
        Names of the grouping factor, of what runs, if anything, and of the response.
    levels : int
        How many levels there are, also those that are not shown.
    """

    points: pd.DataFrame
    lines: pd.DataFrame
    population: pd.DataFrame
    group: str
    x: str | None
    response: str
    levels: int


def fitted(table: Lines, *, unpooled: bool = True, ax: Any = None) -> Any:
    """Draw the data and what the model makes of each level."""
    levels = list(dict.fromkeys(table.lines["level"]))
    if table.x is None:
        return _by_level(table, unpooled, ax)
    given = None if ax is None else len(listed(ax))
    if given not in (None, 1, len(levels)):
        raise ArgumentError(
            f"{len(levels)} axes are needed, one for each level, or one for all; got {given}."
        )
    if (len(levels) > MOST_PANELS and given is None) or given == 1 < len(levels):
        return _overlay(table, ax)
    return _panels(table, levels, unpooled, ax)


def _panels(table: Lines, levels: Sequence[Any], unpooled: bool, ax: Any) -> Any:
    columns = 2 if len(levels) == 4 else int(np.clip(np.ceil(np.sqrt(1.6 * len(levels))), 1, 6))
    size = next(size for most, size in _SIZES if len(levels) <= most)
    axes = axes_for(
        ax,
        len(levels),
        size=size,
        what="level",
        columns=columns,
        shared=True,
    )
    place, ticks = _places(table)
    points = dict(list(table.points.groupby("level", sort=False, observed=True)))
    lines = dict(list(table.lines.groupby("level", sort=False, observed=True)))
    for one, level in zip(axes, levels, strict=True):
        rows, line = points[level], lines[level]
        one.plot(
            place(rows["x"]), rows["response"], "o", color=DARK, markersize=3, markeredgewidth=0
        )
        dots = {"marker": "" if ticks is None else "o", "markersize": 3.5}
        x = place(line["x"])
        one.plot(x, line["population"], color=ACCENT, linewidth=1, label=_SHARED, **dots)
        if unpooled:
            own = line[line["inside"]]
            one.plot(
                place(own["x"]),
                own["unpooled"],
                "--",
                color=GREY,
                linewidth=1.3,
                label=_ALONE,
                **dots,
            )
        one.plot(x, line["partial"], color=INK, linewidth=1.5, label=_PARTIAL, **dots)
        one.set_title(shown(level, most=int(11 * size[0])), fontsize=9, pad=3)
        _set_ticks(one, ticks, room=5 * size[0])
        if ticks is None and len(levels) > 2:
            one.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
        bare(one)
    _label_panels(table, axes, own=ax is None)
    return axes


def _label_panels(table: Lines, axes: Any, *, own: bool) -> None:
    """Label all panels together in a figure of their own, else each."""
    if own:
        figure = axes[0].figure
        figure.supxlabel(shown(table.x), fontsize=10)
        figure.supylabel(shown(table.response), fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        legend(figure, handles=handles, labels=labels, loc="outside upper right", ncols=3)
        return
    for one in axes:
        one.set_xlabel(shown(table.x))
        one.set_ylabel(shown(table.response))
    legend(axes[0])


def _overlay(table: Lines, ax: Any) -> Any:
    axes = axes_for(ax, 1, size=(6.0, 4.6))
    (ax,) = axes
    from matplotlib.collections import LineCollection

    place, ticks = _places(table)
    points, lines = table.points, table.lines[table.lines["inside"]]
    many = len(points) > 2_000
    ax.plot(
        place(points["x"]),
        points["response"],
        "o",
        color=GREY,
        markersize=2 if many else 3,
        alpha=0.5,
        markeredgewidth=0,
        zorder=1,
        rasterized=as_pixels(len(points)),
    )
    each = [
        np.column_stack([place(line["x"]), line["partial"]])
        for _, line in lines.groupby("level", sort=False, observed=True)
    ]
    alpha = float(np.clip(25 / len(each), 0.15, 0.8))
    ax.add_collection(
        LineCollection(each, colors=INK, linewidths=0.8, alpha=alpha, zorder=2, label=_PARTIAL)
    )
    single = np.array([line[0] for line in each if len(line) == 1]).reshape(-1, 2)
    ax.plot(*single.T, "_", color=INK, markersize=5, alpha=alpha, zorder=2)
    whole = table.population
    ax.plot(place(whole["x"]), whole["population"], color=ACCENT, linewidth=2.2, label=_SHARED)
    ax.autoscale_view()
    _set_ticks(ax, ticks, room=40.0)
    ax.set_xlabel(shown(table.x))
    ax.set_ylabel(shown(table.response))
    ax.set_title(_told(table, len(each)), fontsize=10, loc="left")
    bare(ax)
    legend(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    for handle in ax.get_legend().get_lines():
        handle.set_alpha(1.0)
    return axes


def _by_level(table: Lines, unpooled: bool, ax: Any) -> Any:
    """Draw a row per level, where no number runs."""
    lines = table.lines.sort_values("partial", kind="stable")
    axes = axes_for(ax, 1, size=size_for(lines["level"], 5.2))
    (ax,) = axes
    many = len(lines) > MOST_NAMES
    height = np.arange(len(lines))
    row = pd.Series(height, index=lines["level"].to_numpy())
    points = table.points
    at = row.reindex(points["level"].to_numpy()).to_numpy()
    ax.plot(
        points["response"],
        at,
        "o",
        color=DARK,
        markersize=2 if many else 3,
        alpha=0.5,
        markeredgewidth=0,
        rasterized=as_pixels(len(points)),
        label=shown(table.response),
    )
    size = 2.0 if many else 5.5
    shared = lines["population"].to_numpy()
    if np.ptp(shared) <= 1e-9 * np.abs(shared).max(initial=0.0):
        ax.axvline(shared[0], color=ACCENT, linewidth=1.2, zorder=1, label=_SHARED)
    else:
        ax.plot(shared, height, "|", color=ACCENT, markersize=2 * size, label=_SHARED)
    if unpooled:
        edge = {"markeredgecolor": GREY, "markeredgewidth": 0.6 if many else 1.0}
        ax.plot(
            lines["unpooled"], height, "o", color="white", markersize=size, **edge, label=_ALONE
        )
    ax.plot(lines["partial"], height, "o", color=INK, markersize=size * 0.8, label=_PARTIAL)
    ax.set_xlabel(shown(table.response))
    name_rows(ax, lines["level"], table.group)
    if len(lines) < table.levels:
        ax.set_title(_told(table, len(lines)), fontsize=10, loc="left", pad=22)
    bare(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.0)
    return axes


def _told(table: Lines, count: int) -> str:
    some = f"{count:,} of {table.levels:,}" if count < table.levels else f"{count:,}"
    return f"{some} levels of {shown(table.group)}"


def _places(table: Lines) -> tuple[Any, list[str] | None]:
    """Where values of x stand, and their names if they are no numbers."""
    column = table.lines["x"]
    if is_number(column) or is_number(pd.Series(column.tolist())):
        return (lambda x: x.to_numpy(dtype=float)), None
    values = list(dict.fromkeys(column))
    known = {value: i for i, value in enumerate(values)}
    return (lambda x: np.array([known[value] for value in x], dtype=float)), list(
        map(shown, values)
    )


def _set_ticks(ax: Any, ticks: list[str] | None, *, room: float) -> None:
    """Name the values of x, aslant if there is room for fewer letters."""
    if ticks is not None:
        long = sum(map(len, ticks)) > room
        ax.set_xticks(
            range(len(ticks)), ticks, rotation=45 if long else 0, ha="right" if long else "center"
        )
        ax.set_xlim(-0.4, len(ticks) - 0.6)
