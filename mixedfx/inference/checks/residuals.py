"""Means of the residuals against the fitted values, each covariate and each grouping factor.

F tests of polynomials of degree four in the ranks of a number, or between categories or levels:
what the fixed part leaves out, a curve or an interaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from mixedfx._names import encode
from mixedfx.formula.terms import Formula
from mixedfx.inference.checks.code import call, curve, with_code, with_fixed, with_slope
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, Factor, names_in_fixed
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.modes import compared
from mixedfx.inference.checks.statistics import (
    Tested,
    basis_of_number,
    f_test_of_columns,
    f_test_of_levels,
)

Matrix = npt.NDArray[np.float64]

# Levels with fewer rows each, on average, are not compared.
_LEAST_ROWS = 2.0
_FEW_PREDICTORS = 6


def residuals(drawn: DrawnFit) -> list[Finding]:
    """A row for the fitted values, each covariate and each grouping factor."""
    return [
        Finding.of("residuals", name, tested, partial(_advice, drawn, what))
        for name, what, tested in compared_by_all(drawn, drawn.z)
    ]


def compared_by_all(
    drawn: DrawnFit, values: Matrix
) -> Iterator[tuple[str, Covariate | Factor | None, Tested]]:
    """Values of the rows against the fitted values (None), covariates and grouping factors."""
    if (tested := _by_fitted(drawn, values)) is not None:
        yield "fitted", None, tested
    for covariate in drawn.covariates:
        yield covariate.name, covariate, compared(values, covariate)
    for factor in drawn.factors:
        if has_levels_to_compare(factor):
            tested = f_test_of_levels(values, factor.codes, factor.n_levels)
            yield factor.name, factor, tested


def has_levels_to_compare(factor: Factor) -> bool:
    """Whether the levels with rows have enough of them."""
    return len(factor.codes) >= _LEAST_ROWS * len(factor.present)


def _by_fitted(drawn: DrawnFit, values: Matrix) -> Tested | None:
    """Against the linear predictor of each draw, of which residuals are independent."""
    predictors = [draw.eta for draw in drawn.draws]
    distinct = len(np.unique(np.round(predictors[0], 10)))
    if distinct <= _FEW_PREDICTORS:
        return None
    by_rank = np.array(
        [row[np.argsort(eta, kind="stable")] for row, eta in zip(values, predictors, strict=True)]
    )
    return f_test_of_columns(by_rank, basis_of_number(np.arange(values.shape[1], dtype=float)))


def _advice(drawn: DrawnFit, what: Covariate | Factor | None) -> str:
    if what is None:
        text = "The mean of the residuals changes with the fitted values: a curve or another link."
        return with_code(text, "fit.plot.residuals()")
    text = f"The mean of the residuals changes with {what.name}."
    formula = _with_slope(drawn, what) if isinstance(what, Factor) else _with_term(drawn, what)
    return with_code(text, call(drawn.fit, formula) if formula else "")


def _with_term(drawn: DrawnFit, covariate: Covariate) -> Formula | None:
    """The formula with the covariate, its square or an interaction."""
    fit, name = drawn.fit, covariate.code
    if encode(covariate.name) not in names_in_fixed(fit):
        return with_fixed(fit, name)
    if covariate.is_number and covariate.n_values > 2 and (term := curve(fit, name)):
        return with_fixed(fit, term)
    for other in (c.code for c in drawn.covariates if c.name != covariate.name):
        present = (f"{name}:{other}", f"{other}:{name}")
        if not any(term in fit.formula.fixed for term in present):
            return with_fixed(fit, present[0])
    return None


def _with_slope(drawn: DrawnFit, factor: Factor) -> Formula | None:
    """The formula with a random slope that it lacks: of what varies within the levels."""
    constant = drawn.within(factor)
    terms = [t for t in drawn.fit.formula.random if t.group_name == factor.name]
    effects = " ".join(term.effects for term in terms)
    for covariate in drawn.covariates:
        name = covariate.code
        if covariate.name not in constant and name not in effects:
            return with_slope(drawn.fit, factor.name, name)
    return None
