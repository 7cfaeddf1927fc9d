"""Zero-inflation: whether a count is zero as often as the model says.

Given the effects the number of zeros is a sum of independent indicators of known probabilities.
"""

from __future__ import annotations

import numpy as np

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.registry import FAMILIES
from mixedfx.inference.checks.code import call, with_code
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.families import wider_family
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import sum_of_indicators_test

# Probability of a zero of counts that have none.
_IMPOSSIBLE = 1e-100


def zero_inflation(drawn: DrawnFit) -> list[Finding]:
    """One row for a count without an upper end."""
    family, y = drawn.fit.spec.family, drawn.fit.rows.y
    if not family.discrete or family.takes_trials or not bool(family.positive_mean):
        return []
    p = drawn.zero_probabilities
    zeros = float((y == 0.0).sum())
    if not zeros and p.max() < _IMPOSSIBLE:
        return []  # truncated counts
    tested = sum_of_indicators_test(np.full(len(p), zeros), p)
    expected = float(p.sum(axis=1).mean())

    def advice() -> str:
        seen = f"{zeros:.0f} zeros, where the model expects {expected:.0f}."
        return with_code(seen, _mended(drawn.fit, more=zeros > expected))

    return [Finding.of("zero-inflation", "response", tested, advice)]


def _mended(fit: FittedModel, *, more: bool) -> str:
    """Call with a zero part, or of a hurdle model where there are too few zeros."""
    if "zero_inflation" in fit.spec.residual.further_arguments:
        return wider_family(fit)
    if more:
        return call(fit, zero_inflation="~ 1")
    truncated = f"truncated_{fit.spec.family.name}"
    return call(fit, family=truncated, zero_inflation="~ 1") if truncated in FAMILIES else ""
