"""Covariance matrices to lines: diagonal, written out, or as correlations.

What goes in is a term of a writer, what comes out is the lines that say what its matrix is. The
one idea is that a matrix is shown as far as it can be read: two effects by their covariance,
more by their correlations, very many not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixedfx.diagrams.equations.expressions import diagonal_matrix, signed_sum, squared
from mixedfx.diagrams.equations.layout import Line, line_of
from mixedfx.diagrams.equations.writer import Writer
from mixedfx.diagrams.graph.symbols import Math

# Correlation matrices of more effects than these are named, not written out.
MOST_EFFECTS = 8


def written_out(writer: Writer, i: int) -> bool:
    """Tell whether a covariance matrix has a known size, and a small one."""
    names = writer.random[i]
    return len(names) <= MOST_EFFECTS and all(writer.tags[c].isdecimal() for c in names)


def matrix_lines(writer: Writer, i: int) -> Iterator[Line]:
    """Write a covariance matrix."""
    names, matrix = writer.random[i], writer.spread(i)
    sds = [writer.sd(i, c) for c in names]
    if writer.reading.effects[i].term.structure == "diag":
        yield line_of(matrix, "=", diagonal_matrix([squared(sd) for sd in sds]))
        return
    if len(names) == 2:
        sign, rho = writer.correlation(i, *names)
        space = Math(" ", r" \,") if writer.estimates is None else Math("·", r" \cdot ")
        covariance = signed_sum([(sign, rho + space + sds[0] + space + sds[1])])
        rows = [[squared(sds[0]), covariance], [covariance, squared(sds[1])]]
        yield _matrix_line(matrix, rows)
        return
    label = writer.reading.effects[i].factor.label
    diagonal, correlations = Math("D", "D").of(label), Math("P", "P").of(label)
    space = Math(" ", r"\,")
    yield line_of(matrix, "=", diagonal + space + correlations + space + diagonal)
    yield line_of(diagonal, "=", diagonal_matrix(sds))
    rows = [
        [
            *(signed_sum([writer.correlation(i, one, two)]) for one in names[:k]),
            Math("1", "1"),
            *[Math("", "")] * (len(names) - k - 1),
        ]
        for k, two in enumerate(names)
    ]
    yield _matrix_line(correlations, rows)


def _matrix_line(left: Math, rows: Sequence[Sequence[Math]]) -> Line:
    """A symmetric matrix, of which the lower triangle is enough."""
    widths = [max(len(row[j].unicode) for row in rows) for j in range(len(rows))]
    cells = ["  ".join(f"{m.unicode:<{w}}" for m, w in zip(r, widths, strict=True)) for r in rows]
    middle = len(rows) - 2
    edges = [("⎡", "⎤"), *[("⎢", "⎥")] * middle, ("⎣", "⎦")]
    shown = tuple(f"{a}{row}{b}" for (a, b), row in zip(edges, cells, strict=True))
    body = r" \\ ".join(" & ".join(m.latex for m in row) for row in rows)
    return Line(left, "=", shown, rf"\begin{{bmatrix}} {body} \end{{bmatrix}}")
