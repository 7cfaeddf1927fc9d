"""Normality of the residuals, and of the effects of each random term.

Anderson and Darling's test with mean and variance estimated: of the shape alone. The effects are
those drawn given the data, which are normal under the model where conditional modes are shrunk
unequally (Waagepetersen 2006, Scand. J. Stat. 33:721).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mixedfx.inference.checks.code import logarithm, with_code, with_student
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.families import advice_on_spread
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.modes import standardised_modes
from mixedfx.inference.checks.statistics import anderson_darling_test

_LEAST_LEVELS = 5
_SKEWED = 0.5


def normality(drawn: DrawnFit) -> list[Finding]:
    """Of the quantile residuals, and a row for each effect."""
    of_residuals = anderson_darling_test(drawn.z)
    found = [Finding.of("normality", "residuals", of_residuals, lambda: advice_on_shape(drawn))]
    for modes in standardised_modes(drawn):
        if modes.values.shape[1] < _LEAST_LEVELS:
            continue
        tested = anderson_darling_test(modes.values)
        found.append(Finding.of("normality", modes.name, tested, partial(_advice, modes.group)))
    return found


def _advice(group: str) -> str:
    text = (
        f"The effects of {group} are not normal: estimates of the fixed part hardly suffer, "
        f"predictions of levels do. Look for levels apart, or for a variable that tells kinds of "
        f"{group} apart, and add it to the fixed part."
    )
    return with_code(text, f"fit.plot.qq({group!r})")


def advice_on_shape(drawn: DrawnFit) -> str:
    """What the skewness and the tails of the residuals suggest."""
    fit, z = drawn.fit, np.median(drawn.z, axis=0)
    if not fit.spec.residual.linear:
        return advice_on_spread(fit, "The response does not have the distribution of the family.")
    scaled = (z - z.mean()) / z.std()
    skewness, excess = float((scaled**3).mean()), float((scaled**4).mean() - 3.0)
    if skewness > _SKEWED:
        return with_code("Residuals are skewed to the right.", logarithm(fit))
    if skewness < -_SKEWED:
        return "Residuals are skewed to the left."
    if excess > 0.0:
        text = "Residuals have heavier tails than the normal distribution."
        return with_code(text, with_student(fit))
    return with_code("Residuals are not normal.", "fit.plot.check()")
