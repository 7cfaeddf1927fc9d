"""The checks in the order of the table; a new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from mixedfx.inference.checks.autocorrelation import autocorrelation
from mixedfx.inference.checks.dispersion import dispersion
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.heteroscedasticity import heteroscedasticity
from mixedfx.inference.checks.modes import conditional_modes
from mixedfx.inference.checks.normality import normality
from mixedfx.inference.checks.outliers import outliers
from mixedfx.inference.checks.residuals import residuals
from mixedfx.inference.checks.uniformity import uniformity
from mixedfx.inference.checks.zero_inflation import zero_inflation

CHECKS: tuple[Callable[[DrawnFit], list[Finding]], ...] = (
    dispersion,
    zero_inflation,
    outliers,
    uniformity,
    normality,
    residuals,
    heteroscedasticity,
    autocorrelation,
    conditional_modes,
)
