"""Plots of estimates: coefficients, profiles, bootstrap distributions, variance shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.plots.axes import (
    BLUE,
    DARK_GREY,
    GREY,
    LIGHT_GREY,
    VERMILION,
    despine,
    format_label,
    note_empty,
    subplots,
)

Vector = npt.NDArray[np.float64]

_MAX_COLUMNS = 3


def coefficients(
    table: pd.DataFrame,
    *,
    conf_level: float = 0.95,
    unit: str = "",
    ratios: bool = False,
    ax: Any = None,
) -> Any:
    """Plot coefficients with their confidence intervals, ratios on a logarithmic axis."""
    estimated = table[table["estimate"].notna()]
    (ax,) = subplots(ax, 1, size=(5.2, max(1.6, 0.9 + 0.3 * len(estimated))))
    y = np.arange(len(estimated))[::-1]
    estimate = estimated["estimate"].to_numpy()
    low, high = estimated["conf_low"].to_numpy(), estimated["conf_high"].to_numpy()
    xerr = np.stack([estimate - low, high - estimate])
    ax.axvline(1.0 if ratios else 0.0, color=GREY, linewidth=1, zorder=1)
    ax.errorbar(estimate, y, xerr=xerr, fmt="o", markersize=5, color=BLUE, elinewidth=1.4, zorder=2)
    ax.set_yticks(y, [format_label(term) for term in estimated["term"]])
    ax.set_ylim(-0.6, len(estimated) - 0.4)
    ax.set_xlabel(f"{unit or 'estimate'}, with {100 * conf_level:g}% interval")
    if ratios:
        _set_log_axis(ax, low[np.isfinite(low)], high[np.isfinite(high)])
    despine(ax)
    return ax


def _set_log_axis(ax: Any, low: Vector, high: Vector) -> None:
    """Logarithmic x axis with plain numbers, a few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_xscale("log")
    decades = np.log10(max(high.max(initial=1.0), 1.0) / min(low.min(initial=1.0), 1.0))
    steps = (1.0, 2.0, 5.0) if decades < 3.0 else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def profile(
    points: pd.DataFrame, intervals: pd.DataFrame, *, conf_level: float = 0.95, ax: Any = None
) -> Any:
    """Plot profile zeta, the signed root of the likelihood ratio: linear if log L is quadratic."""
    from scipy.stats import norm

    tables = dict(list(points.groupby("parameter", sort=False)))
    if not tables:
        raise ArgumentError("the profile has no points: none of the parameters was estimated.")
    axes = _parameter_axes(ax, len(tables))
    critical = float(norm.isf(0.5 * (1.0 - conf_level)))
    for one, (name, table) in zip(axes, tables.items(), strict=True):
        ends = intervals.loc[name].to_numpy(dtype=float)
        _draw_profile(one, table, ends, critical)
        one.set_title(format_label(name), fontsize=10)
        _label_interval(one, ends)
    return axes


def _draw_profile(ax: Any, table: pd.DataFrame, ends: Vector, critical: float) -> None:
    value, zeta = table["value"].to_numpy(), table["zeta"].to_numpy()
    ax.axhline(0.0, color=LIGHT_GREY, linewidth=1, zorder=0)
    for level in (-critical, critical):
        ax.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.plot(value, zeta, "o", color=BLUE, markersize=3, zorder=3)
    ax.plot(*_interpolate(value, zeta), color=BLUE, linewidth=1.4, zorder=2)
    finite = ends[np.isfinite(ends)]
    ax.vlines(finite, 0.0, np.interp(finite, value, zeta), color=VERMILION, linewidth=1, zorder=1)
    if len(finite) == 2:
        ax.hlines(0.0, *finite, color=VERMILION, linewidth=2, zorder=1)
    ax.set_ylabel("zeta")
    despine(ax)


def _interpolate(value: Vector, zeta: Vector) -> tuple[Vector, Vector]:
    """Monotone cubic interpolation of a profile (Fritsch and Butland 1984)."""
    from scipy.interpolate import PchipInterpolator

    increasing = np.concatenate([[True], np.diff(zeta) > 0.0])
    if increasing.sum() < 3:
        return value, zeta
    grid = np.linspace(zeta[increasing][0], zeta[increasing][-1], 121)
    zetas = np.union1d(grid, zeta[increasing])  # a corner is one of the points
    return np.asarray(PchipInterpolator(zeta[increasing], value[increasing])(zetas)), zetas


def density(
    draws: pd.DataFrame,
    estimates: pd.Series,
    intervals: pd.DataFrame,
    *,
    ax: Any = None,
) -> Any:
    """Plot histograms and kernel density estimates of bootstrap draws."""
    axes = _parameter_axes(ax, draws.shape[1])
    for i, (one, name) in enumerate(zip(axes, draws.columns, strict=True)):
        ends = intervals.iloc[i].to_numpy(dtype=float)
        _draw_density(one, draws.iloc[:, i].dropna().to_numpy(), float(estimates.iloc[i]), ends)
        one.set_title(format_label(name), fontsize=10)
        _label_interval(one, ends)
    return axes


def _draw_density(ax: Any, values: Vector, estimate: float, ends: Vector) -> None:
    despine(ax)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    if not len(values):
        note_empty(ax, "no draw has it")
        return
    ax.hist(values, bins=_bin_edges(values), density=True, color="#B3D4E8", zorder=1)
    _, counts = np.unique(values, return_counts=True)
    if (
        counts.max() <= max(1, 0.01 * len(values))
        and len(values) > 2
        and _range_beyond_rounding(values)
    ):
        from scipy.stats import gaussian_kde

        points = np.linspace(values.min(), values.max(), 201)
        ax.plot(points, gaussian_kde(values)(points), color=BLUE, linewidth=1.4, zorder=2)
    ax.axvline(estimate, color=VERMILION, linewidth=1.4, zorder=3)
    ax.hlines(0.0, *ends, color=VERMILION, linewidth=4, zorder=4)
    ax.set_ylim(0.0, None)


def _range_beyond_rounding(values: Vector) -> float:
    """Range of the values; zero if they are equal but for rounding."""
    width = float(np.ptp(values))
    return width if width > 1e-9 * float(np.abs(values).max()) else 0.0


def _bin_edges(values: Vector) -> Any:
    """Edges of 10 to 40 bins, by the rule of Freedman and Diaconis (1981)."""
    data_range = _range_beyond_rounding(values)
    if not data_range:
        margin = 0.5 * float(np.abs(values).max()) or 0.5
        return np.array([values.min() - margin, values.max() + margin])
    q1, q3 = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (q3 - q1) / len(values) ** (1 / 3)
    # Of equal quartiles the rule's width is zero: the fewest bins.
    count = data_range / width if width > 0.0 else 1.0
    return np.linspace(values.min(), values.max(), int(np.clip(count, 10, 40)) + 1)


def _parameter_axes(ax: Any, count: int) -> Any:
    return subplots(ax, count, size=(3.0, 2.5), what="parameter", ncols=_MAX_COLUMNS)


def _label_interval(ax: Any, ends: Vector) -> None:
    """Label the x axis with the interval, to two significant digits of its width."""
    width = float(ends[1] - ends[0])
    digits = 2 if not width > 0 else int(np.clip(2 - np.floor(np.log10(width)), 0, 8))
    low, high = (f"{end:.{digits}f}" if np.isfinite(end) else "–" for end in ends)
    ax.set_xlabel(f"{low} to {high}".replace("-", "−"), color=DARK_GREY, fontsize=9)


def variance(shares: pd.Series, *, ax: Any = None) -> Any:
    """Plot the shares of the variance components as bars."""
    (ax,) = subplots(ax, 1, size=(5.2, max(1.5, 0.8 + 0.34 * len(shares))))
    y = np.arange(len(shares))[::-1]
    percent = 100.0 * shares.to_numpy(dtype=float)
    colours = [BLUE] * (len(shares) - 1) + [GREY]  # the last is of the observations
    ax.barh(y, percent, color=colours, height=0.7)
    for bar, value in zip(y, percent, strict=True):
        ax.annotate(
            _format_percent(value),
            (value, bar),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.set_yticks(y, [format_label(name) for name in shares.index])
    ax.set_ylim(-0.6, len(shares) - 0.4)
    ax.set_xlim(0.0, 100.0)
    ax.set_xlabel("share of the variance, %")
    ax.tick_params(axis="y", length=0)
    despine(ax)
    return ax


def _format_percent(value: float) -> str:
    if value < 0.05:
        return "0%" if value < 1e-6 else "<0.1%"
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.1f}%"
