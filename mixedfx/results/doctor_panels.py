"""Panels of ``fit.plot.doctor()``: refits, random effects, influence, and the worst checks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from mixedfx import plots
from mixedfx.inference.doctor.diagnosis import Diagnosis
from mixedfx.plots.check import Panel
from mixedfx.plots.doctor import draw_costs, draw_influence, draw_shifts
from mixedfx.results.check_panels import check_panels

_PANELS = 6


def draw_page(found: Diagnosis, ax: Any) -> Any:
    """Draw the page of a diagnosis."""
    return plots.check(list(islice(_panels(found), _PANELS)), ax=ax)


def _panels(found: Diagnosis) -> Iterator[Panel]:
    yield _shifts(found)
    if len(found.random):
        yield _random(found)
    if len(found.influence):
        yield _influence(found)
    assert found.drawn is not None
    of_checks = check_panels(found.drawn, found.checks)
    # Those that fail first, else in their order.
    yield from sorted(of_checks, key=lambda panel: not panel.fails)


def _sentence(found: Diagnosis, kinds: tuple[str, ...], otherwise: str) -> tuple[str, bool]:
    """The first weakness of some kinds, and whether it is more than a note."""
    for weakness in found.weaknesses:
        if weakness.kind in kinds:
            return weakness.what, weakness.severity != "note"
    return otherwise, False


def _shifts(found: Diagnosis) -> Panel:
    refits = len(found.refits) - 1
    same = f"The conclusions are the same in {refits} refits."
    changed = found.table[found.table["conclusion"] == "changes"]
    if len(changed):
        terms = ", ".join(dict.fromkeys(changed["term"]))
        same = (
            f"The conclusion on {terms} changes in {changed['refit'].nunique()} of {refits} refits."
        )
    sentence, fails = _sentence(found, ("search", "conclusions"), same)
    table = found.table[found.table["refit"] != "fit"]
    return Panel("Coefficients, fitted again", sentence, fails, partial(draw_shifts, table=table))


def _random(found: Diagnosis) -> Panel:
    sentence, fails = _sentence(found, ("random effects",), "All random effects are supported.")
    labels = [name.removeprefix("without ") for name in found.random["refit"]]
    red = [not supported for supported in found.random["supported"]]
    d_aic = found.random["d_aic"].tolist()
    draw = partial(draw_costs, labels=labels, d_aic=d_aic, red=red)
    return Panel("Random effects", sentence, fails, draw)


def _influence(found: Diagnosis) -> Panel:
    # Of several factors that with the level that moves a coefficient most.
    groups = found.influence.groupby("group", sort=False)["largest_shift"].max()
    group = groups.idxmax()
    table = found.influence[found.influence["group"] == group]
    sentence, fails = _sentence(found, ("influence",), f"No level of {group} is influential.")
    return Panel(f"Influence of {group}", sentence, fails, partial(draw_influence, table=table))
