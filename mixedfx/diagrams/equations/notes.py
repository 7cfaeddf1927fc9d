"""What the equations do not show, in sentences.

What goes in is a writer, what comes out is notes: means that were folded into others, columns
that only data tell, columns that were left out, matrices too large to write.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mixedfx.diagrams.equations.layout import and_list
from mixedfx.diagrams.equations.matrices import written_out
from mixedfx.diagrams.equations.writer import Writer, column_label
from mixedfx.diagrams.graph.model_terms import Reading
from mixedfx.diagrams.graph.names import INTERCEPT
from mixedfx.diagrams.graph.symbols import Math


def notes_of(writer: Writer) -> Iterator[str]:
    """Say what the equations do not show."""
    reading = writer.reading
    roots = [
        e
        for i, e in enumerate(reading.effects)
        if not e.centre and INTERCEPT in writer.random[i] and INTERCEPT in reading.fixed
    ]
    if len(roots) > 1:
        folded = [e.factor.label for e in roots if not e.carries_mean]
        yield _folded(reading, list(dict.fromkeys(folded)))
    if several := [tag for tag in writer.tags.values() if not tag.isdecimal()]:
        told = "stands" if len(several) == 1 else "each stand"
        listed = and_list(several)
        yield f"{listed} {told} for several columns and coefficients, which only data tell."
    if writer.estimates is not None:
        left_out = [c for c, v in writer.estimates.fixed.items() if math.isnan(v)]
        if left_out:
            yield f"Left out, as other columns imply it: {and_list(left_out)}."
    for i, names in enumerate(writer.random):
        if len(names) > 1 and not written_out(writer, i):
            listed = and_list(list(map(column_label, names)))
            yield f"{writer.spread(i)} is the covariance matrix of the effects of {listed}."


def _folded(reading: Reading, labels: list[str]) -> str:
    """Say which levels' means cannot be told from the overall one."""
    means, are, their = ("means", "are", "their") if len(labels) > 1 else ("mean", "is", "its")
    symbol = reading.mean or Math("β", r"\beta").at("0")
    return (
        f"Data tell only one overall mean: the {means} of {and_list(labels)} cannot be told from "
        f"the intercept {symbol} and {are} folded into it, so {their} effects scatter around zero."
    )
