"""Scores of predictive distributions: against their integrals, by SciPy's quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from mixedfx.families.registry import resolve_family
from mixedfx.residuals.predictive import FamilyPredictive, NormalPredictive

ETA, VARIANCE = np.array([0.2, 1.0, 0.5]), np.array([0.3, 0.0, 0.6])
TRIALS = np.array([1.0, 5.0, 4.0])


X = np.linspace(-9, 9, 2001)
SHARES = stats.norm.pdf(X) * (X[1] - X[0])


def over_effects(function, eta, variance):
    """``E f(eta + s x)``, by the trapezoidal rule."""
    return SHARES @ function(eta + np.sqrt(variance) * X)


def ranked_probability(cdf, y, low, high):
    below = integrate.quad(lambda x: cdf(x) ** 2, low, y, limit=200)[0]
    return below + integrate.quad(lambda x: (1 - cdf(x)) ** 2, y, high, limit=200)[0]


def test_scores_of_a_normal_response():
    y, of_rows = np.array([0.3, -4.0, 9.0]), np.array([2.0, 1.0, 0.5])
    predictive = NormalPredictive(of_rows)
    sd = np.sqrt(VARIANCE + of_rows)
    expected = [
        ranked_probability(stats.norm(m, s).cdf, x, -40, 40)
        for x, m, s in zip(y, ETA, sd, strict=True)
    ]
    np.testing.assert_allclose(predictive.crps(y, ETA, VARIANCE), expected, rtol=1e-9)
    log_density = predictive.log_density(y, ETA, VARIANCE)
    np.testing.assert_allclose(log_density, stats.norm(ETA, sd).logpdf(y), rtol=1e-13)
    np.testing.assert_array_equal(predictive.moments(ETA, VARIANCE), (ETA, sd))


def poisson(eta, k, n):
    return stats.poisson.pmf(k, np.exp(eta))


def binomial(eta, k, n):
    return stats.binom.pmf(k, n, special.expit(eta))


DISCRETE = {
    "poisson": (None, np.array([0.0, 3.0, 15.0]), poisson),
    "binomial": (TRIALS, np.array([1.0, 2.0, 0.0]), binomial),
}


@pytest.mark.parametrize("family", DISCRETE)
def test_scores_of_counts(family):
    weights, counts, pmf = DISCRETE[family]
    trials = np.ones(3) if weights is None else weights
    predictive = FamilyPredictive(resolve_family(family, None), np.empty(0), weights)
    expected = []
    for k, m, v, n in zip(counts, ETA, VARIANCE, trials, strict=True):
        last = int(n) + 1 if weights is not None else 100
        p = [over_effects(lambda e, j=j, n=n: pmf(e, j, n), m, v) for j in range(last)]
        crps = ((np.cumsum(p) - (np.arange(last) >= k)) ** 2).sum() / n
        expected.append((np.log(p[int(k)]), crps))
    log_density, crps = np.array(expected).T
    y = counts / trials
    np.testing.assert_allclose(predictive.log_density(y, ETA, VARIANCE), log_density, rtol=1e-9)
    np.testing.assert_allclose(predictive.crps(y, ETA, VARIANCE), crps, rtol=1e-6)


def test_scores_of_a_gamma_response():
    predictive = FamilyPredictive(resolve_family("gamma", "log"), np.array([0.5]), None)
    y = np.array([0.4, 2.5, 6.0])
    nodes, weights = np.polynomial.legendre.leggauss(60)
    expected = []
    for x, m, v in zip(y, ETA, VARIANCE, strict=True):
        density = over_effects(lambda e, x=x: stats.gamma.pdf(x, 2, scale=np.exp(e) / 2), m, v)
        crps = 0.0
        for low, high in ((0.0, x), (x, x + 15.0), (x + 15.0, 200.0)):
            at = 0.5 * (low + high) + 0.5 * (high - low) * nodes
            F = [
                over_effects(lambda e, t=t: stats.gamma.cdf(t, 2, scale=np.exp(e) / 2), m, v)
                for t in at
            ]
            crps += 0.5 * (high - low) * weights @ (F - (at >= x)) ** 2
        expected.append((np.log(density), crps))
    log_density, crps = np.array(expected).T
    np.testing.assert_allclose(predictive.log_density(y, ETA, VARIANCE), log_density, rtol=1e-9)
    np.testing.assert_allclose(predictive.crps(y, ETA, VARIANCE), crps, rtol=1e-6)
    mean, sd = predictive.moments(ETA, VARIANCE)
    # Of a lognormal mixture: E m = exp(eta + v / 2), E m^2 = exp(2 eta + 2 v), Var y = phi m^2.
    np.testing.assert_allclose(mean, np.exp(ETA + VARIANCE / 2), rtol=1e-12)
    second = np.exp(2 * ETA + 2 * VARIANCE)
    np.testing.assert_allclose(sd, np.sqrt(1.5 * second - mean**2), rtol=1e-11)


def test_scores_of_a_count_with_a_large_mean_go_on_beyond_the_terms_of_the_sum():
    # Counts of mean 5,000 and little variance are normal to three digits.
    predictive = FamilyPredictive(resolve_family("poisson", None), np.empty(0), None)
    eta, y = np.log([5000.0]), np.array([5100.0])
    normal = NormalPredictive(5000.0).crps(y, np.array([5000.0]), np.zeros(1))
    np.testing.assert_allclose(predictive.crps(y, eta, np.zeros(1)), normal, rtol=0.02)
