"""Effects of the levels against covariates of the levels.

A covariate that is constant within levels cannot show in residuals, from which the effects of the
levels take it; what the fixed part leaves of it is in the effects. The same F tests apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from mixedfx._names import encode
from mixedfx.inference.checks.code import call, curve, name_of, with_code, with_fixed
from mixedfx.inference.checks.drawn import Covariate, DrawnFit, names_in_fixed
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import Tested, f_test_of_columns, f_test_of_levels

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_LEAST_LEVELS = 12
# A variance below this share of the residual one, on the scale of the predictor, is zero.
_ZERO = 1e-10


@dataclass(frozen=True)
class Modes:
    """One effect of the levels of a grouping factor, in each draw."""

    group: str
    effect: str
    values: Matrix  # (m, levels)
    sd: float
    levels: Codes  # numbers of the levels

    def at(self, levels: Codes) -> Modes:
        """Those of some levels, where they are of all."""
        return replace(self, values=self.values[:, levels], levels=levels)

    @property
    def name(self) -> str:
        """Group and effect."""
        return f"{self.group}: {self.effect}"


def standardised_modes(drawn: DrawnFit) -> Iterator[Modes]:
    """Effects with a variance, of terms whose levels are independent."""
    fit = drawn.fit
    for t, term in enumerate(fit.spec.random_terms):
        if term.relationship is not None:
            continue
        variances = (fit.solution.lambdas[t] ** 2).sum(axis=1)
        effects = drawn.effects(t)
        for j, name in enumerate(term.effect_names):
            if variances[j] > _ZERO * variances.max(initial=0.0) and variances[j] > 0.0:
                sd = float(fit.solution.sigma * np.sqrt(variances[j]))
                levels = np.arange(effects.shape[2])
                yield Modes(term.group, name, effects[:, j], sd, levels)


def compared_modes(drawn: DrawnFit) -> Iterator[tuple[Modes, Covariate]]:
    """Effects, and the covariates that are constant within their levels."""
    factors = {factor.name: factor for factor in drawn.factors}
    constant = {name: drawn.within(factor) for name, factor in factors.items()}
    for modes in standardised_modes(drawn):
        if modes.group not in factors:
            continue
        levels = factors[modes.group].present
        for covariate in constant[modes.group].values():
            few = covariate.is_category and covariate.n_values > len(levels) / 3
            if len(levels) >= _LEAST_LEVELS and not few:
                yield modes.at(levels), covariate


def conditional_modes(drawn: DrawnFit) -> list[Finding]:
    """A row for each effect and each covariate that is constant within its levels."""
    return [
        Finding.of(
            "conditional modes",
            f"{modes.name} by {covariate.name}",
            compared(modes.values, covariate),
            partial(_advice, drawn, modes, covariate),
        )
        for modes, covariate in compared_modes(drawn)
    ]


def compared(values: Matrix, covariate: Covariate) -> Tested:
    """F test of values between categories, or of a function of a number."""
    if covariate.is_category:
        return f_test_of_levels(values, covariate.codes, covariate.n_values)
    return f_test_of_columns(values, covariate.basis)


def _advice(drawn: DrawnFit, modes: Modes, covariate: Covariate) -> str:
    fit, name = drawn.fit, covariate.code
    text = f"The effects {modes.name} depend on {covariate.name}."
    if modes.effect != "Intercept":
        slopes = {c.name for c in drawn.covariates if c.is_number}
        term = f"{name_of(modes.effect)}:{name}" if modes.effect in slopes else ""
    elif encode(covariate.name) in names_in_fixed(fit):
        term = "" if covariate.is_category else curve(fit, name)
    else:
        term = name
    return with_code(text, call(fit, with_fixed(fit, term)) if term else "")
