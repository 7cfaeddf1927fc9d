"""Parts of a graph to text: in the languages of Graphviz and of Mermaid.

What goes in is nodes, edges and plates, what comes out is a file's text. The one idea is that
both languages have boxes within boxes only, so that a plate in several others is written in the
deepest and says where else it lies.
"""

from __future__ import annotations

from collections.abc import Callable

from mixedfx.diagrams.graph.elements import Edge, Node, Plate, around


def dot(nodes: tuple[Node, ...], edges: tuple[Edge, ...], plates: tuple[Plate, ...]) -> str:
    """Write a graph for Graphviz."""
    ids = _ids(nodes)
    styles = {
        "parameter": "shape=plaintext",
        "random": "shape=circle",
        "response": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
        "covariate": 'shape=ellipse, style=filled, fillcolor="#D9D9D9"',
    }

    def node(n: Node) -> list[str]:
        return [f"{ids[n.name]} [label={_dot_text(n.label)}, {styles[n.kind]}];"]

    def box(number: int, title: str, inside: list[str]) -> list[str]:
        head = [f"subgraph cluster_{number} {{", f"  label={_dot_text(title)};"]
        return [*head, '  style="rounded";', *(f"  {line}" for line in inside), "}"]

    lines = [*_in_boxes(nodes, plates, node, box)]
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

    def node(n: Node) -> list[str]:
        left, right = shapes[n.kind]
        return [f"{ids[n.name]}{left}{_mermaid_text(n.label)}{right}"]

    def box(number: int, title: str, inside: list[str]) -> list[str]:
        head = f"subgraph p{number}[{_mermaid_text(title)}]"
        return [head, *(f"  {line}" for line in inside), "end"]

    lines = _in_boxes(nodes, plates, node, box)
    lines += [f"{ids[e.source]} --> {ids[e.target]}" for e in edges]
    lines += ["classDef observed fill:#D9D9D9,stroke:#333333,color:#000000"]
    lines += ["classDef parameter fill:none,stroke:none"]
    return "flowchart TD\n" + "".join(f"  {line}\n" for line in lines)


def _ids(nodes: tuple[Node, ...]) -> dict[str, str]:
    """Names may hold any character; these are safe in every language of graphs."""
    return {n.name: f"n{i}" for i, n in enumerate(nodes)}


def _in_boxes(
    nodes: tuple[Node, ...],
    plates: tuple[Plate, ...],
    node: Callable[[Node], list[str]],
    box: Callable[[int, str, list[str]], list[str]],
) -> list[str]:
    """
    Write plates as boxes within boxes, which is all that these languages have.

    A plate that lies in several others is written in the deepest, and names the rest.
    """
    home = {
        p.name: max(p.parents, key=lambda g: len(around(plates, g)), default=None) for p in plates
    }
    titles = {p.name: p.title for p in plates}

    def inside(plate: str | None) -> list[str]:
        lines = [line for n in nodes if n.plate == plate for line in node(n)]
        for number, p in enumerate(plates):
            if home[p.name] == plate:
                also = [q.label for q in plates if q.name in p.parents and q.name != plate]
                title = ", also in ".join([titles[p.name], *also])
                lines += box(number, title, inside(p.name))
        return lines

    return inside(None)


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid_text(text: str) -> str:
    """Quote; signs that Mermaid or Markdown would read are written as numbers."""
    shown = (c if c.isalnum() or not c.isascii() or c in " _(),=" else f"#{ord(c)};" for c in text)
    return f'"{"".join(shown)}"'
