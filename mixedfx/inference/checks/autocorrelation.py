"""Serial correlation of the residuals within levels, in the order of a covariate.

The mean product of neighbours over the residual variance is normal with variance one over the
number of pairs, if residuals are independent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.formula.terms import RandomTerm
from mixedfx.inference.checks.code import call, name_of, takes_residual_model, with_code
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, Factor
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import Tested

Codes = npt.NDArray[np.intp]

_LEAST_ROWS, _LEAST_PAIRS = 3.0, 10


def autocorrelation(drawn: DrawnFit) -> list[Finding]:
    """One row, if the rows of each level have an order."""
    ordered = _order(drawn)
    return [] if ordered is None else _tested(drawn, *ordered)


def autocorrelation_over(drawn: DrawnFit, covariate: Covariate) -> list[Finding]:
    """One row, of the order of a covariate within subjects or the first grouping factor."""
    factors = _factors(drawn)
    return _tested(drawn, covariate, factors[0]) if factors else []


def _tested(drawn: DrawnFit, covariate: Covariate, factor: Factor) -> list[Finding]:
    order = np.lexsort((covariate.codes, factor.codes))
    same = factor.codes[order][1:] == factor.codes[order][:-1]
    if same.sum() < _LEAST_PAIRS:
        return []
    z = drawn.z[:, order]
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    mean = (z[:, 1:] * z[:, :-1])[:, same].mean(axis=1)
    p_value = 2.0 * special.ndtr(-np.abs(mean) * np.sqrt(same.sum()))
    what = f"{covariate.name} within {factor.name}"
    return [
        Finding.of(
            "autocorrelation",
            what,
            Tested(mean, p_value),
            lambda: _advice(drawn, covariate, factor),
        )
    ]


def _order(drawn: DrawnFit) -> tuple[Covariate, Factor] | None:
    """
    The first covariate whose values levels have once each and share, with the grouping factor.

    A number that no two levels share is a measurement rather than a position in time. Of a sample
    the neighbours are not there.
    """
    if drawn.is_sample:
        return None
    for factor in _factors(drawn):
        if len(factor.codes) < _LEAST_ROWS * factor.n_levels:
            continue
        for covariate in drawn.covariates:
            pairs = factor.codes * (covariate.n_values + 1) + covariate.codes
            if not _LEAST_ROWS <= covariate.n_values <= 0.5 * len(pairs):
                continue
            if len(np.unique(pairs)) == len(pairs):
                return covariate, factor
    return None


def _factors(drawn: DrawnFit) -> list[Factor]:
    """Subjects of correlated residuals, and the grouping factors."""
    subjects, factors = drawn.fit.residual.subjects, list(drawn.factors)
    if subjects is None:
        return factors
    labels = subjects.levels.labels
    own = Factor(subjects.name, subjects.codes, len(labels), labels, name_of(subjects.name))
    return [own, *factors]


def _advice(drawn: DrawnFit, covariate: Covariate, factor: Factor) -> str:
    fit, order, group = drawn.fit, covariate.code, factor.code
    text = f"Residuals of one {factor.name} that follow each other are correlated."
    structure = f"ar1({order} | {group})"
    if fit.residual.subjects is not None:
        return with_code(text, "fit.compare_structures(['us', 'ar1h', 'toep'])")
    if fit.spec.residual.linear:
        free = takes_residual_model(fit) and not fit.residual.model.spec.has_random_effects
        return with_code(text, call(fit, residual=structure) if free else "")
    if fit.spec.family.residual_sd(fit.residual.distribution_params) is not None:
        return text
    term = RandomTerm(f"0 + {order}", (group,), "ar1")
    return with_code(text, call(fit, replace(fit.formula, random=(*fit.formula.random, term))))
