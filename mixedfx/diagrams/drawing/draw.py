"""Layout to picture: ellipses, boxes, arrows and texts on matplotlib axes.

What goes in is a graph, what comes out is axes with a patch for each of its parts. The one idea
is that everything has its place before the axes are touched: these are only given a scale at
which all of it is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixedfx.diagrams.drawing.edges import bend_of
from mixedfx.diagrams.drawing.layout import Layout, place
from mixedfx.diagrams.drawing.shapes import DOT, LEFT, RIGHT, Box
from mixedfx.diagrams.drawing.text import FONT, font, mathtext, title_of, width_of
from mixedfx.diagrams.graph.build import Graph

# Okabe and Ito's blue and greys: told apart by every kind of colour vision.
_INK, _LINE, _SHADE = "#0072B2", "#333333", "#DDDDDD"
_MARGIN = 0.12


def draw(graph: Graph, *, ax: Any = None) -> Any:
    """
    Draw a model's graph.

    Circles are random variables, dots are parameters; what is observed is shaded. A plate says
    "for each": its title gives the grouping factor, the index and, if known, how many levels
    there are. Plates of nested factors lie inside each other, those of crossed factors overlap.
    """
    pyplot = _pyplot()
    texts = {n.name: mathtext(n) for n in graph.nodes} | {
        f"plate {p.name}": title_of(p) for p in graph.plates
    }
    widths = {name: width_of(text) for name, text in texts.items()}
    layout = place(graph, widths)
    frame = _frame(graph, layout, widths)
    if ax is None:
        size = (frame.right - frame.left, frame.top - frame.bottom)
        ax = pyplot.figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))
    scale = _fit(ax, frame)
    _draw_plates(ax, graph, layout, texts, scale)
    patches = _draw_nodes(ax, graph, layout, texts, scale)
    _draw_edges(ax, graph, layout, patches, scale)
    return ax


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        message = 'pictures need matplotlib: python -m pip install "mixedfx[plot]"'
        raise ImportError(message) from None
    return pyplot


def _fit(ax: Any, frame: Box) -> float:
    """Give axes a scale at which all is seen; as many of their inches as of the picture's."""
    ax.set_axis_off()
    figure = ax.get_figure()
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # only then do the axes have their size
    inches = ax.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    wide, high = frame.right - frame.left, frame.top - frame.bottom
    scale = float(min(inches.width / wide, inches.height / high, 1.0))
    x, y = (frame.left + frame.right) / 2, (frame.bottom + frame.top) / 2
    half = inches.width / scale / 2, inches.height / scale / 2
    ax.set(xlim=(x - half[0], x + half[0]), ylim=(y - half[1], y + half[1]))
    return scale


def _frame(graph: Graph, layout: Layout, widths: Mapping[str, float]) -> Box:
    """Everything, with its labels and a margin."""
    boxes = list(layout.boxes.values())
    for node in graph.nodes:
        if node.kind == "parameter":
            spot, side = layout.spots[node.name], layout.towards[node.name]
            long = widths[node.name] + 0.1 if side else widths[node.name] / 2
            boxes.append(
                Box(
                    spot.x - (long if side != RIGHT else DOT),
                    spot.x + (long if side != LEFT else DOT),
                    spot.y - 0.1,
                    spot.y + (0.1 if side else 0.3),
                )
            )
    return Box(
        min(b.left for b in boxes) - _MARGIN,
        max(b.right for b in boxes) + _MARGIN,
        min(b.bottom for b in boxes) - _MARGIN,
        max(b.top for b in boxes) + _MARGIN,
    )


def _draw_plates(
    ax: Any, graph: Graph, layout: Layout, texts: Mapping[str, str], scale: float
) -> None:
    from matplotlib.patches import FancyBboxPatch

    for plate in graph.plates:
        box, side = layout.boxes[plate.name], layout.towards[f"plate {plate.name}"]
        colour = _LINE if plate is graph.plates[-1] else _INK
        patch = FancyBboxPatch(
            (box.left, box.bottom),
            box.right - box.left,
            box.top - box.bottom,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=(*_rgb(colour), 0.05),
            edgecolor=colour,
            linewidth=0.9 * scale,
            zorder=1,
            gid=f"plate {plate.name}",
        )
        ax.add_patch(patch)
        ax.text(
            box.left + 0.1 if side == LEFT else box.right - 0.1,
            box.bottom + 0.11,
            texts[f"plate {plate.name}"],
            horizontalalignment="left" if side == LEFT else "right",
            verticalalignment="center",
            color=colour,
            fontproperties=font(0.9 * FONT * scale),
            usetex=False,
            zorder=4,
        )


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _draw_nodes(
    ax: Any, graph: Graph, layout: Layout, texts: Mapping[str, str], scale: float
) -> dict[str, Any]:
    from matplotlib.patches import Ellipse

    patches = {}
    for node in graph.nodes:
        spot = layout.spots[node.name]
        dot = node.kind == "parameter"
        patches[node.name] = Ellipse(
            (spot.x, spot.y),
            2 * spot.width,
            2 * spot.height,
            facecolor=_LINE if dot else "white" if node.kind == "random" else _SHADE,
            edgecolor=_LINE if node.kind in ("parameter", "covariate") else _INK,
            linewidth=1.3 * scale,
            zorder=3,
            gid=f"node {node.name}",
        )
        ax.add_patch(patches[node.name])
        side = layout.towards.get(node.name)
        ax.text(
            spot.x + (0.1 * side if side else 0.0),
            spot.y + (0.1 if side == 0 else 0.0),
            texts[node.name],
            horizontalalignment={LEFT: "right", RIGHT: "left"}.get(side or 0, "center"),
            verticalalignment="bottom" if side == 0 else "center",
            color=_LINE,
            fontproperties=font(FONT * scale),
            usetex=False,
            zorder=4,
        )
    return patches


def _draw_edges(
    ax: Any, graph: Graph, layout: Layout, patches: Mapping[str, Any], scale: float
) -> None:
    from matplotlib.patches import FancyArrowPatch

    for edge in graph.edges:
        a, b = layout.spots[edge.source], layout.spots[edge.target]
        arrow = FancyArrowPatch(
            (a.x, a.y),
            (b.x, b.y),
            arrowstyle="-|>",
            connectionstyle=f"arc3,rad={bend_of(edge.source, edge.target, layout.spots)}",
            mutation_scale=11 * scale,
            patchA=patches[edge.source],
            patchB=patches[edge.target],
            shrinkA=0,
            shrinkB=1.0 * scale,
            color=_LINE,
            linewidth=1.0 * scale,
            zorder=2,
            gid=f"edge {edge.source} -> {edge.target}",
        )
        ax.add_patch(arrow)
