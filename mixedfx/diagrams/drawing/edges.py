"""Spots to arrows: how to bend one so that it runs over no other node.

What goes in is where nodes stand, what comes out is a bend, as matplotlib's ``arc3`` has it: a
quadratic curve whose middle is moved aside. The one idea is to try a few and to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mixedfx.diagrams.drawing.shapes import LEFT, RIGHT, Spot


def touches(a: Spot, b: Spot, other: Spot, bend: float = 0.0) -> bool:
    """Tell whether an arrow from one node to another runs over a third."""
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


def bend_of(source: str, target: str, spots: Mapping[str, Spot]) -> float:
    """Find how much to bend an arrow so that it runs over no other node."""
    a, b = spots[source], spots[target]
    others = [spot for name, spot in spots.items() if name not in (source, target)]
    bends = [0.0] + [side * i / 10 for i in range(2, 11) for side in (LEFT, RIGHT)]
    return min(bends, key=lambda bend: sum(touches(a, b, other, bend) for other in others))
