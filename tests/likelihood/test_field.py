"""One random term of many effects by covariances: the likelihood is that by factors.

Source of truth: the penalised least-squares solution, which is checked against the dense
definition elsewhere, and differences of the deviance.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from oracle import slope

from mixedfx.design.build import build
from mixedfx.estimation.starting_values import expected_hessian, floor_eigenvalues
from mixedfx.formula.parser import parse
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.likelihood.score import average_information


def table():
    """Rows at 40 points or more, some points twice, in two regions that share few of them."""
    rng, n = np.random.default_rng(3), 70
    return pd.DataFrame(
        {
            "lon": rng.integers(0, 12, n).astype(float),
            "lat": rng.integers(0, 6, n).astype(float),
            "day": rng.integers(0, 60, n),
            "g": rng.choice(["a", "b"], n),
            "x": rng.standard_normal(n),
            "w": 1.0 + rng.random(n),
            "y": rng.standard_normal(n),
        }
    )


TERMS = ["exp(lon + lat | 1)", "mat(lon + lat | g)", "ou(day | g)", "ar1(0 + day | g)"]
X = {3: np.array([0.7, 0.3, -0.2]), 2: np.array([0.7, 0.3])}
each_term = pytest.mark.parametrize("term", TERMS)
both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


def scaled_of(term, reml):
    design = build(parse(f"y ~ x + {term}"), table(), weights="w")
    likelihood = GaussianLikelihood.from_design(design, reml=reml)
    return ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)


@both_criteria
@each_term
def test_the_deviance_is_that_by_factors(term, reml):
    scaled = scaled_of(term, reml)
    x = X[scaled.coordinates.size]
    solution, found = scaled.at(x), scaled.field.at_params(x).criterion
    assert found.deviance == pytest.approx(solution.deviance, abs=1e-9)
    assert found.sigma == pytest.approx(solution.sigma, rel=1e-10)
    np.testing.assert_allclose(found.coef_vector, solution.coef_vector, rtol=1e-8)


@both_criteria
@each_term
def test_the_score_is_the_slope_of_the_deviance(term, reml):
    scaled = scaled_of(term, reml)
    x = X[scaled.coordinates.size]
    by_differences = slope(lambda at: scaled.at(at).deviance, x)
    np.testing.assert_allclose(scaled.field.at_params(x).score, by_differences, atol=1e-6)


@both_criteria
@each_term
def test_both_informations_are_those_by_factors(term, reml):
    scaled = scaled_of(term, reml)
    x = X[scaled.coordinates.size]
    crossprod, point = scaled.likelihood.crossprod, scaled.field.at_params(x)
    np.testing.assert_allclose(
        floor_eigenvalues(point.expected_hessian),
        expected_hessian(crossprod, scaled.coordinates, x),
        rtol=1e-6,
        atol=1e-8,
    )
    by_factors = average_information(scaled.at(x), scaled.jacobians(x))
    np.testing.assert_allclose(point.average_information, by_factors, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + (1 | g)", "y ~ x + exp(lon + lat | 1) + (1 | g)", "y ~ ar1(0 + lat | g)"],
    ids=["an intercept", "two terms", "few effects"],
)
def test_other_models_have_factors_alone(formula):
    likelihood = GaussianLikelihood.from_design(build(parse(formula), table()), reml=True)
    assert ScaledLikelihood(likelihood, likelihood.parametrization.coordinates).field is None


def test_a_residual_variance_of_nearly_nothing_keeps_the_digits_of_the_deviance():
    # Both forms agreed to 1e-6 alone where sigma is a thousandth of the effects' sd.
    data = table().drop_duplicates(["lon", "lat"])
    likelihood = GaussianLikelihood.from_design(
        build(parse("y ~ exp(lon + lat | 1)"), data), reml=True
    )
    scaled = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    x = np.array([1e3, -0.3])
    by_covariance = scaled.field.at_params(x).criterion.deviance
    assert scaled.at(x).deviance == pytest.approx(by_covariance, abs=1e-8)
