"""Densities that are not log-concave: a fit ends at the lowest of several minima.

Responses of heavy tails are explained by the effects of levels that lie apart, or by the
dispersion: the deviance has a minimum for each. A fit has to find the lower one, whatever
minimum the first search has led to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import mixedfx as mfx

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
LEVELS, ROWS = 8, 6


def table(seed):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(LEVELS), ROWS)
    mu = np.exp(0.5 + rng.normal(scale=2.0, size=LEVELS)[g])
    return pd.DataFrame({"y": rng.wald(mu, 1.0 / 15.0), "g": g})


def fit_from(data, **options):
    return mfx.glmer("y ~ 1 + (1 | g)", data, family="inverse_gaussian", nagq=9, **options)


def marginal_deviance(params, data):
    """-2 log-likelihood by a fine rule over the effect, of intercept, log sd and log phi."""
    intercept, sd, phi = params[0], np.exp(params[1]), np.exp(params[2])
    b = np.linspace(-9.0, 9.0, 1001)
    mu = np.exp(intercept + sd * b)[:, None]
    total = 0.0
    for _, y in data.groupby("g")["y"]:
        row = y.to_numpy()
        logs = -0.5 * np.log(2.0 * np.pi * phi * row**3) - (row - mu) ** 2 / (
            2.0 * phi * mu**2 * row
        )
        density = logs.sum(axis=1) - 0.5 * b * b - 0.5 * np.log(2.0 * np.pi)
        total += special.logsumexp(density) + np.log(b[1] - b[0])
    return -2.0 * total


LONGER = [pytest.param(seed, marks=pytest.mark.full) for seed in (1, 18, 35)]


@pytest.mark.parametrize("seed", [2, 19, *LONGER])
def test_the_fit_is_the_lowest_of_several_starts(seed):
    data = table(seed)
    fit = fit_from(data)
    assert fit.converged
    for start in (0.05, 0.3, 1.0, 3.0):
        other = fit_from(data, start=[start])
        assert not other.converged or fit.deviance <= other.deviance + 1e-6


@pytest.mark.full
@pytest.mark.parametrize("seed", [2, 19])
def test_no_minimum_of_the_integrated_likelihood_is_far_below(seed):
    data = table(seed)
    fit = fit_from(data)
    exact = [
        optimize.minimize(marginal_deviance, [0.5, start, 2.7], args=(data,), method="Nelder-Mead")
        for start in (-2.0, 0.0, 1.0)
    ]
    at_fit = [fit.params.iloc[0], np.log(fit.theta[0]), np.log(fit.family_params["phi"])]
    assert marginal_deviance(at_fit, data) < min(end.fun for end in exact) + 0.2
