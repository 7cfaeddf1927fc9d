"""Uniformity of the distribution function at the responses: Kolmogorov and Smirnov's test.

It finds a wrong distribution of any kind, but of tails it sees little, for which
:mod:`~mixedfx.inference.checks.normality` is.
"""

from __future__ import annotations

from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.normality import advice_on_shape
from mixedfx.inference.checks.statistics import kolmogorov_test


def uniformity(drawn: DrawnFit) -> list[Finding]:
    """One row."""
    tested = kolmogorov_test(drawn.z)
    return [Finding.of("uniformity", "residuals", tested, lambda: advice_on_shape(drawn))]
