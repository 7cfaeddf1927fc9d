"""Heteroscedasticity: spread of the residuals against covariates and grouping factors.

The same F tests of normal scores of ``|z|``: Glejser's regression (1969, J. Am. Stat. Assoc.
64:316) of values that are exactly normal if the model is right.
"""

from __future__ import annotations

from functools import partial

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.code import (
    call,
    logarithm,
    with_code,
    with_dispersion,
)
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, Factor
from mixedfx.inference.checks.families import advice_on_spread
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.residuals import compared_by_all

# Of more levels the standard deviations are random.
_MOST_FIXED_LEVELS = 9


def heteroscedasticity(drawn: DrawnFit) -> list[Finding]:
    """A row for the fitted values, each covariate and each grouping factor."""
    return [
        Finding.of("heteroscedasticity", name, tested, partial(_advice, drawn, what))
        for name, what, tested in compared_by_all(drawn, drawn.spread)
    ]


def _advice(drawn: DrawnFit, what: Covariate | Factor | None) -> str:
    fit = drawn.fit
    by = "the fitted values" if what is None else what.name
    text = f"The spread of the residuals changes with {by}."
    if not fit.spec.residual.linear:
        return _of_family(fit, what, text)
    if what is None:
        return with_code(text, logarithm(fit))
    if not fit.spec.residual.estimates_sigma:
        return f"{text} The given residual_sd are not those of the rows."
    name = what.code
    if isinstance(what, Factor) and what.n_levels > _MOST_FIXED_LEVELS:
        name = f"(1 | {name})"
    return with_code(text, with_dispersion(fit, name))


def _of_family(fit: FittedModel, what: Covariate | Factor | None, text: str) -> str:
    """A formula of the family's dispersion parameter, or another family."""
    several_levels = isinstance(what, Factor) and what.n_levels > _MOST_FIXED_LEVELS
    spec = fit.spec
    free = spec.family.dispersion_param and "dispersion" not in spec.residual.further_arguments
    if what is None or several_levels or not free:
        return advice_on_spread(fit, text)
    return with_code(text, call(fit, dispersion=f"~ {what.code}"))
