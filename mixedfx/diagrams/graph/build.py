"""Directed acyclic graph of a model, and whether its levels form a tree.

Edges follow the hierarchically centred form. With nested factors alone each row has one chain of
ancestors, and the levels form a tree; with crossed factors the response has several modelled
parents, and they do not.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mixedfx._deprecation import warn_renamed
from mixedfx._escaping import markdown_text
from mixedfx._names import encode
from mixedfx.diagrams.graph.elements import Edge, Kind, Node, Plate, enclosing_plates
from mixedfx.diagrams.graph.export import dot, mermaid
from mixedfx.diagrams.graph.model_terms import HierarchicalModel, hierarchical_models
from mixedfx.diagrams.graph.names import INTERCEPT, display_name
from mixedfx.diagrams.graph.nesting import GroupingFactor, check_group_names
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

_SIGMA = Math("σ", r"\sigma")


@dataclass(frozen=True)
class Graph:
    """
    A model as a directed acyclic graph with plates.

    Parameters
    ----------
    nodes : tuple of Node
        In topological order, parents before children.
    edges : tuple of Edge
        Conditional dependences.
    plates : tuple of Plate
        The outer ones first, the rows last.
    tree : bool
        Whether the levels form a tree: each plate has at most one parent. Effects of one level
        count as one variable.
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

    def enclosing_plates(self, plate: str | None) -> tuple[str, ...]:
        """
        List a plate and all that contain it.

        Parameters
        ----------
        plate : str or None
            Its name; None of a node that lies in no plate.

        Returns
        -------
        tuple of str
            Their names, the outermost first.
        """
        if plate is not None:
            check_choice("plate", plate, [p.name for p in self.plates])
        return enclosing_plates(self.plates, plate)

    def around(self, plate: str | None) -> tuple[str, ...]:
        """Do as :meth:`enclosing_plates`, under its former name."""
        warn_renamed("Graph.around()", "Graph.enclosing_plates()")
        return self.enclosing_plates(plate)

    def describe(self) -> str:
        """
        Say whether the levels form a tree, and why.

        Returns
        -------
        str
            A sentence or two.
        """
        return self.reason

    def __str__(self) -> str:
        """Say whether the levels form a tree, and why."""
        return self.reason

    def to_dot(self) -> str:
        """
        Write the graph in Graphviz's DOT.

        Returns
        -------
        str
            A plate that lies in several others is a cluster of the deepest of them.
        """
        return dot(self.nodes, self.edges, self.plates)

    def to_mermaid(self) -> str:
        """
        Write the graph as a Mermaid flowchart.

        Returns
        -------
        str
            The text, as notebooks and Markdown pages show it.
        """
        return mermaid(self.nodes, self.edges, self.plates)

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.to_mermaid()}```\n\n{markdown_text(self.reason)}\n"


def graph(
    formula: str | Formula,
    counts: Mapping[str, int] | None = None,
    *,
    rows: int | None = None,
    nested: Mapping[str, str] | None = None,
    residual_sd: Literal["known", "modelled"] | None = None,
    params: Sequence[Math] = (_SIGMA,),
    further: Mapping[str, Formula] | None = None,
) -> Graph:
    """
    Build the graph of a formula.

    ``residual_sd`` says how each row has its own, if it has; ``params`` are the parameters of the
    response's distribution beside its mean; ``further`` are formulas of linear predictors beside
    that of the mean, by argument.
    """
    models = hierarchical_models(formula, nested, further or {})
    model = models[0]
    plates = _plates(model, counts or {}, rows)
    nodes, edges = _nodes_and_edges(models, plates[-1].name, residual_sd, params)
    tree = all(len(p.parents) < 2 for p in plates)
    return Graph(nodes, edges, plates, tree, _explain(model))


def with_dependence(found: Graph, sentence: str) -> Graph:
    """Add a sentence on rows that depend on each other; empty: they do not."""
    if not sentence:
        return found
    has_groups = len(found.plates) > 1
    return replace(found, reason=f"{found.reason} {sentence}" if has_groups else sentence)


def _plates(
    model: HierarchicalModel, counts: Mapping[str, int], rows: int | None
) -> tuple[Plate, ...]:
    check_group_names("counts", counts, (f.name for f in model.factors))
    for what, count in {**counts, "rows": rows}.items():
        if count is not None and operator.index(count) < 1:
            raise ArgumentError(f"the number of {what} is {count}, but must be at least 1.")
    plates = [Plate(f.name, f.label, f.index, counts.get(f.name), f.parents) for f in model.factors]
    name = _unique_name("rows", {f.name for f in model.factors})
    innermost = tuple(f.name for f in model.innermost)
    return (*plates, Plate(name, "rows", model.row_index, rows, innermost))


@dataclass(frozen=True)
class _Elements:
    """Nodes and edges that are found."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def add(self, name: str, kind: Kind, symbol: Math, plate: str | None) -> str:
        """Add a node, and return its name."""
        name = _unique_name(name, self.nodes)
        self.nodes[name] = Node(name, kind, symbol.unicode, symbol.latex, plate)
        return name


def _nodes_and_edges(
    models: Sequence[HierarchicalModel], rows: str, residual_sd: str | None, params: Sequence[Math]
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    found, model = _Elements(), models[0]
    parents = [name for one in models for name in _predictor_nodes(found, one)]
    for name in dict.fromkeys(name for one in models for name in one.covariates):
        parents.append(found.add(name, "covariate", model.row_value(encode(name)), rows))
    if residual_sd is None:
        names = ("sigma" if symbol == _SIGMA else symbol.unicode for symbol in params)
        parents += [found.add(n, "parameter", p, None) for n, p in zip(names, params, strict=True)]
    else:
        kind: Kind = "covariate" if residual_sd == "known" else "random"
        parents.append(found.add("sigma", kind, _SIGMA.subscript(model.row_indices), rows))
    name = display_name(response_code(model.formula.response).parts[0])
    response = found.add(name, "response", model.response, rows)
    edges = [*found.edges, *(Edge(name, response) for name in parents)]
    return _topological_order(found.nodes, edges), tuple(edges)


def _predictor_nodes(found: _Elements, model: HierarchicalModel) -> list[str]:
    """Effects and coefficients of one linear predictor: the parents of the response."""
    named = model.part.name
    terms = {
        i: found.add(named(str(e.term)), "random", e.indexed_symbol, e.factor.name)
        for i, e in enumerate(model.effects)
    }
    for i, e in enumerate(model.effects):
        if e.centered_at_mean and model.overall_mean is not None:
            mean = found.add("mean", "parameter", model.overall_mean, None)
            found.edges.append(Edge(mean, terms[i]))
        scale = named(f"{'cov' if e.are_several else 'sd'} {e.term}")
        found.edges.append(Edge(found.add(scale, "parameter", e.scale, None), terms[i]))
        found.edges.extend(Edge(terms[k], terms[i]) for k in e.centered_at)
    parents = [terms[i] for i, e in enumerate(model.effects) if e.in_linear_predictor]
    if beta := _coefficients(model):
        parents.append(found.add(named("beta"), "parameter", beta, None))
    return parents


def _topological_order(nodes: Mapping[str, Node], edges: list[Edge]) -> tuple[Node, ...]:
    """Parents before children (Kahn 1962), else in the order given."""
    order: dict[str, Node] = {}
    while len(order) < len(nodes):
        blocked = {e.target for e in edges if e.source not in order}
        order |= {n: node for n, node in nodes.items() if n not in blocked}
    return tuple(order.values())


def _coefficients(model: HierarchicalModel) -> Math | None:
    """Symbol of the fixed coefficients; none if the overall mean is the only one."""
    terms = [t for t in model.fixed if t != INTERCEPT or model.overall_mean is None]
    beta = model.part.coefficient
    if len(terms) == 1:
        return beta.subscript("", number=0 if terms[0] == INTERCEPT else 1)
    return Math(beta.unicode, rf"\boldsymbol{{{beta.latex}}}") if terms else None


def _unique_name(name: str, taken: Iterable[str]) -> str:
    while name in set(taken):
        name += "′"
    return name


def _explain(model: HierarchicalModel) -> str:
    """Whether the levels form a tree, and why."""
    by_name = {f.name: f for f in model.factors}
    parents_of = [("rows", model.innermost)] + [
        (f"levels of {f.label}", tuple(by_name[p] for p in f.parents))
        for f in reversed(model.factors)
    ]
    for what, parents in parents_of:
        if len(parents) > 1:
            *others, last = [_label_with_outer(f, by_name) for f in parents]
            crossed = f"{', of '.join(others)} and of {last}"
            return f"Not a tree: {what} belong to levels of {crossed}, which are crossed."
    if not model.factors:
        return "A tree, of one level: there are no groups, and rows depend on no other."
    labels = [f.label for f in reversed(model.factors)]
    return f"A tree: each row belongs to one level of {', each of these to one of '.join(labels)}."


def _label_with_outer(factor: GroupingFactor, by_name: Mapping[str, GroupingFactor]) -> str:
    outer = ", ".join(f"in {by_name[g].label}" for g in reversed(factor.outer))
    return f"{factor.label} ({outer})" if outer else factor.label
