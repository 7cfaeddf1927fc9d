"""Power against the size of a study."""

from __future__ import annotations

from typing import Any

from mixedfx.plots.axes import BLUE, GREY, VERMILION, despine, legend, subplots

_COLORS = (BLUE, VERMILION, "#009E73", "#E69F00", "#CC79A7", GREY)


def power_curve(curve: Any, *, target: float | None, ax: Any = None) -> Any:
    """Plot a power curve: one line for each value of all sizes but the first."""
    table, sizes = curve.table, list(curve.sizes)
    (one,) = subplots(ax, 1, size=(5.6, 3.8), what="curve")
    x = sizes[0] if sizes else "nobs"
    others = sizes[1:]
    parts = [((), table)] if not others else list(table.groupby(others, sort=False))
    for i, (key, part) in enumerate(parts):
        part = part.sort_values(x)
        color = _COLORS[i % len(_COLORS)]
        values = key if isinstance(key, tuple) else (key,)
        label = ", ".join(f"{name} = {value}" for name, value in zip(others, values, strict=True))
        one.plot(part[x], part["power"], "o-", color=color, markersize=4, label=label or None)
        one.fill_between(part[x], part["conf_low"], part["conf_high"], color=color, alpha=0.18)
    if target is not None:
        one.axhline(target, color=GREY, linewidth=1, linestyle="--", zorder=1)
    one.set_ylim(0.0, 1.03)
    one.set_xlabel("rows" if x == "nobs" else f"levels of {x}" if x != "rows" else "rows per level")
    one.set_ylabel(f"power for {curve.term} (level {curve.alpha:g})")
    despine(one)
    if others:
        legend(one)
    return one
