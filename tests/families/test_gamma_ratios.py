"""C(y, k) = sum over 0 < j < y of log(1 + j / k) against that sum, added without rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from mixedfx.families.gamma_ratios import log_gamma_ratio, scaled_log_gamma

COUNTS = [0, 1, 2, 15, 16, 17, 40, 300, 20_000]


def added(y, k):
    """Value and three derivatives by log k."""
    p = [j / (k + j) for j in range(1, y)]
    return (
        math.fsum(math.log1p(j / k) for j in range(1, y)),
        -math.fsum(p),
        math.fsum(x * (1 - x) for x in p),
        -math.fsum(x * (1 - x) * (1 - 2 * x) for x in p),
    )


@pytest.mark.parametrize("k", [1e-4, 0.3, 5.0, 15.9, 16.1, 200.0, 1e5, 1e8])
def test_gamma_ratios_are_the_sums_of_their_terms(k):
    # The error is a few units of rounding times y, whatever k is.
    expected = np.array([added(y, k) for y in COUNTS]).T
    computed = log_gamma_ratio(np.array(COUNTS, dtype=float), np.array(k))
    for one, other in zip(computed, expected, strict=True):
        np.testing.assert_array_less(np.abs(one - other), 5e-15 * (np.array(COUNTS) + 1.0))


def test_rows_of_all_kinds_mix():
    y = np.tile(np.array(COUNTS, dtype=float), 3)
    k = np.repeat([0.2, 16.5, 3e4], len(COUNTS))
    computed = log_gamma_ratio(y, k)
    alone = [log_gamma_ratio(y[i : i + 1], k[i : i + 1]) for i in range(len(y))]
    for part, parts in zip(computed, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(part, np.concatenate(parts), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("k", [0.01, 2.5, 15.99, 16.01, 60.0])
def test_scaled_log_gamma_is_its_definition(k):
    value, slope = scaled_log_gamma(np.array([k]))
    np.testing.assert_allclose(value, k * math.log(k) - k - math.lgamma(k), rtol=1e-12)
    np.testing.assert_allclose(slope, k * (math.log(k) - special.psi(k)), rtol=1e-12)
