"""Graph to orders: which plate reaches further than which, on each side.

Every plate reaches around the response, so that it is told by how far it reaches to the left,
to the right, up and down. What goes in is a graph, what comes out is an :class:`Arrangement`;
the one idea is that only the order of the plates matters on each side, so that a search among
a few orders decides what can be drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product

from mixedfx.diagrams.drawing.shapes import LEFT, RIGHT
from mixedfx.diagrams.graph.build import Graph
from mixedfx.errors import ArgumentError

_TRIES = 20_000  # models that anybody fits need a few, or some hundreds


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


def arrange(graph: Graph) -> Arrangement:
    """
    Order the plates on each side, so that nodes can stand in their own plates and no other.

    A node stands at the upper border of its plate, and so above all plates of lower tiers. Of
    the crossed plates that are as high or higher, it must be kept clear to one side: there its
    plate reaches further than they do. This is a search over tiers and sides for orders
    without a circle; the lowest picture is found first.
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
            for turns in product((LEFT, RIGHT), repeat=len(abreast)):
                sides = dict.fromkeys(outer, 0)
                for groups, turn in zip(abreast, turns, strict=True):
                    # Two of one tier stand on either side.
                    sides |= dict(zip(groups, (turn, -turn), strict=False))
                orders = {s: _order(outer, higher, sides, s) for s in (LEFT, RIGHT)}
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
