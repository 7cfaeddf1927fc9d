"""Orders to lengths: where each node, plate and title stands, in inches.

What goes in is a graph and the widths of its texts, what comes out is a :class:`Parametrization`.
The one
idea is that each plate is a little larger than those that reach less far, side by side and tier
by tier, so that one pass over the orders gives all borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mixedfx.diagrams.drawing.edges import touches
from mixedfx.diagrams.drawing.ordering import Arrangement, arrange
from mixedfx.diagrams.drawing.shapes import DOT, LEFT, RIGHT, Box, Spot
from mixedfx.diagrams.graph.build import Graph

_RADIUS = 0.34
_PAD = 0.15  # from a node to its plate
_GAP = 0.28  # from a node to what it is not part of
_STEP = 0.13  # between the borders of two plates
_STRIP = 0.25  # for the title at a plate's bottom
_STAIR = 0.5  # between terms of one plate, so that no arrow to one crosses another


@dataclass(frozen=True)
class Layout:
    """
    Where everything stands.

    Parameters
    ----------
    spots : mapping of str to Spot
        Of the nodes, by name.
    boxes : mapping of str to Box
        Of the plates, by name.
    towards : mapping of str to int
        On which side of its plate the title stands, and of its dot a parameter's label: -1
        left, 1 right; 0 above.
    """

    spots: Mapping[str, Spot]
    boxes: Mapping[str, Box]
    towards: Mapping[str, int]


def place(graph: Graph, widths: Mapping[str, float]) -> Layout:
    """Find the place of each node, plate and title."""
    plan = _Plan(graph, widths, arrange(graph))
    spots, rows = _rows(plan)
    floors, tops = _heights(plan, rows.top)
    bottoms = _bottoms(plan, rows.bottom)
    reaches = {side: _reaches(plan, side, rows.right, bottoms) for side in (LEFT, RIGHT)}
    boxes = {
        g: Box(-reaches[LEFT][g].border, reaches[RIGHT][g].border, bottoms[g], tops[g])
        for g in plan.groups
    }
    for g in plan.groups:
        side = plan.home(g)
        spots |= _stairs(plan, g, side * reaches[side or LEFT][g].middle, floors[g])
    boxes[graph.plates[-1].name] = rows
    titles = {f"plate {name}": plan.home(name) or LEFT for name in boxes}
    dots, labels = _parameters(plan, spots, boxes)
    return Layout(spots | dots, boxes, titles | labels)


@dataclass(frozen=True)
class _Plan:
    """What the steps of placing share."""

    graph: Graph
    widths: Mapping[str, float]
    arrangement: Arrangement

    @property
    def groups(self) -> list[str]:
        """Plates of grouping factors, the outer ones first."""
        return [p.name for p in self.graph.plates[:-1]]

    def inner(self, group: str) -> list[str]:
        """Grouping factors' plates inside a plate."""
        return [k for k in self.groups if k != group and group in self.graph.around(k)]

    def crossed(self, group: str) -> list[str]:
        """Plates that overlap a plate."""
        near = {*self.graph.around(group), *self.inner(group)}
        return [k for k in self.groups if k not in near]

    def children(self, group: str) -> list[str]:
        """Grouping factors' plates directly inside a plate."""
        return [p.name for p in self.graph.plates[:-1] if group in p.parents]

    def home(self, group: str) -> int:
        """Side on which a plate's nodes stand: its own, or that of the only plate inside it."""
        children = self.children(group)
        inherited = self.home(children[0]) if len(children) == 1 else 0
        return self.arrangement.sides.get(group, 0) or inherited

    def nodes(self, group: str) -> list[str]:
        """Nodes that stand in a plate directly."""
        return [n.name for n in self.graph.nodes if n.plate == group]

    def parents(self, node: str) -> list[str]:
        """Parameters that a node depends on."""
        return [
            n.name
            for n in self.graph.nodes
            for e in self.graph.edges
            if n.kind == "parameter" and (e.source, e.target) == (n.name, node)
        ]

    def half(self, name: str) -> float:
        """Half the width of a node, so that its label fits."""
        return max(_RADIUS, self.widths[name] / 2 + 0.07)

    def title(self, name: str) -> float:
        """Width that a plate's title takes."""
        return self.widths[f"plate {name}"] + 0.2

    def abreast(self, nodes: Iterable[str], gap: float = _GAP) -> tuple[list[float], float]:
        """Centres of nodes side by side, counted from their middle, and half their width."""
        centres, right = [], 0.0
        for half in map(self.half, nodes):
            centres.append(right + half)
            right += 2 * half + gap
        half_width = max(right - gap, 0.0) / 2
        return [c - half_width for c in centres], half_width


def _rows(plan: _Plan) -> tuple[dict[str, Spot], Box]:
    """Put the response at the origin, covariates below it, and the rows' plate around them."""
    name = next(n.name for n in plan.graph.nodes if n.kind == "response")
    response = Spot(0.0, 0.0, plan.half(name), _RADIUS)
    # Whatever else stands with the rows: covariates, and standard deviations of their own.
    rows = plan.graph.plates[-1].name
    covariates = [n.name for n in plan.graph.nodes if n.plate == rows and n.name != name]
    centres, half_width = plan.abreast(covariates)
    depth = 2 * _RADIUS + 0.42
    while True:
        spots = [
            Spot(x, -depth, plan.half(n), _RADIUS) for n, x in zip(covariates, centres, strict=True)
        ]
        # The arrows of many covariates come in flat, and would cross their neighbours.
        if not any(touches(a, response, b) for a in spots for b in spots if a is not b):
            break
        depth += 0.2
    low = depth + _RADIUS if covariates else _RADIUS
    half_width = max(response.width, half_width, plan.title(plan.graph.plates[-1].name) / 2 - _PAD)
    half_width += _PAD
    box = Box(-half_width, half_width, -low - 0.05 - _STRIP, _RADIUS + _PAD)
    return {name: response, **dict(zip(covariates, spots, strict=True))}, box


def _heights(plan: _Plan, rows: float) -> tuple[dict[str, float], dict[str, float]]:
    """Height of each plate's lowest node, and of its upper border, tier by tier."""
    floors: dict[str, float] = {}
    tops: dict[str, float] = {}
    tiers = plan.arrangement.tiers
    for tier in sorted(set(tiers.values())):
        floor = max([rows, *tops.values()]) + _GAP + _RADIUS
        for rank, g in enumerate(g for g in plan.groups if tiers[g] == tier):
            floors[g] = floor
            stairs = _STAIR * (len(plan.nodes(g)) - 1)
            tops[g] = floor + stairs + _RADIUS + _PAD + _STEP * rank
    return floors, tops


def _bottoms(plan: _Plan, rows: float) -> dict[str, float]:
    """Lower borders, each with a strip of its own for the title."""
    bottoms: dict[str, float] = {}
    while ready := [
        g for g in plan.groups if g not in bottoms and set(plan.inner(g)) <= bottoms.keys()
    ]:
        # Those in the middle first, so that no border of another crosses their title.
        g = min(ready, key=lambda g: (0, RIGHT, LEFT).index(plan.home(g)))
        bottoms[g] = min([rows, *bottoms.values()]) - _STRIP
    return bottoms


@dataclass(frozen=True)
class _Reach:
    """How far a plate reaches to one side, and where the middle of its nodes is."""

    border: float
    middle: float


def _reaches(
    plan: _Plan, side: int, rows: float, bottoms: Mapping[str, float]
) -> dict[str, _Reach]:
    """Borders on one side, counted outwards, in the order found for it."""
    found: dict[str, _Reach] = {}
    tiers, sides = plan.arrangement.tiers, plan.arrangement.sides
    for g in plan.arrangement.orders[side]:
        half_width = plan.abreast(plan.nodes(g))[1]
        middle, border = 0.0, max([rows, *(r.border for r in found.values())]) + _STEP
        if plan.home(g) == side:
            higher = [found[k].border for k in plan.crossed(g) if tiers[k] >= tiers[g]]
            outside = max([rows, *higher]) + _GAP + half_width if sides[g] == side else 0.0
            middle = max([outside, *(found[k].middle for k in plan.children(g))])
            # Borders that run down through this plate's strip leave its title room beside them.
            through = [
                found[k].border for k in plan.crossed(g) if k in found and bottoms[k] < bottoms[g]
            ]
            border = max([border, *(b + plan.title(g) for b in through)])
        if plan.home(g) in (side, 0):
            border = max(border, middle + half_width + _PAD)
        if plan.home(g) == 0:
            border = max(border, plan.title(g) / 2)
        found[g] = _Reach(border, middle)
    return found


def _stairs(plan: _Plan, group: str, middle: float, floor: float) -> dict[str, Spot]:
    """Put a plate's nodes side by side, each inner one higher, so that all can be reached."""
    nodes = plan.nodes(group)
    centres, _ = plan.abreast(nodes)
    steps = list(range(len(nodes)))
    if plan.home(group) == RIGHT:
        steps.reverse()
    return {
        n: Spot(middle + x, floor + _STAIR * step, plan.half(n), _RADIUS)
        for n, x, step in zip(nodes, centres, steps, strict=True)
    }


def _parameters(
    plan: _Plan, spots: Mapping[str, Spot], boxes: Mapping[str, Box]
) -> tuple[dict[str, Spot], dict[str, int]]:
    """Put parameters outside all plates, at the height of what they govern."""
    ends = {
        LEFT: min(b.left for b in boxes.values()) - 0.4,
        RIGHT: max(b.right for b in boxes.values()) + 0.4,
    }
    dots: dict[str, Spot] = {}
    towards: dict[str, int] = {}
    for node in plan.graph.nodes:
        parents = plan.parents(node.name)
        for name in parents:
            spot = spots[node.name]
            # The last is the spread; before it come coefficients or the overall mean.
            side = plan.home(str(node.plate)) or LEFT
            x, y = ends[side], spot.y
            if name != parents[-1] and node.kind == "response":
                side, x = RIGHT, ends[RIGHT]
            elif name != parents[-1]:
                above = [b.top for b in boxes.values() if b.left - 0.2 < spot.x < b.right + 0.2]
                side, x, y = 0, spot.x, max(above) + 0.35
            dots[name], towards[name] = Spot(x, y, DOT, DOT), side
    return dots, towards
