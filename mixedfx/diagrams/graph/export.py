"""Graphs in the languages of Graphviz and Mermaid.

Both have subgraphs that are nested but do not overlap: a plate in several others is written in the
one of greatest depth, and its title names the others.
"""

from __future__ import annotations

from collections.abc import Callable

from mixedfx.diagrams.graph.elements import Edge, Node, Plate, enclosing_plates


def dot(nodes: tuple[Node, ...], edges: tuple[Edge, ...], plates: tuple[Plate, ...]) -> str:
    """Write a graph in Graphviz's DOT."""
    ids = _ids(nodes)
    styles = {
        "parameter": "shape=plaintext",
        "random": "shape=circle",
        "response": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
        "covariate": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
    }

    def write_node(n: Node) -> str:
        return f"{ids[n.name]} [label={_dot_string(n.label)}, {styles[n.kind]}];"

    def write_plate(number: int, title: str, contents: list[str]) -> list[str]:
        head = [f"subgraph cluster_{number} {{", f"  label={_dot_string(title)};"]
        return [*head, '  style="rounded";', *(f"  {line}" for line in contents), "}"]

    lines = _nested_subgraphs(nodes, plates, write_node, write_plate)
    lines += [f"{ids[e.source]} -> {ids[e.target]};" for e in edges]
    return "digraph model {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def mermaid(nodes: tuple[Node, ...], edges: tuple[Edge, ...], plates: tuple[Plate, ...]) -> str:
    """Write a graph as a Mermaid flowchart."""
    ids = _ids(nodes)
    shapes = {
        "parameter": ("[", "]:::parameter"),
        "random": ("((", "))"),
        "response": ("((", ")):::observed"),
        "covariate": ("((", ")):::observed"),
    }

    def write_node(n: Node) -> str:
        left, right = shapes[n.kind]
        return f"{ids[n.name]}{left}{_mermaid_string(n.label)}{right}"

    def write_plate(number: int, title: str, contents: list[str]) -> list[str]:
        head = f"subgraph p{number}[{_mermaid_string(title)}]"
        return [head, *(f"  {line}" for line in contents), "end"]

    lines = _nested_subgraphs(nodes, plates, write_node, write_plate)
    lines += [f"{ids[e.source]} --> {ids[e.target]}" for e in edges]
    lines += ["classDef observed fill:#D9D9D9,stroke:#333333,color:#000000"]
    lines += ["classDef parameter fill:none,stroke:none"]
    return "flowchart TD\n" + "".join(f"  {line}\n" for line in lines)


def _ids(nodes: tuple[Node, ...]) -> dict[str, str]:
    """Identifiers without special characters."""
    return {n.name: f"n{i}" for i, n in enumerate(nodes)}


def _nested_subgraphs(
    nodes: tuple[Node, ...],
    plates: tuple[Plate, ...],
    write_node: Callable[[Node], str],
    write_plate: Callable[[int, str, list[str]], list[str]],
) -> list[str]:
    """Write each plate within the deepest of its parents."""
    parent = {
        p.name: max(p.parents, key=lambda g: len(enclosing_plates(plates, g)), default=None)
        for p in plates
    }

    def contents(plate: str | None) -> list[str]:
        lines = [write_node(n) for n in nodes if n.plate == plate]
        for number, p in enumerate(plates):
            if parent[p.name] == plate:
                others = [q.label for q in plates if q.name in p.parents and q.name != plate]
                title = ", also in ".join([p.title, *others])
                lines += write_plate(number, title, contents(p.name))
        return lines

    return contents(None)


def _dot_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid_string(text: str) -> str:
    """Quote a string; characters with a meaning in Mermaid or Markdown become entity codes."""
    escaped = (
        c if c.isalnum() or not c.isascii() or c in " _(),=" else f"#{ord(c)};" for c in text
    )
    return f'"{"".join(escaped)}"'
