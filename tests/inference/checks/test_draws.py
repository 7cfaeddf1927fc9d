"""Draws of coefficients and effects given the data, against Henderson's equations."""

from functools import partial

import numpy as np
import pytest
from oracle import probabilities_of_counts
from scipy import stats

import mixedfx as mfx
from mixedfx.inference.checks.checked_rows import given_data
from mixedfx.inference.checks.metropolis import level_moves, move
from mixedfx.linalg.random_streams import spawn_generators

COUNT = 800


def drawn(fit, count=COUNT):
    return given_data(fit.model).draws(spawn_generators(0, count))


def dense_covariance(fit, formula_Z, X):
    """Covariance of (beta, b): the inverse of Henderson's equations, of one scalar term."""
    sigma2, tau2 = fit.scale, fit.varcorr["vcov"].iloc[0]
    T = np.hstack([X, formula_Z])
    penalty = np.diag(np.r_[np.zeros(X.shape[1]), np.full(formula_Z.shape[1], 1 / tau2)])
    return np.linalg.inv(T.T @ T / sigma2 + penalty)


@pytest.mark.full
def test_effects_have_the_mean_and_covariance_of_hendersons_equations():
    data = mfx.datasets.load("Dyestuff")
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", data)
    Z = np.asarray(data["Batch"].cat.codes)[:, None] == np.arange(6)
    expected = dense_covariance(fit, Z.astype(float), np.ones((30, 1)))[1:, 1:]
    b = np.array([draw.effects[0][0] for draw in drawn(fit)])
    error = np.sqrt(np.diag(expected) / COUNT)
    assert (np.abs(b.mean(axis=0) - fit.ranef("Batch")["Intercept"]) < 4.5 * error).all()
    # Sigma is drawn too: its square over the estimate has the mean 29 / 27.
    scaled = np.cov(b.T) / (expected * 29 / 27)
    np.testing.assert_allclose(np.diag(scaled), 1.0, atol=0.2)


@pytest.mark.full
def test_residuals_at_a_draw_are_exactly_standard_normal_in_a_regression():
    # Four coefficients of eight rows: e* / sigma* are eight independent normal values all the same.
    rng = np.random.default_rng(1000)
    data = mfx.datasets.load("sleepstudy").head(8).assign(u=rng.normal(size=8), v=range(8))
    z = []
    for seed in range(120):
        y = 5.0 + 2.0 * np.random.default_rng(seed).normal(size=8)
        fit = mfx.lmer("y ~ u + v + I(v ** 2)", data.assign(y=y))
        z.append(given_data(fit.model).draws(spawn_generators(seed, 1))[0].z)
    z = np.array(z)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    assert stats.kstest((z**2).sum(axis=1), "chi2", args=(8,)).pvalue > 0.01


@pytest.mark.full
def test_effects_of_many_counts_have_the_moments_of_the_conditional_modes():
    crash = mfx.datasets.load("appcrash")
    fit = mfx.glmer("crashes ~ 1 + (1 | publisher)", crash, "nbinom2")
    b = np.array([draw.effects[0][0] for draw in drawn(fit, 200)])
    modes = fit.ranef("publisher", cond_sd=True)["Intercept"]
    joint = fit.ranef("publisher", cond_sd="joint")["Intercept_sd"]
    error = (b.mean(axis=0) - modes) / (joint / np.sqrt(200))
    assert np.abs(error).max() < 4.5
    np.testing.assert_allclose(b.std(axis=0) / joint, 1.0, atol=0.25)


def test_correlated_residuals_are_drawn_whitened():
    fit = mfx.lmer(
        "score ~ arm * visit", mfx.datasets.load("trial"), residual="us(visit | patient)"
    )
    z = np.array([draw.z for draw in drawn(fit, 20)])
    assert abs(z.std() - 1.0) < 0.05


@pytest.mark.full
def test_effects_of_single_counts_are_drawn_from_their_density():
    rng = np.random.default_rng(4)
    y = rng.poisson(np.exp(-0.5 + 1.5 * rng.normal(size=400)))
    data = mfx.datasets.load("appcrash").head(400)[[]].assign(y=y, row=range(400))
    fit = mfx.glmer("y ~ 1 + (1 | row)", data, "poisson")
    intercept, sd = fit.params["Intercept"], fit.varcorr["sdcor"].iloc[0]
    model, modes = fit.model, fit.ranef("row", cond_sd=True)
    moves, density = level_moves(model), partial(model.residual.log_densities, model.rows)
    before, after = [], []
    for _ in range(10):
        b = rng.normal(modes["Intercept"], modes["Intercept_sd"])
        effects = [b[None].copy()]
        move(moves, density, (intercept + b)[None], [effects], rng)
        before.append(probabilities_of_counts(b, y, intercept, sd))
        after.append(probabilities_of_counts(effects[0][0], y, intercept, sd))
    zeros = y == 0
    before, after = np.array(before)[:, zeros].ravel(), np.array(after)[:, zeros].ravel()
    # The normal approximation at the mode is too high for zeros.
    assert stats.kstest(before, "uniform").pvalue < 1e-3
    assert stats.kstest(after, "uniform").pvalue > 0.01
