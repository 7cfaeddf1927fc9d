"""Caveats of marginal means: nesting, estimability, interactions and degrees of freedom."""

from __future__ import annotations

import pandas as pd

from mixedfx.design.cells import list_cells
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import columns_in, terms_of
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.emmeans.nesting import Nesting
from mixedfx.inference.estimability import needed_cells


def mean_notes(
    fit: FittedModel,
    ddf: DenominatorDf,
    names: tuple[str, ...],
    nests: Nesting,
    cells: pd.DataFrame,
) -> tuple[str, ...]:
    """Caveats of means by some variables; ``cells`` are those they need and that are not told."""
    return (
        *_estimability_notes(fit, nests, cells),
        *_interaction_notes(fit, ddf, set(names), nests),
    )


def _estimability_notes(fit: FittedModel, nests: Nesting, cells: pd.DataFrame) -> list[str]:
    """Factors nested in others, and the cells for want of which means are not estimable."""
    notes = []
    for inner, around in nests.items():
        notes.append(
            f"{inner} is nested in {', '.join(around)}: averages and contrasts are of the "
            "combinations that occur."
        )
    if len(cells):
        notes.append(
            "NaN stands for means that are not estimable from these data. They need cells without "
            f"data: {list_cells(needed_cells(fit, cells))}."
        )
    return notes


def _interaction_notes(
    fit: FittedModel, ddf: DenominatorDf, names: set[str], nests: Nesting
) -> tuple[str, ...]:
    """Caveats of the means of some variables."""
    notes = []
    within = {inner for inner, around in nests.items() if names & set(around)}
    interacting: dict[str, None] = {}
    columns = fit.spec.variables
    for term in terms_of(fit.spec.formula.fixed):
        used = {n for f in term.factors for n in columns_in(f.name(), columns)}
        if used & names:
            interacting.update(dict.fromkeys(sorted(used - names - within)))
    if interacting:
        notes.append(
            f"the means of {', '.join(sorted(names))} may mislead, as there is an interaction with "
            f"{', '.join(interacting)}."
        )
    if ddf.remark is not None:
        notes.append(ddf.remark)
    return tuple(notes)
