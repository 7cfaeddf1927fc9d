"""The examination: refits, random effects, checks, influence, in one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._warnings import without_warnings
from mixedfx.design.source import column_named, values_of_rows
from mixedfx.errors import ArgumentError, brief, check_share
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.inference.checks.autocorrelation import autocorrelation_over
from mixedfx.inference.checks.checks import checks_with, drawn_fit
from mixedfx.inference.checks.drawn import Covariate, DrawnFit
from mixedfx.inference.doctor import advice
from mixedfx.inference.doctor.between import within_and_between
from mixedfx.inference.doctor.diagnosis import Diagnosis, Weakness
from mixedfx.inference.doctor.levels import influence_of_levels
from mixedfx.inference.doctor.missing_slopes import missing_slopes
from mixedfx.inference.doctor.models import Models, ModelsOfRows
from mixedfx.inference.doctor.refits import Clock, Refit, same_model, simpler, without_levels
from mixedfx.inference.doctor.structure import compared, structure_table, supported_model
from mixedfx.inference.information_criteria import aic

_SEVERITIES = ("problem", "advice", "note")
_REFITTED_LEVELS = 2  # of each factor
_N_SIM = 250


@dataclass(frozen=True)
class Examination:
    """Arguments of ``fit.doctor()``; see there."""

    conf_level: float = 0.95
    order: Any = None
    rng: Any = 0
    max_seconds: float = 60.0
    models: Models = field(default_factory=ModelsOfRows)

    def check(self) -> None:
        """Raise for arguments of the wrong kind."""
        check_share("conf_level", self.conf_level)
        number = isinstance(self.max_seconds, int | float | np.number)
        if not number or isinstance(self.max_seconds, bool) or not self.max_seconds > 0:
            raise ArgumentError(f"max_seconds={brief(self.max_seconds)} must be a positive number.")


def examine(fit: FittedModel, how: Examination) -> Diagnosis:
    """Examine a fit; no refit warns."""
    how.check()
    check_no_priors(fit, "doctor()")
    with without_warnings(), np.errstate(all="ignore"):
        return _examine(fit, how)


def _examine(fit: FittedModel, how: Examination) -> Diagnosis:
    clock = Clock(float(how.max_seconds), how.models)
    drawn = drawn_fit(fit, how.rng if how.rng is not None else 0, _N_SIM)
    own = autocorrelation_over(drawn, _order(drawn, how.order)) if how.order is not None else []
    more = [*within_and_between(drawn, clock), *missing_slopes(drawn, clock)]
    checks = checks_with(drawn, [*own, *more])
    first = Refit("fit", "fit", str(fit.formula), fit, parsed=fit.formula)
    refits = [*same_model(fit, 0, clock), *simpler(fit, fit.formula, clock)]
    candidates = [r for r in refits if r.name.startswith("without")]
    smaller = [compared(first, refit, 0) for refit in candidates]
    left, steps = supported_model(first, smaller, clock, 0)
    influence = influence_of_levels(fit, clock)
    refits += _without_influential(fit, influence, clock)
    table, listed = _tables(first, refits, how.conf_level)
    weaknesses: list[Weakness] = [
        *advice.of_search(first, refits, table),
        *advice.of_checks(fit, checks, clock),
        *advice.of_structure(fit, smaller, steps, left),
        *advice.of_influence(influence, refits, table),
        *advice.of_collinearity(fit),
        *advice.of_conclusions(listed, table, how.conf_level),
        *advice.of_time(clock),
        *advice.of_rows(clock, drawn),
    ]
    weaknesses.sort(key=lambda w: _SEVERITIES.index(w.severity))
    return Diagnosis(
        formula=fit.formula_text,
        recommended=left.formula,
        table=table,
        refits=listed,
        random=structure_table(smaller),
        checks=checks,
        influence=influence,
        weaknesses=tuple(weaknesses),
        conf_level=how.conf_level,
        seconds=clock.seconds,
        drawn=drawn,
    )


def _order(drawn: DrawnFit, order: Any) -> Covariate:
    """The order of the rows, as a column of the formula or as values."""
    fit = drawn.fit
    if drawn.is_sample:
        raise ArgumentError(
            f"order= is of neighbours, and residuals are those of {fit.rows.n:,} random rows of "
            f"{drawn.n_all:,}: leave it out, and give it to a fit of the rows of some levels."
        )
    if isinstance(order, str):
        frame = fit.rows.model_frame
        name = column_named(order, frame)
        if name not in frame:
            raise ArgumentError(
                f"order='{order}' is no column that the formula reads; these are "
                f"{', '.join(map(str, frame.columns))}. Give the values, as data['{order}']."
            )
        return Covariate(str(name), frame[name].reset_index(drop=True))
    labelled = isinstance(order, pd.Series) and order.index.is_unique
    if labelled and fit.rows.index.isin(order.index).all():
        order = order.loc[fit.rows.index]
    values = values_of_rows("order", order, fit.rows.n)
    if missing := int(values.isna().sum()):
        raise ArgumentError(
            f"order= is missing in {missing} of the {fit.rows.n} rows used: fill it in, or fit "
            "without these rows."
        )
    return Covariate(str(values.name or "order"), values)


def _without_influential(fit: FittedModel, influence: pd.DataFrame, clock: Clock) -> list[Refit]:
    """Refits without the most influential levels of each factor."""
    found: list[Refit] = []
    if len(influence) and not fit.rows.in_memory:
        clock.in_memory_alone.append("fits without the most influential levels")
        return found
    for group, rows in influence.groupby("group", sort=False):
        worst = rows.nlargest(_REFITTED_LEVELS, "largest_shift")
        levels = list(zip(worst["number"].tolist(), worst["level"].tolist(), strict=True))
        codes = _codes(fit, str(group))
        if codes is not None:
            found += without_levels(fit, (str(group), codes), levels, clock)
    return found


def _codes(fit: FittedModel, group: str) -> npt.NDArray[np.intp] | None:
    if group in fit.formula.groups:
        return fit.rows.codes_of(group)
    subjects = fit.residual.subjects
    return None if subjects is None else subjects.codes


def _tables(
    first: Refit, refits: Sequence[Refit], conf_level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Coefficients of each refit beside those of the fit, and a row for each refit."""
    assert first.fit is not None
    own, alpha = first.tests, 1.0 - conf_level
    tables, listed = [], []
    for refit in (first, *refits):
        row = {"refit": refit.name, "kind": refit.kind, "formula": refit.formula}
        if refit.fit is None:
            listed.append({**row, "note": refit.why})
            continue
        tests = refit.tests.reindex(own.index)
        shift = (tests["estimate"] - own["estimate"]) / own["std_error"]
        changes = (tests["p_value"] < alpha) != (own["p_value"] < alpha)
        changes &= tests["p_value"].notna()
        columns: dict[str, Any] = {"refit": refit.name, "kind": refit.kind, "term": own.index}
        tests = tests.reset_index(drop=True)
        columns |= {name: tests[name] for name in ("estimate", "std_error", "p_value")}
        columns |= {"shift": shift.to_numpy(), "conclusion": np.where(changes, "changes", "same")}
        tables.append(pd.DataFrame(columns))
        listed.append({**row, **_numbers(first, refit), **_summary(own.index, shift, changes)})
    names = ["refit", "kind", "formula", "log_likelihood", "change", "n_params", "d_aic"]
    names += ["singular", "largest_shift", "conclusions", "note"]
    summary = pd.DataFrame(listed).reindex(columns=names)
    summary["singular"] = summary["singular"].fillna(False).astype(bool)
    text = ["conclusions", "note"]
    summary[text] = summary[text].fillna("")
    return pd.concat(tables, ignore_index=True), summary


def _summary(terms: pd.Index, shift: pd.Series, changes: pd.Series) -> dict[str, Any]:
    changed = terms[changes.to_numpy()].tolist()
    text = f"changes: {', '.join(changed)}" if changed else "same"
    return {"largest_shift": float(shift.abs().max()), "conclusions": text, "note": ""}


def _numbers(first: Refit, refit: Refit) -> dict[str, Any]:
    """Log-likelihood and AIC beside those of the fit; not of fewer rows."""
    assert first.fit is not None
    assert refit.fit is not None
    fit, comparable = refit.fit, refit.kind != "fewer rows"
    correction = fit.deviance - refit.deviance
    d_aic = aic(fit) - correction - aic(first.fit)
    change = 0.5 * (first.deviance - refit.deviance)
    return {
        "log_likelihood": -0.5 * refit.deviance,
        "change": change if comparable else np.nan,
        "n_params": fit.n_params,
        "d_aic": d_aic if comparable else np.nan,
        "singular": bool(refit.boundary),
        "note": "",
    }
