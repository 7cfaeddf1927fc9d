"""Correlation of residuals over lags or distances: fitted, and of the residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixedfx.plots.axes import BLUE, GREY, VERMILION, despine, legend, note_empty, subplots

# Distances that are drawn one by one; more are joined in bins of equally many pairs.
_MAX_DISTANCES = 25
# Pairs whose fitted correlations are drawn one by one.
_MAX_PAIRS = 400


def correlations_by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Mean correlations by distance, or in bins of distances: the empirical weighted by ``n``."""
    seen = table[table["n"] > 0]
    by: Any = seen["distance"]
    if by.nunique() > _MAX_DISTANCES:
        by = pd.qcut(by, _MAX_DISTANCES, duplicates="drop")
    weights = seen["n"]
    columns = {name: seen[name] * weights for name in ("distance", "fitted", "empirical")}
    sums = pd.DataFrame({**columns, "n": weights}).groupby(by, observed=True).sum()
    means = sums[["distance", "fitted", "empirical"]].div(sums["n"], axis=0)
    return means.assign(n=sums["n"]).reset_index(drop=True)


def correlation(table: pd.DataFrame, *, xlabel: str, ax: Any = None) -> Any:
    """Plot correlations against distance, a panel for each stratum."""
    strata = list(dict.fromkeys(table["stratum"])) if len(table) else [None]
    axes = subplots(ax, len(strata), size=(5.2, 3.8), what="stratum", ncols=3, shared=True)
    for one, stratum in zip(axes, strata, strict=True):
        own = table if stratum is None else table[table["stratum"] == stratum]
        means = correlations_by_distance(own)
        one.axhline(0.0, color=GREY, linewidth=1, zorder=1)
        one.set_xlabel(xlabel)
        if (own["distance"] == own["distance"].round()).all():
            one.xaxis.get_major_locator().set_params(integer=True)
        one.set_ylabel("correlation of the residuals")
        if stratum is not None:
            one.set_title(str(stratum))
        despine(one)
        if not len(means):
            note_empty(one, "no subject has two rows")
            continue
        _draw(one, own, means)
    return axes[0] if len(strata) == 1 else axes


def _draw(ax: Any, table: pd.DataFrame, means: pd.DataFrame) -> None:
    """Draw the fitted correlations, of pairs and their means, and the empirical ones."""
    if len(table) <= _MAX_PAIRS:
        ax.plot(
            table["distance"],
            table["fitted"],
            "_",
            color=VERMILION,
            markersize=9,
            alpha=0.5,
            zorder=2,
        )
    ax.plot(means["distance"], means["fitted"], color=VERMILION, label="fitted", zorder=3)
    size = 12.0 + 50.0 * means["n"] / means["n"].max()
    ax.scatter(
        means["distance"],
        means["empirical"],
        s=size,
        color=BLUE,
        alpha=0.8,
        label="of the residuals",
        zorder=4,
        linewidths=0,
    )
    ax.set_ylim(min(-0.05, float(np.nanmin(means[["fitted", "empirical"]])) - 0.05), 1.05)
    legend(ax, loc="upper right")
