"""Symbols to letters: the texts of a picture as matplotlib sets them, and their widths.

What goes in is nodes and plates, what comes out is matplotlib's mathtext. The one idea is that a
symbol which mathtext cannot set is written in Unicode, so that every graph can be drawn.
"""

from __future__ import annotations

from typing import Any

from mixedfx.diagrams.graph.elements import Node, Plate

FONT = 12.0  # points


def font(size: float) -> Any:
    """Choose the letters of textbooks, which matplotlib brings along; the user's where they end."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    family = ["STIXGeneral", "DejaVu Sans", *rcParams["font.family"]]
    return FontProperties(family=family, size=size, math_fontfamily="stix")


def width_of(text: str) -> float:
    """Measure a text without a figure."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, prop=font(FONT), usetex=False).get_extents().width) / 72


def mathtext(node: Node) -> str:
    """Write a node's symbol as matplotlib sets it."""
    from matplotlib.mathtext import MathTextParser

    plain = node.label.replace("$", r"\$")
    if any(c > "\u024f" for c in node.latex):  # beyond the Latin letters
        return plain
    try:
        MathTextParser("path").parse(f"${node.latex}$", prop=font(FONT))
    except ValueError:
        return plain
    return f"${node.latex}$"


def title_of(plate: Plate) -> str:
    """Write a plate's title as matplotlib sets it."""
    index = f" ${plate.index}$" if plate.index else ""
    count = "" if plate.count is None else f" ({plate.count:,})"
    return plate.label.replace("$", r"\$") + index + count
