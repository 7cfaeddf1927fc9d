"""Reading to graph: what the model's variables depend on, and whether that is a tree.

What goes in is a formula, and counts if there are data; what comes out is a :class:`Graph`. The
one idea is that arrows follow the levels, as the reading is centred: with nested factors alone
each row has one chain of parents, and the levels form a tree; with crossed ones the response has
several modelled parents, and they do not.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mixedfx.diagrams.graph.elements import Edge, Kind, Node, Plate, around
from mixedfx.diagrams.graph.export import dot, mermaid
from mixedfx.diagrams.graph.model_terms import Reading, read
from mixedfx.diagrams.graph.names import INTERCEPT, plain
from mixedfx.diagrams.graph.nesting import Factor, expect_groups
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.errors import ArgumentError
from mixedfx.formula.terms import Formula


@dataclass(frozen=True)
class Graph:
    """
    A model as a directed acyclic graph with plates.

    Parameters
    ----------
    nodes : tuple of Node
        Parents before children.
    edges : tuple of Edge
        The dependences.
    plates : tuple of Plate
        The outer ones first, the rows last.
    tree : bool
        Whether the levels form a tree: each plate lies in at most one other directly.
        Effects of one level count as one variable.
    reason : str
        Why, as a sentence.

    Examples
    --------
    >>> print(graph("y ~ hours + (1 | school/room) + (1 | ses)"))
    Not a tree: rows belong to levels of room (in school) and of ses, which are crossed.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    plates: tuple[Plate, ...]
    tree: bool
    reason: str

    def around(self, plate: str | None) -> tuple[str, ...]:
        """Names of a plate and of all that it lies in, the outer ones first."""
        return around(self.plates, plate)

    def describe(self) -> str:
        """Say whether the levels form a tree, and why."""
        return self.reason

    def __str__(self) -> str:
        """Say whether the levels form a tree, and why."""
        return self.reason

    def to_dot(self) -> str:
        """Write the graph for Graphviz; a plate in several others is drawn in the first."""
        return dot(self.nodes, self.edges, self.plates)

    def to_mermaid(self) -> str:
        """Write the graph as a Mermaid flowchart, as notebooks and Markdown pages show it."""
        return mermaid(self.nodes, self.edges, self.plates)

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.to_mermaid()}```\n\n{self.reason}\n"


def graph(
    formula: str | Formula,
    counts: Mapping[str, int] | None = None,
    *,
    rows: int | None = None,
    nested: Mapping[str, str] | None = None,
    own_spread: Literal["known", "modelled"] | None = None,
) -> Graph:
    """Give the graph of a formula's model."""
    reading = read(formula, nested)
    plates = _plates(reading, counts or {}, rows)
    nodes, edges = _nodes_and_edges(reading, plates[-1].name, own_spread=own_spread)
    tree = all(len(p.parents) < 2 for p in plates)
    return Graph(nodes, edges, plates, tree, _reason(reading))


def _plates(reading: Reading, counts: Mapping[str, int], rows: int | None) -> tuple[Plate, ...]:
    expect_groups("counts", counts, (f.name for f in reading.factors))
    for what, count in {**counts, "rows": rows}.items():
        if count is not None and operator.index(count) < 1:
            raise ArgumentError(f"the number of {what} is {count}, but must be at least 1.")
    found = [
        Plate(f.name, f.label, f.index, counts.get(f.name), f.parents) for f in reading.factors
    ]
    name = _unused("rows", {f.name for f in reading.factors})
    inner = tuple(f.name for f in reading.innermost)
    return (*found, Plate(name, "rows", reading.index, rows, inner))


def _nodes_and_edges(
    reading: Reading, rows: str, *, own_spread: str | None
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Parameters, the effects that they govern, and last what the response depends on."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []

    def add(name: str, kind: Kind, label: Math, plate: str | None) -> str:
        name = _unused(name, nodes)
        nodes[name] = Node(name, kind, label.unicode, label.latex, plate)
        return name

    above: list[str] = []
    terms = {
        i: add(str(e.term), "random", e.symbol, e.factor.name)
        for i, e in enumerate(reading.effects)
    }
    for i, e in enumerate(reading.effects):
        if e.carries_mean and reading.mean is not None:
            edges.append(Edge(add("mean", "parameter", reading.mean, None), terms[i]))
        what = "sd" if len(e.columns) == 1 else "cov"
        edges.append(Edge(add(f"{what} {e.term}", "parameter", e.spread, None), terms[i]))
        edges += [Edge(terms[k], terms[i]) for k in e.centre]
        above += [terms[i]] if e.enters else []
    if label := _coefficients(reading):
        above.append(add("beta", "parameter", label, None))
    above += [add(c, "covariate", reading.column(f"Q({c!r})"), rows) for c in reading.covariates]
    sigma = Math("σ", r"\sigma")
    if own_spread is None:
        above.append(add("sigma", "parameter", sigma, None))
    else:
        kind: Kind = "covariate" if own_spread == "known" else "random"
        above.append(add("sigma", kind, sigma.at(reading.indices), rows))
    response = add(plain(reading.formula.response), "response", reading.response, rows)
    edges += [Edge(name, response) for name in above]
    return _sorted(nodes, edges), tuple(edges)


def _sorted(nodes: Mapping[str, Node], edges: list[Edge]) -> tuple[Node, ...]:
    """Parents before children, else in the order given."""
    order: dict[str, Node] = {}
    while len(order) < len(nodes):
        waiting = {e.target for e in edges if e.source not in order}
        order |= {n: node for n, node in nodes.items() if n not in waiting}
    return tuple(order.values())


def _coefficients(reading: Reading) -> Math | None:
    """Symbol of the fixed coefficients; none if a random term carries the only one."""
    free = [t for t in reading.fixed if t != INTERCEPT or reading.mean is None]
    beta = Math("β", r"\beta")
    if len(free) == 1:
        return beta.at("", number=0 if free[0] == INTERCEPT else 1)
    return Math("β", r"\boldsymbol{\beta}") if free else None


def _unused(name: str, taken: Iterable[str]) -> str:
    while name in set(taken):
        name += "′"
    return name


def _reason(reading: Reading) -> str:
    """Whether the levels form a tree, and why."""
    by_name = {f.name: f for f in reading.factors}
    meeting = [("rows", reading.innermost)] + [
        (f"levels of {f.label}", tuple(by_name[p] for p in f.parents))
        for f in reversed(reading.factors)
    ]
    for what, parents in meeting:
        if len(parents) > 1:
            listed = [_with_outer(f, by_name) for f in parents]
            told = f"{', of '.join(listed[:-1])} and of {listed[-1]}"
            return f"Not a tree: {what} belong to levels of {told}, which are crossed."
    if not reading.factors:
        return "A tree, of one level: there are no groups, and rows depend on no other."
    labels = [f.label for f in reversed(reading.factors)]
    return f"A tree: each row belongs to one level of {', each of these to one of '.join(labels)}."


def _with_outer(factor: Factor, by_name: Mapping[str, Factor]) -> str:
    outer = ", ".join(f"in {by_name[g].label}" for g in reversed(factor.outer))
    return f"{factor.label} ({outer})" if outer else factor.label
