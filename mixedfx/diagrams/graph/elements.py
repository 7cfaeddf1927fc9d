"""Nodes, edges and plates of a graph."""

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
        Its unique name in the graph.
    kind : {"parameter", "random", "response", "covariate"}
        Random effects and the response are modelled; the response and covariates observed.
    label : str
        Its symbol in Unicode.
    latex : str
        The same in LaTeX.
    plate : str or None
        The innermost plate that contains it; none for parameters.
    """

    name: str
    kind: Kind
    label: str
    latex: str
    plate: str | None


@dataclass(frozen=True)
class Edge:
    """
    A dependence: the distribution of the target is conditional on the source.

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
    Replication of its nodes over the levels of a grouping factor, or over the rows.

    Parameters
    ----------
    name : str
        The grouping factor as in the formula, or ``"rows"``.
    label : str
        The factor without those that contain it.
    index : str
        The letter that indexes it.
    count : int or None
        How many levels or rows there are, in all.
    parents : tuple of str
        Plates that contain it directly; more than one where factors are crossed.
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


def enclosing_plates(plates: tuple[Plate, ...], plate: str | None) -> tuple[str, ...]:
    """Names of a plate and of all that contain it, the outermost first."""
    enclosing = {plate}
    for p in reversed(plates):
        enclosing |= set(p.parents) if p.name in enclosing else set()
    return tuple(p.name for p in plates if p.name in enclosing)
