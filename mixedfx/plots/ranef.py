"""Plots of random effects: caterpillar plots and shrinkage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError, brief, check_choice, check_share, name_list
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
    rasterize,
    robust_limits,
    size_for_rows,
    subplots,
)

_ARROW = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "inches"}


def caterpillar(
    effects: pd.DataFrame, *, conf_level: float = 0.95, unit: str = "", ax: Any = None
) -> Any:
    """Plot the conditional modes of the levels, sorted, with intervals."""
    check_share("conf_level", conf_level)
    width = float(special.ndtri(0.5 + conf_level / 2))
    names = [c for c in effects.columns if f"{c}_sd" in effects.columns]
    axes = subplots(ax, len(names), size=size_for_rows(effects.index, 3.6), what="effect")
    for one, name in zip(axes, names, strict=True):
        _draw_caterpillar(one, effects, name, width)
        one.set_xlabel("deviation from the fixed effect" + _in_unit(unit))
    return axes


def _in_unit(unit: str) -> str:
    """Suffix of an axis label."""
    return f"\n({format_label(unit)})" if unit else ""


def _draw_caterpillar(ax: Any, effects: pd.DataFrame, name: str, width: float) -> None:
    ordered = effects.iloc[np.argsort(effects[name].to_numpy(), kind="stable")]
    y = np.arange(len(ordered))
    many = len(ordered) > MAX_TICK_LABELS
    ax.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    ax.errorbar(
        ordered[name],
        y,
        xerr=width * ordered[f"{name}_sd"],
        fmt="o",
        markersize=1.5 if many else 4,
        color=BLUE,
        ecolor=LIGHT_BLUE if many else BLUE,  # lighter, so that the points are seen
        elinewidth=0.5 if many else 1.2,
        zorder=2,
    )
    ax.set_title(format_label(name))
    ax.locator_params(axis="x", nbins=5)  # small numbers have long labels
    label_rows(ax, ordered.index, str(effects.index.name))
    despine(ax)


def shrinkage(
    pooling: pd.DataFrame,
    *,
    effects: str | Sequence[str] | None = None,
    covariance: pd.DataFrame | None = None,
    unit: str = "",
    ax: Any = None,
) -> Any:
    """Plot arrows from unpooled to partially pooled estimates, of one effect or of two."""
    tables = _split_by_effect(pooling)
    names = _select_effects(effects, list(tables))
    if len(names) == 1:
        return _shrinkage_1d(tables[names[0]], names[0], unit, ax)
    of_pair = None if covariance is None else covariance.loc[names, names].to_numpy()
    return _shrinkage_2d(tables[names[0]], tables[names[1]], names, of_pair, ax)


def _split_by_effect(pooling: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the table by effect; of a single effect the index does not hold the name."""
    if pooling.index.nlevels == 1:
        return {"estimate": pooling}
    if not pooling.index.is_unique:
        raise ArgumentError(
            "an effect stands in several terms of one group, so its levels have no single "
            "unpooled estimate to draw."
        )
    effects = pooling.index.get_level_values(-1)
    return {name: pooling[effects == name].droplevel(-1) for name in dict.fromkeys(effects)}


def _select_effects(effects: str | Sequence[str] | None, available: list[str]) -> list[str]:
    """One effect or two, as asked for, or all if there are at most two."""
    if effects is None:
        if len(available) <= 2:
            return available
        pairs = ", ".join(str(list(pair)) for pair in itertools.combinations(available, 2))
        raise ArgumentError(
            f"{len(available)} effects are too many for one picture: choose effects= from {pairs}, "
            "or one of them."
        )
    wanted = name_list("effects", effects)
    for name in wanted:
        check_choice("effects", name, available)
    if len(set(wanted)) != len(wanted) or not 1 <= len(wanted) <= 2:
        raise ArgumentError(f"effects={brief(effects)} must be one effect, or two different ones.")
    return wanted


def _shrinkage_1d(table: pd.DataFrame, name: str, unit: str, ax: Any) -> Any:
    """Plot one effect, a row per level."""
    (ax,) = subplots(ax, 1, size=size_for_rows(table.index, 4.8))
    ordered = table.iloc[np.argsort(table["partial"].to_numpy(), kind="stable")]
    many = len(ordered) > MAX_TICK_LABELS
    y = np.arange(len(ordered))
    partial, unpooled = ordered["partial"].to_numpy(), ordered["unpooled"].to_numpy()
    pooled = float(ordered["pooled"].iloc[0])
    ax.axvline(pooled, color=VERMILION, linewidth=1.2, zorder=1, label="pooled")
    _draw_arrows(ax, unpooled, y, partial, y, many)
    _draw_endpoints(ax, unpooled, y, partial, y, many)
    limits = robust_limits(unpooled, include=[*partial, pooled])
    ax.set_xlim(limits)
    outside = (unpooled < limits[0]) | (unpooled > limits[1])
    ax.set_xlabel(format_label(name) + _in_unit(unit) + _outside_note(outside.sum()))
    label_rows(ax, ordered.index, str(table.index.name))
    despine(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


def _shrinkage_2d(
    first: pd.DataFrame, second: pd.DataFrame, names: Sequence[str], covariance: Any, ax: Any
) -> Any:
    """Plot two effects: from each level's unpooled pair to the partially pooled one."""
    (ax,) = subplots(ax, 1, size=(5.6, 4.8))
    x0, y0 = first["unpooled"].to_numpy(), second["unpooled"].to_numpy()
    x1, y1 = first["partial"].to_numpy(), second["partial"].to_numpy()
    pooled = np.array([first["pooled"].iloc[0], second["pooled"].iloc[0]], dtype=float)[:, None]
    many = len(first) > MAX_TICK_LABELS
    ellipses = []
    if covariance is not None:
        ellipses = [pooled + k * _covariance_ellipse(covariance) for k in (1, 2)]
    for k, (x, y) in enumerate(ellipses):
        label = "1 and 2 sd of the levels" if k == 0 else None
        ax.plot(x, y, color=VERMILION, linewidth=0.9, zorder=3.5 if many else 1, label=label)
    _draw_arrows(ax, x0, y0, x1, y1, many)
    _draw_endpoints(ax, x0, y0, x1, y1, many)
    marker = {"color": VERMILION, "markersize": 9, "markeredgecolor": "white"}
    ax.plot(*pooled.ravel(), "P", **marker, zorder=4, label="pooled")
    include = np.concatenate([pooled, *ellipses, [x1, y1]], axis=1)
    xlim, ylim = robust_limits(x0, include=include[0]), robust_limits(y0, include=include[1])
    ax.set(xlim=xlim, ylim=ylim)
    visible = (x0 >= xlim[0]) & (x0 <= xlim[1]) & (y0 >= ylim[0]) & (y0 <= ylim[1])
    outside = ~visible & np.isfinite(x0) & np.isfinite(y0)
    ax.set_xlabel(format_label(names[0]) + _outside_note(outside.sum()))
    ax.set_ylabel(format_label(names[1]))
    despine(ax)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.0)
    length = np.hypot((x1 - x0) / np.ptp(xlim), (y1 - y0) / np.ptp(ylim))
    longest = np.argsort(-np.where(visible, length, -1.0))[: visible.sum()][:20]
    sides = ["left" if x0[i] < x1[i] else "right" for i in longest]
    endpoints = np.concatenate([np.column_stack([x0, y0]), np.column_stack([x1, y1])])
    avoid = () if many else endpoints[np.isfinite(endpoints).all(axis=1)]
    label_points(ax, x0[longest], y0[longest], first.index[longest], preferred=sides, avoid=avoid)
    return ax


def _draw_arrows(ax: Any, x0: Any, y0: Any, x1: Any, y1: Any, many: bool) -> None:
    finite = np.isfinite(x0) & np.isfinite(y0)
    if not finite.any():
        return
    x0, y0, x1, y1 = (np.asarray(v, dtype=float)[finite] for v in (x0, y0, x1, y1))
    style = {"width": 0.006, "color": LIGHT_GREY} if many else {"width": 0.014, "color": GREY}
    ax.quiver(
        x0,
        y0,
        x1 - x0,
        y1 - y0,
        headwidth=5,
        headlength=6,
        zorder=2,
        **_ARROW,
        **style,
        rasterized=rasterize(len(x0)),
    )


def _draw_endpoints(ax: Any, x0: Any, y0: Any, x1: Any, y1: Any, many: bool) -> None:
    size = 2.0 if many else 5.0
    style = {"markersize": size, "rasterized": rasterize(len(x0))}
    edge = {"markeredgecolor": GREY, "markeredgewidth": 0.6 if many else 1.0}
    ax.plot(x0, y0, "o", color="white", **style, **edge, zorder=2.5, label="unpooled")
    ax.plot(x1, y1, "o", color=BLUE, **style, zorder=3, label="partially pooled")


def _covariance_ellipse(covariance: Any) -> Any:
    """Points one Mahalanobis unit from zero; a segment where the covariance is singular."""
    eigenvalues, eigenvectors = np.linalg.eigh(np.asarray(covariance, dtype=float))
    angle = np.linspace(0.0, 2.0 * np.pi, 121)
    root = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    return root @ np.array([np.cos(angle), np.sin(angle)])


def _outside_note(count: int) -> str:
    """Suffix of an axis label that counts the unpooled estimates beyond the limits."""
    lie = "estimate lies" if count == 1 else "estimates lie"
    return f"\n({count} unpooled {lie} outside)" if count else ""
