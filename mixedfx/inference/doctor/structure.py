"""Which random effects the data support, and the formula of those.

A simpler model is preferred where its AIC is lower and its likelihood-ratio test has p > 0.2, the
level at which a selection costs little power and no size (Matuschek, Kliegl, Vasishth, Baayen and
Bates 2017, J. Mem. Lang. 94:305); at a singular fit p > 0.05 is enough. The last term of a grouping
factor stays, small as it may be, unless its variance is estimated as zero: the rows are grouped by
design. Tests of fixed effects play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.comparison import ratio_p_value
from mixedfx.inference.doctor.refits import Clock, Refit, simpler
from mixedfx.inference.rlrt import exact_rlrt

_ALPHA, _ALPHA_SINGULAR = 0.2, 0.05
_ROUNDING = 1e-4  # of a deviance
_MOST_STEPS = 6
_MOST_LEVELS = 1_000  # whose eigenvalues the exact test computes
COLUMNS = ["refit", "formula", "d_deviance", "df", "d_aic", "p_value", "test", "supported"]


@dataclass(frozen=True)
class Compared:
    """A simpler model beside the one that it is compared with."""

    refit: Refit
    d_deviance: float
    df: int
    p_value: float
    test: str
    keeps_factors: bool  # it has every grouping factor
    at_boundary: bool  # the larger model is singular
    at_zero: bool  # what is left out changes nothing

    @property
    def d_aic(self) -> float:
        """AIC of the simpler model less that of the other."""
        return self.d_deviance - 2.0 * self.df

    @property
    def preferred(self) -> bool:
        """Whether the data do not support what the simpler model leaves out."""
        if np.isnan(self.d_deviance) or self.d_aic >= 0.0:
            return False
        if not self.keeps_factors:
            return self.at_zero
        return self.p_value > (_ALPHA_SINGULAR if self.at_boundary else _ALPHA)

    def row(self) -> tuple[object, ...]:
        """Row of the table."""
        found = (self.d_deviance, self.df, self.d_aic, self.p_value, self.test)
        return (self.refit.name, self.refit.formula, *found, not self.preferred)


def compared(larger: Refit, smaller: Refit, rng: int) -> Compared:
    """Likelihood-ratio test of a simpler model; exact where it is one variance."""
    fit, other = larger.fit, smaller.fit
    assert fit is not None
    boundary = bool(larger.boundary)
    if other is None:
        return Compared(smaller, np.nan, 0, np.nan, "", True, boundary, False)
    statistic = max(smaller.deviance - larger.deviance, 0.0)
    df = fit.n_params - other.n_params
    p_value, test = _p_value(fit, other, statistic, df, rng)
    keeps = set(fit.formula.groups) <= set(other.formula.groups)
    zero = statistic < _ROUNDING and boundary
    return Compared(smaller, statistic, df, p_value, test, keeps, boundary, zero)


def _p_value(
    fit: FittedModel, other: FittedModel, statistic: float, df: int, rng: int
) -> tuple[float, str]:
    left_out = [t for t in fit.formula.random if t not in other.formula.random]
    n_terms = len(fit.spec.random_terms) - len(other.spec.random_terms)
    few = max((len(t.levels) for t in fit.spec.random_terms), default=0) <= _MOST_LEVELS
    if n_terms == 1 and len(left_out) == 1 and few:
        try:
            test = exact_rlrt(fit, str(left_out[0]), 2_000, rng)
            return float(test["p_value"]), "exact restricted likelihood ratio"
        except (ArgumentError, np.linalg.LinAlgError):
            pass
    effects = [sum(len(t.effect_names) for t in f.spec.random_terms) for f in (fit, other)]
    if effects[0] == effects[1] or df < 1:
        return float(special.chdtrc(df, statistic)) if df > 0 else 1.0, "likelihood ratio"
    return ratio_p_value(statistic, df, 1), "likelihood ratio, mixture"


def structure_table(found: Sequence[Compared]) -> pd.DataFrame:
    """A row for each simpler model."""
    return pd.DataFrame([c.row() for c in found], columns=COLUMNS)


def supported_model(
    fit: Refit, first: Sequence[Compared], clock: Clock, rng: int
) -> tuple[Refit, list[Compared]]:
    """Simplify while a simpler model is preferred: what is left, and the steps."""
    assert fit.fit is not None
    current, candidates, steps = fit, list(first), []
    while preferred := [c for c in candidates if c.preferred]:
        best = min(preferred, key=lambda c: c.d_aic)
        steps.append(best)
        current = best.refit
        assert current.parsed is not None
        if len(steps) == _MOST_STEPS or not current.parsed.random:
            break
        found = list(simpler(fit.fit, current.parsed, clock))
        candidates = [compared(current, smaller, rng) for smaller in found]
    return current, steps
