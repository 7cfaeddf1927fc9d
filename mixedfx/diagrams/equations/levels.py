"""Equations of a formula: the response given its parents, then each term's effects given theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mixedfx.diagrams.equations.distributions import response_parts
from mixedfx.diagrams.equations.entries import (
    EPSILON,
    between,
    covariance_entry,
    residual_entry_notes,
)
from mixedfx.diagrams.equations.expressions import (
    MAX_LENGTH,
    PLUS,
    Summand,
    comma_list,
    conditional,
    normal,
    parenthesized_sum,
    product,
    signed_sum,
    squared,
    sum_line,
)
from mixedfx.diagrams.equations.layout import Equation, Line, single_line
from mixedfx.diagrams.equations.matrices import MAX_EFFECTS, is_written_out, matrix_lines
from mixedfx.diagrams.equations.notation import Notation, model_notation
from mixedfx.diagrams.equations.notes import notes_of
from mixedfx.diagrams.equations.values import Columns, Estimates, RowTerms
from mixedfx.diagrams.graph.model_terms import HierarchicalModel, TermEffects, hierarchical_models
from mixedfx.diagrams.graph.names import INTERCEPT, split_interaction
from mixedfx.diagrams.graph.symbols import Math
from mixedfx.formula.terms import Formula

_SIGMA = Math("σ", r"\sigma")


def equation(
    formula: str | Formula,
    *,
    nested: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    estimates: Estimates | None = None,
    row_terms: RowTerms | None = None,
    digits: int = 4,
) -> Equation:
    """Write a formula's model as equations, level by level, in symbols or in estimates."""
    row_terms = row_terms or RowTerms()
    further = row_terms.further
    model, *others = hierarchical_models(
        formula, nested, {argument: part.formula for argument, part in further.items()}
    )
    notations = [model_notation(model, columns, estimates, digits)]
    for other, part in zip(others, further.values(), strict=True):
        notations.append(model_notation(other, part.columns, part.estimates, digits))
    lines = [*_response_lines(notations, row_terms)]
    for notation in notations:
        for i in _innermost_first(notation.model.effects):
            lines += _effects_lines(notation, i)
    groups = tuple((f.index, f.label) for f in model.factors if f.index)
    notes = [note for notation in notations for note in notes_of(notation)]
    if row_terms.response is not None:
        at, response = _family_rows(model, row_terms), row_terms.response
        notes += response.in_rows(model.row_indices).notes(at.mean, at.trials, at.offset, digits)
    if row_terms.residual_sd is not None:
        sigma = _SIGMA.subscript(model.row_indices)
        notes.append(f"{sigma} is a row's residual standard deviation: {row_terms.residual_sd}.")
    if row_terms.structure is not None:
        notes += residual_entry_notes(row_terms.structure)
    return Equation(tuple(lines), (*groups, (model.row_index, "rows")), tuple(notes))


def _response_lines(notations: Sequence[Notation], row_terms: RowTerms) -> Iterator[Line]:
    """Distribution of the response, given the effects in the linear predictors."""
    notation, *others = notations
    parents = [
        one.effects(i)
        for one in notations
        for i, e in enumerate(one.model.effects)
        if e.in_linear_predictor
    ]
    if row_terms.response is None:
        yield from _normal_lines(notation, row_terms, parents)
        return
    at = _family_rows(notation.model, row_terms)
    summands = [*_linear_predictor(notation), *([(PLUS, at.offset)] if at.offset else [])]
    left = conditional(at.response, parents)
    response = row_terms.response.in_rows(notation.model.row_indices)
    yield from response.lines(left, at.mean, at.trials, summands, notation.digits)
    for argument, other in zip(row_terms.further, others, strict=True):
        yield sum_line(response.further_linked(argument), _linear_predictor(other))


class _FamilyRows(NamedTuple):
    """Symbols of one row of a generalised model."""

    response: Math
    mean: Math
    trials: Math | None
    offset: Math | None


def _family_rows(model: HierarchicalModel, row_terms: RowTerms) -> _FamilyRows:
    assert row_terms.response is not None
    code, trials = response_parts(model.formula.response)
    named = trials or row_terms.response.trials
    n = model.row_value(named if isinstance(named, str) else "n") if named else None
    response = model.row_value(code)
    if n is not None and trials is None:  # the response is a proportion of them
        response = n + Math(" ", r"\,") + response
    offset = row_terms.offset or model.formula.offset
    of_offset = model.row_value(offset if isinstance(offset, str) else "offset") if offset else None
    mean = row_terms.response.mean(model.overall_mean, model.row_indices)
    return _FamilyRows(response, mean, n, of_offset)


def _normal_lines(
    notation: Notation, row_terms: RowTerms, parents: Sequence[Math]
) -> Iterator[Line]:
    """Normal distribution; a long linear predictor eta is defined in a line of its own."""
    model = notation.model
    sigma = notation.sigma
    if row_terms.residual_sd is not None:
        sigma = _SIGMA.subscript(model.row_indices)
    variance = squared(sigma)
    if weights := row_terms.weights:
        column = model.row_value(weights if isinstance(weights, str) else "w")
        variance += Math("/", " / ") + column
    summands = _linear_predictor(notation)
    if offset := row_terms.offset or model.formula.offset:
        column = model.row_value(offset if isinstance(offset, str) else "offset")
        summands.append((PLUS, column))
    mean = signed_sum(summands)
    left = conditional(model.response, parents)
    if len(mean.unicode) <= MAX_LENGTH:
        yield single_line(left, "~", normal(mean, variance))
    else:
        eta = Math("η", r"\eta").subscript(model.row_indices)
        yield single_line(left, "~", normal(eta, variance))
        yield sum_line(eta, summands)
    entry = None if row_terms.structure is None else covariance_entry(row_terms.structure)
    if entry is not None:
        yield single_line(between(EPSILON), "=", entry)


def _linear_predictor(notation: Notation) -> list[Summand]:
    """Summands of the linear predictor: each column, times the sum of its coefficients."""
    model = notation.model
    summands: list[Summand] = []
    for column in notation.subscripts:
        in_effects = column == INTERCEPT and model.overall_mean is not None
        coefficients: list[Summand] = []
        if column in notation.fixed and not in_effects:
            coefficients.append(notation.coefficient(column))
        coefficients += [
            (PLUS, notation.effect(i, column))
            for i, e in enumerate(model.effects)
            if e.in_linear_predictor and not e.positions and column in notation.random[i]
        ]
        if column == INTERCEPT:
            summands += coefficients
        elif coefficients:
            value = product(model.row_value(f) for f in split_interaction(column))
            sign, size = (PLUS, parenthesized_sum(coefficients))
            if len(coefficients) == 1:
                sign, size = coefficients[0]
            summands.append((sign, size + Math(" ", r"\,") + value))
    summands += [
        (PLUS, notation.effect_at_row(i))
        for i, e in enumerate(model.effects)
        if e.in_linear_predictor and e.positions
    ]
    return summands


def _innermost_first(effects: Sequence[TermEffects]) -> list[int]:
    """Depth-first order from the terms in the linear predictor to those they are centred at."""
    order: dict[int, None] = {}

    def visit(i: int) -> None:
        order[i] = None
        for k in effects[i].centered_at:
            children = [j for j, e in enumerate(effects) if k in e.centered_at]
            if k not in order and all(j in order for j in children):
                visit(k)

    for i, e in enumerate(effects):
        if e.in_linear_predictor:
            visit(i)
    return list(order)


def _effects_lines(notation: Notation, i: int) -> Iterator[Line]:
    """Distribution of the effects of one term, and its covariance matrix."""
    effects, names = notation.model.effects[i], notation.random[i]
    parents = [notation.effects(k) for k in effects.centered_at]
    mean = signed_sum([(PLUS, symbol) for symbol in parents])
    if effects.centered_at_mean and notation.model.overall_mean is not None:
        mean = notation.model.overall_mean
        if notation.estimates is not None:
            mean = signed_sum([notation.coefficient(INTERCEPT)])
    left, scale = notation.effects(i), notation.scale(i)
    if not notation.are_several(i):
        yield single_line(conditional(left, parents), "~", normal(mean, squared(scale)))
        return
    if not effects.positions:
        elements = [notation.effect(i, c) for c in names]
        if len(names) > MAX_EFFECTS:
            elements[1:-1] = [Math("…", r"\dots")]
        left = left + " = (" + comma_list(elements) + ")"
    yield single_line(conditional(left, parents), "~", normal(mean, scale))
    if is_written_out(notation, i):
        yield from matrix_lines(notation, i)
