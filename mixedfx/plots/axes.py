"""Axes to draw on, and what all pictures share: colours, names of levels, labels of points.

No global style is changed: what a picture needs is set on its own axes. matplotlib is an extra:
``pip install "mixedfx[plot]"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError

Vector = npt.NDArray[np.float64]

# Okabe and Ito's blue and vermilion, and greys: told apart by every kind of colour vision.
INK, ACCENT, DARK, GREY, PALE = "#0072B2", "#D55E00", "#444444", "#999999", "#DDDDDD"
# From here on the names of the levels would overlap, and are left out.
MOST_NAMES = 60
# Longer names would leave the picture no room.
_LONGEST = 32
# More points than this are a picture of their own in a vector file; they are stored as pixels.
_MANY_POINTS = 5_000
# Size of small letters in points, and the width and height of one of them.
_SMALL, _LETTER, _LINE = 8.0, 5.0, 10.0


def axes_for(
    ax: Any,
    count: int,
    *,
    size: tuple[float, float],
    what: str = "",
    columns: int | None = None,
    shared: bool = False,
) -> Any:
    """Give axes to draw on: those of the caller, or those of a new figure."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError:
        message = 'pictures need matplotlib: python -m pip install "mixedfx[plot]"'
        raise ImportError(message) from None
    if ax is not None:
        given = listed(ax)
        odd = next((one for one in given if not isinstance(one, Axes)), None)
        if odd is not None:
            raise ArgumentError(f"ax= takes matplotlib axes, not {type(odd).__name__}.")
        if len(given) != count:
            needed = "1 axes is" if count == 1 else f"{count} axes are"
            reason = f", one for each {what}" if what and count > 1 else ""
            raise ArgumentError(f"{needed} needed{reason}; got {len(given)}.")
        return given
    across = min(columns or count, count)
    down = -(-count // across)
    _, made = pyplot.subplots(
        down,
        across,
        figsize=(size[0] * across, size[1] * down),
        sharex=shared,
        sharey=shared,
        squeeze=False,
        layout="constrained",
    )
    # Numbers at the end of an axis reach beyond it.
    made[0, 0].figure.get_layout_engine().set(w_pad=0.1)
    every = made.ravel()
    for spare in every[count:]:
        spare.remove()
    for lowest in every[max(count - across, 0) : count]:
        lowest.tick_params(labelbottom=True)
    return every[:count]


def listed(ax: Any) -> Any:
    """Put the caller's axes in a row."""
    every = list(ax.values()) if isinstance(ax, dict) else ax
    return np.atleast_1d(np.asarray(every, dtype=object)).ravel()


def bare(ax: Any) -> None:
    """Take the frame's upper and right side away."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def size_for(labels: Iterable[object], width: float) -> tuple[float, float]:
    """Give the size of axes with a row per level."""
    names = [shown(label) for label in labels]
    if len(names) > MOST_NAMES:
        return width + 0.2, 6.0
    return width + 0.08 * max(map(len, names), default=0), max(2.2, 0.9 + 0.2 * len(names))


def name_rows(ax: Any, labels: Iterable[object], group: str) -> None:
    """Name the rows 0, 1, ... of the vertical axis, or count them where there are too many."""
    names = [shown(label) for label in labels]
    if len(names) > MOST_NAMES:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(names):,} levels of {group}")
    else:
        ax.set_yticks(np.arange(len(names)), names)
        ax.set_ylabel(group)
    space = 0.6 if len(names) <= MOST_NAMES else 0.01 * len(names)
    ax.set_ylim(-space, len(names) - 1 + space)


def shown(label: object, *, most: int = _LONGEST) -> str:
    """Spell a name, shortened in its middle if it is long."""
    text = str(label)
    if len(text) > most:
        end = most * 2 // 5
        text = text[: most - 1 - end] + "…" + text[-end:]
    return text.replace("$", r"\$")


def as_pixels(count: int) -> bool:
    """Say whether so many points are better stored as pixels in vector files."""
    return count > _MANY_POINTS


def legend(ax: Any, **options: Any) -> None:
    """Explain what is drawn, in small letters and without a frame."""
    ax.legend(**{"frameon": False, "fontsize": _SMALL, **options})


def note(ax: Any, text: str) -> None:
    """Write into axes why there is nothing in them."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(
        0.5,
        0.5,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=_SMALL,
        color=DARK,
    )


def name_points(
    ax: Any,
    x: Any,
    y: Any,
    labels: Iterable[object],
    *,
    most: int = 5,
    sides: Sequence[str] = (),
    avoid: Any = (),
) -> None:
    """Write the names of points beside them, as many as fit without overlap."""
    ax.autoscale_view()
    box = ax.get_window_extent()
    to_points = 72.0 / ax.figure.dpi
    left, right = (box.x0 - 6.0) * to_points, (box.x1 + 20.0) * to_points
    others = ax.transData.transform(np.asarray(avoid, dtype=float).reshape(-1, 2)) * to_points
    taken = np.column_stack([others, np.tile([3.0, 6.0], (len(others), 1))])
    spots = ax.transData.transform(np.column_stack([x, y])) * to_points
    best = sides or ["above"] * len(spots)
    named = 0
    for label, spot, here, side in zip(labels, spots, zip(x, y, strict=True), best, strict=True):
        if named == most:
            return
        text = shown(label)
        width = _LETTER * len(text)
        for place in dict.fromkeys([side, "above", "right", "left"]):
            (dx, dy), how, shift = _PLACES[place]
            one = np.array([spot[0] + dx + shift * width, spot[1] + dy, width, _LINE])
            inside = left < one[0] - width / 2 and one[0] + width / 2 < right
            near = np.abs(taken[:, :2] - one[:2]) < (taken[:, 2:] + one[2:]) / 2
            if not inside or near.all(axis=1).any():
                continue
            taken = np.vstack([taken, one])
            named += 1
            ax.annotate(
                text,
                here,
                xytext=(dx, dy),
                textcoords="offset points",
                ha=how,
                va="center",
                fontsize=_SMALL,
                color=DARK,
            )
            break


# Where a name stands: its offset in points, how it is aligned, and from there to its centre.
_PLACES = {
    "above": ((0.0, 8.0), "center", 0.0),
    "right": ((5.0, 0.0), "left", 0.5),
    "left": ((-5.0, 0.0), "right", -0.5),
}


def window(values: Any, *, always: Any = ()) -> tuple[float, float]:
    """Find limits that show almost all values, without the few that lie far outside."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.25, 0.75]) if len(values) else (0.0, 0.0)
    reach = 3.0 * (high - low)
    near = values[(values >= low - reach) & (values <= high + reach)]
    every = np.concatenate([near, np.asarray(always, dtype=float).ravel()])
    bottom, top = float(np.min(every)), float(np.max(every))
    room = 0.05 * (top - bottom) or 0.05 * abs(top) or 1.0
    return bottom - room, top + room
