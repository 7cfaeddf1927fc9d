"""Estimates to pictures: coefficients, profiles, bootstrap draws, shares of the variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.errors import ArgumentError
from mixedfx.plots.axes import ACCENT, DARK, GREY, INK, PALE, axes_for, bare, note, shown

Vector = npt.NDArray[np.float64]

_MOST_COLUMNS = 3


def coefficients(table: pd.DataFrame, *, conf_level: float = 0.95, ax: Any = None) -> Any:
    """Draw the coefficients with their intervals."""
    known = table[table["estimate"].notna()]
    (ax,) = axes_for(ax, 1, size=(5.2, max(1.6, 0.9 + 0.3 * len(known))))
    height = np.arange(len(known))[::-1]
    estimate = known["estimate"].to_numpy()
    low, high = known["conf_low"].to_numpy(), known["conf_high"].to_numpy()
    sides = [estimate - low, high - estimate]
    ax.axvline(0.0, color=GREY, linewidth=1, zorder=1)
    ax.errorbar(
        estimate, height, xerr=sides, fmt="o", markersize=5, color=INK, elinewidth=1.4, zorder=2
    )
    ax.set_yticks(height, [shown(term) for term in known["term"]])
    ax.set_ylim(-0.6, len(known) - 0.4)
    ax.set_xlabel(f"estimate, with {100 * conf_level:g}% interval")
    bare(ax)
    return ax


def profile(
    points: pd.DataFrame, intervals: pd.DataFrame, *, conf_level: float = 0.95, ax: Any = None
) -> Any:
    """Draw likelihood profiles: straight where the likelihood is normal, bent where it is not."""
    from scipy.stats import norm

    tables = dict(list(points.groupby("parameter", sort=False)))
    if not tables:
        raise ArgumentError("the profile has no points: none of the parameters was estimated.")
    axes = _row(ax, len(tables))
    reach = float(norm.isf(0.5 * (1.0 - conf_level)))
    for one, (name, table) in zip(axes, tables.items(), strict=True):
        ends = intervals.loc[name].to_numpy(dtype=float)
        _one_profile(one, table, ends, reach)
        one.set_title(shown(name), fontsize=10)
        _tell_interval(one, ends)
    return axes


def _one_profile(ax: Any, table: pd.DataFrame, ends: Vector, reach: float) -> None:
    value, zeta = table["value"].to_numpy(), table["zeta"].to_numpy()
    ax.axhline(0.0, color=PALE, linewidth=1, zorder=0)
    for level in (-reach, reach):
        ax.axhline(level, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.plot(value, zeta, "o", color=INK, markersize=3, zorder=3)
    ax.plot(*_smooth(value, zeta), color=INK, linewidth=1.4, zorder=2)
    known = ends[np.isfinite(ends)]
    at = np.interp(known, value, zeta)
    ax.vlines(known, 0.0, at, color=ACCENT, linewidth=1, zorder=1)
    if len(known) == 2:
        ax.hlines(0.0, *known, color=ACCENT, linewidth=2, zorder=1)
    ax.set_ylabel("zeta")
    bare(ax)


def _smooth(value: Vector, zeta: Vector) -> tuple[Vector, Vector]:
    """Points between the points, as many as make a line look like a curve."""
    from scipy.interpolate import PchipInterpolator

    rising = np.concatenate([[True], np.diff(zeta) > 0.0])
    if rising.sum() < 3:
        return value, zeta
    fine = np.linspace(zeta[rising][0], zeta[rising][-1], 121)
    return np.asarray(PchipInterpolator(zeta[rising], value[rising])(fine)), fine


def density(
    draws: pd.DataFrame,
    estimates: pd.Series,
    intervals: pd.DataFrame,
    *,
    ax: Any = None,
) -> Any:
    """Draw how estimates are distributed over bootstrap draws."""
    axes = _row(ax, draws.shape[1])
    for i, (one, name) in enumerate(zip(axes, draws.columns, strict=True)):
        ends = intervals.iloc[i].to_numpy(dtype=float)
        _one_density(one, draws.iloc[:, i].dropna().to_numpy(), float(estimates.iloc[i]), ends)
        one.set_title(shown(name), fontsize=10)
        _tell_interval(one, ends)
    return axes


def _one_density(ax: Any, values: Vector, estimate: float, ends: Vector) -> None:
    bare(ax)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    if not len(values):
        note(ax, "no draw has it")
        return
    ax.hist(values, bins=_edges(values), density=True, color="#B3D4E8", zorder=1)
    _, times = np.unique(values, return_counts=True)
    if times.max() <= max(1, 0.01 * len(values)) and len(values) > 2 and _spread(values):
        from scipy.stats import gaussian_kde

        fine = np.linspace(values.min(), values.max(), 201)
        ax.plot(fine, gaussian_kde(values)(fine), color=INK, linewidth=1.4, zorder=2)
    ax.axvline(estimate, color=ACCENT, linewidth=1.4, zorder=3)
    ax.hlines(0.0, *ends, color=ACCENT, linewidth=4, zorder=4)
    ax.set_ylim(0.0, None)


def _spread(values: Vector) -> float:
    """How far the values reach; zero if it is all rounding."""
    reach = float(np.ptp(values))
    return reach if reach > 1e-9 * float(np.abs(values).max()) else 0.0


def _edges(values: Vector) -> Any:
    """Edges of a histogram's bins, by Freedman and Diaconis, but not too many."""
    reach = _spread(values)
    if not reach:
        room = 0.5 * float(np.abs(values).max()) or 0.5
        return np.array([values.min() - room, values.max() + room])
    low, high = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (high - low) / len(values) ** (1 / 3)
    # No bins but the fewest follow from quartiles that are equal.
    count = reach / width if width > 0.0 else 1.0
    return np.linspace(values.min(), values.max(), int(np.clip(count, 10, 40)) + 1)


def _row(ax: Any, count: int) -> Any:
    return axes_for(ax, count, size=(3.0, 2.5), what="parameter", columns=_MOST_COLUMNS)


def _tell_interval(ax: Any, ends: Vector) -> None:
    """Write the interval's ends under the axis, to as many digits as it has."""
    width = float(ends[1] - ends[0])
    digits = 2 if not width > 0 else int(np.clip(2 - np.floor(np.log10(width)), 0, 8))
    low, high = (f"{end:.{digits}f}" if np.isfinite(end) else "–" for end in ends)
    ax.set_xlabel(f"{low} to {high}".replace("-", "−"), color=DARK, fontsize=9)


def variance(shares: pd.Series, *, ax: Any = None) -> Any:
    """Draw whose the variance is."""
    (ax,) = axes_for(ax, 1, size=(5.2, max(1.5, 0.8 + 0.34 * len(shares))))
    height = np.arange(len(shares))[::-1]
    percent = 100.0 * shares.to_numpy(dtype=float)
    colours = [GREY if name == "Residual" else INK for name in shares.index]
    ax.barh(height, percent, color=colours, height=0.7)
    for at, value in zip(height, percent, strict=True):
        ax.annotate(
            _percent(value),
            (value, at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.set_yticks(height, [shown(name) for name in shares.index])
    ax.set_ylim(-0.6, len(shares) - 0.4)
    ax.set_xlim(0.0, 100.0)
    ax.set_xlabel("share of the variance, %")
    ax.tick_params(axis="y", length=0)
    bare(ax)
    return ax


def _percent(value: float) -> str:
    if value < 0.05:
        return "0%" if value < 1e-6 else "<0.1%"
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.1f}%"
