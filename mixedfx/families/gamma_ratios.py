"""Logarithms of ratios of gamma functions that keep their digits for large arguments.

The negative binomial's constants are, with k = 1 / alpha or mu / alpha,

    C(y, k) = lgamma(y + k) - lgamma(k) - y log k = sum over 0 < j < y of log(1 + j / k),

zero in the Poisson limit of large k, where the difference of the two logarithms keeps no digit.
From ``LARGE`` on it is evaluated by Stirling's series, lgamma(z) = (z - 1/2) log z - z +
log(2 pi) / 2 + s(z), with an absolute error of a few units of rounding times y; below, where
nothing cancels, from the gamma and polygamma functions themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array

# Five terms of Stirling's series and of its third derivative are exact to 1e-16 from here on.
LARGE = 32.0
# Coefficients of s(z) z in powers of 1 / z^2 (Abramowitz and Stegun 1964, 6.1.41), and of its
# derivatives s' z^2, s'' z^3 and s''' z^4.
_STIRLING = np.array([1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188])
_POWERS = 2.0 * np.arange(5) + 1.0
_STIRLING_1 = -_STIRLING * _POWERS
_STIRLING_2 = -_STIRLING_1 * (_POWERS + 1.0)
_STIRLING_3 = -_STIRLING_2 * (_POWERS + 2.0)
_SMALLEST = 1e-300


class GammaRatio(NamedTuple):
    """C(y, k) and its derivatives by log k; ``third`` only on request."""

    value: Array
    first: Array
    second: Array
    third: Array | None


def log_gamma_ratio(y: Array, k: Array, *, third: bool = True) -> GammaRatio:
    """C(y, k) for whole numbers y and k > 0, with its derivatives by log k."""
    y, k = np.broadcast_arrays(y, k)
    large = k >= LARGE
    if large.all():
        return _large(y, k, third=third)
    if not large.any():
        return _small(y, k, third=third)
    out = [np.empty(y.shape) for _ in range(4 if third else 3)]
    for where, method in ((large, _large), (~large, _small)):
        parts = method(y[where], k[where], third=third)
        for target, part in zip(out, parts, strict=False):
            target[where] = part
    return GammaRatio(out[0], out[1], out[2], out[3] if third else None)


def _small(y: Array, k: Array, *, third: bool) -> GammaRatio:
    """From the polygamma functions at k + 1 and k + y, as the sum's term j = 0 is zero."""
    k = np.maximum(k, _SMALLEST)
    m, low = np.maximum(y - 1.0, 0.0), k + 1.0
    up = low + m
    d1 = k * (special.psi(up) - special.psi(low))
    # The trigamma function is zeta(2, z); the next one is -2 zeta(3, z).
    d2 = k**2 * (special.zeta(2.0, up) - special.zeta(2.0, low))
    value = special.gammaln(up) - special.gammaln(low) - m * np.log(k)
    d3 = -2.0 * k**3 * (special.zeta(3.0, up) - special.zeta(3.0, low)) if third else None
    return GammaRatio(value, d1 - m, d1 + d2, None if d3 is None else d1 + 3.0 * d2 + d3)


def _large(y: Array, k: Array, *, third: bool) -> GammaRatio:
    """By Stirling's series, with q = k / (k + y) and p = 1 - q."""
    z = k + y
    q, p = k / z, y / z
    log_z = np.log1p(y / k)
    u, v = 1.0 / (z * z), 1.0 / (k * k)
    a = k * log_z
    s1 = k * (_series(_STIRLING_1, u) * u - _series(_STIRLING_1, v) * v)
    s2 = q * q / z * _series(_STIRLING_2, u) - _series(_STIRLING_2, v) / k
    remainder = _series(_STIRLING, u) / z - _series(_STIRLING, v) / k
    value = (z - 0.5) * log_z - y + remainder
    first = a - y + 0.5 * p + s1
    second = a - y * q - 0.5 * p * q + s1 + s2
    if not third:
        return GammaRatio(value, first, second, None)
    s3 = q**3 / z * _series(_STIRLING_3, u) - _series(_STIRLING_3, v) / k
    # p/2 - 3 (1 - q^2) / 2 + (1 - q^3) = p q (q - 1/2)
    d3 = a - y * q * (2.0 - q) + p * q * (q - 0.5) + s1 + 3.0 * s2 + s3
    return GammaRatio(value, first, second, d3)


def _series(coefficients: Array, v: Array) -> Array:
    """Polynomial in v by Horner's rule."""
    total = np.full_like(v, coefficients[-1])
    for c in coefficients[-2::-1]:
        total *= v
        total += c
    return total


def scaled_log_gamma(k: Array) -> tuple[Array, Array]:
    """``k log k - k - lgamma(k)`` and its derivative by log k, ``k (log k - digamma(k))``."""
    k = np.asarray(k, dtype=float)
    large = np.maximum(k, LARGE)
    v = 1.0 / (large * large)
    value = 0.5 * np.log(large / (2.0 * np.pi)) - _series(_STIRLING, v) / large
    slope = 0.5 - _series(_STIRLING_1, v) / large
    if (k < LARGE).any():
        small = np.clip(k, _SMALLEST, LARGE)
        log_k = np.log(small)
        value = np.where(k < LARGE, small * log_k - small - special.gammaln(small), value)
        slope = np.where(k < LARGE, small * (log_k - special.psi(small)), slope)
    return value, slope
