"""Graph to picture: a model's variables as circles, its levels as plates, on matplotlib axes.

The response stands at the origin and every plate reaches around it, so that a plate is told
by how far it reaches to the left, to the right, up and down. Then one plate lies inside another
if it reaches less far on all sides, crossed ones overlap at the response, and what is left to
do is to find an order for each side (:func:`arrange`) and to turn orders into lengths
(:func:`place`). Positions are computed in inches, from the graph and the widths of its texts
alone; only :func:`draw` knows matplotlib, an extra: ``pip install "mixedfx[plot]"``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from mixedfx.dag import Graph, Node, Plate
from mixedfx.errors import ArgumentError

# Okabe and Ito's blue and greys: told apart by every kind of colour vision.
_INK, _LINE, _GREY, _SHADE = "#0072B2", "#333333", "#999999", "#DDDDDD"

_FONT = 12.0  # points; the rest is in inches
_RADIUS = 0.34
_DOT = 0.045
_PAD = 0.15  # from a node to its plate
_GAP = 0.28  # from a node to what it is not part of
_STEP = 0.13  # between the borders of two plates
_STRIP = 0.25  # for the title at a plate's bottom
_STAIR = 0.5  # between terms of one plate, so that no arrow to one crosses another
_MARGIN = 0.12
_LEFT, _RIGHT = -1, 1
_TRIES = 20_000  # models that anybody fits need a few, or some hundreds


@dataclass(frozen=True)
class Spot:
    """
    Where a node stands.

    Parameters
    ----------
    x, y : float
        Its centre, in inches from the response's.
    width, height : float
        Half axes of its ellipse.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """
    A rectangle.

    Parameters
    ----------
    left, right, bottom, top : float
        Its sides, in inches from the response's centre.
    """

    left: float
    right: float
    bottom: float
    top: float


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


@dataclass(frozen=True)
class Arrangement:
    """
    How far plates reach, as orders; a plate inside another reaches less far on each side.

    Parameters
    ----------
    tiers : mapping of str to int
        Height of each grouping factor's nodes above the response.
    sides : mapping of str to int
        Whether nodes must stand to the left (-1) or right (1) to keep out of crossed plates.
    orders : mapping of int to list of str
        For each of these sides the plates, from those that reach least far.
    """

    tiers: Mapping[str, int]
    sides: Mapping[str, int]
    orders: Mapping[int, list[str]]


def draw(graph: Graph, *, ax: Any = None) -> Any:
    """
    Draw a model's graph.

    Circles are random variables, dots are parameters; what is observed is shaded. A plate says
    "for each": its title gives the grouping factor, the index and, if known, how many levels
    there are. Plates of nested factors lie inside each other, those of crossed factors overlap.

    Parameters
    ----------
    graph : Graph
        From :func:`mixedfx.dag.graph`.
    ax : matplotlib axes, optional
        Where to draw; the picture, with its letters, is made smaller if it does not fit.
        Without it a figure is made in the picture's own size.

    Returns
    -------
    matplotlib axes
        Nodes, plates and edges are patches whose ``gid`` is ``"node <name>"``,
        ``"plate <name>"`` and ``"edge <source> -> <target>"``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ArgumentError
        If no arrangement of rectangles shows the plates.

    Examples
    --------
    >>> from mixedfx.dag import graph
    >>> ax = draw(graph("rating ~ 1 + (1 | friend)"))
    >>> [p.get_gid() for p in ax.patches if p.get_gid().startswith("plate")]
    ['plate friend', 'plate rows']
    """
    pyplot = _pyplot()
    texts = {n.name: _mathtext(n) for n in graph.nodes} | {
        f"plate {p.name}": _title(p) for p in graph.plates
    }
    widths = {name: _width(text) for name, text in texts.items()}
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


# ---------------------------------------------------------------- orders


def arrange(graph: Graph) -> Arrangement:
    """
    Order the plates on each side, so that nodes can stand in their own plates and no other.

    A node stands at the upper border of its plate, and so above all plates of lower tiers. Of
    the crossed plates that are as high or higher, it must be kept clear to one side: there its
    plate reaches further than they do. This is a search over tiers and sides for orders
    without a circle; the lowest picture is found first.

    Parameters
    ----------
    graph : Graph
        Any graph.

    Returns
    -------
    Arrangement
        Tiers from 1, sides, and the orders of all grouping factors to the left and right.

    Raises
    ------
    ArgumentError
        If there is none.

    Examples
    --------
    >>> from mixedfx.dag import graph
    >>> dict(arrange(graph("y ~ 1 + (1 | a/b) + (1 | c)")).tiers)
    {'a': 2, 'a:b': 1, 'c': 1}
    """
    outer = {p.name: set(graph.around(p.name)) - {p.name} for p in graph.plates[:-1]}
    for found in islice(_arrangements(outer), _TRIES):
        if all(len(order) == len(outer) for order in found.orders.values()):
            return found
    raise ArgumentError(
        f"no way was found to draw the plates of {', '.join(outer)} as rectangles; "
        "write the graph with to_dot() or to_mermaid()."
    )


def _arrangements(outer: Mapping[str, set[str]]) -> Iterator[Arrangement]:
    """All tiers and sides, the lowest first; orders are incomplete where there are none."""
    for height in range((len(outer) + 1) // 2, len(outer) + 1):
        for tiers in _tiers(list(outer), outer, height):
            higher = {
                g: [k for k in outer if _apart(g, k, outer) and tiers[k] >= tiers[g]] for g in outer
            }
            level = {t: [g for g in outer if tiers[g] == t and higher[g]] for t in tiers.values()}
            abreast = [groups for groups in level.values() if groups]
            for turns in product((_LEFT, _RIGHT), repeat=len(abreast)):
                sides = dict.fromkeys(outer, 0)
                for groups, turn in zip(abreast, turns, strict=True):
                    # Two of one tier stand on either side.
                    sides |= dict(zip(groups, (turn, -turn), strict=False))
                orders = {s: _order(outer, higher, sides, s) for s in (_LEFT, _RIGHT)}
                yield Arrangement(tiers, sides, orders)


def _apart(a: str, b: str, outer: Mapping[str, set[str]]) -> bool:
    return a != b and a not in outer[b] and b not in outer[a]


def _tiers(
    groups: list[str], outer: Mapping[str, set[str]], height: int
) -> Iterator[dict[str, int]]:
    """All heights with inner plates below outer ones, and no three crossed ones side by side."""
    if not groups:
        yield {}
        return
    # Inner plates stand last, and so are given their tiers first.
    g, rest = groups[0], groups[1:]
    for tiers in _tiers(rest, outer, height):
        lowest = 1 + max((tiers[k] for k in rest if g in outer[k]), default=0)
        for tier in range(lowest, height + 1):
            if sum(t == tier for t in tiers.values()) < 2:
                yield {g: tier} | tiers


def _order(
    outer: Mapping[str, set[str]],
    higher: Mapping[str, list[str]],
    sides: Mapping[str, int],
    side: int,
) -> list[str]:
    """Plates from the one that reaches least far to one side; incomplete if there is a circle."""
    less = {g: {k for k in outer if g in outer[k]} for g in outer}
    for g in outer:
        less[g] |= set(higher[g]) if sides[g] == side else set()
    order: list[str] = []
    while ready := [g for g in outer if g not in order and less[g] <= set(order)]:
        order.append(min(ready, key=lambda g: (sides[g] == side, sides[g] != 0)))
    return order


# ---------------------------------------------------------------- lengths


def place(graph: Graph, widths: Mapping[str, float]) -> Layout:
    """
    Find the place of each node, plate and title.

    Parameters
    ----------
    graph : Graph
        Any graph.
    widths : mapping of str to float
        Width in inches of each node's label, by its name, and of each plate's title, by
        ``"plate <name>"``.

    Returns
    -------
    Layout
        Nodes lie inside the boxes of their plates and outside all others.

    Raises
    ------
    ArgumentError
        If no arrangement of rectangles shows the plates.

    Examples
    --------
    >>> from mixedfx.dag import graph
    >>> g = graph("y ~ 1 + (1 | g)")
    >>> layout = place(g, {n.name: 0.2 for n in g.nodes} | {f"plate {p.name}": 0.5
    ...                    for p in g.plates})
    >>> layout.boxes["g"].left < layout.boxes["rows"].left
    True
    """
    plan = _Plan(graph, widths, arrange(graph))
    spots, rows = _rows(plan)
    floors, tops = _heights(plan, rows.top)
    bottoms = _bottoms(plan, rows.bottom)
    reaches = {side: _reaches(plan, side, rows.right, bottoms) for side in (_LEFT, _RIGHT)}
    boxes = {
        g: Box(-reaches[_LEFT][g].border, reaches[_RIGHT][g].border, bottoms[g], tops[g])
        for g in plan.groups
    }
    for g in plan.groups:
        side = plan.home(g)
        spots |= _stairs(plan, g, side * reaches[side or _LEFT][g].middle, floors[g])
    boxes[graph.plates[-1].name] = rows
    titles = {f"plate {name}": plan.home(name) or _LEFT for name in boxes}
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
    covariates = [n.name for n in plan.graph.nodes if n.kind == "covariate"]
    centres, half_width = plan.abreast(covariates)
    depth = 2 * _RADIUS + 0.42
    while True:
        spots = [
            Spot(x, -depth, plan.half(n), _RADIUS) for n, x in zip(covariates, centres, strict=True)
        ]
        # The arrows of many covariates come in flat, and would cross their neighbours.
        if not any(_touches(a, response, b) for a in spots for b in spots if a is not b):
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
        g = min(ready, key=lambda g: (0, _RIGHT, _LEFT).index(plan.home(g)))
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
    if plan.home(group) == _RIGHT:
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
        _LEFT: min(b.left for b in boxes.values()) - 0.4,
        _RIGHT: max(b.right for b in boxes.values()) + 0.4,
    }
    dots: dict[str, Spot] = {}
    towards: dict[str, int] = {}
    for node in plan.graph.nodes:
        parents = plan.parents(node.name)
        for name in parents:
            spot = spots[node.name]
            # The last is the spread; before it come coefficients or the overall mean.
            side = plan.home(str(node.plate)) or _LEFT
            x, y = ends[side], spot.y
            if name != parents[-1] and node.kind == "response":
                side, x = _RIGHT, ends[_RIGHT]
            elif name != parents[-1]:
                above = [b.top for b in boxes.values() if b.left - 0.2 < spot.x < b.right + 0.2]
                side, x, y = 0, spot.x, max(above) + 0.35
            dots[name], towards[name] = Spot(x, y, _DOT, _DOT), side
    return dots, towards


# ---------------------------------------------------------------- arrows


def _touches(a: Spot, b: Spot, other: Spot, bend: float = 0.0) -> bool:
    """Whether an arrow from one node to another runs over a third."""
    middle = (a.x + b.x) / 2 + bend * (b.y - a.y), (a.y + b.y) / 2 - bend * (b.x - a.x)
    for i in range(1, 60):
        t = i / 60
        x = (1 - t) ** 2 * a.x + 2 * t * (1 - t) * middle[0] + t**2 * b.x
        y = (1 - t) ** 2 * a.y + 2 * t * (1 - t) * middle[1] + t**2 * b.y
        if (
            math.hypot((x - other.x) / (other.width + 0.06), (y - other.y) / (other.height + 0.06))
            < 1.0
        ):
            return True
    return False


def _bend(source: str, target: str, spots: Mapping[str, Spot]) -> float:
    """How much to bend an arrow so that it runs over no other node: not at all, if it can."""
    a, b = spots[source], spots[target]
    others = [spot for name, spot in spots.items() if name not in (source, target)]
    bends = [0.0] + [side * i / 10 for i in range(2, 11) for side in (_LEFT, _RIGHT)]
    return min(bends, key=lambda bend: sum(_touches(a, b, other, bend) for other in others))


# ---------------------------------------------------------------- matplotlib


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        message = 'pictures need matplotlib: python -m pip install "mixedfx[plot]"'
        raise ImportError(message) from None
    return pyplot


def _font(size: float) -> Any:
    """The letters of textbooks, which matplotlib brings along; the user's where they end."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    family = ["STIXGeneral", "DejaVu Sans", *rcParams["font.family"]]
    return FontProperties(family=family, size=size, math_fontfamily="stix")


def _width(text: str) -> float:
    """Width of a text in inches, without a figure."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, prop=_font(_FONT), usetex=False).get_extents().width) / 72


def _mathtext(node: Node) -> str:
    """A node's symbol as matplotlib sets it; in Unicode if it has signs that it cannot set."""
    from matplotlib.mathtext import MathTextParser

    plain = node.label.replace("$", r"\$")
    if any(c > "\u024f" for c in node.latex):  # beyond the Latin letters
        return plain
    try:
        MathTextParser("path").parse(f"${node.latex}$", prop=_font(_FONT))
    except ValueError:
        return plain
    return f"${node.latex}$"


def _title(plate: Plate) -> str:
    index = f" ${plate.index}$" if plate.index else ""
    count = "" if plate.count is None else f" ({plate.count:,})"
    return plate.label.replace("$", r"\$") + index + count


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
                    spot.x - (long if side != _RIGHT else _DOT),
                    spot.x + (long if side != _LEFT else _DOT),
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
            box.left + 0.1 if side == _LEFT else box.right - 0.1,
            box.bottom + 0.11,
            texts[f"plate {plate.name}"],
            horizontalalignment="left" if side == _LEFT else "right",
            verticalalignment="center",
            color=colour,
            fontproperties=_font(0.9 * _FONT * scale),
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
            horizontalalignment={_LEFT: "right", _RIGHT: "left"}.get(side or 0, "center"),
            verticalalignment="bottom" if side == 0 else "center",
            color=_LINE,
            fontproperties=_font(_FONT * scale),
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
            connectionstyle=f"arc3,rad={_bend(edge.source, edge.target, layout.spots)}",
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
