"""Coordinates of nodes, plates and titles, in inches, from the order of the plates.

Each plate extends a little beyond those of smaller extent, layer by layer and side by side, so one
pass over each order determines all borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mixedfx.diagrams.drawing.edges import edge_crosses_node
from mixedfx.diagrams.drawing.ordering import PlateOrder, order_plates
from mixedfx.diagrams.drawing.shapes import DOT_RADIUS, LEFT, RIGHT, Box, Ellipse
from mixedfx.diagrams.graph.build import Graph

_NODE_RADIUS = 0.34
_PLATE_PADDING = 0.15  # from a node to the border of its plate
_NODE_SEP = 0.28  # from a node to others, and to plates that it is not part of
_BORDER_SEP = 0.13  # between the borders of two plates
_TITLE_HEIGHT = 0.25  # of the strip at a plate's bottom
_STAGGER = 0.5  # vertical distance of the nodes of one plate, so that edges to them do not cross


@dataclass(frozen=True)
class Layout:
    """Coordinates of a drawing."""

    nodes: Mapping[str, Ellipse]  # by the node's name
    boxes: Mapping[str, Box]  # by the plate's name
    label_sides: Mapping[str, int]  # of titles ("plate NAME") and parameters; 0: above the dot


def compute_layout(graph: Graph, widths: Mapping[str, float]) -> Layout:
    """Compute the coordinates of all nodes, plates and titles."""
    ordered = _OrderedGraph(graph, widths, order_plates(graph))
    nodes, rows = _place_rows(ordered)
    floors, tops = _layer_heights(ordered, rows.top)
    bottoms = _lower_borders(ordered, rows.bottom)
    extents = {side: _extents(ordered, side, rows.right, bottoms) for side in (LEFT, RIGHT)}
    boxes = {
        g: Box(-extents[LEFT][g].border, extents[RIGHT][g].border, bottoms[g], tops[g])
        for g in ordered.groups
    }
    for g in ordered.groups:
        side = ordered.node_side(g)
        nodes |= _place_nodes(ordered, g, side * extents[side or LEFT][g].center, floors[g])
    boxes[graph.plates[-1].name] = rows
    title_sides = {f"plate {name}": ordered.node_side(name) or LEFT for name in boxes}
    parameters, parameter_sides = _place_parameters(ordered, nodes, boxes)
    return Layout(nodes | parameters, boxes, title_sides | parameter_sides)


@dataclass(frozen=True)
class _OrderedGraph:
    """A graph, the widths of its texts, and the order of its plates."""

    graph: Graph
    widths: Mapping[str, float]
    order: PlateOrder

    @property
    def groups(self) -> list[str]:
        """Plates of grouping factors, the outermost first."""
        return [p.name for p in self.graph.plates[:-1]]

    def inner(self, group: str) -> list[str]:
        """Grouping factors' plates inside a plate."""
        return [k for k in self.groups if k != group and group in self.graph.enclosing_plates(k)]

    def crossed(self, group: str) -> list[str]:
        """Plates that overlap a plate."""
        nested = {*self.graph.enclosing_plates(group), *self.inner(group)}
        return [k for k in self.groups if k not in nested]

    def children(self, group: str) -> list[str]:
        """Grouping factors' plates directly inside a plate."""
        return [p.name for p in self.graph.plates[:-1] if group in p.parents]

    def node_side(self, group: str) -> int:
        """Side of a plate's nodes: its own, or that of the only plate inside it."""
        children = self.children(group)
        inherited = self.node_side(children[0]) if len(children) == 1 else 0
        return self.order.sides.get(group, 0) or inherited

    def nodes(self, group: str) -> list[str]:
        """Nodes directly inside a plate."""
        return [n.name for n in self.graph.nodes if n.plate == group]

    def parameters(self, node: str) -> list[str]:
        """Parameters that are parents of a node."""
        return [
            n.name
            for n in self.graph.nodes
            for e in self.graph.edges
            if n.kind == "parameter" and (e.source, e.target) == (n.name, node)
        ]

    def half_width(self, name: str) -> float:
        """Half the width of a node, such that it contains its label."""
        return max(_NODE_RADIUS, self.widths[name] / 2 + 0.07)

    def title_width(self, name: str) -> float:
        """Width of a plate's title, with margins."""
        return self.widths[f"plate {name}"] + 0.2

    def side_by_side(self, nodes: Iterable[str]) -> tuple[list[float], float]:
        """Centres of nodes in one row, relative to its midpoint, and half the row's width."""
        centers, right = [], 0.0
        for half_width in map(self.half_width, nodes):
            centers.append(right + half_width)
            right += 2 * half_width + _NODE_SEP
        half = max(right - _NODE_SEP, 0.0) / 2
        return [c - half for c in centers], half


def _place_rows(ordered: _OrderedGraph) -> tuple[dict[str, Ellipse], Box]:
    """Place the response at the origin, the row's other variables below it, and their plate."""
    name = next(n.name for n in ordered.graph.nodes if n.kind == "response")
    response = Ellipse(0.0, 0.0, ordered.half_width(name), _NODE_RADIUS)
    plate = ordered.graph.plates[-1].name
    covariates = [n.name for n in ordered.graph.nodes if n.plate == plate and n.name != name]
    centers, half_width = ordered.side_by_side(covariates)
    depth = 2 * _NODE_RADIUS + 0.42
    while True:
        nodes = [
            Ellipse(x, -depth, ordered.half_width(n), _NODE_RADIUS)
            for n, x in zip(covariates, centers, strict=True)
        ]
        # Edges of many covariates are flat at this depth, and would cross their neighbours.
        if not any(edge_crosses_node(a, response, b) for a in nodes for b in nodes if a is not b):
            break
        depth += 0.2
    lowest = depth + _NODE_RADIUS if covariates else _NODE_RADIUS
    title = ordered.title_width(plate) / 2 - _PLATE_PADDING
    half_width = max(response.rx, half_width, title) + _PLATE_PADDING
    top = _NODE_RADIUS + _PLATE_PADDING
    box = Box(-half_width, half_width, -lowest - 0.05 - _TITLE_HEIGHT, top)
    return {name: response, **dict(zip(covariates, nodes, strict=True))}, box


def _layer_heights(
    ordered: _OrderedGraph, rows_top: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Height of each plate's lowest node, and of its upper border, layer by layer."""
    floors: dict[str, float] = {}
    tops: dict[str, float] = {}
    layers = ordered.order.layers
    for layer in sorted(set(layers.values())):
        floor = max([rows_top, *tops.values()]) + _NODE_SEP + _NODE_RADIUS
        for rank, g in enumerate(g for g in ordered.groups if layers[g] == layer):
            floors[g] = floor
            highest = floor + _STAGGER * (len(ordered.nodes(g)) - 1)
            tops[g] = highest + _NODE_RADIUS + _PLATE_PADDING + _BORDER_SEP * rank
    return floors, tops


def _lower_borders(ordered: _OrderedGraph, rows_bottom: float) -> dict[str, float]:
    """Lower borders, each with a strip of its own for the title."""
    bottoms: dict[str, float] = {}
    while ready := [
        g for g in ordered.groups if g not in bottoms and set(ordered.inner(g)) <= bottoms.keys()
    ]:
        # Central plates first, so that no other border crosses their title.
        g = min(ready, key=lambda g: (0, RIGHT, LEFT).index(ordered.node_side(g)))
        bottoms[g] = min([rows_bottom, *bottoms.values()]) - _TITLE_HEIGHT
    return bottoms


@dataclass(frozen=True)
class _Extent:
    """Distances from the origin to a plate's border on one side, and to the centre of its nodes."""

    border: float
    center: float


def _extents(
    ordered: _OrderedGraph, side: int, rows_right: float, bottoms: Mapping[str, float]
) -> dict[str, _Extent]:
    """Extents to one side, in increasing order."""
    extents: dict[str, _Extent] = {}
    layers, sides = ordered.order.layers, ordered.order.sides
    for g in ordered.order.orders[side]:
        half_width = ordered.side_by_side(ordered.nodes(g))[1]
        center = 0.0
        border = max([rows_right, *(e.border for e in extents.values())]) + _BORDER_SEP
        if ordered.node_side(g) == side:
            avoid = [extents[k].border for k in ordered.crossed(g) if layers[k] >= layers[g]]
            clear = max([rows_right, *avoid]) + _NODE_SEP + half_width if sides[g] == side else 0.0
            center = max([clear, *(extents[k].center for k in ordered.children(g))])
            # Vertical borders that cross this plate's title strip leave space for the title.
            crossing = [
                extents[k].border
                for k in ordered.crossed(g)
                if k in extents and bottoms[k] < bottoms[g]
            ]
            border = max([border, *(b + ordered.title_width(g) for b in crossing)])
        if ordered.node_side(g) in (side, 0):
            border = max(border, center + half_width + _PLATE_PADDING)
        if ordered.node_side(g) == 0:
            border = max(border, ordered.title_width(g) / 2)
        extents[g] = _Extent(border, center)
    return extents


def _place_nodes(
    ordered: _OrderedGraph, group: str, center: float, floor: float
) -> dict[str, Ellipse]:
    """Place a plate's nodes side by side, higher towards the origin, so that edges reach each."""
    nodes = ordered.nodes(group)
    offsets, _ = ordered.side_by_side(nodes)
    ranks = list(range(len(nodes)))
    if ordered.node_side(group) == RIGHT:
        ranks.reverse()
    return {
        n: Ellipse(center + x, floor + _STAGGER * rank, ordered.half_width(n), _NODE_RADIUS)
        for n, x, rank in zip(nodes, offsets, ranks, strict=True)
    }


def _place_parameters(
    ordered: _OrderedGraph, nodes: Mapping[str, Ellipse], boxes: Mapping[str, Box]
) -> tuple[dict[str, Ellipse], dict[str, int]]:
    """Place parameters outside all plates, at the height of their children."""
    outside = {
        LEFT: min(b.left for b in boxes.values()) - 0.4,
        RIGHT: max(b.right for b in boxes.values()) + 0.4,
    }
    dots: dict[str, Ellipse] = {}
    label_sides: dict[str, int] = {}
    for node in ordered.graph.nodes:
        parameters = ordered.parameters(node.name)
        for name in parameters:
            child = nodes[node.name]
            # The last one is the scale; the others are coefficients or the overall mean.
            side = ordered.node_side(str(node.plate)) or LEFT
            x, y = outside[side], child.y
            if name != parameters[-1] and node.kind == "response":
                side, x = RIGHT, outside[RIGHT]
            elif name != parameters[-1]:
                above = [b.top for b in boxes.values() if b.left - 0.2 < child.x < b.right + 0.2]
                side, x, y = 0, child.x, max(above) + 0.35
            dots[name], label_sides[name] = Ellipse(x, y, DOT_RADIUS, DOT_RADIUS), side
    return dots, label_sides
