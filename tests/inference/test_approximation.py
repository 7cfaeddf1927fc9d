"""Error of the approximated likelihood, against quadrature and brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import mixedfx as mfx
from mixedfx.errors import ArgumentError


def binary_groups(seed=1, n_groups=60, rows=5, sd=1.5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), rows)
    x = rng.standard_normal(len(g))
    eta = -0.5 + x + sd * rng.standard_normal(n_groups)[g]
    y = (rng.random(len(g)) < expit(eta)).astype(int)
    return pd.DataFrame({"g": g, "x": x, "y": y})


@pytest.fixture(scope="module")
def laplace():
    return mfx.glmer("y ~ x + (1 | g)", binary_groups())


@pytest.mark.full
def test_with_one_factor_the_changes_are_those_of_a_fit_with_quadrature(laplace):
    exact = mfx.glmer("y ~ x + (1 | g)", binary_groups(), nagq=25)
    found = laplace.approximation()
    change = found.table["change"]
    moved = [exact.theta[0] - laplace.theta[0], *(exact.params - laplace.params)]
    np.testing.assert_allclose(change, moved, rtol=1e-4)
    np.testing.assert_allclose(change[1:] / laplace.bse, found.table["change_in_se"][1:])
    assert found.notable == ("sd(Intercept | g)",)
    assert "nagq=25" in found.note
    again = mfx.glmer("y ~ x + (1 | g)", binary_groups(), nagq=25)
    assert not again.approximation().notable


def test_the_certificate_says_how_good_the_approximation_is(laplace):
    assert "quadrature with 25 nodes" in str(laplace.certificate)
    assert laplace.certificate.ok
    assert "quadrature" not in str(laplace.convergence)


# The log-likelihood below is that of 25 nodes within 1e-4, a fiftieth of its Monte Carlo error.
NODES = 17


def brute_force_loglik(data, beta, sds, nodes):
    """Product quadrature over all effects of two crossed factors, for the 0/1 response.

    Given those of the second, the effects of the first are independent: a product of sums.
    """
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    log_w = np.log(w / w.sum())
    combinations = np.array(list(itertools.product(range(nodes), repeat=data["b"].nunique())))
    of_b = beta + sds[1] * z[combinations][:, data["b"]]  # (combinations, rows)
    sign = np.where(data["y"] == 1, 1.0, -1.0)
    total = log_w[combinations].sum(axis=1)
    for level in range(data["a"].nunique()):
        rows = (data["a"] == level).to_numpy()
        eta = of_b[:, rows, None] + sds[0] * z
        loglik = -np.log1p(np.exp(-sign[rows, None] * eta)).sum(axis=1)
        total += np.logaddexp.reduce(loglik + log_w, axis=1)
    return float(np.logaddexp.reduce(total))


@pytest.mark.full
def test_importance_sampling_agrees_with_a_product_quadrature():
    rng = np.random.default_rng(3)
    a, b = np.repeat(np.arange(4), 9), np.tile(np.repeat(np.arange(3), 3), 4)
    y = (rng.random(36) < expit(0.3 + np.array([-2, -0.5, 1, 2])[a] + np.array([-2, 0, 2])[b])) * 1
    data = pd.DataFrame({"a": a, "b": b, "y": y})
    fit = mfx.glmer("y ~ 1 + (1 | a) + (1 | b)", data)
    found = fit.approximation(draws=400)
    exact = brute_force_loglik(data, fit.params.iloc[0], fit.theta, NODES)
    assert abs(found.loglik - exact) < 4.0 * found.monte_carlo_error
    assert found.monte_carlo_error < 0.1 * abs(found.loglik_change)
    assert abs(found.loglik_change) > 0.05
    # The gradient: differences of the brute-force log-likelihood by each parameter.
    x = np.array([*fit.theta, fit.params.iloc[0]])
    steps = 1e-4 * np.eye(3)
    gradient = [
        (
            brute_force_loglik(data, (x + e)[2], (x + e)[:2], NODES)
            - brute_force_loglik(data, (x - e)[2], (x - e)[:2], NODES)
        )
        / 2e-4
        for e in steps
    ]
    # Columns of ones: the coordinates of the search are theta and beta.
    expected = fit.model.residual.acov @ gradient
    change, error = found.table["change_in_se"], found.table["monte_carlo_error"]
    np.testing.assert_array_less(
        np.abs(change - expected / found.table["std_error"]), 4.0 * error + 0.01
    )


@pytest.mark.full
def test_more_draws_lower_the_monte_carlo_error():
    fit = mfx.glmer(
        "incidence ~ period + (1 | herd) + (1 | row)",
        mfx.datasets.load("cbpp").assign(row=range(56)),
        family="poisson",
        offset=np.log(mfx.datasets.load("cbpp")["size"]),
    )
    few, many = fit.approximation(draws=100), fit.approximation(draws=600, rng=1)
    assert many.monte_carlo_error < 0.7 * few.monte_carlo_error
    limit = 4.0 * np.hypot(few.monte_carlo_error, many.monte_carlo_error)
    assert abs(few.loglik - many.loglik) < limit


def test_a_linear_model_has_no_approximation():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    with pytest.raises(ArgumentError, match="exact"):
        fit.approximation()
    assert fit.certificate is not None
    assert not fit.certificate.approximation


def test_without_random_terms_nothing_is_approximated():
    fit = mfx.glmer("y ~ x", binary_groups())
    found = fit.approximation()
    assert found.loglik_change == 0.0
    assert not found.table["change"].any()
