"""Covariates whose effect within groups is not that between them.

With the means of a covariate by group beside it, its coefficient is that within groups and the
mean's the difference of the effects between and within (Mundlak 1978, Econometrica 46:69); its test
is Hausman's (1978, Econometrica 46:1251) of one covariate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mixedfx._names import decode, encode
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of
from mixedfx.inference.checks.code import call, with_code, with_fixed
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, Factor
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.doctor.refits import Clock, Refit, with_formula

# A covariate is within and between where both parts have more than this share of its variance.
_LEAST_SHARE = 0.02
_FEWEST_LEVELS, _MOST_TESTS = 6, 8
CHECK = "within and between"


def within_and_between(drawn: DrawnFit, clock: Clock) -> list[Finding]:
    """A row for each number that varies within and between the levels of a factor."""
    fit, found = drawn.whole, list[Finding]()
    for covariate, factor in _candidates(drawn):
        if len(found) == _MOST_TESTS:
            break
        term = f"group_mean({covariate.code}, {factor.code})"
        refit = with_formula(f"with {term}", "same model", fit, with_fixed(fit, term), clock)
        if refit.fit is not None and len(refit.fit.spec.X_names) > len(fit.spec.X_names):
            found.append(_finding(fit, refit, covariate, factor))
    return found


def _finding(fit: FittedModel, refit: Refit, covariate: Covariate, factor: Factor) -> Finding:
    tests, name = refit.tests, covariate.name
    mean = tests.iloc[-1]
    at = [i for i, term in enumerate(tests.index) if term == name]
    within = float(tests["estimate"].iloc[at[0]]) if at else np.nan
    between = within + float(mean["estimate"])

    def advice() -> str:
        text = (
            f"The effect of {name} within the levels of {factor.name} is {within:.3g}, between "
            f"them {between:.3g}: its coefficient mixes the two."
        )
        assert refit.parsed is not None
        return with_code(text, call(fit, refit.parsed))

    statistic = float(mean["estimate"] / mean["std_error"])
    what = f"{name} by {factor.name}"
    return Finding(CHECK, what, statistic, float(mean["p_value"]), advice)


def _candidates(drawn: DrawnFit) -> Iterator[tuple[Covariate, Factor]]:
    """Numbers of the fixed part, as they are, and factors with a random intercept."""
    fit = drawn.fit
    fixed = {t.name() for t in terms_of(fit.formula.fixed)}
    for factor in drawn.factors:
        if factor.n_levels < _FEWEST_LEVELS or ":" in factor.code or not factor.code.strip("`"):
            continue
        for covariate in drawn.covariates:
            code = encode(covariate.name)
            held = f"group_mean({covariate.code}" in decode(fit.formula.fixed)
            held |= f"within({covariate.code}" in decode(fit.formula.fixed)
            if code not in fixed or held or not covariate.is_number or covariate.n_values < 3:
                continue
            if _LEAST_SHARE < _share_between(covariate, factor) < 1.0 - _LEAST_SHARE:
                yield covariate, factor


def _share_between(covariate: Covariate, factor: Factor) -> float:
    x = covariate.column.to_numpy(dtype=float)
    x = x - x.mean()
    counts = np.bincount(factor.codes, minlength=factor.n_levels)
    sums = np.bincount(factor.codes, x, factor.n_levels)
    return float((sums**2 / counts).sum() / (x @ x))
