"""Plots of ordered categories: probabilities stacked, and the thresholds of a latent variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.plots.axes import DARK_GREY, despine, format_label, subplots
from mixedfx.plots.plot_data import is_number

# Panels in a row.
_COLUMNS = 3
# Between a light orange and a dark blue, neutral in the middle: lower and higher categories.
_LOW, _MIDDLE, _HIGH = (0.90, 0.49, 0.13), (0.93, 0.93, 0.91), (0.03, 0.32, 0.57)


def category_colours(k: int) -> list[tuple[float, ...]]:
    """Colours of k ordered categories, from low to high."""
    ends = np.array([_LOW, _MIDDLE, _HIGH])
    at = np.linspace(0.0, 1.0, k) if k > 1 else np.array([1.0])
    return [tuple(np.interp(v, [0.0, 0.5, 1.0], channel) for channel in ends.T) for v in at]


def probabilities(
    table: pd.DataFrame, x: str, by: str | None, categories: Sequence[str], *, ax: Any = None
) -> Any:
    """
    Draw the probabilities of ordered categories, stacked along a covariate.

    ``table`` has a row for each value of ``x`` (and of ``by``, a panel each), and a column for each
    category.
    """
    levels = [None] if by is None else list(dict.fromkeys(table[by]))
    axes = subplots(
        ax, len(levels), size=(4.4, 3.2), what="level", ncols=_COLUMNS, shared=len(levels) > 1
    )
    colours = category_colours(len(categories))
    for one, level in zip(axes, levels, strict=True):
        rows = table if by is None else table[table[by] == level]
        _stack(one, rows, x, list(categories), colours)
        if by is not None:
            one.set_title(f"{format_label(by)} = {format_label(level)}", fontsize="medium")
        one.set_xlabel(format_label(x))
    axes[0].set_ylabel("probability")
    handles, names = axes[-1].get_legend_handles_labels()
    axes[-1].legend(
        handles[::-1],
        names[::-1],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize="small",
    )
    return axes


def _stack(
    ax: Any, rows: pd.DataFrame, x: str, categories: list[str], colours: list[tuple[float, ...]]
) -> None:
    """Areas along a number, bars of levels; the lowest category at the bottom."""
    shares = rows[categories].to_numpy(dtype=float)
    ends = np.cumsum(shares, axis=1)
    starts = ends - shares
    curve = is_number(rows[x]) and len(rows) > 2
    position = rows[x].to_numpy(dtype=float) if curve else np.arange(len(rows), dtype=float)
    for j, (name, colour) in enumerate(zip(categories, colours, strict=True)):
        style = {"color": colour, "label": format_label(name), "linewidth": 0.0}
        if curve:
            ax.fill_between(position, starts[:, j], ends[:, j], **style)
        else:
            ax.bar(position, shares[:, j], bottom=starts[:, j], width=0.8, **style)
    if not curve:
        ax.set_xticks(position, [format_label(v) for v in rows[x]])
    else:
        ax.set_xlim(position.min(), position.max())
    ax.set_ylim(0.0, 1.0)
    despine(ax)


def thresholds(
    table: pd.DataFrame, density: pd.DataFrame, categories: Sequence[str], *, ax: Any = None
) -> Any:
    """
    Draw the latent distribution cut by its thresholds, with their intervals.

    ``table`` has ``estimate conf_low conf_high``; ``density`` the latent variable and its
    density, ``latent density``.
    """
    (one,) = subplots(ax, 1, size=(5.6, 3.4))
    cuts, height = table["estimate"].to_numpy(dtype=float), float(density["density"].max())
    latent = density["latent"].to_numpy(dtype=float)
    values = density["density"].to_numpy(dtype=float)
    edges = np.concatenate([[latent[0]], cuts, [latent[-1]]])
    colours = category_colours(len(categories))
    for j, (name, colour) in enumerate(zip(categories, colours, strict=True)):
        at = np.linspace(edges[j], edges[j + 1], 80)
        one.fill_between(at, 0.0, np.interp(at, latent, values), color=colour, linewidth=0.0)
        middle = 0.5 * (edges[j] + edges[j + 1])
        one.text(middle, 1.06 * height, format_label(name), ha="center", fontsize="small")
    one.plot(latent, values, color=DARK_GREY, linewidth=1.0)
    one.vlines(cuts, 0.0, 1.02 * height, color=DARK_GREY, linewidth=1.0)
    below = -height * (0.05 + 0.05 * (np.arange(len(cuts)) % 2))  # neighbours do not overlap
    one.hlines(
        below,
        table["conf_low"],
        table["conf_high"],
        color=DARK_GREY,
        linewidth=1.6,
    )
    one.plot(cuts, below, "o", color=DARK_GREY, markersize=4)
    one.set_yticks([])
    one.set_ylim(-0.16 * height, 1.18 * height)
    one.set_xlabel("latent variable, with thresholds and their intervals")
    despine(one)
    one.spines["left"].set_visible(False)
    return one
