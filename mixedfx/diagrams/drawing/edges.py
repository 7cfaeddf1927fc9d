"""Curvature of edges, such that they cross no other node.

The curvature is that of matplotlib's ``arc3``: a quadratic Bezier curve whose control point is the
midpoint of the nodes, displaced perpendicularly by the curvature times their distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mixedfx.diagrams.drawing.shapes import LEFT, RIGHT, Ellipse


def edge_crosses_node(a: Ellipse, b: Ellipse, other: Ellipse, curvature: float = 0.0) -> bool:
    """Whether an edge from a to b crosses a third node."""
    cx = (a.x + b.x) / 2 + curvature * (b.y - a.y)
    cy = (a.y + b.y) / 2 - curvature * (b.x - a.x)
    for i in range(1, 60):
        t = i / 60
        x = (1 - t) ** 2 * a.x + 2 * t * (1 - t) * cx + t**2 * b.x
        y = (1 - t) ** 2 * a.y + 2 * t * (1 - t) * cy + t**2 * b.y
        if math.hypot((x - other.x) / (other.rx + 0.06), (y - other.y) / (other.ry + 0.06)) < 1.0:
            return True
    return False


def edge_curvature(source: str, target: str, nodes: Mapping[str, Ellipse]) -> float:
    """Smallest curvature at which an edge crosses the fewest other nodes."""
    a, b = nodes[source], nodes[target]
    others = [node for name, node in nodes.items() if name not in (source, target)]
    candidates = [0.0] + [side * i / 10 for i in range(2, 11) for side in (LEFT, RIGHT)]
    return min(candidates, key=lambda c: sum(edge_crosses_node(a, b, other, c) for other in others))
