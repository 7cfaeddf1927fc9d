"""Diagnostic plots: residuals, normal quantile plots, influence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import check_share
from mixedfx.plots.axes import (
    BLUE,
    GREY,
    LIGHT_BLUE,
    LIGHT_GREY,
    MAX_TICK_LABELS,
    VERMILION,
    despine,
    format_label,
    label_points,
    label_rows,
    legend,
    note_empty,
    rasterize,
    size_for_rows,
    subplots,
)
from mixedfx.plots.plot_data import binned_means, boxplot_stats, quantiles

_MANY_POINTS = 400


def scatter_with_trend(
    table: pd.DataFrame, x: str, y: str, *, zero: bool = False, ax: Any = None
) -> Any:
    """Plot two columns against each other, with the mean of y in bins of x."""
    (ax,) = subplots(ax, 1, size=(5.2, 3.8))
    points = table[[x, y]].astype(float)
    points = points[np.isfinite(points.to_numpy()).all(axis=1)]
    if zero:
        ax.axhline(0.0, color=GREY, linewidth=1, zorder=1)
    draw_points(ax, points[x], points[y])
    means = binned_means(points[x], points[y])
    if len(means) > 1:
        ax.plot(
            means["x"],
            means["y"],
            "o-",
            color=VERMILION,
            markersize=3.5,
            linewidth=1.4,
            zorder=3,
            label="mean of neighbours",
        )
        legend(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    despine(ax)
    return ax


def draw_points(ax: Any, x: Any, y: Any) -> None:
    """Draw points, smaller and fainter where there are many."""
    many = len(x) > _MANY_POINTS
    ax.plot(
        x,
        y,
        "o",
        color=BLUE,
        markersize=2 if many else 4,
        alpha=float(np.clip(1000 / max(len(x), 1), 0.08, 0.6)) if many else 0.6,
        markeredgewidth=0,
        zorder=2,
        rasterized=rasterize(len(x)),
    )


def boxplot_by_level(values: pd.Series, levels: Any, *, group: str, ax: Any = None) -> Any:
    """Plot box plots of values by level, sorted by the median."""
    table = boxplot_stats(values, levels).sort_values("median", kind="stable")
    (ax,) = subplots(ax, 1, size=size_for_rows(table.index, 4.8))
    many = len(table) > MAX_TICK_LABELS
    y = np.arange(len(table))
    ax.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    ax.hlines(y, table["low"], table["high"], color=LIGHT_GREY if many else GREY, linewidth=0.8)
    ax.hlines(y, table["q1"], table["q3"], color=LIGHT_BLUE, linewidth=0.8 if many else 6)
    ax.plot(table["median"], y, "o", color=BLUE, markersize=1.5 if many else 4, zorder=3)
    if not many:
        y_of_level = pd.Series(y, index=table.index)
        level = pd.Series(np.asarray(levels, dtype=object), index=values.index)
        outlier = (values < level.map(table["low"])) | (values > level.map(table["high"]))
        ax.plot(
            values[outlier], level[outlier].map(y_of_level), "o", color=GREY, markersize=3, zorder=2
        )
    ax.set_xlabel(str(values.name))
    label_rows(ax, table.index, group)
    despine(ax)
    return ax


def qq(
    samples: Mapping[str, pd.Series], *, ylabel: str, conf_level: float = 0.95, ax: Any = None
) -> Any:
    """Plot standardised values against standard normal quantiles, with pointwise bands."""
    check_share("conf_level", conf_level)
    axes = subplots(ax, len(samples), size=(4.0, 3.8), what="effect", ncols=3)
    for one, (title, values) in zip(axes, samples.items(), strict=True):
        if title:
            one.set_title(format_label(title))
        one.set_xlabel("quantile of the standard normal")
        one.set_ylabel(format_label(ylabel, max_length=60))
        despine(one)
        table = quantiles(values, conf_level=conf_level)
        if len(table):
            draw_qq(one, table)
        else:
            note_empty(one, "its variance is estimated as zero:\nthere is nothing to compare")
    return axes


def draw_qq(ax: Any, table: pd.DataFrame) -> None:
    """Draw a table of :func:`~mixedfx.plots.plot_data.quantiles`."""
    x, y = table["theoretical"], table["value"]
    ax.fill_between(
        x, table["low"], table["high"], color=LIGHT_GREY, alpha=0.6, linewidth=0, zorder=0
    )
    ends = np.array([x.iloc[0], x.iloc[-1]]) if len(x) > 1 else np.array([-1.0, 1.0])
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    many = len(x) > _MANY_POINTS
    ax.plot(x, y, "o", color=BLUE, markersize=2.5 if many else 4, markeredgewidth=0, zorder=2)
    outside = pd.concat([table["low"] - y, y - table["high"]], axis=1).max(axis=1)
    outliers = outside[outside > 0.0].sort_values(ascending=False).index[:3]
    if table.index.is_unique and len(outliers):
        ax.margins(0.08)
        sides = ["left" if quantile > 0.0 else "right" for quantile in x[outliers]]
        label_points(
            ax,
            x[outliers],
            y[outliers],
            outliers,
            max_labels=3,
            preferred=sides,
            avoid=table[["theoretical", "value"]],
        )


def influence(distance: pd.Series, *, group: str | None = None, ax: Any = None) -> Any:
    """Plot Cook's distances of rows or levels as stems."""
    if group is not None and len(distance) <= MAX_TICK_LABELS:
        return _ranked_influence(distance.sort_values(na_position="first"), group, ax)
    (ax,) = subplots(ax, 1, size=(6.4, 3.4))
    x = np.arange(1, len(distance) + 1)
    values = distance.to_numpy(dtype=float)
    finite = np.isfinite(values)
    width = float(np.clip(150 / max(len(values), 1), 0.7, 2.0))
    ax.vlines(x[finite], 0.0, values[finite], color=BLUE, linewidth=width)
    largest = float(np.max(values[finite], initial=0.0))
    ax.set_ylim(0.0, 1.15 * largest if largest > 0.0 else 1.0)
    margin = 0.5 + 0.01 * len(values)
    ax.set_xlim(1.0 - margin, len(values) + margin)
    ax.set_xlabel(
        "row, in the order of the data"
        if group is None
        else f"level of {format_label(group)}, by number"
    )
    ax.set_ylabel("Cook's distance")
    despine(ax)
    _label_largest(ax, distance, group)
    return ax


def _label_largest(ax: Any, distance: pd.Series, group: str | None) -> None:
    values, x = distance.to_numpy(dtype=float), np.arange(1, len(distance) + 1)
    finite = np.isfinite(values)
    order = np.argsort(-np.where(finite, values, -np.inf), kind="stable")
    largest = order[:20]
    largest = largest[finite[largest] & (values[largest] > 0.0)]
    # No label may cover a stem: labels avoid 30 points on each of the tallest ones.
    tallest, heights = order[:200], np.linspace(0.0, 1.0, 30)
    stems = np.column_stack([x[tallest].repeat(30), np.outer(values[tallest], heights).ravel()])
    stems = stems[np.isfinite(stems).all(axis=1)]
    labels = distance.index[largest]
    if group is not None:  # a level's label may be a number, too
        labels = pd.Index([f"{group} {label}" for label in labels])
    label_points(ax, x[largest], values[largest], labels, avoid=stems)


def _ranked_influence(distance: pd.Series, group: str, ax: Any) -> Any:
    (ax,) = subplots(ax, 1, size=size_for_rows(distance.index, 4.8))
    y = np.arange(len(distance))
    values = distance.to_numpy(dtype=float)
    finite = np.isfinite(values)
    ax.hlines(y[finite], 0.0, values[finite], color=BLUE, linewidth=1.4)
    ax.plot(values[finite], y[finite], "o", color=BLUE, markersize=4)
    ax.set_xlim(0.0, 1.06 * max(float(np.max(values[finite], initial=0.0)), 1e-12))
    ax.set_xlabel("Cook's distance on leaving the level out")
    label_rows(ax, distance.index, group)
    despine(ax)
    return ax
