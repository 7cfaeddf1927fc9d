"""Drawing of a laid-out graph with matplotlib: ellipses, boxes, arrows and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixedfx.diagrams.drawing.edges import edge_curvature
from mixedfx.diagrams.drawing.layout import Layout, compute_layout
from mixedfx.diagrams.drawing.shapes import DOT_RADIUS, LEFT, RIGHT, Box
from mixedfx.diagrams.drawing.text import (
    FONT_SIZE,
    font_properties,
    node_label,
    plate_title,
    text_width,
)
from mixedfx.diagrams.graph.build import Graph
from mixedfx.plots.axes import check_axes, import_pyplot

# Okabe and Ito's blue and greys: distinct under every kind of colour vision.
_BLUE, _DARK_GREY, _LIGHT_GREY = "#0072B2", "#333333", "#DDDDDD"
_MARGIN = 0.12


def draw(graph: Graph, *, ax: Any = None) -> Any:
    """
    Draw a model's graph.

    Circles are random variables, dots are parameters; observed variables are shaded. A plate's
    title has the grouping factor, its index and, if known, the number of levels. Plates of nested
    factors are nested, those of crossed factors overlap.
    """
    pyplot = import_pyplot()
    if ax is not None:
        (ax,) = check_axes(ax, 1)
    texts = {n.name: node_label(n) for n in graph.nodes} | {
        f"plate {p.name}": plate_title(p) for p in graph.plates
    }
    widths = {name: text_width(text) for name, text in texts.items()}
    layout = compute_layout(graph, widths)
    bounds = _bounding_box(graph, layout, widths)
    if ax is None:
        size = (bounds.right - bounds.left, bounds.top - bounds.bottom)
        ax = pyplot.figure(figsize=size).add_axes((0.0, 0.0, 1.0, 1.0))
    scale = _fit_axes(ax, bounds)
    _draw_plates(ax, graph, layout, texts, scale)
    patches = _draw_nodes(ax, graph, layout, texts, scale)
    _draw_edges(ax, graph, layout, patches, scale)
    return ax


def _fit_axes(ax: Any, bounds: Box) -> float:
    """Set equal limits that contain the drawing; return its scale, at most 1."""
    ax.set_axis_off()
    figure = ax.get_figure()
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # a layout engine sets the size of the axes here
    inches = ax.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    width, height = bounds.right - bounds.left, bounds.top - bounds.bottom
    scale = float(min(inches.width / width, inches.height / height, 1.0))
    x, y = (bounds.left + bounds.right) / 2, (bounds.bottom + bounds.top) / 2
    half = inches.width / scale / 2, inches.height / scale / 2
    ax.set(xlim=(x - half[0], x + half[0]), ylim=(y - half[1], y + half[1]))
    return scale


def _bounding_box(graph: Graph, layout: Layout, widths: Mapping[str, float]) -> Box:
    """Bounding box of plates, parameters and their labels, with a margin."""
    boxes = list(layout.boxes.values())
    for node in graph.nodes:
        if node.kind == "parameter":
            dot, side = layout.nodes[node.name], layout.label_sides[node.name]
            extent = widths[node.name] + 0.1 if side else widths[node.name] / 2
            boxes.append(
                Box(
                    dot.x - (extent if side != RIGHT else DOT_RADIUS),
                    dot.x + (extent if side != LEFT else DOT_RADIUS),
                    dot.y - 0.1,
                    dot.y + (0.1 if side else 0.3),
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
        box, side = layout.boxes[plate.name], layout.label_sides[f"plate {plate.name}"]
        colour = _DARK_GREY if plate is graph.plates[-1] else _BLUE
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
            fontproperties=font_properties(0.9 * FONT_SIZE * scale),
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
        ellipse = layout.nodes[node.name]
        is_dot = node.kind == "parameter"
        patches[node.name] = Ellipse(
            (ellipse.x, ellipse.y),
            2 * ellipse.rx,
            2 * ellipse.ry,
            facecolor=_DARK_GREY if is_dot else "white" if node.kind == "random" else _LIGHT_GREY,
            edgecolor=_DARK_GREY if node.kind in ("parameter", "covariate") else _BLUE,
            linewidth=1.3 * scale,
            zorder=3,
            gid=f"node {node.name}",
        )
        ax.add_patch(patches[node.name])
        side = layout.label_sides.get(node.name)
        ax.text(
            ellipse.x + (0.1 * side if side else 0.0),
            ellipse.y + (0.1 if side == 0 else 0.0),
            texts[node.name],
            horizontalalignment={LEFT: "right", RIGHT: "left"}.get(side or 0, "center"),
            verticalalignment="bottom" if side == 0 else "center",
            color=_DARK_GREY,
            fontproperties=font_properties(FONT_SIZE * scale),
            usetex=False,
            zorder=4,
        )
    return patches


def _draw_edges(
    ax: Any, graph: Graph, layout: Layout, patches: Mapping[str, Any], scale: float
) -> None:
    from matplotlib.patches import FancyArrowPatch

    for edge in graph.edges:
        a, b = layout.nodes[edge.source], layout.nodes[edge.target]
        curvature = edge_curvature(edge.source, edge.target, layout.nodes)
        arrow = FancyArrowPatch(
            (a.x, a.y),
            (b.x, b.y),
            arrowstyle="-|>",
            connectionstyle=f"arc3,rad={curvature}",
            mutation_scale=11 * scale,
            patchA=patches[edge.source],
            patchB=patches[edge.target],
            shrinkA=0,
            shrinkB=1.0 * scale,
            color=_DARK_GREY,
            linewidth=1.0 * scale,
            zorder=2,
            gid=f"edge {edge.source} -> {edge.target}",
        )
        ax.add_patch(arrow)
