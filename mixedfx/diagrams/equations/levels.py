"""Levels to lines: the response given its parents, then each term's effects given theirs.

What goes in is a formula, what comes out is an
:class:`~mixedfx.diagrams.equations.layout.Equation`. The one
idea is that every line is written from the centred reading alone, the response first and each
chain of levels from its inner end, so that it reads as the rows were made, backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mixedfx.diagrams.equations.expressions import (
    PLUS,
    bracketed,
    conditional,
    listed,
    normal,
    product_of,
    signed_sum,
    squared,
)
from mixedfx.diagrams.equations.layout import Equation, Line, line_of
from mixedfx.diagrams.equations.matrices import MOST_EFFECTS, matrix_lines, written_out
from mixedfx.diagrams.equations.notes import notes_of
from mixedfx.diagrams.equations.values import Columns, Estimates
from mixedfx.diagrams.equations.writer import Writer, writer_of
from mixedfx.diagrams.graph.model_terms import Effects, read
from mixedfx.diagrams.graph.names import INTERCEPT, split
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.formula.terms import Formula

# From here on a mean has a line of its own, and is broken into lines of this length.
_LONGEST = 60
_SIGMA = Math("σ", r"\sigma")


def equation(
    formula: str | Formula,
    *,
    nested: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    estimates: Estimates | None = None,
    weights: str | bool = False,
    offset: str | bool = False,
    spread: str | None = None,
    digits: int = 4,
) -> Equation:
    """Write a formula's model as equations, level by level."""
    reading = read(formula, nested)
    writer = writer_of(reading, columns, estimates, digits)
    lines = [*_response(writer, weights, offset, own=spread is not None)]
    for i in _inwards_out(reading.effects):
        lines += _level(writer, i)
    groups = tuple((f.index, f.label) for f in reading.factors if f.index)
    notes = [*notes_of(writer)]
    if spread is not None:
        own = _SIGMA.at(reading.indices)
        notes.append(f"{own} is a row's residual standard deviation: {spread}.")
    return Equation(tuple(lines), (*groups, (reading.index, "rows")), tuple(notes))


def _response(
    writer: Writer, weights: str | bool, offset: str | bool, *, own: bool
) -> Iterator[Line]:
    """The response given its parents; a long mean has a line of its own."""
    reading = writer.reading
    parents = [writer.effects(i) for i, e in enumerate(reading.effects) if e.enters]
    variance = squared(_SIGMA.at(reading.indices) if own else _residual(writer))
    if weights:
        by = reading.column(weights if isinstance(weights, str) else "w")
        variance += Math("/", " / ") + by
    summands = _summands(writer)
    if offset:
        known = reading.column(offset if isinstance(offset, str) else "offset")
        summands.append((PLUS, known))
    mean = signed_sum(summands)
    left = conditional(reading.response, parents)
    if len(mean.unicode) <= _LONGEST:
        yield line_of(left, "~", normal(mean, variance))
        return
    eta = Math("η", r"\eta").at(reading.indices)
    yield line_of(left, "~", normal(eta, variance))
    rows = [signed_sum(part, first=k == 0) for k, part in enumerate(_broken(summands))]
    yield Line(
        eta, "=", tuple(r.unicode for r in rows), " \\\\\n&\\quad ".join(r.latex for r in rows)
    )


def _residual(writer: Writer) -> Math:
    return _SIGMA if writer.estimates is None else writer.number(writer.estimates.sigma)


def _summands(writer: Writer) -> list[tuple[Math, Math]]:
    """The response's mean, column by column: each with all its coefficients."""
    reading = writer.reading
    found: list[tuple[Math, Math]] = []
    for column in writer.tags:
        carried = column == INTERCEPT and reading.mean is not None
        parts = [] if column not in writer.fixed or carried else [writer.coefficient(column)]
        parts += [
            (PLUS, writer.effect(i, column))
            for i, e in enumerate(reading.effects)
            if e.enters and column in writer.random[i]
        ]
        if column == INTERCEPT:
            found += parts
        elif parts:
            value = product_of(reading.column(f) for f in split(column))
            sign, size = parts[0] if len(parts) == 1 else (PLUS, bracketed(parts))
            found.append((sign, size + Math(" ", r"\,") + value))
    return found


def _broken(summands: Sequence[tuple[Math, Math]]) -> list[list[tuple[Math, Math]]]:
    """Fill lines with summands."""
    lines: list[list[tuple[Math, Math]]] = [[]]
    for summand in summands:
        if lines[-1] and len(signed_sum([*lines[-1], summand]).unicode) > _LONGEST:
            lines.append([])
        lines[-1].append(summand)
    return lines


def _inwards_out(effects: Sequence[Effects]) -> list[int]:
    """Order the terms as they follow from the response: each chain from its inner end."""
    order: dict[int, None] = {}

    def follow(i: int) -> None:
        order[i] = None
        for k in effects[i].centre:
            if k not in order and all(j in order for j, e in enumerate(effects) if k in e.centre):
                follow(k)

    for i, e in enumerate(effects):
        if e.enters:
            follow(i)
    return list(order)


def _level(writer: Writer, i: int) -> Iterator[Line]:
    """What the effects of one term scatter around, and how widely."""
    effects, names = writer.reading.effects[i], writer.random[i]
    around = [writer.effects(k) for k in effects.centre]
    centre = signed_sum([(PLUS, symbol) for symbol in around])
    if effects.carries_mean and writer.reading.mean is not None:
        centre = writer.reading.mean
        if writer.estimates is not None:
            centre = signed_sum([writer.coefficient(INTERCEPT)])
    left, spread = writer.effects(i), writer.spread(i)
    if len(names) == 1:
        yield line_of(conditional(left, around), "~", normal(centre, squared(spread)))
        return
    elements = [writer.effect(i, c) for c in names]
    if len(names) > MOST_EFFECTS:
        elements[1:-1] = [Math("…", r"\dots")]
    vector = left + " = (" + listed(elements) + ")"
    yield line_of(conditional(vector, around), "~", normal(centre, spread))
    if written_out(writer, i):
        yield from matrix_lines(writer, i)
