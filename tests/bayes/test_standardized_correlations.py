"""Coordinates of correlations: a change of variables, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

import mixedfx as mfx
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.standardized_correlations import StandardizedCorrelations
from mixedfx.linalg.differences import jacobian

MODE = np.array([3.2, 1.8, 0.1, 3.2])  # log sds, atanh of the correlation, log sigma


@pytest.fixture(scope="module")
def target():
    data = mfx.datasets.load("sleepstudy")
    model = mfx.lmer("Reaction ~ Days + (Days | Subject)", data, engine="profiled").model
    posterior = LogPosterior(model.original_design, model.priors.for_sampling(model.spec))
    return StandardizedCorrelations.at_mode(posterior, MODE, 0.1 * np.eye(4))


@pytest.fixture(scope="module")
def points():
    return MODE + 0.7 * np.random.default_rng(1).normal(size=(5, 4))


def test_points_are_those_of_their_coordinates(target, points):
    np.testing.assert_allclose(target.points(target.coordinates(points)), points, rtol=1e-12)


def test_the_density_is_that_of_the_points_over_the_jacobian(target, points):
    def coordinates(z):
        return target.coordinates(z[None])[0]

    steps = np.full(4, 1e-4)
    log_det = [np.linalg.slogdet(jacobian(coordinates, z, steps))[1] for z in points]
    expected = target.posterior.log_densities(points) - log_det
    np.testing.assert_allclose(target.log_densities(target.coordinates(points)), expected)


def test_of_an_effect_that_does_not_vary_the_prior_gives_the_scale(target):
    """LKJ(1) of two effects: (1 - y**2) dz, of the curvature 2 in z at zero."""
    z = np.array([[3.2, -30.0, 1.3, 3.2]])
    assert target.coordinates(z)[0, 2] == pytest.approx(1.3 * np.sqrt(2.0))


def test_at_the_mode_the_scale_is_that_of_the_curvature(target):
    covariance = target.covariance(MODE, 0.1 * np.eye(4))
    p_of_curvature = 2.0 * (1.0 - 1.0 / np.cosh(MODE[2]) ** 2)
    by_sds = covariance[2, 2] - 0.1 * (10.0 + p_of_curvature)
    assert 0.0 <= by_sds < 0.1
