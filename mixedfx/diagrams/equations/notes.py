"""Notes on what the equations do not show.

Means that are not identifiable, columns whose number depends on data, columns that were left out,
and matrices that are too large to write out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mixedfx.diagrams.equations.entries import parameter_names
from mixedfx.diagrams.equations.layout import and_list
from mixedfx.diagrams.equations.matrices import has_formula, is_written_out
from mixedfx.diagrams.equations.notation import Notation, column_label
from mixedfx.diagrams.graph.model_terms import HierarchicalModel
from mixedfx.diagrams.graph.names import INTERCEPT


def notes_of(notation: Notation) -> Iterator[str]:
    """Write the notes on a model's equations."""
    model = notation.model
    outermost_intercepts = [
        e
        for i, e in enumerate(model.effects)
        if not e.centered_at and INTERCEPT in notation.random[i] and INTERCEPT in model.fixed
    ]
    if len(outermost_intercepts) > 1:
        labels = [e.factor.label for e in outermost_intercepts if not e.centered_at_mean]
        yield _unidentified_means(model, list(dict.fromkeys(labels)))
    if several := [name for name in notation.subscripts.values() if not name.isdecimal()]:
        verb = "stands" if len(several) == 1 else "each stand"
        names = and_list(several)
        yield f"{names} {verb} for several columns and coefficients, which only data tell."
    if notation.estimates is not None:
        left_out = [c for c, v in notation.estimates.fixed.items() if math.isnan(v)]
        if left_out:
            yield f"Left out, as other columns imply it: {and_list(left_out)}."
    for i, names_of_effects in enumerate(notation.random):
        effects = model.effects[i]
        if notation.are_several(i) and has_formula(notation, i):
            names = parameter_names(effects.term.structure, effects.factor.label)
            yield f"{notation.scale(i)}[s, t] is the covariance of the effects at s and t.{names}"
        if notation.are_several(i) and not is_written_out(notation, i):
            names = and_list(list(map(column_label, effects.positions or names_of_effects)))
            yield f"{notation.scale(i)} is the covariance matrix of the effects of {names}."


def _unidentified_means(model: HierarchicalModel, labels: list[str]) -> str:
    """Name the levels whose means are not identifiable apart from the intercept."""
    means, are, their = ("means", "are", "their") if len(labels) > 1 else ("mean", "is", "its")
    symbol = model.overall_mean or model.part.coefficient.subscript("0")
    return (
        f"Data tell only one overall mean: the {means} of {and_list(labels)} cannot be told from "
        f"the intercept {symbol} and {are} folded into it, so {their} effects scatter around zero."
    )
