"""Covariance matrices of random effects: diagonal, elementwise, or by correlations.

A 2 x 2 matrix is written with its covariance; a larger one as D P D, where D has the standard
deviations and P the correlations; of very large ones only the symbol is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.diagrams.equations.entries import covariance_entry, matrix_entry
from mixedfx.diagrams.equations.expressions import diagonal_matrix, signed_sum, squared
from mixedfx.diagrams.equations.layout import Line, single_line
from mixedfx.diagrams.equations.notation import Notation
from mixedfx.diagrams.graph.symbols import Math

# Covariance matrices of more effects are not written out.
MAX_EFFECTS = 8


def is_written_out(notation: Notation, i: int) -> bool:
    """Whether the size of a term's covariance matrix is known, and small; or has a formula."""
    if has_formula(notation, i):
        return True
    names = notation.random[i]
    if notation.model.effects[i].positions:  # how many there are only data tell
        return notation.estimates is not None and len(names) <= MAX_EFFECTS
    return len(names) <= MAX_EFFECTS and all(notation.subscripts[c].isdecimal() for c in names)


def has_formula(notation: Notation, i: int) -> bool:
    """Whether a formula of its entries stands for a term's covariance matrix."""
    structure = STRUCTURES[notation.model.effects[i].term.structure]
    return not structure.linear and notation.estimates is None and structure.entry() is not None


def matrix_lines(notation: Notation, i: int) -> Iterator[Line]:
    """Write out a term's covariance matrix."""
    names, matrix = notation.random[i], notation.scale(i)
    sds = [notation.sd(i, c) for c in names]
    structure = STRUCTURES[notation.model.effects[i].term.structure]
    if not structure.linear and notation.estimates is None:
        label = notation.model.effects[i].factor.label
        entry = covariance_entry(structure.name, label)
        if entry is not None:
            yield single_line(matrix_entry(matrix), "=", entry)
            return
        yield single_line(matrix, "∈", Math(structure.name, rf"\mathrm{{{structure.name}}}"))
        return
    if not structure.correlated:
        yield single_line(matrix, "=", diagonal_matrix([squared(sd) for sd in sds]))
        return
    if len(names) == 2:
        sign, rho = notation.correlation(i, *names)
        space = Math(" ", r" \,") if notation.estimates is None else Math("·", r" \cdot ")
        covariance = signed_sum([(sign, rho + space + sds[0] + space + sds[1])])
        yield _matrix_line(matrix, [[squared(sds[0]), covariance], [covariance, squared(sds[1])]])
        return
    label = notation.model.effects[i].factor.label
    diagonal, correlations = (Math(c, c).name_subscript(label) for c in "DP")
    space = Math(" ", r"\,")
    yield single_line(matrix, "=", diagonal + space + correlations + space + diagonal)
    yield single_line(diagonal, "=", diagonal_matrix(sds))
    lower_triangle = [
        [
            *(signed_sum([notation.correlation(i, one, two)]) for one in names[:k]),
            Math("1", "1"),
            *[Math("", "")] * (len(names) - k - 1),
        ]
        for k, two in enumerate(names)
    ]
    yield _matrix_line(correlations, lower_triangle)


def _matrix_line(left: Math, rows: Sequence[Sequence[Math]]) -> Line:
    widths = [max(len(row[j].unicode) for row in rows) for j in range(len(rows))]
    cells = ["  ".join(f"{m.unicode:<{w}}" for m, w in zip(r, widths, strict=True)) for r in rows]
    brackets = [("⎡", "⎤"), *[("⎢", "⎥")] * (len(rows) - 2), ("⎣", "⎦")]
    unicode = tuple(f"{a}{row}{b}" for (a, b), row in zip(brackets, cells, strict=True))
    body = r" \\ ".join(" & ".join(m.latex for m in row) for row in rows)
    return Line(left, "=", unicode, rf"\begin{{bmatrix}} {body} \end{{bmatrix}}")
