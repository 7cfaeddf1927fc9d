"""Doubts to pictures: residuals, their distribution, and what single rows do to the fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.plots.axes import (
    ACCENT,
    GREY,
    INK,
    MOST_NAMES,
    PALE,
    as_pixels,
    axes_for,
    bare,
    legend,
    name_points,
    name_rows,
    note,
    shown,
    size_for,
)
from mixedfx.plots.plot_data import boxes, quantiles, trend

_MANY = 400


def against(table: pd.DataFrame, x: str, y: str, *, zero: bool = False, ax: Any = None) -> Any:
    """Draw points and the mean of one column where the other has about the same value."""
    (ax,) = axes_for(ax, 1, size=(5.2, 3.8))
    points = table[[x, y]].astype(float)
    points = points[np.isfinite(points.to_numpy()).all(axis=1)]
    if zero:
        ax.axhline(0.0, color=GREY, linewidth=1, zorder=1)
    _scatter(ax, points[x], points[y])
    means = trend(points[x], points[y])
    if len(means) > 1:
        ax.plot(
            means["x"],
            means["y"],
            "o-",
            color=ACCENT,
            markersize=3.5,
            linewidth=1.4,
            zorder=3,
            label="mean of neighbours",
        )
        legend(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    bare(ax)
    return ax


def _scatter(ax: Any, x: Any, y: Any) -> None:
    many = len(x) > _MANY
    ax.plot(
        x,
        y,
        "o",
        color=INK,
        markersize=2 if many else 4,
        alpha=float(np.clip(1000 / max(len(x), 1), 0.08, 0.6)) if many else 0.6,
        markeredgewidth=0,
        zorder=2,
        rasterized=as_pixels(len(x)),
    )


def by_level(values: pd.Series, levels: Any, *, group: str, ax: Any = None) -> Any:
    """Draw the quartiles of values level by level, sorted by the median."""
    table = boxes(values, levels).sort_values("median", kind="stable")
    (ax,) = axes_for(ax, 1, size=size_for(table.index, 4.8))
    many = len(table) > MOST_NAMES
    height = np.arange(len(table))
    ax.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    ax.hlines(height, table["low"], table["high"], color=PALE if many else GREY, linewidth=0.8)
    ax.hlines(height, table["q1"], table["q3"], color="#99C2DE", linewidth=0.8 if many else 6)
    ax.plot(table["median"], height, "o", color=INK, markersize=1.5 if many else 4, zorder=3)
    if not many:
        at = pd.Series(height, index=table.index)
        row = pd.Series(np.asarray(levels, dtype=object), index=values.index)
        far = (values < row.map(table["low"])) | (values > row.map(table["high"]))
        ax.plot(values[far], row[far].map(at), "o", color=GREY, markersize=3, zorder=2)
    ax.set_xlabel(str(values.name))
    name_rows(ax, table.index, group)
    bare(ax)
    return ax


def qq(samples: Mapping[str, pd.Series], *, ylabel: str, ax: Any = None) -> Any:
    """Draw standardised values against the quantiles of a normal sample."""
    axes = axes_for(ax, len(samples), size=(4.0, 3.8), what="effect", columns=3)
    for one, (title, values) in zip(axes, samples.items(), strict=True):
        if title:
            one.set_title(shown(title))
        one.set_xlabel("quantile of the standard normal")
        one.set_ylabel(ylabel)
        bare(one)
        table = quantiles(values)
        if len(table):
            _one_qq(one, table)
        else:
            note(one, "its variance is estimated as zero:\nthere is nothing to compare")
    return axes


def _one_qq(ax: Any, table: pd.DataFrame) -> None:
    x, y = table["theoretical"], table["value"]
    ax.fill_between(x, table["low"], table["high"], color=PALE, alpha=0.6, linewidth=0, zorder=0)
    ends = np.array([x.iloc[0], x.iloc[-1]]) if len(x) > 1 else np.array([-1.0, 1.0])
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    many = len(x) > _MANY
    ax.plot(x, y, "o", color=INK, markersize=2.5 if many else 4, markeredgewidth=0, zorder=2)
    outside = pd.concat([table["low"] - y, y - table["high"]], axis=1).max(axis=1)
    worst = outside[outside > 0.0].sort_values(ascending=False).index[:3]
    if table.index.is_unique and len(worst):
        ax.margins(0.08)
        left = ["left" if here > 0.0 else "right" for here in x[worst]]
        name_points(
            ax, x[worst], y[worst], worst, most=3, sides=left, avoid=table[["theoretical", "value"]]
        )


def influence(distance: pd.Series, *, group: str | None = None, ax: Any = None) -> Any:
    """Draw Cook's distances as stems."""
    if group is not None and len(distance) <= MOST_NAMES:
        return _ranked(distance.sort_values(na_position="first"), group, ax)
    (ax,) = axes_for(ax, 1, size=(6.4, 3.4))
    place = np.arange(1, len(distance) + 1)
    values = distance.to_numpy(dtype=float)
    known = np.isfinite(values)
    width = float(np.clip(150 / max(len(values), 1), 0.7, 2.0))
    ax.vlines(place[known], 0.0, values[known], color=INK, linewidth=width)
    top = float(np.max(values[known], initial=0.0))
    ax.set_ylim(0.0, 1.15 * top if top > 0.0 else 1.0)
    space = 0.5 + 0.01 * len(values)
    ax.set_xlim(1.0 - space, len(values) + space)
    ax.set_xlabel(
        "row, in the order of the data" if group is None else f"level of {group}, by number"
    )
    ax.set_ylabel("Cook's distance")
    bare(ax)
    order = np.argsort(-np.where(known, values, -np.inf), kind="stable")[:20]
    order = order[known[order] & (values[order] > 0.0)]
    # No name may stand on another's stem: on points of it, near enough to each other.
    steps = np.linspace(0.0, 1.0, 30)
    tall = np.argsort(-np.where(known, values, -np.inf), kind="stable")[:200]
    stems = np.column_stack([place[tall].repeat(30), np.outer(values[tall], steps).ravel()])
    stems = stems[np.isfinite(stems).all(axis=1)]
    names = distance.index[order]
    if group is not None:  # a level's name may be a number, too
        names = pd.Index([f"{group} {name}" for name in names])
    name_points(ax, place[order], values[order], names, avoid=stems)
    return ax


def _ranked(distance: pd.Series, group: str, ax: Any) -> Any:
    (ax,) = axes_for(ax, 1, size=size_for(distance.index, 4.8))
    height = np.arange(len(distance))
    values = distance.to_numpy(dtype=float)
    known = np.isfinite(values)
    ax.hlines(height[known], 0.0, values[known], color=INK, linewidth=1.4)
    ax.plot(values[known], height[known], "o", color=INK, markersize=4)
    ax.set_xlim(0.0, 1.06 * max(float(np.max(values[known], initial=0.0)), 1e-12))
    ax.set_xlabel("Cook's distance on leaving the level out")
    name_rows(ax, distance.index, group)
    bare(ax)
    return ax
