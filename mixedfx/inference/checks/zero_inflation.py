"""Zero-inflation: whether a count is zero as often as the model says.

Given the effects the number of zeros is a sum of independent indicators of known probabilities.
"""

from __future__ import annotations

import numpy as np

from mixedfx.inference.checks.code import with_code
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.families import wider_family
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import sum_of_indicators_test


def zero_inflation(drawn: DrawnFit) -> list[Finding]:
    """One row for a count without an upper end."""
    family, y = drawn.fit.spec.family, drawn.fit.rows.y
    if not family.discrete or family.takes_trials or not bool(family.positive_mean):
        return []
    p = drawn.zero_probabilities
    zeros = float((y == 0.0).sum())
    tested = sum_of_indicators_test(np.full(len(p), zeros), p)
    expected = float(p.sum(axis=1).mean())

    def advice() -> str:
        seen = f"{zeros:.0f} zeros, where the model expects {expected:.0f}."
        return with_code(seen, wider_family(drawn.fit)) if zeros > expected else seen

    return [Finding.of("zero-inflation", "response", tested, advice)]
