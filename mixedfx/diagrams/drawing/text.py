"""Texts of a drawing in matplotlib's mathtext, and their widths.

A symbol that mathtext cannot set is written in Unicode.
"""

from __future__ import annotations

from typing import Any

from mixedfx.diagrams.graph.elements import Node, Plate

FONT_SIZE = 12.0  # points


def font_properties(size: float) -> Any:
    """STIX fonts, which matplotlib includes; the user's for characters that they lack."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    family = ["STIXGeneral", "DejaVu Sans", *rcParams["font.family"]]
    return FontProperties(family=family, size=size, math_fontfamily="stix")


def text_width(text: str) -> float:
    """Width in inches at the full font size."""
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), text, prop=font_properties(FONT_SIZE), usetex=False)
    return float(path.get_extents().width) / 72


def node_label(node: Node) -> str:
    """Symbol of a node in mathtext."""
    from matplotlib.mathtext import MathTextParser

    plain = node.label.replace("$", r"\$")
    if any(c > "\u024f" for c in node.latex):  # beyond the Latin letters
        return plain
    try:
        MathTextParser("path").parse(f"${node.latex}$", prop=font_properties(FONT_SIZE))
    except ValueError:
        return plain
    return f"${node.latex}$"


def plate_title(plate: Plate) -> str:
    """Label, index and count of a plate in mathtext."""
    index = f" ${plate.index}$" if plate.index else ""
    count = "" if plate.count is None else f" ({plate.count:,})"
    return plate.label.replace("$", r"\$").replace("\n", " ") + index + count
