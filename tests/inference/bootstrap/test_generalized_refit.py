"""Bootstraps of generalised fits.

Source of truth: the same fits one by one by ``glmer``, and the known coverage of percentile
intervals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalized_models import GENERALIZED, generalized_fit

import mixedfx as mfx

# A search ends where another step would gain 1e-10; a fit goes one Newton step on.
SEARCH = 1e-4  # standard errors

MODELS = {
    "merged rows": "cbpp_cloglog__laplace",
    "quadrature": "epil_pois__agq9",
    "a family with a parameter": "epil2_nb2__laplace",
}


@pytest.mark.kept("merged rows", "quadrature")
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("name", MODELS.values(), ids=MODELS.keys())
def test_a_draw_is_the_fit_of_the_simulated_response(name):
    fit = generalized_fit(name)
    bootstrap = fit.bootstrap(3, rng=5, progress=False)
    y = fit.simulate(3, rng=5)
    assert list(bootstrap.draws.columns[: len(fit.params)]) == list(fit.params.index)
    for number, draw in bootstrap.draws.iterrows():
        again = fit.refit(y[number])
        apart = (draw[again.params.index] - again.params) / again.bse
        assert np.abs(apart).max() < SEARCH
        family = again.model.spec.family.param_names
        params = again.model.residual.distribution_params
        np.testing.assert_allclose(draw[list(family)], params, rtol=1e-4)
        np.testing.assert_allclose(draw.filter(like="theta"), again.theta, rtol=1e-3, atol=1e-4)


def test_rows_that_were_merged_take_another_response():
    data = GENERALIZED["cbpp_prop__laplace"].data
    long = data.loc[data.index.repeat(data["size"])]
    rank = long.groupby(level=0).cumcount()
    long = long.assign(y=(rank < long["incidence"]).astype(float)).reset_index(drop=True)
    fit = mfx.glmer("y ~ period + (1 | herd)", long)
    assert len(fit.bootstrap(2, rng=1, progress=False).draws) == 2
    y = fit.simulate(2, rng=1)[1]
    k = y.groupby([long["herd"], long["period"]], observed=True).sum()
    draw = fit.bootstrap(2, rng=1, progress=False).draws.loc[1]
    grouped = data.set_index(["herd", "period"]).assign(k=k).reset_index()
    expected = mfx.glmer("prop(k, size) ~ period + (1 | herd)", grouped)
    np.testing.assert_allclose(draw[expected.params.index], expected.params, rtol=1e-3)


def test_a_statistic_is_of_the_complete_fit():
    fit = generalized_fit("cbpp_cloglog__laplace")
    plain = fit.bootstrap(2, rng=3, progress=False)
    of_fit = fit.bootstrap(2, rng=3, progress=False, statistic=lambda again: again.params)
    np.testing.assert_allclose(of_fit.draws, plain.draws[fit.params.index], atol=1e-4)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_a_constant_response_is_a_failure_that_is_counted():
    data = pd.DataFrame({"y": [0.0, 1.0] * 2, "g": [1, 1, 2, 2]})
    fit = mfx.glmer("y ~ 1 + (1 | g)", data)
    bootstrap = fit.bootstrap(25, rng=1, progress=False)
    y = fit.simulate(25, rng=1)
    constant = (y.min() == y.max()).sum()
    assert constant > 0
    assert sum(f.kind == "ResponseError" for f in bootstrap.failures) == constant


@pytest.mark.full
def test_intervals_are_those_of_the_draws():
    fit = generalized_fit("cbpp_cloglog__laplace")
    draws = fit.bootstrap(10, rng=3, progress=False).draws
    limits = fit.conf_int(method="bootstrap", n=10, rng=3, parm="sd(Intercept | herd)")
    expected = draws["sd(Intercept | herd)"].quantile([0.025, 0.975])
    np.testing.assert_allclose(limits.to_numpy()[0], expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_intervals_cover_the_truth(family):
    """Of 200 data sets, 95% Wald and percentile intervals of a slope cover it."""
    rng = np.random.default_rng(42)
    n, truth, wald, bootstrapped = 200, 0.4, 0, 0
    g = np.repeat(np.arange(20), 10)
    for _ in range(200):
        x = rng.normal(size=n)
        eta = -0.5 + truth * x + 0.7 * rng.normal(size=20)[g]
        draws = {
            "poisson": lambda eta: rng.poisson(np.exp(eta)),
            "binomial": lambda eta: rng.binomial(1, 1 / (1 + np.exp(-eta))),
        }
        y = draws[family](eta)
        fit = mfx.glmer("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), family=family)
        low, high = fit.conf_int().loc["x"]
        wald += low <= truth <= high
        low, high = fit.conf_int(method="bootstrap", n=100, rng=1, parm="x").loc["x"]
        bootstrapped += low <= truth <= high
    # Binomial limits of 200 trials of 0.95 that hold with 0.999; percentiles of 100 draws are
    # short of their level by two points.
    assert wald >= 178
    assert bootstrapped >= 172
