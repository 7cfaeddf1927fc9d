"""What a check finds: one row of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mixedfx.inference.checks.statistics import Tested, combine


@dataclass(frozen=True)
class Finding:
    """
    A tested statement about a fit.

    ``advice`` says what is wrong and what to try, with code in a line of its own.
    """

    check: str
    what: str
    statistic: float
    p_value: float
    advice: Callable[[], str] = field(repr=False)

    @staticmethod
    def of(check: str, what: str, tested: Tested, advice: Callable[[], str]) -> Finding:
        """Mean statistic of the draws, and the combination of their p-values."""
        return Finding(check, what, float(tested.statistic.mean()), combine(tested.p_value), advice)
