"""The refits: the same model from elsewhere, with fewer random effects, without a level.

A refit in centred and scaled covariates has other columns ``X' = X A`` and other coefficients;
those of the fit are ``beta = A beta'``, and its REML criterion is higher by ``log|A'A|``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx._names import decode
from mixedfx.design.build import subset_rows
from mixedfx.design.columns import factor_codes
from mixedfx.design.inspection.finding import without_effect
from mixedfx.errors import RowsNotInMemory
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.dispatch import suits_mixedlm
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.positions import has_positions
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula
from mixedfx.inference.denominator_df import denominator_df, resolve_df_method
from mixedfx.inference.doctor.called_fits import FAILURES
from mixedfx.inference.doctor.models import Models
from mixedfx.inference.wald import t_tests
from mixedfx.linalg.random_streams import spawn_generators
from mixedfx.rebuilding import rebuilt, refitted

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Kind = Literal["fit", "same model", "fewer random effects", "fewer rows"]

_STARTS = 2
_SPAN = 1e-6  # of columns in other columns, relative


class Clock:
    """How refits are made, and the time they may take; what would go beyond it is left out."""

    def __init__(self, max_seconds: float, models: Models) -> None:
        self.max_seconds, self._begin, self._longest = max_seconds, time.perf_counter(), 0.0
        self.models = models
        self.left_out: list[str] = []
        self.without_rows: list[str] = []  # what the fit has not the rows for
        self.in_memory_alone: list[str] = []  # nor would a source have them
        self.too_large: list[str] = []  # factors whose levels are not left out one by one

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin

    def allows(self, name: str) -> bool:
        """Whether one more of the longest refits so far would end in time."""
        if self.seconds + self._longest <= self.max_seconds:
            return True
        self.left_out.append(name)
        return False

    def count(self, seconds: float) -> None:
        """Count the time of a refit."""
        self._longest = max(self._longest, seconds)


@dataclass(frozen=True)
class Refit:
    """A model that was fitted, or why there is no fit of it."""

    name: str
    kind: Kind
    formula: str
    fit: FittedModel | None = field(repr=False)
    why: str = ""
    columns: Matrix | None = field(default=None, repr=False)  # A; None: the columns of the fit
    parsed: Formula | None = field(default=None, repr=False)

    @cached_property
    def deviance(self) -> float:
        """Deviance, or REML criterion in the columns of the fit."""
        if self.fit is None:
            return np.nan
        other = 0.0
        if self.columns is not None and self.fit.reml:
            other = 2.0 * float(np.linalg.slogdet(self.columns)[1])
        return self.fit.deviance - other

    @property
    def boundary(self) -> tuple[str, ...]:
        """Variances of zero and correlations of one."""
        fit = self.fit
        return (
            () if fit is None else boundary_parameters(fit.spec, fit.crossprod, fit.solution.theta)
        )

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Coefficients of the fit by this model, with their tests."""
        fit = self.fit
        assert fit is not None
        rows = np.eye(fit.crossprod.p) if self.columns is None else self.columns
        try:
            ddf = denominator_df(fit, resolve_df_method(fit, "auto"))
            table = t_tests(fit, ddf, rows, fit.spec.X_names)
        except FAILURES:
            ddf = denominator_df(fit, "normal")
            table = t_tests(fit, ddf, rows, fit.spec.X_names)
        return table.set_index("term")[["estimate", "std_error", "df", "p_value"]]


Make = Callable[[], tuple[FittedModel, Matrix | None]]


def attempted(name: str, kind: Kind, formula: Formula, make: Make, clock: Clock) -> Refit:
    """Refit, unless time is over or it fails."""
    text = str(formula)
    if not clock.allows(name):
        return Refit(name, kind, text, None, "left out: max_seconds", parsed=formula)
    begin = time.perf_counter()
    try:
        fit, columns = make()
        found = Refit(name, kind, text, fit, "", columns, formula)
    except RowsNotInMemory:
        clock.without_rows.append(name)
        return Refit(name, kind, text, None, "left out: needs the rows", parsed=formula)
    except FAILURES as error:
        found = Refit(name, kind, text, None, str(error).split("\n")[0], parsed=formula)
    clock.count(time.perf_counter() - begin)
    return found


def with_formula(name: str, kind: Kind, fit: FittedModel, formula: Formula, clock: Clock) -> Refit:
    """Refit with another formula, on the rows of the fit."""

    def make() -> tuple[FittedModel, None]:
        return clock.models.with_formula(fit, formula), None

    return attempted(name, kind, formula, make, clock)


# ---------------------------------------------------------------- the same model


def same_model(
    fit: FittedModel, rng: np.random.Generator | int | None, clock: Clock
) -> Iterator[Refit]:
    """From perturbed starts, by another engine, in centred and scaled covariates."""
    formula, estimator = fit.formula, fit.residual.model.estimator
    if fit.spec.random_terms and estimator != "nested":
        for i, generator in enumerate(spawn_generators(rng, _STARTS)):
            start = _perturbed(fit.solution.theta, generator)

            def from_start(start: Vector = start) -> tuple[FittedModel, None]:
                return refitted(fit, fit.original_design, start=start), None

            yield attempted(f"start {i + 1}", "same model", formula, from_start, clock)
    engine = _other_engine(fit)
    if engine:

        def by_engine() -> tuple[FittedModel, None]:
            return refitted(fit, fit.original_design, engine=engine), None

        yield attempted(f"engine {engine}", "same model", formula, by_engine, clock)
    frame = None
    if fit.rows.in_memory:
        frame = _standardised(fit)
    else:
        clock.in_memory_alone += ["another engine", "centred and scaled covariates"]
    if frame is not None:

        def standardised() -> tuple[FittedModel, Matrix]:
            found = refitted(fit, rebuilt(fit, formula, frame))
            return found, _combinations(fit.rows.X, found.rows.X)

        kind: Kind = "same model" if _is_invariant(fit) else "fewer random effects"
        yield attempted("centred and scaled", kind, formula, standardised, clock)


def _perturbed(theta: Vector, rng: np.random.Generator) -> Vector:
    """Starting values around the estimates, off zero."""
    size = np.maximum(np.abs(theta), 0.1)
    values = (
        theta * np.exp(rng.normal(0.0, 0.7, len(theta))) + rng.normal(0.0, 0.3, len(theta)) * size
    )
    return np.where(np.abs(values) < 1e-3, 0.1, values)


def _other_engine(fit: FittedModel) -> str:
    """An engine that did not find the optimum; empty where the model has one engine."""
    if fit.residual.model.estimator != "engine" or not fit.spec.random_terms:
        return ""
    if fit.optimizer_result.engine == "statsmodels":
        return "profiled"
    singular = boundary_parameters(fit.spec, fit.crossprod, fit.solution.theta)
    return "" if singular or not suits_mixedlm(fit.design) else "statsmodels"


def _is_invariant(fit: FittedModel) -> bool:
    """Whether centring leaves the model as it is: not where slopes are uncorrelated."""
    return all(t.structure != "diag" or t.effects == "1" for t in fit.formula.random)


def _standardised(fit: FittedModel) -> pd.DataFrame | None:
    """Rows with their numbers centred and scaled, where they stand in the formula as they are."""
    formula = fit.formula
    plain = {f.name() for text in _texts(formula) for t in terms_of(text) for f in t.factors}
    codes = factor_codes(formula)
    elsewhere = {n for code, names in codes for n in names if code != n}
    elsewhere |= {c for t in formula.random for c in t.group}
    elsewhere |= set(response_code(formula.response).parts)
    elsewhere |= {n for t in formula.random if has_positions(t.structure) for n in [t.effects]}
    columns = {}
    centred = _spans_constant(fit.rows.X)
    for name, values in fit.rows.variables.items():
        number = getattr(values.dtype, "kind", "O") in "if"
        if number and name in plain and name not in elsewhere and values.std() > 0.0:
            x = values.to_numpy(dtype=float)
            columns[decode(name)] = (x - (x.mean() if centred else 0.0)) / x.std()
    return fit.rows.model_frame.assign(**columns) if columns else None


def _spans_constant(X: Matrix) -> bool:
    """Whether an intercept, or what is one, takes up the shift of a covariate."""
    ones = np.ones(len(X))
    fitted = X @ np.linalg.lstsq(X, ones, rcond=None)[0]
    return bool(np.abs(fitted - ones).max(initial=0.0) < _SPAN)


def _texts(formula: Formula) -> list[str]:
    return [formula.fixed, *(t.effects for t in formula.random if not has_positions(t.structure))]


def _combinations(X: Matrix, other: Matrix) -> Matrix:
    """A of ``other = X A``; raises where the columns span another space."""
    scale = np.sqrt((X**2).mean(axis=0))
    A = np.asarray(np.linalg.lstsq(X / scale, other, rcond=None)[0])
    if X.shape != other.shape or np.abs(X / scale @ A - other).max(initial=0.0) > _SPAN:
        raise NotImplementedError("the centred columns span another space")
    return np.asarray(A / scale[:, None])


# ---------------------------------------------------------------- fewer random effects, fewer rows


def simpler_formulas(formula: Formula) -> Iterator[tuple[str, Formula]]:
    """Formulas without correlations, and without each effect, of each random term."""
    for t, term in enumerate(formula.random):
        effects = [] if has_positions(term.structure) else terms_of(term.effects)
        names = [e.name() for e in effects]
        if len(names) > 1:
            if term.structure == "us":
                changed = _with_term(formula, t, replace(term, structure="diag"))
                yield f"without correlations in {decode(str(term))}", changed
            inside = {f for e in effects for f in e.factors}
            for name, effect in zip(names, effects, strict=True):
                contained = any(set(effect.factors) < set(e.factors) for e in effects if e.factors)
                if contained or not inside:
                    continue
                left = without_effect(term, name)
                if left is not None and left.effects == "1":
                    left = replace(left, structure="us")
                yield f"without {decode(name)} in {decode(str(term))}", _with_term(formula, t, left)
        else:
            yield f"without {decode(str(term))}", _with_term(formula, t, None)


def _with_term(formula: Formula, t: int, term: object) -> Formula:
    random = list(formula.random)
    random[t : t + 1] = [] if term is None else [term]  # type: ignore[list-item]
    changed = replace(formula, random=tuple(random), source="")
    return replace(changed, source=str(changed))


def simpler(fit: FittedModel, formula: Formula, clock: Clock) -> Iterator[Refit]:
    """Each simpler random structure of a formula, fitted."""
    for name, changed in simpler_formulas(formula):
        yield with_formula(name, "fewer random effects", fit, changed, clock)


def without_levels(
    fit: FittedModel,
    factor: tuple[str, npt.NDArray[np.intp]],
    levels: Sequence[tuple[int, str]],
    clock: Clock,
) -> Iterator[Refit]:
    """The model without the rows of each of some levels."""
    group, codes = factor
    for number, label in levels:

        def make(number: int = number) -> tuple[FittedModel, None]:
            return refitted(fit, subset_rows(fit.original_design, codes != number)), None

        yield attempted(f"without {group} {label}", "fewer rows", fit.formula, make, clock)
