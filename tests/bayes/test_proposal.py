"""The proposal of the independence sampler, and the measures of its weights.

Source of truth: scipy's densities, and moments by quadrature; ArviZ's estimate of the Pareto k.
"""

from __future__ import annotations

import arviz_stats.base
import numpy as np
import pytest
from scipy import integrate, stats

from mixedfx.bayes.marginal_transform import MarginalTransform, _negative_log_likelihood
from mixedfx.bayes.pareto import pareto_k
from mixedfx.bayes.proposal import (
    adapt_proposal,
    laplace_proposal,
    normalize_weights,
    sampling_efficiency,
    sliced_proposal,
)

SKEWED = MarginalTransform(
    np.array([1.0, -2.0]), np.log([0.5, 3.0]), np.array([0.4, -0.3]), np.log([0.8, 1.2])
)


def test_the_transformation_has_its_inverse():
    x = np.random.default_rng(1).normal(size=(50, 2))
    np.testing.assert_allclose(SKEWED.inverse(SKEWED.forward(x)), x, rtol=1e-12)


def test_the_transformation_has_its_jacobian():
    x, step = np.random.default_rng(1).normal(size=(20, 2)), 1e-6
    slope = (SKEWED.forward(x + step) - SKEWED.forward(x - step)) / (2.0 * step)
    found = SKEWED.log_jacobian(x, SKEWED.forward(x))
    np.testing.assert_allclose(found, np.log(slope).sum(axis=1), atol=1e-8)


def test_the_likelihood_has_its_gradient():
    x, at = np.random.default_rng(1).gumbel(size=200), np.array([0.1, -0.2, 0.3, -0.1])
    found = _negative_log_likelihood(at, x)[1]
    expected = [
        (_negative_log_likelihood(at + e, x)[0] - _negative_log_likelihood(at - e, x)[0]) / 2e-6
        for e in 1e-6 * np.eye(4)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_a_transformation_is_recovered_from_draws():
    u = np.random.default_rng(1).standard_normal((20_000, 2))
    fitted = MarginalTransform.fit(SKEWED.inverse(u)).forward(SKEWED.inverse(u))
    assert np.abs(stats.skew(fitted)).max() < 0.1
    assert np.abs(stats.kurtosis(fitted)).max() < 0.2


@pytest.mark.parametrize("d", [1, 9])
def test_the_proposal_has_density_one_in_total(d):
    cov = np.diag(np.linspace(0.5, 2.0, d))
    proposal = laplace_proposal(np.zeros(d), cov)
    if d == 1:
        total, _ = integrate.quad(
            lambda x: np.exp(proposal.log_densities(np.array([[x]]))[0]), -np.inf, np.inf
        )
        assert total == pytest.approx(1.0, abs=1e-8)
        return
    law = stats.multivariate_t(np.zeros(d), cov, df=9.0)
    points = np.random.default_rng(1).normal(size=(20, d))
    np.testing.assert_allclose(proposal.log_densities(points), law.logpdf(points), rtol=1e-10)


@pytest.mark.parametrize("d", [2, 12])
def test_it_adapts_to_a_skewed_density(d):
    # Log gamma marginals, rotated a little: exponential tails to the left.
    mix = np.eye(d) + 0.1 * np.random.default_rng(0).normal(size=(d, d))

    def log_densities(points):
        x = points @ mix.T
        return (1.5 * x - np.exp(x)).sum(axis=1)

    mode = np.linalg.solve(mix, np.full(d, np.log(1.5)))
    cov = np.linalg.inv(mix.T @ mix * 1.5)
    rng = np.random.default_rng(1)
    adapted = adapt_proposal(log_densities, mode, cov, rng, draws=1500)
    points = adapted.proposal.draw(4000, rng)
    ratios = log_densities(points) - adapted.proposal.log_densities(points)
    weights = normalize_weights(ratios)
    assert 1.0 / (weights**2).sum() > 0.5 * len(weights)
    # E log X of a gamma distribution is digamma(1.5) = 0.03649, its sd sqrt(trigamma) = 0.9669.
    x = points @ mix.T
    error = 0.9669 * np.sqrt((weights**2).sum())
    assert np.abs(weights @ x - 0.03649).max() < 4.5 * error


def test_the_first_proposal_of_many_dimensions_has_the_tails_of_slices():
    # Log gamma marginals of shape 0.5, whose left tail is an exponential one of rate 0.5.
    d, shape = 12, 0.5

    def log_densities(points):
        return (shape * points - np.exp(points)).sum(axis=1)

    mode, cov = np.full(d, np.log(shape)), np.eye(d) / shape
    rng, efficiencies = np.random.default_rng(1), []
    for proposal in (sliced_proposal(log_densities, mode, cov), laplace_proposal(mode, cov)):
        points = proposal.draw(4000, rng)
        ratios = log_densities(points) - proposal.log_densities(points)
        efficiencies.append(sampling_efficiency(ratios))
    assert efficiencies[0] > 0.5 > 0.1 > efficiencies[1]


@pytest.mark.parametrize("sd", [0.3, 1.0, 2.0])
def test_pareto_k_is_that_of_arviz(sd):
    log_weights = sd * np.random.default_rng(1).standard_normal(2000)
    expected = float(arviz_stats.base.array_stats.psislw(-log_weights)[1])
    assert pareto_k(log_weights) == pytest.approx(expected, abs=0.03)


def test_pareto_k_of_pareto_weights_is_their_shape():
    weights = stats.genpareto(0.6).rvs(20_000, random_state=1)
    assert pareto_k(np.log(weights)) == pytest.approx(0.6, abs=0.1)


def test_pareto_k_of_few_or_equal_weights_is_missing():
    assert np.isnan(pareto_k(np.zeros(10)))
    assert np.isnan(pareto_k(np.zeros(1000)))
