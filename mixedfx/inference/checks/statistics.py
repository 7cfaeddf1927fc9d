"""Tests of values that are independent and standard normal if a model is right.

All take draws in rows, (m, n), and give a statistic and a p-value of each. Tests of means are
F tests, exact for normal values of any mean and variance; those of spread are F tests of

    v = Phi^-1(2 Phi(|z|) - 1),

which is standard normal where z is, and rises with ``|z|``.

Reference: Stephens (1986), in D'Agostino and Stephens, Goodness-of-Fit Techniques, chapter 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Degree of the polynomial in the ranks of a covariate.
DEGREE = 4
# A p-value nearer to one is taken as this: tests of counts have many of exactly one.
_LARGEST_P = 0.999
_SMALLEST_P = 1e-300
_LEAST_VARIANCE = 0.25


class Tested(NamedTuple):
    """Statistics of draws, and their p-values, (m,)."""

    statistic: Vector
    p_value: Vector


def spread_scores(z: Matrix) -> Matrix:
    """Normal scores of ``|z|``."""
    # 2 Phi(|z|) - 1 = 1 - 2 Phi(-|z|): the upper tail keeps its digits.
    return np.asarray(-special.ndtri(np.clip(2.0 * special.ndtr(-np.abs(z)), 1e-300, 1 - 1e-16)))


def basis_of_number(x: Vector) -> Matrix:
    """Orthonormal columns in which a function of x is sought: polynomials in its ranks."""
    order = np.argsort(x, kind="stable")
    _, first, counts = np.unique(x[order], return_index=True, return_counts=True)
    ranks = np.empty(len(x))
    ranks[order] = np.repeat(first + 0.5 * (counts - 1), counts)
    scaled = 2.0 * ranks / max(len(x) - 1, 1) - 1.0
    columns = np.polynomial.legendre.legvander(scaled, min(DEGREE, len(counts) - 1))
    return np.asarray(np.linalg.qr(columns)[0][:, 1:])


def f_test_of_columns(values: Matrix, basis: Matrix) -> Tested:
    """F test of orthonormal columns beside a constant."""
    n, d = basis.shape
    centred = values - values.mean(axis=1, keepdims=True)
    explained = ((centred @ basis) ** 2).sum(axis=1)
    return _f_test(explained, (centred**2).sum(axis=1), d, n - 1 - d)


def f_test_of_levels(values: Matrix, codes: Codes, n_levels: int) -> Tested:
    """One-way analysis of variance between levels."""
    counts = np.bincount(codes, minlength=n_levels)
    centred = values - values.mean(axis=1, keepdims=True)
    sums = np.array([np.bincount(codes, weights=row, minlength=n_levels) for row in centred])
    used = counts > 0
    explained = (sums[:, used] ** 2 / counts[used]).sum(axis=1)
    d = int(used.sum()) - 1
    return _f_test(explained, (centred**2).sum(axis=1), d, values.shape[1] - 1 - d)


def _f_test(explained: Vector, total: Vector, d: int, df: int) -> Tested:
    with np.errstate(divide="ignore", invalid="ignore"):
        F = (explained / d) / (np.maximum(total - explained, 0.0) / df)
    return Tested(F, special.fdtrc(d, df, F))


def kolmogorov_test(z: Matrix) -> Tested:
    """Largest difference of the distribution function from the normal one."""
    n = z.shape[1]
    u = special.ndtr(np.sort(z, axis=1))
    i = np.arange(1, n + 1)
    D = np.maximum(i / n - u, u - (i - 1) / n).max(axis=1)
    root = np.sqrt(n)
    return Tested(D, special.kolmogorov((root + 0.12 + 0.11 / root) * D))


def anderson_darling_test(values: Matrix) -> Tested:
    """Anderson and Darling's test of normality, mean and variance estimated."""
    n = values.shape[1]
    sd = values.std(axis=1, ddof=1, keepdims=True)
    scaled = np.sort((values - values.mean(axis=1, keepdims=True)) / sd, axis=1)
    weights = (2.0 * np.arange(1, n + 1) - 1.0) / n
    tails = special.log_ndtr(scaled) + special.log_ndtr(-scaled[:, ::-1])
    A = (-n - tails @ weights) * (1.0 + 0.75 / n + 2.25 / n**2)
    return Tested(A, _anderson_darling_p(np.minimum(A, 10.0)))


def _anderson_darling_p(A: Vector) -> Vector:
    """Of the corrected statistic (Stephens 1986, table 4.9)."""
    large = np.exp(1.2937 - 5.709 * A + 0.0186 * A**2)
    medium = np.exp(0.9177 - 4.279 * A - 1.38 * A**2)
    small = 1.0 - np.exp(-8.318 + 42.796 * A - 59.938 * A**2)
    tiny = 1.0 - np.exp(-13.436 + 101.14 * A - 223.73 * A**2)
    return np.asarray(np.select([A >= 0.6, A >= 0.34, A >= 0.2], [large, medium, small], tiny))


def sum_of_indicators_test(counts: Vector, p: Matrix) -> Tested:
    """
    Two-sided test of sums of independent indicators with probabilities p.

    The normal distribution with a correction for skewness and continuity (Volkova 1996, Theory
    Probab. Appl. 40:791).
    """
    mean, variance = p.sum(axis=1), (p * (1.0 - p)).sum(axis=1)
    third = (p * (1.0 - p) * (1.0 - 2.0 * p)).sum(axis=1)
    sd = np.sqrt(np.maximum(variance, 1e-300))
    skewness = third / sd**3

    def at_most(k: Vector) -> Vector:
        x = (k + 0.5 - mean) / sd
        density = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
        return np.asarray(special.ndtr(x) + skewness * (1.0 - x**2) * density / 6.0)

    def at_least(k: Vector) -> Vector:
        x = (k - 0.5 - mean) / sd
        density = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
        return np.asarray(special.ndtr(-x) - skewness * (1.0 - x**2) * density / 6.0)

    p_value = 2.0 * np.minimum(at_most(counts), at_least(counts))
    return Tested(counts / mean, np.clip(p_value, _SMALLEST_P, 1.0))


def compare_with_simulated(observed: Vector, simulated: Vector) -> Tested:
    """
    Two-sided test against simulated statistics.

    By rank, and beyond the simulated ones by a gamma distribution with their first three moments.
    """
    n = len(simulated)
    below = np.searchsorted(np.sort(simulated), observed)
    by_rank = 2.0 * (np.minimum(below, n - below) + 0.5) / (n + 1.0)
    mean, sd = simulated.mean(), simulated.std(ddof=1)
    skewness = float((((simulated - mean) / sd) ** 3).mean())
    # A gamma variable of shape a has the skewness 2 / sqrt(a).
    a = min(4.0 / max(skewness**2, 1e-300), 1e6)
    x = a + np.copysign(1.0, skewness) * (observed - mean) / sd * np.sqrt(a)
    tails = [f(a, np.maximum(x, 0.0)) for f in (special.gammainc, special.gammaincc)]
    beyond = (below == 0) | (below == n)
    by_moments = np.minimum(2.0 * np.minimum(*tails), by_rank)
    return Tested(observed, np.clip(np.where(beyond, by_moments, by_rank), _SMALLEST_P, 1.0))


def combine(p_values: Vector) -> float:
    """
    One p-value of those of m draws.

    Their normal scores are standard normal under the model, and equally correlated. The variance
    ``s^2`` of the scores of one fit is what the draws add to that of the data, so their mean has
    the variance ``1 - s^2 (1 - 1 / m)``: one where all draws agree, less where tests of single
    draws have lost power to them. It is taken as a quarter at least, which makes tests of little
    but the draws' randomness reject too rarely.
    """
    scores = -special.ndtri(np.clip(p_values, _SMALLEST_P, _LARGEST_P))
    variance = max(1.0 - float(scores.var()), _LEAST_VARIANCE)
    return float(special.ndtr(-scores.mean() / np.sqrt(variance)))
