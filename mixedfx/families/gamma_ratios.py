"""Logarithms of ratios of gamma functions that keep their digits for large arguments.

The negative binomial's constants are, with k = 1 / alpha or mu / alpha,

    C(y, k) = lgamma(y + k) - lgamma(k) - y log k = sum over 0 < j < y of log(1 + j / k),

zero in the Poisson limit of large k, where the difference of the two logarithms keeps no digit.
Up to y = ``LARGE`` the terms are added; beyond, and where k is large, Stirling's series is taken,
lgamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 + s(z), in a form whose absolute error is a few
units of rounding times y.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array

# Seven terms of Stirling's series and of its third derivative are exact to 1e-16 from here on.
LARGE = 16.0
# Coefficients of s(z) z in powers of 1 / z^2 (Abramowitz and Stegun 1964, 6.1.41), and of its
# derivatives s' z^2, s'' z^3 and s''' z^4.
_STIRLING = np.array([1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156])
_POWERS = 2.0 * np.arange(len(_STIRLING)) + 1.0
_STIRLING_1 = -_STIRLING * _POWERS
_STIRLING_2 = -_STIRLING_1 * (_POWERS + 1.0)
_STIRLING_3 = -_STIRLING_2 * (_POWERS + 2.0)
_SMALLEST = 1e-300
# Three terms of the series in 1 / x of half_step_ratio are exact to 1e-14 from here on.
_LARGE_HALF = 40.0


class GammaRatio(NamedTuple):
    """C(y, k) and its derivatives by log k; ``third`` only on request."""

    value: Array
    first: Array
    second: Array
    third: Array | None


def log_gamma_ratio(y: Array, k: Array, *, third: bool = True) -> GammaRatio:
    """C(y, k) for whole numbers y and k > 0, with its derivatives by log k."""
    shape = np.broadcast_shapes(np.shape(y), np.shape(k))
    y, k = np.broadcast_to(y, shape).ravel(), np.broadcast_to(k, shape).ravel()
    many = y > LARGE
    stirling = many & (k >= LARGE)
    if stirling.all():
        parts = _large(y, k, third=third)
    else:
        # Rows of Stirling's series have no terms here.
        m = np.where(stirling, 0.0, np.minimum(y, LARGE)) if many.any() else y
        parts = _by_terms(m, k, third=third)
        for where, method in ((stirling, _large), (many & ~stirling, _after_terms)):
            if where.any():
                added = method(y[where], k[where], third=third)
                for part, rest in zip(parts, added, strict=True):
                    if part is not None and rest is not None:
                        part[where] += rest
    value, first, second, d3 = parts
    d3 = None if d3 is None else d3.reshape(shape)
    return GammaRatio(value.reshape(shape), first.reshape(shape), second.reshape(shape), d3)


def _by_terms(m: Array, k: Array, *, third: bool) -> GammaRatio:
    """
    Sums over 0 < j < m, m at most ``LARGE``, of log(1 + j / k) and its derivatives.

    With p = j / (k + j) the derivatives by log k are -p, p (1 - p) and -p (1 - p) (1 - 2 p). Rows
    are taken in decreasing order of m, so that those with a term j are the first ones.
    """
    counts = m.astype(np.uint8)
    order = np.argsort(counts, kind="stable")[::-1]
    k = np.maximum(k[order], _SMALLEST)
    rows_with = len(counts) - np.cumsum(np.bincount(counts, minlength=1))  # m > j
    product, sums = np.ones_like(k), [np.zeros_like(k) for _ in range(3 if third else 2)]
    unit = np.maximum(k, 1.0)  # the product of 1 + j / k overflows for small k
    for j in range(1, int(counts.max(initial=0))):
        n = int(rows_with[j])
        z = k[:n] + j
        product[:n] *= z / unit[:n]
        p = j / z
        power = p.copy()
        for total in sums:
            total[:n] += power
            power *= p
    value = np.log(product) - np.maximum(counts[order] - 1.0, 0.0) * np.log(k / unit)
    out = [value, -sums[0], sums[0] - sums[1]]
    if third:
        out.append(-sums[0] + 3.0 * sums[1] - 2.0 * sums[2])
    parts = [np.empty_like(k) for _ in out]
    for part, sorted_ in zip(parts, out, strict=True):
        part[order] = sorted_
    return GammaRatio(parts[0], parts[1], parts[2], parts[3] if third else None)


def _after_terms(y: Array, k: Array, *, third: bool) -> GammaRatio:
    """Sums over ``LARGE <= j < y``: C of y - LARGE and K = k + LARGE, in terms of log k."""
    K, m = k + LARGE, y - LARGE
    share = k / K  # d log K / d log k
    rest = LARGE / K
    C = _large(m, K, third=third)
    slope = C.first + m
    value = C.value + m * np.log(K / np.maximum(k, _SMALLEST))
    second = share * (rest * slope + share * C.second)
    if C.third is None:
        return GammaRatio(value, share * slope - m, second, None)
    d3 = share * (rest * (rest - share) * slope + share * (3.0 * rest * C.second + share * C.third))
    return GammaRatio(value, share * slope - m, second, d3)


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


def scaled_log_gamma_slopes(k: Array) -> tuple[Array, Array, Array, Array]:
    """``k log k - k - lgamma(k)`` and its first three derivatives by log k."""
    k = np.asarray(k, dtype=float)
    value, first = scaled_log_gamma(k)
    large = np.maximum(k, LARGE)
    v = 1.0 / (large * large)
    s1, s2, s3 = (_series(c, v) / large for c in (_STIRLING_1, _STIRLING_2, _STIRLING_3))
    second, third = -(s1 + s2), -(s1 + 3.0 * s2 + s3)
    if (k < LARGE).any():
        small = np.clip(k, _SMALLEST, LARGE)
        slope = small * (np.log(small) - special.psi(small))
        rest = small - small * small * special.polygamma(1, small)
        of_third = slope + 3.0 * rest - small - small**3 * special.polygamma(2, small)
        second = np.where(k < LARGE, slope + rest, second)
        third = np.where(k < LARGE, of_third, third)
    return value, first, second, third


def half_step_ratio(df: float) -> tuple[float, float]:
    """``lgamma((df + 1) / 2) - lgamma(df / 2) - log(df / 2) / 2``, and its derivative by log df."""
    x = 0.5 * df
    if x < _LARGE_HALF:
        value = special.gammaln(x + 0.5) - special.gammaln(x) - 0.5 * np.log(x)
        return float(value), float(x * (special.psi(x + 0.5) - special.psi(x)) - 0.5)
    v = 1.0 / (x * x)
    value = (-1.0 / 8.0 + v * (1.0 / 192.0 - v / 640.0)) / x
    return value, (1.0 / 8.0 - v * (3.0 / 192.0 - v * 5.0 / 640.0)) / x
