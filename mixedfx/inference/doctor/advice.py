"""Weaknesses in words: of the search, the random effects, the checks, and the conclusions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mixedfx.errors import ConvergenceWarning, RowsNotInMemory
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.checks import Checks, p_relation
from mixedfx.inference.checks.code import call
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.unchecked import notes_on_rows
from mixedfx.inference.doctor.called_fits import FAILURES
from mixedfx.inference.doctor.diagnosis import Weakness
from mixedfx.inference.doctor.refits import Clock, Refit
from mixedfx.inference.doctor.structure import Compared
from mixedfx.inference.information_criteria import aic
from mixedfx.inference.variance_explained import vif
from mixedfx.rebuilding import refitted

# A deviance lower by more than this is another optimum.
_BETTER = 1e-2
# Standard errors by which estimates of one optimum may differ.
_SAME_ESTIMATES = 0.05
_LARGE_VIF = 10.0
_MOST_TRIED = 6
_MOST_LEVELS = 3  # that are named
# Random effects of the scale are tried with at most so many levels, whose dense matrix is factored
# some seventy times, and beside several factors so many rows, which can be one dense block.
_MOST_SCALE_LEVELS, _MOST_CROSSED_ROWS = 200, 500
_PLAUSIBLE = 2.0  # AIC within which another model is as good


def of_search(first: Refit, refits: Sequence[Refit], table: pd.DataFrame) -> Iterator[Weakness]:
    """Whether other starts and engines end where the fit ended."""
    assert first.fit is not None
    if not first.fit.optimizer_result.converged:
        what = "The search did not converge."
        to_do = "fit.convergence says what is missing; a higher limit in control= may help."
        yield Weakness("problem", "search", "fit", what, to_do)
    for refit in refits:
        if refit.kind != "same model" or refit.fit is None:
            continue
        gain = 0.5 * (first.deviance - refit.deviance)
        largest = table.loc[table["refit"] == refit.name, "shift"].abs().max()
        if gain > 0.5 * _BETTER:
            what = f"'{refit.name}' ends at a log-likelihood higher by {gain:.3g}."
            theta = ", ".join(f"{v:.6g}" for v in refit.fit.solution.theta)
            to_do = f"The fit is at a local optimum: give start=[{theta}]."
            yield Weakness("problem", "search", refit.name, what, to_do)
        elif refit.fit.optimizer_result.converged and largest > _SAME_ESTIMATES:
            what = f"Estimates of '{refit.name}' differ by {largest:.2g} standard errors."
            to_do = "The likelihood is flat there: the data hardly determine them."
            yield Weakness("problem", "search", refit.name, what, to_do)


def of_structure(
    fit: FittedModel, first: Sequence[Compared], steps: Sequence[Compared], left: Refit
) -> Iterator[Weakness]:
    """Random effects that the data do not support, with the formula of the others."""
    boundary = first[0].at_boundary if first else False
    if steps:
        names = "; ".join(step.refit.name.removeprefix("without ") for step in steps)
        cost = sum(step.d_deviance for step in steps)
        spared = sum(step.df for step in steps)
        d_aic = sum(step.d_aic for step in steps)
        what = f"The data do not support {names}"
        what += ", and the fit is singular." if boundary else "."
        to_do = (
            f"Without, the deviance rises by {cost:.3g} for {spared} fewer "
            f"parameter{'s' if spared > 1 else ''} (AIC {d_aic:+.1f})."
        )
        if any("without correlations" in step.refit.name for step in steps):
            to_do += " Zero correlation is that at zero of the slopes' covariates."
        assert left.parsed is not None
        code = call(fit, left.parsed)
        yield Weakness("advice", "random effects", names, what, to_do, code)
    elif boundary:
        what = "The fit is singular, but no simpler random structure describes the data as well."
        to_do = "Keep it; priors= on sd and corr would take it off the boundary."
        yield Weakness("note", "random effects", "fit", what, to_do)


def of_checks(fit: FittedModel, checks: Checks, clock: Clock) -> Iterator[Weakness]:
    """Checks that fail, each with its advice tried; those with the same advice are one."""
    base: float | None = None
    tried: dict[str, _Tried] = {}
    for (check, advice), rows in checks.failed.groupby(["check", "advice"], sort=False):
        what, *codes = str(advice).split("\n")
        code = codes[0] if codes else ""
        if code.startswith("mfx.") and code not in tried and len(tried) < _MOST_TRIED:
            base = _aic_by_ml(fit) if base is None else base
            tried[code] = _tried(fit, code, base, clock)
        where = ", ".join(map(str, rows["what"]))
        text = f"{check}, {where} ({p_relation(rows['p_adjusted'].min())}): {what}"
        came_of_it = tried.get(code, _Tried("", helps=True))
        kept = code if came_of_it.helps else ""
        yield Weakness("problem", str(check), where, text, "", kept, came_of_it.text)


def _aic_by_ml(fit: FittedModel) -> float:
    try:
        return aic(refitted(fit, fit.original_design, reml=False)) if fit.reml else aic(fit)
    except FAILURES:
        return np.nan


class _Tried(NamedTuple):
    """What came of a call; one that is refused or describes the data no better is no advice."""

    text: str
    helps: bool


def _tried(fit: FittedModel, code: str, base: float, clock: Clock) -> _Tried:
    if "|" in code.partition("dispersion=")[2] and (large := _too_large_for_random_scale(fit)):
        return _Tried(f"Not tried: {large}.", helps=True)
    if not clock.allows(code):
        return _Tried("Not tried: max_seconds.", helps=True)
    begin = clock.seconds
    try:
        found = clock.models.of_call(fit, code)
    except RowsNotInMemory as error:
        return _Tried(f"Not tried: {error}", helps=True)
    except FAILURES as error:
        return _Tried(f"Tried, and refused: {str(error).split(chr(10))[0]}", helps=False)
    clock.count(clock.seconds - begin)
    if found is None or np.isnan(base):
        return _Tried("", helps=True)
    if not found.optimizer_result.converged:
        why = [n.text for n in found.notes if n.warning is ConvergenceWarning]
        return _Tried(" ".join(["Tried, and it did not converge:", *why[:1]]), helps=False)
    value = aic(found)
    if found.formula.response == f"log({fit.formula.response})":
        if not fit.rows.in_memory:  # the sum of the logarithms is not known
            return _Tried("", helps=True)
        value += 2.0 * float(np.log(fit.rows.y).sum())  # the density of y itself
    if value > base:
        return _Tried(f"Tried, and no better: AIC {value - base:+.1f}.", helps=False)
    return _Tried(f"Tried: AIC {value - base:+.1f}.", helps=True)


def _too_large_for_random_scale(fit: FittedModel) -> str:
    """Why a random term in dispersion= would take too long beside other refits; empty if not."""
    factors = {term.group: len(term.levels) for term in fit.spec.random_terms}
    group, levels = max(factors.items(), key=lambda item: item[1], default=("", 0))
    if levels > _MOST_SCALE_LEVELS:
        return f"random effects of the scale take minutes with the {levels:,} levels of {group}"
    if len(factors) > 1 and fit.rows.n > _MOST_CROSSED_ROWS:
        several = " and ".join(factors)
        return f"random effects of the scale take minutes beside {several} with {fit.rows.n:,} rows"
    return ""


def of_influence(
    table: pd.DataFrame, refits: Sequence[Refit], found: pd.DataFrame
) -> Iterator[Weakness]:
    """Levels that move the estimates, and whether a conclusion rests on one."""
    for group, of_group in table.groupby("group", sort=False):
        worst = of_group.nlargest(2, "largest_shift")
        names = [f"without {group} {level}" for level in worst["level"]]
        tried = [_without(found, name) for name in names if any(r.name == name for r in refits)]
        flagged = of_group[of_group["influential"].astype(bool)]
        flagged = flagged.sort_values("largest_shift", ascending=False)
        rests = any("the conclusion" in text for text in tried)
        if not len(flagged) and not rests:
            continue
        listed = ", ".join(flagged["level"][:_MOST_LEVELS])
        listed += f" and {len(flagged) - _MOST_LEVELS} more" if len(flagged) > _MOST_LEVELS else ""
        what = f"Influential levels of {group}, by the usual limits: {listed or 'none'}."
        text = " ".join(part for part in tried if part)
        yield Weakness("note", "influence", str(group), what, "Look at their rows.", "", text)


def _without(found: pd.DataFrame, name: str) -> str:
    rows = found[found["refit"] == name]
    rows = rows.loc[rows["shift"].abs().sort_values(ascending=False).index]
    if not len(rows) or np.isnan(rows["shift"].iloc[0]):
        return ""
    changes = (rows["conclusion"] == "changes") & (rows["term"] != "Intercept")
    changed = rows.loc[changes, "term"].tolist()
    end = f"the conclusion on {', '.join(changed)} changes" if changed else "no conclusion changes"
    term, shift = rows["term"].iloc[0], rows["shift"].iloc[0]
    return f"{name[0].upper()}{name[1:]}, {term} moves by {shift:+.2g} standard errors; {end}."


def of_collinearity(fit: FittedModel) -> Iterator[Weakness]:
    """Terms whose variance is inflated by the others."""
    try:
        table = vif(fit)
    except FAILURES:
        return
    for name, row in table[table["scaled"] ** 2 > _LARGE_VIF].iterrows():
        inflated = float(row["scaled"] ** 2)
        what = f"{name} is nearly a combination of other terms (variance inflation {inflated:.3g})."
        to_do = (
            "Its standard error is large for that; centring helps where these are powers or "
            "products, else the data cannot tell them apart."
        )
        yield Weakness("note", "collinearity", str(name), what, to_do)


def of_conclusions(
    refits: pd.DataFrame, table: pd.DataFrame, conf_level: float
) -> Iterator[Weakness]:
    """Conclusions that models as good, or the same model found otherwise, do not share."""
    good = refits[(refits["kind"] != "fewer rows") & (refits["d_aic"] < _PLAUSIBLE)]
    changed = table[table["refit"].isin(good["refit"]) & (table["conclusion"] == "changes")]
    changed = changed[changed["term"] != "Intercept"]
    for term, rows in changed.groupby("term", sort=False):
        own = float(table[(table["refit"] == "fit") & (table["term"] == term)]["p_value"].iloc[0])
        pairs = zip(rows["refit"], rows["p_value"], strict=True)
        listed = ", ".join(f"{name}: {p_relation(float(p))}" for name, p in pairs)
        what = (
            f"The conclusion on {term} at level {1 - conf_level:.3g} ({p_relation(own)}) changes "
            f"in models that are as good: {listed}."
        )
        yield Weakness("note", "conclusions", str(term), what, "Do not rest on it.")


def of_time(clock: Clock) -> Iterator[Weakness]:
    """What was left out."""
    for group in clock.too_large:
        what = f"The levels of {group} were not left out one by one: they are many, of many rows."
        to_do = f"fit.influence('{group}') does it."
        yield Weakness("note", "time", group, what, to_do)
    if clock.left_out:
        listed = ", ".join(clock.left_out[:6]) + (", ..." if len(clock.left_out) > 6 else "")
        what = f"Left out, as max_seconds={clock.max_seconds:g} would have been exceeded: {listed}."
        yield Weakness("note", "time", "refits", what, "Give more by max_seconds=.")


def of_rows(clock: Clock, drawn: DrawnFit) -> Iterator[Weakness]:
    """What a fit whose rows were read in chunks left out, and which rows residuals are of."""
    if clock.without_rows:
        listed = ", ".join(dict.fromkeys(clock.without_rows))
        what = f"Not tried, as it needs the rows: {listed}."
        yield Weakness("note", "rows", "refits", what, clock.models.otherwise)
    if clock.in_memory_alone:
        what = f"Not tried, as it needs rows in memory: {', '.join(clock.in_memory_alone)}."
        yield Weakness("note", "rows", "refits", what, "Fit a DataFrame for it.")
    for text in notes_on_rows(drawn):
        yield Weakness("note", "rows", "checks", text)
