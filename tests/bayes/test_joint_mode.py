"""Priors of generalised models: the joint mode of coefficients, covariances and the family.

Sources of truth: -2 log posterior density written out here, the integral over each level's effect
by scipy, minimised without derivatives; the maximum likelihood fit where priors are flat;
differences of the objective for its gradient.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import mixedfx as mfx
from mixedfx.bayes.joint_mode import JointPosterior
from mixedfx.errors import ArgumentError, EngineRefusal, PriorError, SingularFitWarning
from mixedfx.linalg import differences
from mixedfx.priors import (
    LKJ,
    Constant,
    Exponential,
    Gamma,
    HalfNormal,
    HalfStudentT,
    Normal,
)

HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
PRIORS = {"fixed": Normal(0.2, 0.5), "Intercept": Normal(-1, 2), "sd": HalfStudentT(3, 0.4)}


@pytest.fixture(scope="module")
def herds():
    data = mfx.datasets.load("cbpp")
    return data.assign(period=data["period"].astype(str))


@pytest.fixture(scope="module")
def likelihood_fit(herds):
    return mfx.glmer(HERDS, herds)


@pytest.fixture(scope="module")
def counts():
    """Counts of 20 groups, overdispersed, with a slope that varies."""
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(20), 12), rng.normal(size=240)
    mu = np.exp(1.0 + 0.4 * x + 0.5 * rng.normal(size=20)[g] + 0.3 * rng.normal(size=20)[g] * x)
    return pd.DataFrame({"g": g, "x": x, "y": rng.poisson(mu * rng.gamma(4.0, 0.25, size=240))})


def minus_2_log_posterior(point, herds):
    """Of (coefficients, log sd) under PRIORS: a grid of 400 points for each herd's effect."""
    beta, sd = point[:4], np.exp(point[4])
    grid = np.linspace(-8.0, 8.0, 401)
    X = np.column_stack([np.ones(len(herds)), *(herds["period"] == p for p in "234")])
    p = 1.0 / (1.0 + np.exp(-(X @ beta)[:, None] - sd * grid))
    rows = stats.binom.logpmf(herds["incidence"].array[:, None], herds["size"].array[:, None], p)
    by_herd = pd.DataFrame(rows).groupby(herds["herd"].array).sum().to_numpy()
    step = grid[1] - grid[0]
    deviance = -2.0 * np.log((np.exp(by_herd) * stats.norm.pdf(grid)).sum(axis=1) * step).sum()
    prior = stats.norm.logpdf(beta[0], -1, 2) + stats.norm.logpdf(beta[1:], 0.2, 0.5).sum()
    return deviance - 2.0 * (prior + stats.t.logpdf(sd, 3, scale=0.4) + np.log(2.0))


@pytest.mark.full
def test_the_mode_is_that_of_the_density_written_out(herds):
    fit = mfx.glmer(HERDS, herds, priors=PRIORS, nagq=25)
    start = np.append(fit.params, np.log(fit.varcorr["sdcor"].iloc[0]))
    best = optimize.minimize(
        lambda point: minus_2_log_posterior(point, herds),
        start + 0.05,
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000, "maxfev": 4000},
    )
    np.testing.assert_allclose(start, best.x, atol=2e-5)


def test_flat_priors_give_the_maximum_likelihood_fit(herds, likelihood_fit):
    flat = mfx.glmer(HERDS, herds, priors={})
    assert flat.deviance == pytest.approx(likelihood_fit.deviance, abs=1e-8)
    np.testing.assert_allclose(flat.params, likelihood_fit.params, atol=1e-5)
    np.testing.assert_allclose(flat.bse, likelihood_fit.bse, rtol=1e-5)


CASES = {
    "coefficients": ("y ~ x + (1 | g)", {"fixed": Normal(0, 0.2)}, "poisson"),
    "correlated": ("y ~ x + (x | g)", {"corr": LKJ(2), "sd": Gamma(2, 1)}, "poisson"),
    "family": ("y ~ x + (x || g)", {"alpha": Exponential(5), "sd": HalfNormal(1)}, "nbinom2"),
    "constant": ("y ~ x + (1 | g)", {"x": Normal(0.5, 0), "alpha": Constant(0.3)}, "nbinom2"),
}


@pytest.fixture(scope="module")
def fits(counts):
    return {
        name: mfx.glmer(formula, counts, priors=priors, family=family)
        for name, (formula, priors, family) in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_differences(fits, name):
    model = fits[name].model
    posterior = JointPosterior.of(model.design, model.priors, 1)
    x = model.residual.x + 0.05
    numeric = differences.jacobian(lambda at: posterior(at)[0], x, np.full(len(x), 1e-3))
    np.testing.assert_allclose(posterior(x)[1], numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_mode_is_certified(fits, name):
    fit = fits[name]
    assert fit.converged
    assert fit.convergence.gradient < 1e-2
    assert np.isnan(fit.aic)
    assert fit.priors == CASES[name][1]


def test_constants_have_their_values_and_no_error(fits):
    fit = fits["constant"]
    assert fit.params["x"] == pytest.approx(0.5, abs=1e-12)
    assert fit.bse["x"] == pytest.approx(0.0, abs=1e-8)
    assert fit.model.residual.params[0] == pytest.approx(0.3, abs=1e-12)


def test_a_known_standard_deviation_gives_the_profiled_likelihood(herds, likelihood_fit):
    sd = likelihood_fit.varcorr["sdcor"].iloc[0]
    known = mfx.glmer(HERDS, herds, priors={"sd": Constant(sd)})
    by_theta = mfx.glmer(HERDS, herds, priors={"theta": Constant([sd])})
    assert known.deviance == pytest.approx(likelihood_fit.deviance, abs=1e-8)
    assert by_theta.deviance == pytest.approx(known.deviance, abs=1e-10)


@pytest.mark.full
def test_a_prior_high_at_zero_finds_the_mode_there(herds):
    with pytest.warns(SingularFitWarning, match="singular mode"):
        fit = mfx.glmer(HERDS, herds, priors={"sd": Exponential(100)})
    assert fit.varcorr["sdcor"].iloc[0] == 0.0
    assert fit.converged


def test_errors_come_from_the_curvature_of_the_posterior(herds):
    tight = mfx.glmer(HERDS, herds, priors={"period[T.2]": Normal(-1, 1e-3)})
    assert tight.bse["period[T.2]"] == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda fit: fit.sample(10), "normal residuals"),
        (lambda fit: fit.profile(), "without priors="),
    ],
)
def test_what_asks_the_likelihood_alone_is_refused_with_advice(fits, call, advice):
    with pytest.raises((ArgumentError, EngineRefusal), match=advice):
        call(fits["coefficients"])


def test_an_unknown_name_lists_the_family_parameters(counts):
    with pytest.raises(PriorError, match="'alpha'"):
        mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", priors={"sigma": HalfNormal(1)})


def test_a_family_parameter_takes_no_normal_prior(counts):
    with pytest.raises(PriorError, match="HalfNormal"):
        mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", priors={"alpha": Normal(0, 1)})


def test_the_fast_approximation_refuses_priors(herds):
    with pytest.raises(ArgumentError, match="leave nagq at 1"):
        mfx.glmer(HERDS, herds, priors={}, nagq=0)


def test_limits_of_predictions_have_the_covariance_of_the_mode(herds, likelihood_fit):
    flat = mfx.glmer(HERDS, herds, priors={})
    new = herds[["herd", "period"]].head(4)
    expected = likelihood_fit.predict(new, interval="confidence")
    np.testing.assert_allclose(flat.predict(new, interval="confidence"), expected, rtol=1e-4)
