"""The likelihood object: its derivatives are those of its values.

Source of truth: fourth-order differences of the deviance, of the score and of cov(beta), on random
designs; ``tests/likelihood/test_pls.py`` holds the values against the dense definition.
"""

from __future__ import annotations

import numpy as np
import pytest
from designs import cases
from hypothesis import given

from mixedfx.covariance.parametrization import rank_reduced
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.differences import jacobian, relative_steps

INTERIOR = ["ordinary", "tiny"]


def likelihood_of(case):
    return GaussianLikelihood(case.crossprod, case.reml)


def scaled_of(case):
    likelihood = likelihood_of(case)
    coordinates = likelihood.parametrization.coordinates
    return ScaledLikelihood(likelihood, coordinates)


def assert_close(found, expected, digits):
    size = max(np.abs(expected).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * size)


@pytest.mark.full
@given(cases(kinds=INTERIOR))
def test_the_score_is_the_derivative_of_the_deviance(case):
    likelihood = likelihood_of(case)
    expected = jacobian(likelihood.deviance, case.theta, relative_steps(case.theta, 1e-3))
    assert_close(likelihood.score(case.theta), expected.reshape(-1), 1e-5)


@pytest.mark.full
@given(cases(kinds=INTERIOR))
def test_the_hessian_is_the_derivative_of_the_score(case):
    scaled, x = scaled_of(case), case.theta
    assert_close(scaled.hessian(x), jacobian(scaled.score, x, relative_steps(x, 2e-3)), 1e-4)


@pytest.mark.full
@given(cases(kinds=INTERIOR))
def test_the_derivatives_of_the_covariance_are_those_of_differences(case):
    scaled, x = scaled_of(case), case.theta

    def vcov(at):
        solution = scaled.at(at)
        return solution.sigma**2 * solution.vcov_unscaled

    expected = jacobian(vcov, x, relative_steps(x, 1e-3))
    assert_close(scaled.vcov_jacobian(x).matrix, expected, 1e-5)


@pytest.mark.full
@given(cases(kinds=["singular"]))
def test_derivatives_at_the_boundary_are_in_coordinates_of_the_rank(case):
    likelihood = likelihood_of(case)
    parametrization = likelihood.parametrization
    roots = [
        structure.full_rank_factor(lam, 1e-8)
        for (structure, _), lam in zip(
            parametrization.terms, parametrization.lambdas(case.theta), strict=True
        )
    ]
    coordinates, x = rank_reduced(parametrization, roots)
    scaled = ScaledLikelihood(likelihood, coordinates)
    assert scaled.at(x).deviance == pytest.approx(likelihood.deviance(case.theta), rel=1e-8)
    expected = jacobian(lambda at: scaled.at(at).deviance, x, relative_steps(x, 1e-3))
    assert_close(scaled.score(x), expected.reshape(-1), 1e-5)


@given(cases(kinds=INTERIOR))
def test_another_criterion_on_the_same_data(case):
    likelihood = likelihood_of(case)
    ml = likelihood.maximum_likelihood()
    assert ml.nu == likelihood.n
    assert likelihood.nu == likelihood.n - likelihood.p * case.reml
    assert ml.crossprod is likelihood.crossprod
