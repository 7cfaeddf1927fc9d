"""Backward elimination: random effects by likelihood ratios, then terms of the fixed part.

As lmerTest's ``step``: of the tests of :func:`~mixedfx.inference.comparison.ranova`, and then of
those of :func:`~mixedfx.inference.drop1.drop1`, the one with the largest p-value above a level is
taken out, and the rest is fitted and tested again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from mixedfx.errors import SelectionWarning, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.expansion import terms_of
from mixedfx.inference.comparison import ranova, reduced_models
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.drop1 import NOTHING, drop1, resolve_test, without_term
from mixedfx.inference.recoding import recoded

OfFit = Callable[[FittedModel], DenominatorDf]


@dataclass(frozen=True)
class Selection:
    """What may be taken out, and by which tests."""

    alpha_random: float | None  # None: no random effects are taken out
    alpha_fixed: float | None
    keep: frozenset[str]
    test: str
    denominator_df: OfFit = field(repr=False)
    # A fit with the summaries of rows that are not in memory, for which its tests ask.
    completed: Callable[[FittedModel], FittedModel] = field(repr=False)


@dataclass(frozen=True)
class Elimination:
    """The fit that is left, and the tests: the number of the step, 0 of what stayed."""

    fit: FittedModel
    random: pd.DataFrame
    fixed: pd.DataFrame


def backward_elimination(fit: FittedModel, selection: Selection) -> Elimination:
    """Take out random effects, then terms of the fixed part, one by one."""
    check_kept(fit, selection.keep)
    left, random = _random(fit, selection)
    left, fixed = _fixed(left, selection)
    out = [name for table in (random, fixed) for name in table.index[table["eliminated"] > 0]]
    listed = ", ".join(out) or "nothing"
    text = (
        f"the model was selected by tests on the same data (taken out: {listed}): its own tests "
        "and intervals do not know of the selection, and are too optimistic."
    )
    note = Note(text, SelectionWarning)
    return Elimination(replace(left, notes=(*left.notes, note)), random, fixed)


def check_kept(fit: FittedModel, keep: frozenset[str]) -> None:
    """Raise for names in ``keep`` that no test has."""
    known = [name for name, _, _ in reduced_models(fit)] if fit.spec.random_terms else []
    known += [str(term.formula_term) for term in fit.spec.random_terms]
    known += [term.name for term in recoded(fit).terms]
    for name in sorted(keep):
        check_choice("keep", name, known)


def _random(fit: FittedModel, selection: Selection) -> tuple[FittedModel, pd.DataFrame]:
    alpha, out = selection.alpha_random, []
    if not fit.spec.random_terms:
        return fit, pd.DataFrame({"eliminated": []})
    table = ranova(fit)
    none = table.iloc[:1]
    while alpha is not None and (worst := _worst(table.iloc[1:], alpha, selection.keep)):
        out.append(table.loc[[worst]])
        design = next(design for name, design, _ in reduced_models(fit) if name == worst)
        fit = fit_design(design, engine="profiled", reml=fit.reml, control=Control())
        fit = selection.completed(fit)
        if not fit.spec.random_terms:
            table = table.iloc[:0]
            break
        table = ranova(fit)
    return fit, _steps(none, out, table.iloc[1:])


def _fixed(fit: FittedModel, selection: Selection) -> tuple[FittedModel, pd.DataFrame]:
    alpha, out = selection.alpha_fixed, []
    table = _drop1(fit, selection)
    none = table.loc[table.index == NOTHING]
    while alpha is not None and (worst := _worst(table, alpha, selection.keep)):
        if not fit.spec.random_terms and len(terms_of(fit.formula.fixed)) == 1:
            break  # nothing would be left
        out.append(table.loc[[worst]])
        fit = selection.completed(without_term(fit, worst, reml=fit.reml))
        table = _drop1(fit, selection)
    return fit, _steps(none, out, table.drop(index=NOTHING, errors="ignore"))


def _drop1(fit: FittedModel, selection: Selection) -> pd.DataFrame:
    test = resolve_test(fit, selection.test)
    return drop1(fit, selection.denominator_df(fit), test)


def _worst(table: pd.DataFrame, alpha: float, keep: frozenset[str]) -> str | None:
    """Name of the largest p-value above a level, of what need not be kept."""
    p_values = table["p_value"].drop(index=[name for name in keep if name in table.index]).dropna()
    above = p_values[p_values > alpha]
    return str(above.idxmax()) if len(above) else None


def _steps(none: pd.DataFrame, out: Sequence[pd.DataFrame], stayed: pd.DataFrame) -> pd.DataFrame:
    """Tests in the order of the steps, and those of what stayed."""
    parts = [part for part in (none, *out, stayed) if len(part)]
    table = pd.concat(parts) if parts else stayed.copy()
    numbers = [0] * len(none) + [i + 1 for i in range(len(out))] + [0] * len(stayed)
    table.insert(0, "eliminated", numbers)
    return table
