"""Searches for other responses of the same rows, which start one Newton step from an optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.estimation.known_optimum import KnownOptimum
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.likelihood.score import response_directions

N, A, B = 4000, 800, 400


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"a": rng.integers(A, size=N), "b": rng.integers(B, size=N)})
    data["x"] = rng.standard_normal(N)
    effects = 0.7 * rng.standard_normal(A)[data["a"]] + 0.5 * rng.standard_normal(B)[data["b"]]
    data["y"] = 1.0 + data["x"] + effects + rng.standard_normal(N)
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
def test_the_score_of_another_response_has_the_traces_of_the_first(fit, reml):
    first = fit.model.likelihood if reml else fit.model.likelihood.maximum_likelihood()
    optimum = KnownOptimum.of(first, fit.model.solution.factors)
    _, likelihood = another(fit)
    likelihood = likelihood if reml else likelihood.maximum_likelihood()
    function = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    solution = function.at(optimum.x)
    _, along = response_directions(solution, function.jacobians(optimum.x))
    np.testing.assert_allclose(
        optimum.traces - along / solution.sigma**2, function.score(optimum.x), rtol=1e-9
    )


def test_a_step_is_nearer_to_the_end_than_the_optimum_is(fit, optimum):
    design, likelihood = another(fit)
    end = estimate_theta(design, likelihood)
    near = optimum.theta_near(likelihood)
    assert np.abs(near / end.theta - 1.0).max() < 0.2 * np.abs(fit.theta / end.theta - 1.0).max()


@pytest.mark.full
def test_the_search_from_there_ends_at_the_same_optimum_sooner(fit, optimum):
    design, likelihood = another(fit)
    end = estimate_theta(design, likelihood)
    found = estimate_theta(design, likelihood, start=optimum.theta_near(likelihood))
    assert found.converged
    assert found.deviance == pytest.approx(end.deviance, abs=1e-8)
    assert found.evaluations < end.evaluations


@pytest.mark.full
def test_draws_of_a_bootstrap_are_fits_of_the_simulated_responses(fit):
    draws = fit.bootstrap(3, rng=5, progress=False).draws
    responses = fit.simulate(3, rng=5)
    for number, draw in draws.iterrows():
        refit = fit.refit(responses.iloc[:, number])
        np.testing.assert_allclose(draw[fit.params.index], refit.params, rtol=1e-6)
        np.testing.assert_allclose(draw["sigma"], refit.sigma, rtol=1e-6)


def test_beside_the_boundary_there_is_no_such_start(fit):
    factors = [np.array([[1e-3]]), *fit.model.solution.factors[1:]]
    assert KnownOptimum.of(fit.model.likelihood, factors) is None


def test_small_models_start_by_moments():
    small = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).model
    assert KnownOptimum.of(small.likelihood, small.solution.factors) is None
