"""The shapes of a picture: ellipses and rectangles, in inches from the response's centre.

Nodes are spots and plates are boxes; the one idea is that both are plain numbers, without a
figure, so that places can be found, and tested, before anything is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

LEFT, RIGHT = -1, 1
DOT = 0.045  # half width of a parameter, in inches


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
