"""Residual variances of many responses, moderated by empirical Bayes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Vector = npt.NDArray[np.float64]

_NEWTON_STEPS = 60


def moderated_variances(variance: Vector, df: Vector) -> tuple[Vector, float]:
    """
    Posterior means of variances with ``df`` degrees of freedom each, and the prior's degrees.

    With ``s^2 ~ s0^2 F(df, d0)`` over the responses, ``(d0 s0^2 + df s^2) / (d0 + df)``.

    References
    ----------
    .. [1] Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3:3, section 6.2.
    """
    usable = np.isfinite(variance) & (variance > 0.0) & np.isfinite(df) & (df > 0.0)
    if usable.sum() < 3:
        return variance, 0.0
    half = df[usable] / 2.0
    e = np.log(variance[usable]) - special.digamma(half) + np.log(half)
    excess = float(np.var(e, ddof=1) - special.polygamma(1, half).mean())
    if excess <= 0.0:
        return np.where(np.isfinite(variance), np.exp(e.mean()), variance), np.inf
    d0 = 2.0 * _inverse_trigamma(excess)
    s0_squared = float(np.exp(e.mean() + special.digamma(d0 / 2.0) - np.log(d0 / 2.0)))
    return (d0 * s0_squared + df * variance) / (d0 + df), d0


def _inverse_trigamma(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton steps of its reciprocal, which is nearly linear."""
    x = 0.5 + 1.0 / value
    for _ in range(_NEWTON_STEPS):
        at = float(special.polygamma(1, x))
        step = at * (1.0 - at / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-12 * x:
            break
    return x
