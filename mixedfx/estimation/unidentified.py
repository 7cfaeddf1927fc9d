"""Covariance parameters that the data do not identify, in words for the user.

Where the variances of the random effects and the residual's cannot be told apart, there is no
model to fit: an error. Where parts of the random effects' covariances cannot be told from each
other, the likelihood and the fixed effects are those of the model without the surplus, and what is
identified is named.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ConvergenceWarning, GroupingError
from mixedfx.estimation.notes import Note
from mixedfx.likelihood.identifiability import CovarianceEntry, Dependence
from mixedfx.likelihood.likelihood import GaussianLikelihood

# Coefficients of a sum are equal if they differ by less than this, relatively.
_EQUAL = 1e-6


def check_residual_identified(spec: ModelSpec, likelihood: GaussianLikelihood) -> None:
    """Refuse random terms whose variances cannot be told from the residual's."""
    confounded = [d for d in likelihood.dependences if d.with_residual]
    if not confounded:
        return
    terms = [spec.random_terms[t] for t in sorted({e.term for d in confounded for e in d.entries})]
    counts = ", ".join(
        f"{term.formula_term} has {len(term.levels) * len(term.effect_names)} effects "
        f"({len(term.effect_names)} for each of {len(term.levels)} levels of '{term.group}')"
        for term in terms
    )
    single = len(terms) == 1
    raise GroupingError(
        f"random term{'' if single else 's'} {counts} for {likelihood.n} rows: "
        f"{'its' if single else 'their'} variances cannot be told from the residual's. Use fewer "
        "effects, or give residual_sd=."
    )


def unidentified(spec: ModelSpec, found: Sequence[Dependence]) -> tuple[str, ...]:
    """Statement of each combination of variances and covariances that alone is identified."""
    return tuple(_statement(spec, d) for d in found)


def unidentified_note(statements: tuple[str, ...]) -> Note:
    """Note on a fit some of whose variances are not identified."""
    text = (
        f"the data do not identify every variance: {'; '.join(statements)}. Other values of these "
        "fit equally well; the likelihood and the fixed effects are those of the model without "
        "the surplus. Leave a term or a column of it out."
    )
    return Note(text, ConvergenceWarning)


def _statement(spec: ModelSpec, dependence: Dependence) -> str:
    """What is identified of some entries: 'only the sum of var(x | g) in (x | g) and ...'."""
    entries = dependence.entries
    by_term: dict[int, list[CovarianceEntry]] = {}
    for entry in entries:
        by_term.setdefault(entry.term, []).append(entry)
    names = {t: [_entry_name(spec, e) for e in own] for t, own in by_term.items()}
    terms = {t: str(spec.random_terms[t].formula_term) for t in by_term}
    each = [f"{_and(own)} of {terms[t]}" for t, own in names.items()]
    if dependence.with_residual:
        return _with_residual(spec, each)
    if len(by_term) == len(entries) > 1 and _is_sum(dependence):
        distinct = {own[0] for own in names.values()}
        if len(distinct) == 1:
            return f"only the sum of {distinct.pop()} of {_and(list(terms.values()))} is identified"
        return f"only the sum of {_and(each)} is identified"
    if len(entries) == 1:
        return f"nothing is known of {each[0]}"
    if len(entries) == len(dependence.coefficients) + 1:
        return f"only a weighted sum of {_and(each)} is identified"
    return f"only weighted sums of {_and(each)} are identified"


def _with_residual(spec: ModelSpec, entries: list[str]) -> str:
    """What is identified of entries together with residual variances."""
    variances = f"the residual variances of {spec.residual.argument}"
    if not entries:
        return f"not all of {variances} are identified"
    return f"only sums of {_and([*entries, variances])} are identified"


def _is_sum(dependence: Dependence) -> bool:
    """Whether the plain sum of the entries is identified: each combination moves it by zero."""
    moves = dependence.coefficients
    total = np.abs(moves.sum(axis=1))
    return bool((total < _EQUAL * np.abs(moves).max()).all()) and len(moves) == len(moves.T) - 1


def _entry_name(spec: ModelSpec, entry: CovarianceEntry) -> str:
    term = spec.random_terms[entry.term]
    if entry.row == entry.col:
        return term.component_name("var", (entry.row,))
    return term.component_name("cov", (entry.row, entry.col))


def _and(parts: list[str]) -> str:
    """Join with commas and a last 'and'."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
