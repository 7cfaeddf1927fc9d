"""Searches for other responses of the same rows, which start from an optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.estimation.known_optimum import KnownOptimum
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.inference.denominator_df import denominator_df
from mixedfx.inference.many_fits import ManyFits
from mixedfx.inference.profile.profiled_parameter import ProfiledOfLinear
from mixedfx.likelihood.scaled import ScaledLikelihood

N, A, B = 4000, 800, 400


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"a": rng.integers(A, size=N), "b": rng.integers(B, size=N)})
    data["x"] = rng.standard_normal(N)
    effects = 0.7 * rng.standard_normal(A)[data["a"]] + 0.5 * rng.standard_normal(B)[data["b"]]
    data["y"] = 1.0 + data["x"] + effects + rng.standard_normal(N)
    return data


@pytest.fixture(scope="module")
def fit(data):
    return mfx.lmer("y ~ x + (1 | a) + (1 | b)", data, engine="profiled")


@pytest.fixture(scope="module")
def optimum(fit):
    return KnownOptimum.of(fit.model.likelihood, fit.model.solution.factors)


def another(fit, seed=1):
    """Likelihood of a simulated response, and its design."""
    y = fit.simulate(1, rng=seed).iloc[:, 0].to_numpy()
    design = fit.model.design.with_response(y)
    return design, fit.model.likelihood.with_response(design.rows)


@pytest.mark.parametrize("reml", [True, False])
def test_the_deviance_of_another_response_is_known_without_its_factorisation(fit, reml):
    first = fit.model.likelihood if reml else fit.model.likelihood.maximum_likelihood()
    optimum = KnownOptimum.of(first, fit.model.solution.factors)
    _, likelihood = another(fit)
    likelihood = likelihood if reml else likelihood.maximum_likelihood()
    model = optimum.deviance_of(likelihood)
    function = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    for step in (0.0, np.array([0.02, -0.03])):
        x = np.exp(optimum.t + step)
        value, gradient, _ = model.derivatives(optimum.t + step)
        assert value == pytest.approx(function.at(x).deviance, abs=1e-6)
        np.testing.assert_allclose(gradient, function.score(x) * x, rtol=1e-6, atol=1e-5)


@pytest.mark.full
def test_its_hessian_is_that_of_the_deviance(fit, optimum):
    _, likelihood = another(fit)
    function = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    x = np.exp(optimum.t)
    _, gradient, hessian = optimum.deviance_of(likelihood).derivatives(optimum.t)
    by_x = (hessian - np.diag(gradient)) / np.outer(x, x)
    np.testing.assert_allclose(by_x, function.hessian(x), rtol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_the_search_from_there_ends_at_the_same_optimum_sooner(fit, optimum, seed):
    design, likelihood = another(fit, seed)
    end, found = estimate_theta(design, likelihood), optimum.estimate(likelihood, tolerance=1e-10)
    assert found.deviance == pytest.approx(end.deviance, abs=1e-8)
    np.testing.assert_allclose(found.theta, end.theta, rtol=1e-6)
    assert found.evaluations <= 2 < end.evaluations


@pytest.mark.full
def test_draws_of_a_bootstrap_are_fits_of_the_simulated_responses(fit):
    draws = fit.bootstrap(3, rng=5, progress=False).draws
    responses = fit.simulate(3, rng=5)
    for number, draw in draws.iterrows():
        refit = fit.refit(responses.iloc[:, number])
        np.testing.assert_allclose(draw[fit.params.index], refit.params, rtol=1e-6)
        np.testing.assert_allclose(draw["sigma"], refit.sigma, rtol=1e-6)


@pytest.mark.full
def test_many_fits_are_those_of_each_response(fit):
    """Degrees of freedom by the models' Hessian are within the tolerance beside R's, 1e-3."""
    model, Y = fit.model, fit.simulate(5, rng=6).to_numpy()
    many = ManyFits.of(model.design, Y, reml=True, method="satterthwaite")
    rows = np.eye(2)
    together = many.estimates(rows)
    for r in (1, 4):
        alone = many.fit(r)
        df = denominator_df(alone, "satterthwaite")
        np.testing.assert_allclose(together.estimate[:, r], alone.solution.beta, rtol=1e-7)
        np.testing.assert_allclose(together.variance[:, r], np.diag(df.cov), rtol=1e-6)
        np.testing.assert_allclose(together.df[:, r], [df.t_df(row) for row in rows], rtol=2e-4)


@pytest.mark.full
@pytest.mark.parametrize("term", ["x", "(1 | b)"])
def test_power_by_such_fits_is_that_by_others(fit, term, monkeypatch):
    options = {"n_sim": 2, "rng": 1, "df_method": "kenward-roger", "params": {"x": 0.04}}
    near = mfx.power(fit, term, **options)
    monkeypatch.setattr(KnownOptimum, "of", lambda *_: None)
    pd.testing.assert_frame_equal(near.table, mfx.power(fit, term, **options).table)


def test_a_response_without_one_of_the_effects_is_left_to_another_search(data, optimum, fit):
    rng = np.random.default_rng(4)
    y = rng.standard_normal(A)[data["a"]] + rng.standard_normal(N)
    design = fit.model.design.with_response(y)
    likelihood = fit.model.likelihood.with_response(design.rows)
    assert optimum.estimate(likelihood, tolerance=1e-10) is None


def test_beside_the_boundary_there_is_no_such_start(fit):
    factors = [np.array([[1e-3]]), *fit.model.solution.factors[1:]]
    assert KnownOptimum.of(fit.model.likelihood, factors) is None


def test_small_models_start_by_moments():
    small = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).model
    assert KnownOptimum.of(small.likelihood, small.solution.factors) is None


@pytest.mark.full
def test_a_profile_of_many_effects_needs_no_minima_from_elsewhere(fit, monkeypatch):
    near = fit.conf_int(method="profile", parm=["sd(Intercept | b)"])
    monkeypatch.setattr(ProfiledOfLinear, "may_have_other_minima", True)
    far = fit.conf_int(method="profile", parm=["sd(Intercept | b)"])
    np.testing.assert_allclose(near, far, rtol=1e-8)
