"""Tables to pictures: each function draws one table on matplotlib axes.

Nothing is computed here, so every plotted number can also be printed, and no global style is
changed. matplotlib is an extra: ``pip install "mixedfx[plot]"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

# Okabe and Ito's blue and a grey: told apart by every kind of colour vision.
_INK, _GREY = "#0072B2", "#999999"
# From here on the names of the levels would overlap, and are left out.
_MOST_NAMES = 60


def caterpillar(effects: pd.DataFrame, *, width: float = 1.96, ax: Any = None) -> Any:
    """
    Draw the levels' effects, sorted, with intervals.

    Parameters
    ----------
    effects : pandas.DataFrame
        A row per level; for each effect a column and its standard deviation
        ``<effect>_sd``, as ``ranef(group, cond_sd=True)`` gives.
    width : float
        Half-width of the intervals in standard deviations.
    ax : matplotlib axes, or a sequence of them, optional
        Where to draw; one for each effect.

    Returns
    -------
    numpy.ndarray of matplotlib axes
        One for each effect.
    """
    names = [c for c in effects.columns if f"{c}_sd" in effects.columns]
    axes = _axes(ax, len(names), height=max(2.5, min(0.22 * len(effects), 12.0)))
    for one, name in zip(axes, names, strict=True):
        _one_caterpillar(one, effects, name, width)
    return axes


def _one_caterpillar(ax: Any, effects: pd.DataFrame, name: str, width: float) -> None:
    ordered = effects.sort_values(name)
    height = np.arange(len(ordered))
    many = len(ordered) > _MOST_NAMES
    ax.axvline(0.0, color=_GREY, linewidth=1, zorder=1)
    ax.errorbar(
        ordered[name],
        height,
        xerr=width * ordered[f"{name}_sd"],
        fmt="o",
        markersize=2 if many else 4,
        color=_INK,
        elinewidth=0.5 if many else 1.2,
        zorder=2,
    )
    ax.set_title(name)
    ax.set_xlabel("deviation from the fixed effect")
    if many:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(ordered)} levels of {effects.index.name}")
    else:
        ax.set_yticks(height, [str(level) for level in ordered.index])
        ax.set_ylabel(str(effects.index.name))
    ax.margins(y=0.03)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _axes(ax: Any, count: int, *, height: float) -> Any:
    """Axes to draw on: those given, or a new row of them."""
    if ax is not None:
        given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(given) != count:
            raise ValueError(f"{count} axes are needed, one for each effect; got {len(given)}.")
        return given
    try:
        from matplotlib import pyplot
    except ImportError:
        message = 'pictures need matplotlib: python -m pip install "mixedfx[plot]"'
        raise ImportError(message) from None
    size = (4.2 * count, height)
    _, axes = pyplot.subplots(1, count, figsize=size, squeeze=False, layout="constrained")
    return axes[0]
