"""The page of a fit's checks: panels with a sentence each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.plots.axes import (
    BLUE,
    DARK_GREY,
    GREY,
    LIGHT_BLUE,
    LIGHT_GREY,
    VERMILION,
    despine,
    format_label,
    robust_limits,
    subplots,
)
from mixedfx.plots.diagnostics import draw_points, draw_qq
from mixedfx.plots.plot_data import boxplot_stats, quantiles

Vector = npt.NDArray[np.float64]

# Quantiles of the residuals that are drawn.
_SHARES = (0.25, 0.5, 0.75)
_MOST_LABELS = 12
_LINE_LENGTH = 50


@dataclass(frozen=True)
class Panel:
    """What one panel shows, and the sentence under its title."""

    title: str
    sentence: str
    fails: bool
    draw: Callable[[Any], None]


def check(panels: Sequence[Panel], *, ax: Any = None) -> Any:
    """Draw each panel, its title coloured where its check fails."""
    axes = subplots(ax, len(panels), size=(4.2, 3.7), what="check", ncols=3)
    for one, panel in zip(axes, panels, strict=True):
        panel.draw(one)
        despine(one)
        _title(one, panel)
    return axes


def _title(ax: Any, panel: Panel) -> None:
    lines = textwrap.wrap(panel.sentence, _LINE_LENGTH)
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: _LINE_LENGTH - 2].rsplit(' ', 1)[0]} …"]
    color = VERMILION if panel.fails else DARK_GREY
    text = format_label("\n".join(lines), max_length=2 * _LINE_LENGTH)
    lines = textwrap.wrap(text, _LINE_LENGTH + 6)
    ax.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=color, pad=30)
    ax.annotate(
        "\n".join(lines),
        (0.0, 1.0),
        xytext=(0.0, 26.0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=color,
    )


def draw_normal_quantiles(ax: Any, values: pd.Series, ylabel: str) -> None:
    """Values against normal quantiles, with a band."""
    draw_qq(ax, quantiles(values))
    ax.set_xlabel("quantile of the standard normal")
    ax.set_ylabel(format_label(ylabel, max_length=60))


def draw_against_number(ax: Any, x: Vector, y: Vector, names: tuple[str, str], at: Vector) -> None:
    """Values against a number, with quantiles of neighbours and where they should be, ``at``."""
    inside = np.isfinite(x) & np.isfinite(y)
    x, y = x[inside], y[inside]
    draw_points(ax, x, y)
    lines = neighbours_quantiles(x, y)
    for j, level in enumerate(at):
        ax.axhline(level, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
        if len(lines) > 1:
            width = 2.0 if _SHARES[j] == 0.5 else 1.2
            ax.plot(lines["x"], lines[_SHARES[j]], color=VERMILION, linewidth=width, zorder=4)
    if len(x):
        ax.set_xlim(*robust_limits(x))
    ax.set_xlabel(format_label(names[0], max_length=60))
    ax.set_ylabel(names[1])


def neighbours_quantiles(x: Vector, y: Vector) -> pd.DataFrame:
    """Quartiles of y in overlapping windows of neighbouring x."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    n = len(x)
    width = int(np.clip(n // 5, 15, 2_000))
    if n < 2 * width:
        width = max(n // 2, 1)
    # A window around each of some points; at the ends it is one-sided.
    centers = np.unique(np.linspace(0, n - 1, 41).astype(int)) if n else np.zeros(0, dtype=int)
    starts = np.clip(centers - width // 2, 0, max(n - width, 0))
    rows = []
    for start in np.unique(starts):
        part = slice(start, start + width)
        rows.append([float(np.mean(x[part])), *np.quantile(y[part], _SHARES)])
    return pd.DataFrame(rows, columns=["x", *_SHARES], dtype=float)


def draw_against_category(ax: Any, values: pd.Series, categories: Any, at: Vector) -> None:
    """Box plots by category (a named categorical series), and where quartiles should be, ``at``."""
    name, labels = str(categories.name), categories.to_numpy(dtype=object)
    stats = boxplot_stats(values, labels)
    ordered = len(stats) <= _MOST_LABELS
    in_order = [label for label in categories.cat.categories if label in stats.index]
    stats = stats.loc[in_order] if ordered else stats.sort_values("median", kind="stable")
    x = np.arange(len(stats))
    ax.axhspan(at[0], at[2], color=LIGHT_GREY, alpha=0.5, linewidth=0, zorder=0)
    ax.axhline(at[1], color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    width = float(np.clip(160.0 / max(len(stats), 1), 1.0, 16.0))
    ax.vlines(x, stats["low"], stats["high"], color=GREY, linewidth=min(width, 0.9), zorder=2)
    ax.vlines(x, stats["q1"], stats["q3"], color=LIGHT_BLUE, linewidth=width, zorder=3)
    size = float(np.clip(0.6 * width, 1.5, 5.0))
    ax.plot(x, stats["median"], "o", color=BLUE, markersize=size, zorder=4)
    if ordered:
        texts = [format_label(label, max_length=14) for label in stats.index]
        rotated = sum(map(len, texts)) > 40
        ax.set_xticks(x, texts, rotation=30 if rotated else 0, ha="right" if rotated else "center")
        ax.set_xlabel(format_label(name, max_length=60))
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(stats):,} levels of {format_label(name)}, by median")
    ax.set_xlim(-0.6, len(stats) - 0.4)
    ax.set_ylabel(str(values.name))


def draw_simulated(ax: Any, simulated: Vector, observed: float, names: tuple[str, str]) -> None:
    """Histogram of simulated statistics, and the observed one."""
    low, high = float(simulated.min()), float(simulated.max())
    span = max(high, observed) - min(low, observed) or 1.0
    # Bars that can be seen where the data are far off.
    width = max((high - low) / 24.0, span / 60.0)
    if bool((simulated == np.round(simulated)).all()):
        width = float(np.ceil(width))
        low -= 0.5
    bins = low + width * np.arange(int((high - low) / width) + 2)
    ax.hist(simulated, bins=bins, color=LIGHT_BLUE, edgecolor="white", linewidth=0.5, zorder=2)
    ax.axvline(observed, color=VERMILION, linewidth=2.0, zorder=3)
    ax.set_xlim(min(low, observed) - 0.08 * span, max(high, observed) + 0.08 * span)
    ax.set_ylim(top=1.15 * ax.get_ylim()[1])
    side = "right" if observed > 0.5 * sum(ax.get_xlim()) else "left"
    ax.annotate(
        "data",
        (observed, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if side == "right" else 5, 0),
        textcoords="offset points",
        ha=side,
        va="top",
        fontsize=9,
        color=VERMILION,
    )
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
