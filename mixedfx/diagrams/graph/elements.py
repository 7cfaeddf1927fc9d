"""The parts of a graph: its nodes, its edges and its plates.

They are plain values, named by strings; the one idea is that a plate (a box that says "for
each") knows only what it lies in directly, and the rest follows (:func:`around`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["parameter", "random", "response", "covariate"]


@dataclass(frozen=True)
class Node:
    """
    A variable or a parameter of the model.

    Parameters
    ----------
    name : str
        Its name in the graph, of which there is no other.
    kind : {"parameter", "random", "response", "covariate"}
        Random effects and the response are modelled; the response and covariates observed.
    label : str
        Its symbol in Unicode.
    latex : str
        The same in LaTeX.
    plate : str or None
        The innermost plate that it stands in; none for parameters.
    """

    name: str
    kind: Kind
    label: str
    latex: str
    plate: str | None


@dataclass(frozen=True)
class Edge:
    """
    A dependence: the target's distribution is given in terms of the source.

    Parameters
    ----------
    source, target : str
        Names of nodes.
    """

    source: str
    target: str


@dataclass(frozen=True)
class Plate:
    """
    What is there once for each level of a grouping factor, or for each row.

    Parameters
    ----------
    name : str
        The grouping factor as in the formula, or ``"rows"``.
    label : str
        The factor without those that it lies in.
    index : str
        The letter that numbers it.
    count : int or None
        How many levels or rows there are, in all.
    parents : tuple of str
        Plates that it lies in directly; more than one where factors are crossed.
    """

    name: str
    label: str
    index: str
    count: int | None
    parents: tuple[str, ...]

    @property
    def title(self) -> str:
        """Label, index and count, as written in the plate's corner."""
        count = "" if self.count is None else f" ({self.count:,})"
        return f"{self.label} {self.index}".strip() + count


def around(plates: tuple[Plate, ...], plate: str | None) -> tuple[str, ...]:
    """Name a plate and all that it lies in."""
    found = {plate}
    for p in reversed(plates):
        found |= set(p.parents) if p.name in found else set()
    return tuple(p.name for p in plates if p.name in found)
