"""Panels of refits: shifts of coefficients, costs of simpler models, influence of levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.plots.axes import BLUE, DARK_GREY, GREY, LIGHT_BLUE, VERMILION, format_label

_MOST_ROWS, _LABEL = 12, 30


def draw_shifts(ax: Any, table: pd.DataFrame) -> None:
    """Change of each coefficient by each refit in standard errors, red where a conclusion does."""
    terms = list(dict.fromkeys(table["term"]))
    shown = _largest(table, terms)
    at = {term: i for i, term in enumerate(reversed(shown))}
    rows = table[table["term"].isin(shown) & table["shift"].notna()]
    changes = (rows["conclusion"] == "changes").to_numpy()
    y = rows["term"].map(at).to_numpy(dtype=float)
    # Refits of one coefficient side by side, in the order of the table.
    order = rows.groupby("term").cumcount().to_numpy()
    y = y + 0.5 * (0.5 - order / max(order.max(initial=0), 1))
    x = rows["shift"].to_numpy(dtype=float)
    ax.axvline(0.0, color=GREY, linewidth=1.0, zorder=1)
    ax.plot(x[~changes], y[~changes], "o", color=BLUE, markersize=4, alpha=0.8, zorder=3)
    ax.plot(x[changes], y[changes], "D", color=VERMILION, markersize=5, zorder=4)
    limit = max(1.15 * float(np.abs(x).max(initial=0.0)), 0.5)
    ax.set_xlim(-limit, limit)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    labels = [format_label(term, max_length=_LABEL) for term in at]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("change by a refit, standard errors")


def _largest(table: pd.DataFrame, terms: Sequence[str]) -> list[str]:
    """The terms, or those that move most where there are many."""
    if len(terms) <= _MOST_ROWS:
        return list(terms)
    size = table.assign(size=table["shift"].abs()).groupby("term")["size"].max()
    kept = set(size.nlargest(_MOST_ROWS).index)
    return [term for term in terms if term in kept]


def draw_costs(ax: Any, labels: Sequence[str], d_aic: Sequence[float], red: Sequence[bool]) -> None:
    """AIC of simpler models less that of the fit."""
    values = np.asarray(d_aic, dtype=float)[:_MOST_ROWS]
    y = np.arange(len(values))[::-1]
    colors = [VERMILION if one else LIGHT_BLUE for one in red[:_MOST_ROWS]]
    ax.barh(y, np.nan_to_num(values), color=colors, height=0.4, zorder=2)
    ax.axvline(0.0, color=GREY, linewidth=1.0, zorder=3)
    largest = max(float(np.nanmax(np.abs(values), initial=0.0)), 2.0)
    # Large costs are beside the point: whether a bar is left of zero is to be seen.
    symmetric = largest > 20.0
    if symmetric:
        ax.set_xscale("symlog", linthresh=2.0, linscale=1.0)
        ax.set_xlim(min(-3.0, 1.3 * float(np.nanmin(values))), 2.0 * largest)
        ticks = [t for t in (-10, -2, 0, 2, 10, 100, 1000, 10000) if t <= 2.0 * largest]
        ticks = [t for t in ticks if t >= min(-3.0, 1.3 * float(np.nanmin(values)))]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
    # Above the bars: long names beside them would take the room of the bars.
    for height, label in zip(y, labels, strict=False):
        text = format_label(label, max_length=2 * _LABEL)
        place = ax.get_yaxis_transform()
        ax.text(0.01, height + 0.24, text, transform=place, fontsize=8, va="bottom", zorder=4)
    ax.set_yticks([])
    ax.set_ylim(-0.6, len(values) - 0.3)
    ax.set_xlabel("AIC without it, less that of the fit")


def draw_influence(ax: Any, table: pd.DataFrame) -> None:
    """Largest change of a coefficient without each level, the largest first."""
    group = str(table["group"].iloc[0])
    worst = table.nlargest(_MOST_ROWS, "largest_shift")
    y = np.arange(len(worst))[::-1]
    flagged = worst["influential"].to_numpy(dtype=bool)
    x = worst["largest_shift"].to_numpy(dtype=float)
    ax.hlines(y, 0.0, x, color=GREY, linewidth=0.8, zorder=2)
    ax.plot(x[~flagged], y[~flagged], "o", color=BLUE, markersize=5, zorder=3)
    ax.plot(x[flagged], y[flagged], "o", color=VERMILION, markersize=6, zorder=3)
    limit = 2.0 / np.sqrt(len(table))
    ax.axvline(limit, color=DARK_GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    labels = [format_label(f"{v}", max_length=14) for v in worst["level"]]
    ax.set_yticks(y, labels)
    ax.set_ylabel(format_label(group, max_length=40))
    ax.set_xlim(0.0, 1.15 * max(float(x.max(initial=0.0)), limit))
    ax.set_xlabel("largest change of a coefficient, standard errors")
