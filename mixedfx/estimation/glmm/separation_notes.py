"""Separation in words: which coefficients, which rows and levels, and the prior that mends it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import ConvergenceWarning
from mixedfx.estimation.glmm.separation import (
    Separation,
    find_separation,
    is_suspicious,
    runaway_terms,
)
from mixedfx.estimation.notes import Note
from mixedfx.likelihood.generalized.likelihood import MarginalEvaluation

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.intp]

# Standard deviation of the prior of a coefficient of a column of unit standard deviation
# (Gelman, Jakulin, Pittau and Su 2008, Ann. Appl. Stat. 2:1360), and of that of a random effect.
_PRIOR_SD = 2.5
_MOST_LISTED = 5
# A variable of more values than these names no cell.
_MOST_LEVELS = 50


def separation_statements(design: Design, evaluation: MarginalEvaluation) -> tuple[str, ...]:
    """Why the likelihood has no maximum, where a search has ended suspiciously."""
    signs, weights = design.spec.family.unbounded(design.rows.y), design.rows.weights
    used = np.ones(design.rows.n, dtype=bool) if weights is None else weights > 0.0
    if is_suspicious(evaluation.modes):
        found = _separation(design, np.flatnonzero(used))
        if found is not None:
            return (of_coefficients(design, found, _rows(design, found.rows)),)
    terms = design.rows.random_terms
    sds = term_sds(evaluation, [term.model_matrix for term in terms])
    if not used.all():
        return ()
    return tuple(
        of_term(design.spec.random_terms[t], sds[t], _shares(terms[t].codes, design.rows.y))
        for t in runaway_terms(design.rows, signs, sds)
    )


def term_sds(evaluation: MarginalEvaluation, columns: Sequence[Matrix]) -> list[Vector]:
    """Standard deviations of each term's effects, of columns of unit root mean square."""
    parts = zip(evaluation.modes.model.bases, evaluation.point.factors, columns, strict=True)
    return [
        np.linalg.norm(basis.T @ F, axis=1) * np.sqrt(np.mean(M**2, axis=0))
        for basis, F, M in parts
    ]


def _shares(codes: Codes, y: Vector) -> Vector:
    """Mean response of each level."""
    return np.asarray(np.bincount(codes, y) / np.maximum(np.bincount(codes), 1))


def _separation(design: Design, used: npt.NDArray[np.intp]) -> Separation | None:
    """Direction of the coefficients, and of a family's thresholds, in which rows rise."""
    X = design.rows.X[used]
    of_ends = design.spec.family.ends_of_rows(X, design.rows.y[used])
    found = find_separation(of_ends.X, of_ends.signs)
    if found is None or not found.direction[: X.shape[1]].any():
        return None
    rows = np.zeros(design.rows.n, dtype=bool)
    rows[used[of_ends.row[found.rows]]] = True
    return Separation(found.direction[: X.shape[1]], rows)


def no_maximum_note(statements: tuple[str, ...]) -> Note:
    """Note on a fit whose likelihood has no maximum."""
    text = (
        f"the likelihood has no maximum: {'; '.join(statements)}. The estimates are where the "
        "search stopped."
    )
    return Note(text, ConvergenceWarning)


def mend(priors: dict[str, str]) -> str:
    """The argument ``priors=`` as it is written."""
    listed = ", ".join(f"{name!r}: mfx.priors.{prior}" for name, prior in priors.items())
    return f"priors={{{listed}}}"


def of_coefficients(design: Design, found: Separation, rows: str) -> str:
    """Statement of coefficients that run off, with the rows that rise in words."""
    names = design.spec.X_names
    moving = np.flatnonzero(found.direction)
    signs = ["+" if found.direction[j] > 0 else "-" for j in moving]
    ways = [f"that of {names[j]} to {s}infinity" for j, s in zip(moving, signs, strict=True)]
    ways[0] = f"the coefficient of {names[moving[0]]} goes to {signs[0]}infinity"
    priors = {names[j]: _coefficient_prior(design.rows.X[:, j]) for j in moving}
    if len(priors) > 1:
        priors.pop("Intercept", None)
    return (
        f"it rises without end as {_listed(ways)}, by {rows}. "
        f"A prior keeps {'it' if len(moving) == 1 else 'them'} finite: {mend(priors)}"
    )


def _coefficient_prior(column: Vector) -> str:
    """Normal prior of a scale that suits the column: 2.5 for an indicator."""
    spread = 1.0 if np.isin(column, (-1.0, 0.0, 1.0)).all() else float(column.std()) or 1.0
    return f"Normal(0, {float(f'{_PRIOR_SD / spread:.2g}'):g})"


def _rows(design: Design, rows: Mask) -> str:
    """Rows in words: their number, the cells that they are, the first labels, the responses."""
    labels = [str(label) for label in design.rows.index[rows][:_MOST_LISTED]]
    more = ", ..." if rows.sum() > len(labels) else ""
    whole = rows.all()
    number = f"all {rows.sum()} rows" if whole else f"{rows.sum()} rows"
    cells = "" if whole else _cells(design, rows)
    where = f"{cells}; rows {', '.join(labels)}{more}" if cells else f"{', '.join(labels)}{more}"
    return f"{number} ({where}), {_responses(design.rows.y[rows])}"


def _responses(y: Vector) -> str:
    """Values of the response in the rows."""
    values = np.unique(y)
    if len(values) == 1:
        return f"whose responses are all {values[0]:g}"
    return f"whose responses {' and '.join(f'{value:g}' for value in values)} it separates"


def _cells(design: Design, rows: Mask) -> str:
    """Levels of a variable of the fixed part, or of two, that are these rows and no others."""
    weights, columns = design.rows.weights, " ".join(design.spec.X_names)
    others = ~rows if weights is None else ~rows & (weights > 0.0)
    read = {
        str(name): column
        for name, column in design.rows.columns.items()
        if re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", columns)
    }
    names = [name for name, column in read.items() if column.nunique() <= _MOST_LEVELS]
    for chosen in chain(combinations(names, 1), combinations(names, 2)):
        cells = pd.MultiIndex.from_arrays([np.asarray(read[n]).astype(str) for n in chosen])
        separated = cells[rows].unique()
        if len(separated) <= _MOST_LISTED and not cells[others].isin(separated).any():
            texts = [
                " and ".join(f"{n} = {v}" for n, v in zip(chosen, cell, strict=True))
                for cell in separated
            ]
            return "; ".join(texts)
    return ""


def of_term(term: RandomTermSpec, sds: Vector, ones: Vector) -> str:
    """Statement of a term whose standard deviation runs off; ``ones`` are means of its levels."""
    sd = term.component_name("sd", (int(np.argmax(sds)),))
    zeros, full = int((ones == 0.0).sum()), int((ones == 1.0).sum())
    why = "fixed and random effects together tell every response apart"
    if zeros + full == len(ones):
        why = (
            f"in each level of {term.group} the responses are all alike ({zeros} levels of zeros "
            f"alone, {full} of successes alone)"
        )
    prior = mend({sd: f"HalfNormal({_PRIOR_SD:g})"})
    return f"it rises without end as {sd} grows, as {why}. A prior keeps it finite: {prior}"


def _listed(parts: Sequence[str]) -> str:
    """Join with commas and a last 'and'."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
