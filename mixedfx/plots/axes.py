"""Axes, colours, tick labels and point labels that all plots share.

No global style is changed: everything is set on a plot's own axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._extras import import_extra
from mixedfx.errors import ArgumentError

Vector = npt.NDArray[np.float64]

# Okabe and Ito's blue and vermilion, and greys: distinct under every kind of colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
LIGHT_BLUE = "#99C2DE"  # the same blue, lighter
DARK_GREY, GREY, LIGHT_GREY = "#444444", "#999999", "#DDDDDD"
# With more rows their tick labels would overlap, and are left out.
MAX_TICK_LABELS = 60
# Longer labels are abbreviated.
_MAX_LABEL_LENGTH = 32
# Above this number points are stored as pixels in vector files.
_MAX_VECTOR_POINTS = 5_000
# In points: the small font, and the width and height of a character in it.
_SMALL_FONT, _CHAR_WIDTH, _LINE_HEIGHT = 8.0, 5.0, 10.0


def import_pyplot() -> Any:
    """Import matplotlib's pyplot, which is an extra."""
    return import_extra("matplotlib.pyplot", "pictures need")


def subplots(
    ax: Any,
    count: int,
    *,
    size: tuple[float, float],
    what: str = "",
    ncols: int | None = None,
    shared: bool = False,
) -> Any:
    """Return the caller's axes, checked, or the axes of a new figure; ``size`` is that of each."""
    pyplot = import_pyplot()
    if ax is not None:
        return check_axes(ax, count, what)
    ncols = min(ncols or count, count)
    nrows = -(-count // ncols)
    _, grid = pyplot.subplots(
        nrows,
        ncols,
        figsize=(size[0] * ncols, size[1] * nrows),
        sharex=shared,
        sharey=shared,
        squeeze=False,
        layout="constrained",
    )
    # Tick labels at the end of an axis extend beyond it.
    grid[0, 0].figure.get_layout_engine().set(w_pad=0.1)
    axes = grid.ravel()
    for unused in axes[count:]:
        unused.remove()
    for lowest in axes[max(count - ncols, 0) : count]:
        lowest.tick_params(labelbottom=True)
    return axes[:count]


def check_axes(ax: Any, count: int, what: str = "") -> Any:
    """Return the caller's axes as a flat array; raise if they are none, or not ``count``."""
    from matplotlib.axes import Axes

    axes = flatten_axes(ax)
    for one in axes:
        if not isinstance(one, Axes):
            raise ArgumentError(f"ax= takes matplotlib axes, not {type(one).__name__}.")
    if len(axes) != count:
        needed = "1 axes is" if count == 1 else f"{count} axes are"
        reason = f", one for each {what}" if what and count > 1 else ""
        raise ArgumentError(f"{needed} needed{reason}; got {len(axes)}.")
    return axes


def flatten_axes(ax: Any) -> Any:
    """Flatten axes, or an array or dict of axes."""
    axes = list(ax.values()) if isinstance(ax, dict) else ax
    return np.atleast_1d(np.asarray(axes, dtype=object)).ravel()


def despine(ax: Any) -> None:
    """Hide the top and right spines."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def size_for_rows(labels: Iterable[object], width: float) -> tuple[float, float]:
    """Width and height in inches of axes with one labelled row per level."""
    texts = [format_label(label) for label in labels]
    if len(texts) > MAX_TICK_LABELS:
        return width + 0.2, 6.0
    return width + 0.08 * max(map(len, texts), default=0), max(2.2, 0.9 + 0.2 * len(texts))


def label_rows(ax: Any, labels: Iterable[object], group: str) -> None:
    """Label the rows y = 0, 1, ..., or count them where there are too many."""
    texts = [format_label(label) for label in labels]
    if len(texts) > MAX_TICK_LABELS:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(texts):,} levels of {format_label(group)}")
    else:
        ax.set_yticks(np.arange(len(texts)), texts)
        ax.set_ylabel(format_label(group))
    margin = 0.6 if len(texts) <= MAX_TICK_LABELS else 0.01 * len(texts)
    ax.set_ylim(-margin, len(texts) - 1 + margin)


def format_label(label: object, *, max_length: int = _MAX_LABEL_LENGTH) -> str:
    """Text of a label, a long one abbreviated in the middle, without mathtext."""
    text = " ".join(str(label).split("\n"))
    if len(text) > max_length:
        end = max_length * 2 // 5
        text = text[: max_length - 1 - end] + "…" + text[-end:]
    return text.replace("$", r"\$")


def rasterize(count: int) -> bool:
    """Whether so many points are better stored as pixels in vector files."""
    return count > _MAX_VECTOR_POINTS


def legend(ax: Any, **options: Any) -> None:
    """Add a legend in the small font, without a frame."""
    ax.legend(**{"frameon": False, "fontsize": _SMALL_FONT, **options})


def note_empty(ax: Any, text: str) -> None:
    """Write into empty axes why nothing is drawn."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(
        0.5,
        0.5,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=_SMALL_FONT,
        color=DARK_GREY,
    )


# Of a label beside its point: offset in points, horizontal alignment, and the centre's distance
# from the offset in widths of the label.
_LABEL_POSITIONS = {
    "above": ((0.0, 8.0), "center", 0.0),
    "right": ((5.0, 0.0), "left", 0.5),
    "left": ((-5.0, 0.0), "right", -0.5),
}


def label_points(
    ax: Any,
    x: Any,
    y: Any,
    labels: Iterable[object],
    *,
    max_labels: int = 5,
    preferred: Sequence[str] = (),
    avoid: Any = (),
) -> None:
    """Label points, the first ones first, where a label overlaps neither others nor ``avoid``."""
    ax.autoscale_view()
    to_points = 72.0 / ax.figure.dpi
    extent = ax.get_window_extent()
    xlim = (extent.x0 - 6.0) * to_points, (extent.x1 + 20.0) * to_points
    avoid = np.asarray(avoid, dtype=float).reshape(-1, 2)
    occupied = np.column_stack(
        [ax.transData.transform(avoid) * to_points, np.tile([3.0, 6.0], (len(avoid), 1))]
    )
    anchors = ax.transData.transform(np.column_stack([x, y])) * to_points
    preferred = preferred or ["above"] * len(anchors)
    labelled = 0
    for label, anchor, xy, first in zip(
        labels, anchors, zip(x, y, strict=True), preferred, strict=True
    ):
        if labelled == max_labels:
            return
        text = format_label(label)
        for position in dict.fromkeys([first, "above", "right", "left"]):
            box = _label_box(anchor, text, position)
            if not _is_free(box, occupied, xlim):
                continue
            occupied = np.vstack([occupied, box])
            labelled += 1
            _annotate(ax, text, xy, position)
            break


def _label_box(anchor: Vector, text: str, position: str) -> Vector:
    """Centre, width and height of a label, in points."""
    (dx, dy), _, shift = _LABEL_POSITIONS[position]
    width = _CHAR_WIDTH * len(text)
    return np.array([anchor[0] + dx + shift * width, anchor[1] + dy, width, _LINE_HEIGHT])


def _is_free(box: Vector, occupied: Any, xlim: tuple[float, float]) -> bool:
    inside = xlim[0] < box[0] - box[2] / 2 and box[0] + box[2] / 2 < xlim[1]
    overlap = np.abs(occupied[:, :2] - box[:2]) < (occupied[:, 2:] + box[2:]) / 2
    return bool(inside and not overlap.all(axis=1).any())


def _annotate(ax: Any, text: str, xy: tuple[float, float], position: str) -> None:
    offset, alignment, _ = _LABEL_POSITIONS[position]
    ax.annotate(
        text,
        xy,
        xytext=offset,
        textcoords="offset points",
        ha=alignment,
        va="center",
        fontsize=_SMALL_FONT,
        color=DARK_GREY,
    )


def robust_limits(values: Any, *, include: Any = ()) -> tuple[float, float]:
    """Axis limits around the values within 3 interquartile ranges of the quartiles."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    q1, q3 = np.quantile(values, [0.25, 0.75]) if len(values) else (0.0, 0.0)
    reach = 3.0 * (q3 - q1)
    inliers = values[(values >= q1 - reach) & (values <= q3 + reach)]
    visible = np.concatenate([inliers, np.asarray(include, dtype=float).ravel()])
    low, high = float(np.min(visible)), float(np.max(visible))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
