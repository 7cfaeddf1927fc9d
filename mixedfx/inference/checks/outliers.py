"""Outliers: rows beyond what ``n_sim`` simulated responses would reach, and the farthest row.

The number of rows outside the range of n_sim responses is binomial with probability
``2 / (n_sim + 1)`` (Hartig 2022, DHARMa); the largest of n absolute residuals z has the
probability ``1 - (1 - 2 Phi(-z))^n``. The p-value is twice the smaller of the two.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from mixedfx.inference.checks.code import with_code, with_student
from mixedfx.inference.checks.drawn import DrawnFit
from mixedfx.inference.checks.finding import Finding
from mixedfx.inference.checks.statistics import Tested

_MOST_NAMED = 5


def outliers(drawn: DrawnFit) -> list[Finding]:
    """One row."""
    z, share = np.abs(drawn.z), 2.0 / (drawn.n_sim + 1.0)
    n, limit = z.shape[1], -float(special.ndtri(0.5 * share))
    count = (z > limit).sum(axis=1)
    of_count = np.where(count > 0, special.bdtrc(np.maximum(count - 1, 0), n, share), 1.0)
    of_largest = -np.expm1(n * np.log1p(-2.0 * special.ndtr(-z.max(axis=1))))
    p_value = np.clip(2.0 * np.minimum(of_count, of_largest), 1e-300, 1.0)
    tested = Tested(count.astype(float), p_value)

    def advice() -> str:
        size = np.median(z, axis=0)
        order = np.argsort(-size)[: max(1, min(_MOST_NAMED, int(np.median(count))))]
        rows = drawn.fit.rows.index[order].tolist()
        named = f"rows {rows}" if len(rows) > 1 else f"row {rows[0]!r}"
        if drawn.from_source:
            named = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
        text = f"The response of {named} is far from its mean."
        if code := with_student(drawn.fit):
            return f"{text} Student's distribution gives such rows little weight.\n{code}"
        return text if drawn.from_source else with_code(text, f"data.loc[{rows}]")

    return [Finding.of("outliers", "residuals", tested, advice)]
