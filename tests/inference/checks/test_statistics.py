"""Tests of the checks, against scipy's, statsmodels' and exact distributions."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.diagnostic import normal_ad

from mixedfx.inference.checks.statistics import (
    anderson_darling_test,
    basis_of_number,
    combine,
    compare_with_simulated,
    f_test_of_columns,
    f_test_of_levels,
    kolmogorov_test,
    spread_scores,
    sum_of_indicators_test,
)
from mixedfx.inference.false_discovery import false_discovery_rates


@pytest.fixture
def z():
    return np.random.default_rng(1).normal(size=(3, 80))


def test_levels_are_compared_as_by_scipy(z):
    codes = np.random.default_rng(2).integers(0, 4, 80)
    tested = f_test_of_levels(z, codes, 4)
    for row, F, p in zip(z, *tested, strict=True):
        expected = stats.f_oneway(*(row[codes == level] for level in range(4)))
        np.testing.assert_allclose([F, p], [expected.statistic, expected.pvalue], rtol=1e-10)


def test_a_function_of_a_number_is_tested_as_a_regression_on_its_ranks(z):
    x = np.random.default_rng(3).exponential(size=80).round(1)  # with ties
    tested = f_test_of_columns(z, basis_of_number(x))
    X = np.vander(stats.rankdata(x), 5)
    for row, F in zip(z, tested.statistic, strict=True):
        rss = np.linalg.lstsq(X / np.abs(X).max(axis=0), row, rcond=None)[1][0]
        total = ((row - row.mean()) ** 2).sum()
        np.testing.assert_allclose(F, (total - rss) / 4 / (rss / 75), rtol=1e-8)


def test_normality_is_tested_as_by_statsmodels(z):
    rows = np.vstack([z, np.random.default_rng(4).standard_t(3, size=80)])
    tested = anderson_darling_test(rows)
    expected = [normal_ad(row)[1] for row in rows]
    np.testing.assert_allclose(tested.p_value, expected, rtol=1e-9)


def test_uniformity_is_tested_as_by_scipy(z):
    tested = kolmogorov_test(z)
    expected = [stats.kstest(row, "norm") for row in z]
    np.testing.assert_allclose(tested.statistic, [e.statistic for e in expected], rtol=1e-12)
    # Stephens' correction of the limit, of n = 80.
    np.testing.assert_allclose(tested.p_value, [e.pvalue for e in expected], rtol=0.025)


def test_a_number_of_zeros_has_the_tails_of_the_sum_of_indicators():
    p = np.random.default_rng(5).uniform(0.02, 0.4, 60)
    exact = np.array([1.0])
    for share in p:
        exact = np.convolve(exact, [1.0 - share, share])
    counts = np.arange(3.0, 24.0)
    below, above = np.cumsum(exact), np.cumsum(exact[::-1])[::-1]
    k = counts.astype(int)
    expected = np.minimum(2.0 * np.minimum(below[k], above[k]), 1.0)
    tested = sum_of_indicators_test(counts, np.tile(p, (len(counts), 1)))
    np.testing.assert_allclose(tested.p_value, expected, rtol=0.15)
    near = (expected > 0.02) & (expected < 1.0)
    np.testing.assert_allclose(tested.p_value[near], expected[near], rtol=0.07)


def test_a_statistic_beyond_the_simulated_ones_has_the_tail_of_their_moments():
    simulated = np.random.default_rng(6).chisquare(50, 4000)
    observed = np.array([50.0, stats.chi2.isf(1e-5, 50)])
    inside, beyond = compare_with_simulated(observed, simulated).p_value
    assert inside > 0.8
    assert 0.3e-5 < beyond < 8e-5
    ranks = compare_with_simulated(simulated[:200], simulated).p_value
    assert abs(np.mean(ranks < 0.25) - 0.25) < 0.1


def test_scores_of_spread_are_normal_where_residuals_are():
    v = spread_scores(np.random.default_rng(7).normal(size=(1, 4000)))
    assert stats.kstest(v[0], "norm").pvalue > 0.05
    # 2 Phi(1.96) - 1 = 0.95
    np.testing.assert_allclose(
        spread_scores(np.array([[1.959964]])), stats.norm.ppf(0.95), atol=1e-6
    )


def test_equal_p_values_combine_to_themselves():
    for p in (1e-12, 0.03, 0.5, 0.97):
        np.testing.assert_allclose(combine(np.full(20, p)), p, rtol=1e-10)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.95])
def test_combined_p_values_of_correlated_draws_are_uniform(correlation):
    rng = np.random.default_rng(8)
    shared, own = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 20))
    scores = np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own
    combined = np.array([combine(stats.norm.sf(row)) for row in scores])
    # Three standard errors of a share of 0.05 are 0.010; the variance is estimated from 20 draws.
    assert abs(np.mean(combined < 0.05) - 0.05) < 0.014


def test_p_values_are_adjusted_as_by_scipy():
    p = np.random.default_rng(9).uniform(size=12) ** 2
    expected = stats.false_discovery_control(p)
    np.testing.assert_allclose(false_discovery_rates(p), expected, rtol=1e-12)
