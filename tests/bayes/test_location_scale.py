"""Posterior of models whose log residual standard deviation has random effects.

Source of truth: Gauss and Hermite's quadrature of the normal density, of three groups at once, and
of groups that share nothing one by one, whose posterior is then summed over a grid.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from estimation.dispersion.test_random import Integrand, three
from scipy import special

import mixedfx as mfx
from mixedfx.bayes.draws import log_posterior
from mixedfx.errors import ArgumentError, PriorError
from mixedfx.priors.specification import NO_PRIORS

pytestmark = pytest.mark.full


GROUPS, ROWS = 14, 8


@cache
def separate() -> pd.DataFrame:
    """Groups that share nothing: without coefficients they are independent given the parameters."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(GROUPS), ROWS)
    sds = np.exp(rng.permutation(np.linspace(-1.2, 1.2, GROUPS)))
    level = rng.normal(size=GROUPS)
    y = level[g] + sds[g] * rng.normal(size=len(g))
    return pd.DataFrame(
        {"y": y, "g": g, "x": rng.normal(size=len(g)), "h": np.tile([0, 1], len(g) // 2)}
    )


def test_the_mean_of_estimates_is_the_integral_over_the_effects():
    # REML: the coefficients are integrated out in both. Points that differ in the last digits have
    # other random numbers.
    fit = three(True)
    posterior = log_posterior(fit.model.original_design, NO_PRIORS.for_sampling(fit.model.spec))
    integrand = Integrand(fit)
    sd, log_sd, tau = integrand.point
    z = np.array([np.log(sd), log_sd, np.log(tau)])
    points = z * (1.0 + 1e-13 * np.arange(200)[:, None])
    logs = posterior.log_densities(points)
    assert np.ptp(logs) > 0.0
    exact = -0.5 * integrand.quadrature(integrand.point, 13)
    log_prior = posterior._log_prior(z, jacobian=True)
    # Of 200 estimates of 4 draws each, with a standard deviation of about a tenth.
    error = logs.std() / np.sqrt(len(logs))
    expected = pytest.approx(exact + log_prior, abs=4.0 * error + 1e-3)
    assert special.logsumexp(logs) - np.log(len(logs)) == expected
    assert error < 0.02


def grid_posterior() -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of log sd(g), log sigma and log tau: flat priors of the sds."""
    y = separate()["y"].to_numpy().reshape(GROUPS, ROWS)
    mean, within = y.mean(axis=1), ((y.T - y.mean(axis=1)) ** 2).sum(axis=0)
    axes = np.linspace(-3.0, 2.5, 56), np.linspace(-2.0, 2.0, 41), np.linspace(-3.0, 1.5, 46)
    log_s, mu, log_tau = (
        a.reshape(s) for a, s in zip(axes, ((-1, 1, 1), (-1, 1), (-1,)), strict=True)
    )
    t, w = special.roots_hermitenorm(40)
    log_w = np.log(w / np.sqrt(2.0 * np.pi))
    total = log_s + mu + log_tau  # Jacobians of the standard deviations
    log_sd = mu[..., None] + np.exp(log_tau)[:, None] * t
    between = np.exp(2.0 * log_s)[..., None]
    for m, squares in zip(mean, within, strict=True):
        variance = np.exp(2.0 * log_sd)
        of_mean = variance + ROWS * between
        quad = squares / variance + ROWS * m**2 / of_mean
        log_det = 2.0 * (ROWS - 1) * log_sd + np.log(of_mean)
        total = total + special.logsumexp(log_w - 0.5 * (quad + log_det), axis=-1)
    p = np.exp(total - special.logsumexp(total))
    moments = [[(p * part**k).sum() for part in (log_s, mu, log_tau)] for k in (1, 2)]
    means, squares = np.array(moments)
    return means, np.sqrt(squares - means**2)


@pytest.fixture
def cheaply(monkeypatch):
    """Few points to adapt the proposal to, and few draws discarded."""
    monkeypatch.setattr("mixedfx.bayes.sampler._COSTLY", (60, 0.25, 0))
    monkeypatch.setattr("mixedfx.bayes.sampler._WARMUP", 4)


@cache
def fitted() -> mfx.Results:
    return mfx.lmer("y ~ 0 + (1 | g)", separate(), dispersion="~ 1 + (1 | g)")


def draws_of(fit: mfx.Results, draws: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit.sample(draws=draws, chains=2, rng=3, progress=False)


@pytest.mark.slow
def test_draws_are_from_the_posterior_of_a_grid():
    means, sds = grid_posterior()
    posterior = draws_of(fitted(), 1000)["posterior"]
    logs = np.log(posterior["sd"]), posterior["gamma"], np.log(posterior["dispersion_sd"])
    for j, values in enumerate(logs):
        drawn = values.to_numpy().ravel()
        # 2000 draws, a quarter of them effective at least.
        assert drawn.mean() == pytest.approx(means[j], abs=4.0 * sds[j] / np.sqrt(500))
        assert drawn.std() == pytest.approx(sds[j], rel=0.15)


@pytest.mark.usefixtures("cheaply")
def test_draws_of_the_scale_are_those_of_the_likelihood_and_near_the_modes():
    fit = fitted()
    tree = draws_of(fit, 20)
    posterior, table, g = tree["posterior"], fit.dispersion_ranef(), separate()["g"].to_numpy()
    v = posterior["v_g"].to_numpy()[..., 0]
    assert np.corrcoef(v.mean(axis=(0, 1)), table["log_sd"])[0, 1] > 0.9
    log_sd = posterior["gamma"].to_numpy() + v[..., g]
    y = separate()["y"].to_numpy() - posterior["b_g"].to_numpy()[..., g, 0]
    expected = -0.5 * (y / np.exp(log_sd)) ** 2 - log_sd - 0.5 * np.log(2.0 * np.pi)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], expected, rtol=1e-8, atol=1e-8)
    again = draws_of(fit, 20)["posterior"]
    np.testing.assert_array_equal(again["v_g"], posterior["v_g"])


@pytest.mark.usefixtures("cheaply")
def test_a_correlated_term_has_draws_of_its_correlation():
    fit = mfx.lmer("y ~ x + (1 | g)", separate(), dispersion="~ x + (x | g)")
    posterior = draws_of(fit, 5)["posterior"]
    assert posterior["dispersion_sd"].sizes["dispersion_effect"] == 2
    pairs = posterior["dispersion_corr"]["dispersion_pair"].to_numpy().tolist()
    assert pairs == ["Intercept, x | g"]
    assert posterior["v_g"].sizes["v_g_effect"] == 2


@pytest.mark.usefixtures("cheaply")
def test_responses_of_new_rows_are_drawn_of_levels_that_the_fit_has():
    drawn, rows = draws_of(fitted(), 5), separate().iloc[[0, 9]]
    assert np.isfinite(drawn.predict(rows, kind="response")).all()
    with pytest.raises(ArgumentError, match="new levels"):
        drawn.predict(rows.assign(g=99), kind="response")


def test_few_levels_are_refused_with_a_flat_prior():
    fit = mfx.lmer("y ~ x + (1 | g)", separate(), dispersion="~ 1 + (1 | h)")
    with pytest.raises(PriorError, match="with 2 levels of 'h'"):
        fit.sample(draws=20, rng=1, progress=False)
