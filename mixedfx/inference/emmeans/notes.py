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
    slope_of: str | None = None,
) -> tuple[str, ...]:
    """
    Caveats of means by some variables; ``cells`` are those they need and that are not told.

    ``slope_of`` is the variable along which slopes are, if they are no means.
    """
    notes = [*_estimability_notes(fit, nests, cells)]
    notes += _interaction_notes(fit, set(names), nests, slope_of)
    return (*notes, *([] if ddf.remark is None else [ddf.remark]))


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
    fit: FittedModel, names: set[str], nests: Nesting, slope_of: str | None
) -> list[str]:
    """Interactions with variables that are averaged over or at one value."""
    moving = names if slope_of is None else {slope_of}
    shown = names | moving
    within = {inner for inner, around in nests.items() if names & set(around)}
    interacting: dict[str, None] = {}
    for term in terms_of(fit.spec.formula.fixed):
        used = {n for f in term.factors for n in columns_in(f.name(), fit.spec.variables)}
        if used & moving:
            interacting.update(dict.fromkeys(sorted(used - shown - within)))
    if not interacting:
        return []
    if slope_of is not None:
        what = f"the slopes by {slope_of} may mislead, as it interacts"
    else:
        what = f"the means of {', '.join(sorted(names))} may mislead, as there is an interaction"
    return [f"{what} with {', '.join(interacting)}."]
