"""Levels' effects to pictures: how they differ, and how far they were pulled together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.errors import ArgumentError, expect_choice
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
    shown,
    size_for,
    window,
)

_ARROW = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "inches"}


def caterpillar(effects: pd.DataFrame, *, width: float = 1.96, ax: Any = None) -> Any:
    """Draw the levels' effects, sorted, with intervals."""
    names = [c for c in effects.columns if f"{c}_sd" in effects.columns]
    axes = axes_for(ax, len(names), size=size_for(effects.index, 3.6), what="effect")
    for one, name in zip(axes, names, strict=True):
        _one_caterpillar(one, effects, name, width)
    return axes


def _one_caterpillar(ax: Any, effects: pd.DataFrame, name: str, width: float) -> None:
    ordered = effects.sort_values(name)
    height = np.arange(len(ordered))
    many = len(ordered) > MOST_NAMES
    ax.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    ax.errorbar(
        ordered[name],
        height,
        xerr=width * ordered[f"{name}_sd"],
        fmt="o",
        markersize=1.5 if many else 4,
        color=INK,
        ecolor="#99C2DE" if many else INK,  # the same blue, lighter, so that the points are seen
        elinewidth=0.5 if many else 1.2,
        zorder=2,
    )
    ax.set_title(shown(name))
    ax.set_xlabel("deviation from the fixed effect")
    ax.locator_params(axis="x", nbins=5)  # small numbers have long labels
    name_rows(ax, ordered.index, str(effects.index.name))
    bare(ax)


def shrinkage(
    pooling: pd.DataFrame,
    *,
    effects: str | Sequence[str] | None = None,
    covariance: pd.DataFrame | None = None,
    ax: Any = None,
) -> Any:
    """Draw how partial pooling moves each level from its own estimate towards what all share."""
    tables = _by_effect(pooling)
    names = _chosen(effects, list(tables))
    if len(names) == 1:
        return _arrows_in_a_line(tables[names[0]], names[0], ax)
    part = None if covariance is None else covariance.loc[names, names].to_numpy()
    return _arrows_in_a_plane(tables[names[0]], tables[names[1]], names, part, ax)


def _by_effect(pooling: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the table by its effects; with one effect it does not say which."""
    if pooling.index.nlevels == 1:
        return {"estimate": pooling}
    if not pooling.index.is_unique:
        raise ArgumentError(
            "an effect stands in several terms of one group, so its levels have no single "
            "unpooled estimate to draw."
        )
    effects = pooling.index.get_level_values("effect")
    return {name: pooling[effects == name].droplevel("effect") for name in dict.fromkeys(effects)}


def _chosen(effects: str | Sequence[str] | None, every: list[str]) -> list[str]:
    """One effect or two."""
    if effects is None:
        if len(every) <= 2:
            return every
        pairs = ", ".join(str(list(pair)) for pair in itertools.combinations(every, 2))
        raise ArgumentError(
            f"{len(every)} effects are too many for one picture: choose effects= from {pairs}, "
            "or one of them."
        )
    wanted = [effects] if isinstance(effects, str) else list(effects)
    for name in wanted:
        expect_choice("effects", name, every)
    if len(set(wanted)) != len(wanted) or not 1 <= len(wanted) <= 2:
        raise ArgumentError(f"effects={effects!r} must be one effect, or two different ones.")
    return wanted


def _arrows_in_a_line(table: pd.DataFrame, name: str, ax: Any) -> Any:
    """Draw one effect: a row per level, from its own estimate to the model's."""
    (ax,) = axes_for(ax, 1, size=size_for(table.index, 4.8))
    ordered = table.sort_values("partial")
    many = len(ordered) > MOST_NAMES
    height = np.arange(len(ordered))
    partial, alone = ordered["partial"].to_numpy(), ordered["unpooled"].to_numpy()
    pooled = float(ordered["pooled"].iloc[0])
    ax.axvline(pooled, color=ACCENT, linewidth=1.2, zorder=1, label="pooled")
    _arrows(ax, alone, height, partial, height, many)
    _ends(ax, alone, height, partial, height, many)
    limits = window(alone, always=[*partial, pooled])
    ax.set_xlim(limits)
    outside = (alone < limits[0]) | (alone > limits[1])
    ax.set_xlabel(shown(name) + _told_outside(outside.sum()))
    name_rows(ax, ordered.index, str(table.index.name))
    bare(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


def _arrows_in_a_plane(
    across: pd.DataFrame, up: pd.DataFrame, names: Sequence[str], covariance: Any, ax: Any
) -> Any:
    """Draw two effects: from each level's own pair of estimates to the model's."""
    (ax,) = axes_for(ax, 1, size=(5.6, 4.8))
    x0, y0 = across["unpooled"].to_numpy(), up["unpooled"].to_numpy()
    x1, y1 = across["partial"].to_numpy(), up["partial"].to_numpy()
    centre = np.array([across["pooled"].iloc[0], up["pooled"].iloc[0]], dtype=float)
    rings = [] if covariance is None else [centre[:, None] + k * _ring(covariance) for k in (1, 2)]
    many = len(across) > MOST_NAMES
    for k, (x, y) in enumerate(rings):
        label = "1 and 2 sd of the levels" if k == 0 else None
        ax.plot(x, y, color=ACCENT, linewidth=0.9, zorder=3.5 if many else 1, label=label)
    _arrows(ax, x0, y0, x1, y1, many)
    _ends(ax, x0, y0, x1, y1, many)
    cross = {"color": ACCENT, "markersize": 9, "markeredgecolor": "white"}
    ax.plot(*centre, "P", **cross, zorder=4, label="pooled")
    ringed = np.concatenate([centre[:, None], *rings], axis=1)
    xlim = window(x0, always=[*x1, *ringed[0]])
    ylim = window(y0, always=[*y1, *ringed[1]])
    ax.set_xlim(xlim)
    ax.set_ylim(ylim)
    seen = (x0 >= xlim[0]) & (x0 <= xlim[1]) & (y0 >= ylim[0]) & (y0 <= ylim[1])
    outside = ~seen & np.isfinite(x0) & np.isfinite(y0)
    ax.set_xlabel(shown(names[0]) + _told_outside(outside.sum()))
    ax.set_ylabel(shown(names[1]))
    bare(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.0)
    moved = np.hypot((x1 - x0) / np.ptp(xlim), (y1 - y0) / np.ptp(ylim))
    far = np.argsort(-np.where(seen, moved, -1.0))[: seen.sum()][:20]
    sides = ["left" if x0[i] < x1[i] else "right" for i in far]
    here = np.concatenate([np.column_stack([x0, y0]), np.column_stack([x1, y1])])
    avoid = () if many else here[np.isfinite(here).all(axis=1)]
    name_points(ax, x0[far], y0[far], across.index[far], sides=sides, avoid=avoid)
    return ax


def _arrows(ax: Any, x0: Any, y0: Any, x1: Any, y1: Any, many: bool) -> None:
    known = np.isfinite(x0) & np.isfinite(y0)
    if not known.any():
        return
    x0, y0, x1, y1 = (np.asarray(v, dtype=float)[known] for v in (x0, y0, x1, y1))
    how = {"width": 0.006, "color": PALE} if many else {"width": 0.014, "color": GREY}
    ax.quiver(
        x0,
        y0,
        x1 - x0,
        y1 - y0,
        headwidth=5,
        headlength=6,
        zorder=2,
        **_ARROW,
        **how,
        rasterized=as_pixels(len(x0)),
    )


def _ends(ax: Any, x0: Any, y0: Any, x1: Any, y1: Any, many: bool) -> None:
    size = 2.0 if many else 5.0
    how = {"markersize": size, "rasterized": as_pixels(len(x0))}
    edge = {"markeredgecolor": GREY, "markeredgewidth": 0.6 if many else 1.0}
    ax.plot(x0, y0, "o", color="white", **how, **edge, zorder=2.5, label="unpooled")
    ax.plot(x1, y1, "o", color=INK, **how, zorder=3, label="partially pooled")


def _ring(covariance: Any) -> Any:
    """Points at one standard deviation from zero, a line where the covariance is singular."""
    size, axes = np.linalg.eigh(np.asarray(covariance, dtype=float))
    angle = np.linspace(0.0, 2.0 * np.pi, 121)
    root = axes * np.sqrt(np.maximum(size, 0.0))
    return root @ np.array([np.cos(angle), np.sin(angle)])


def _told_outside(count: int) -> str:
    """What to add to a label if unpooled estimates are not seen."""
    what = "estimate lies" if count == 1 else "estimates lie"
    return f"\n({count} unpooled {what} outside)" if count else ""
