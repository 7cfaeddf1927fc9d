"""Layers of the plates, and their order by extent on each side.

Which drawing is possible depends only on the order of the plates' extents to the left and right, so
a search over assignments of layers and sides finds one without contradictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product

from mixedfx.diagrams.drawing.shapes import LEFT, RIGHT
from mixedfx.diagrams.graph.build import Graph
from mixedfx.errors import ArgumentError

_MAX_CANDIDATES = 20_000  # practical models need a few, at most some hundreds


@dataclass(frozen=True)
class PlateOrder:
    """Layers, sides and orders of the grouping factors' plates."""

    layers: Mapping[str, int]  # heights of the plates' nodes above the response
    sides: Mapping[str, int]  # side on which nodes avoid crossed plates: LEFT, RIGHT, or 0
    orders: Mapping[int, list[str]]  # plates by increasing extent to the LEFT and the RIGHT


def order_plates(graph: Graph) -> PlateOrder:
    """
    Order the plates on each side, so that each node is inside its own plates and no other.

    A node is at the upper border of its plate, above all plates of lower layers. Of the crossed
    plates of its own and higher layers it is clear on one side, to which its plate extends further
    than they do. The first acyclic order has the fewest layers.
    """
    outer = {p.name: set(graph.enclosing_plates(p.name)) - {p.name} for p in graph.plates[:-1]}
    for candidate in islice(_candidates(outer), _MAX_CANDIDATES):
        if all(len(order) == len(outer) for order in candidate.orders.values()):
            return candidate
    raise ArgumentError(
        f"no way was found to draw the plates of {', '.join(outer)} as rectangles; "
        "write the graph with to_dot() or to_mermaid()."
    )


def _candidates(outer: Mapping[str, set[str]]) -> Iterator[PlateOrder]:
    """All layers and sides, the fewest layers first; a cyclic order is returned incomplete."""
    for n_layers in range((len(outer) + 1) // 2, len(outer) + 1):
        for layers in _layer_assignments(list(outer), outer, n_layers):
            to_avoid = {
                g: [k for k in outer if _are_crossed(g, k, outer) and layers[k] >= layers[g]]
                for g in outer
            }
            by_layer = {
                t: [g for g in outer if layers[g] == t and to_avoid[g]] for t in layers.values()
            }
            side_by_side = [groups for groups in by_layer.values() if groups]
            for first_sides in product((LEFT, RIGHT), repeat=len(side_by_side)):
                sides = dict.fromkeys(outer, 0)
                for groups, side in zip(side_by_side, first_sides, strict=True):
                    # Two plates of one layer take opposite sides.
                    sides |= dict(zip(groups, (side, -side), strict=False))
                orders = {s: _extent_order(outer, to_avoid, sides, s) for s in (LEFT, RIGHT)}
                yield PlateOrder(layers, sides, orders)


def _are_crossed(a: str, b: str, outer: Mapping[str, set[str]]) -> bool:
    return a != b and a not in outer[b] and b not in outer[a]


def _layer_assignments(
    groups: list[str], outer: Mapping[str, set[str]], n_layers: int
) -> Iterator[dict[str, int]]:
    """All layers with inner plates below outer ones, and at most two plates a layer."""
    if not groups:
        yield {}
        return
    # Inner plates are last in the list, so the recursion assigns their layers first.
    group, inner = groups[0], groups[1:]
    for layers in _layer_assignments(inner, outer, n_layers):
        lowest = 1 + max((layers[k] for k in inner if group in outer[k]), default=0)
        for layer in range(lowest, n_layers + 1):
            if sum(other == layer for other in layers.values()) < 2:
                yield {group: layer} | layers


def _extent_order(
    outer: Mapping[str, set[str]],
    to_avoid: Mapping[str, list[str]],
    sides: Mapping[str, int],
    side: int,
) -> list[str]:
    """Topological order of the plates by extent to one side; incomplete if there is a cycle."""
    smaller = {g: {k for k in outer if g in outer[k]} for g in outer}
    for g in outer:
        smaller[g] |= set(to_avoid[g]) if sides[g] == side else set()
    order: list[str] = []
    while ready := [g for g in outer if g not in order and smaller[g] <= set(order)]:
        order.append(min(ready, key=lambda g: (sides[g] == side, sides[g] != 0)))
    return order
