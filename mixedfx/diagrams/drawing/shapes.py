"""Ellipses and rectangles, in inches from the centre of the response's node."""

from __future__ import annotations

from dataclasses import dataclass

LEFT, RIGHT = -1, 1
DOT_RADIUS = 0.045  # of a parameter, in inches


@dataclass(frozen=True)
class Ellipse:
    """A node."""

    x: float  # centre
    y: float
    rx: float  # half axes
    ry: float


@dataclass(frozen=True)
class Box:
    """A plate, or the bounding box of a drawing."""

    left: float
    right: float
    bottom: float
    top: float
