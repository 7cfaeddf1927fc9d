"""Random slopes that a model lacks: of covariates that vary within the levels of a factor.

Without them the standard errors of what varies within levels are too small (Schielzeth and
Forstmeier 2009, Behav. Ecol. 20:416). The likelihood ratio of a slope beside a correlated intercept
is a mixture of chi-squared distributions with one and two degrees of freedom (Self and Liang 1987).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mixedfx._names import encode
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula
from mixedfx.inference.checks.code import call, with_code, with_slope
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, Factor
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.comparison import ratio_p_value
from mixedfx.inference.doctor.refits import Clock, Refit, with_formula

CHECK = "random slopes"
_MOST_TESTS = 6
_FEWEST_LEVELS, _FEWEST_SHOWING = 6, 0.5


def missing_slopes(drawn: DrawnFit, clock: Clock) -> list[Finding]:
    """A row for each covariate and factor whose slope could vary and does not."""
    found = list[Finding]()
    for covariate, factor, formula in _candidates(drawn):
        if len(found) == _MOST_TESTS:
            break
        name = f"with {next(t for t in formula.random if t.group_name == factor.name)}"
        refit = with_formula(name, "same model", drawn.whole, formula, clock)
        if refit.fit is not None:
            found.append(_finding(drawn.whole, refit, covariate, factor))
    return found


def _finding(fit: FittedModel, refit: Refit, covariate: Covariate, factor: Factor) -> Finding:
    assert refit.fit is not None
    assert refit.parsed is not None
    more = refit.parsed
    statistic = max(fit.deviance - refit.deviance, 0.0)
    df = refit.fit.n_params - fit.n_params
    p_value = ratio_p_value(statistic, df, 1)

    def advice() -> str:
        text = (
            f"The slope of {covariate.name} varies between the levels of {factor.name}: without "
            "that, its standard error is too small."
        )
        return with_code(text, call(fit, more))

    return Finding(CHECK, f"{covariate.name} by {factor.name}", statistic, p_value, advice)


def _candidates(drawn: DrawnFit) -> Iterator[tuple[Covariate, Factor, Formula]]:
    """Fixed terms of one column or factor that vary within levels, without a slope there."""
    fit = drawn.fit
    fixed = {t.name() for t in terms_of(fit.formula.fixed)}
    for factor in drawn.factors:
        terms = [t for t in fit.formula.random if t.group_name == factor.name]
        if factor.n_levels < _FEWEST_LEVELS or any(
            t.structure not in ("us", "diag") for t in terms
        ):
            continue
        effects = {e.name() for t in terms for e in terms_of(t.effects)}
        for covariate in drawn.covariates:
            code = encode(covariate.name)
            if code in fixed and code not in effects and _shows(covariate, factor):
                more = with_slope(fit, factor.name, covariate.code)
                yield covariate, factor, replace(more, source=str(more))


def _shows(covariate: Covariate, factor: Factor) -> bool:
    """Whether most levels have more rows than an intercept and a slope need."""
    n_values = covariate.n_values
    cells = np.unique(factor.codes.astype(np.int64) * n_values + covariate.codes)
    distinct = np.bincount(cells // n_values, minlength=factor.n_levels)
    counts = np.bincount(factor.codes, minlength=factor.n_levels)
    effects = n_values if not covariate.is_number else 2
    enough = (distinct >= 2) & (counts > effects)
    return bool(enough.mean() >= _FEWEST_SHOWING)
