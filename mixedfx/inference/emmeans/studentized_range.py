"""Tail of the studentised range: the largest difference of ``k`` means over its standard error.

With ``R`` the range of ``k`` standard normal values, ``s`` an independent root mean square on
``df`` degrees of freedom, ``P(R / s > q) = int f(s) P(R > q s) ds`` and

    P(R > w) = k int phi(z) [Phi(z)^(k-1) - (Phi(z) - Phi(z-w))^(k-1)] dz

(Copenhaver and Holland 1988, J. Stat. Comput. Simul. 30, 1-15). Both integrands are analytic and
fall off exponentially, in ``z`` and in ``log s``: sums at equal distances converge faster than any
power of the distance (Trefethen and Weideman 2014, SIAM Review 56, 385-458).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Vector = npt.NDArray[np.float64]

# Exponents below this add nothing in double precision.
_NEGLIGIBLE = -45.0
_Z_STEP, _Z_REACH = 0.1, 11.0


def studentized_range_tail(q: float, k: float, df: float) -> float:
    """Probability that the studentised range of ``k`` values exceeds ``q``."""
    if np.isnan(q) or np.isnan(df):
        return float("nan")
    if np.isinf(df):
        return float(_range_tail(np.array([max(q, 0.0)]), k)[0])
    # Density of log s, relative to its mode at zero: exp(df (t - (e^2t - 1) / 2)).
    low, high = (_reach(df, sign) for sign in (-1.0, 1.0))
    step = min(0.05, 0.15 / np.sqrt(2.0 * df))
    t = np.arange(low, high + step, step)
    density = np.exp(df * (t - np.expm1(2.0 * t) / 2.0))
    return float(density @ _range_tail(max(q, 0.0) * np.exp(t), k) / density.sum())


def _reach(df: float, sign: float) -> float:
    """Value of ``log s`` on one side of the mode beyond which its density is negligible."""
    t = sign
    while df * (t - np.expm1(2.0 * t) / 2.0) > _NEGLIGIBLE:
        t *= 1.5
    inside = 0.0
    for _ in range(30):
        middle = (inside + t) / 2.0
        if df * (middle - np.expm1(2.0 * middle) / 2.0) > _NEGLIGIBLE:
            inside = middle
        else:
            t = middle
    return float(t)


def _range_tail(w: Vector, k: float) -> Vector:
    """Probability that the range of ``k`` standard normal values exceeds each ``w``."""
    u = np.arange(-_Z_REACH, _Z_REACH + _Z_STEP / 2.0, _Z_STEP)
    tails = np.zeros(len(w))
    inside = w < 60.0  # beyond, the tail underflows
    z = w[inside, None] / 2.0 + u
    below, below_less = special.log_ndtr(z), special.log_ndtr(z - w[inside, None])
    with np.errstate(divide="ignore"):  # (Phi(z) - Phi(z-w))^(k-1) is zero at w = 0
        reduced = (k - 1) * np.log1p(-np.exp(below_less - below))
    log_phi = -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi)
    integrand = np.exp(log_phi + (k - 1) * below) * -np.expm1(reduced)
    tails[inside] = k * integrand.sum(axis=1) * _Z_STEP
    return np.minimum(tails, 1.0)
