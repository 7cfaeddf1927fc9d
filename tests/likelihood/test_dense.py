"""Small models by dense matrices: deviances of many covariances at once, and exact derivatives.

Source of truth: the penalised least squares of ``tests/likelihood/test_pls.py`` at each point, and
differences of the score.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from tiers import examples

import mixedfx as mfx
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.design.build import build
from mixedfx.likelihood.dense import DenseCrossProducts
from mixedfx.likelihood.dense_point import DensePoint
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.differences import jacobian, relative_steps


def diagonal_factors(likelihood, sds):
    """One diagonal factor for each term, of its part of the standard deviations."""
    ends = np.cumsum(likelihood.parametrization.widths)
    return [np.diag(part) for part in np.split(sds, ends[:-1])]


@pytest.mark.full
@examples(60)
@given(cases())
def test_deviances_at_many_points_are_those_of_one_after_another(case):
    likelihood = GaussianLikelihood(case.crossprod, case.reml)
    rng = np.random.default_rng(case.seed)
    sds = 10.0 ** rng.uniform(-2.0, 2.0, (4, sum(likelihood.parametrization.widths)))
    found = DenseCrossProducts.of(case.crossprod).deviances(sds, reml=case.reml)
    expected = [likelihood.at_factors(diagonal_factors(likelihood, row)).deviance for row in sds]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-6)


@pytest.mark.full
@examples(30)
@given(cases())
def test_orthogonal_combinations_of_columns_rotate_the_factors(case):
    likelihood = GaussianLikelihood(case.crossprod, case.reml)
    rng = np.random.default_rng(case.seed)
    widths = likelihood.parametrization.widths
    bases = [np.linalg.qr(rng.normal(size=(k, k)))[0] for k in widths]
    sds = 10.0 ** rng.uniform(-1.0, 1.0, (1, sum(widths)))
    dense = DenseCrossProducts.of(case.crossprod).times(bases)
    diagonal = diagonal_factors(likelihood, sds[0])
    expected = likelihood.at_factors([Q @ F for Q, F in zip(bases, diagonal, strict=True)])
    found = dense.deviances(sds, reml=case.reml)[0]
    np.testing.assert_allclose(found, expected.deviance, rtol=1e-8, atol=1e-6)


def test_a_known_sigma_is_not_profiled_out():
    studies = pd.DataFrame({"y": [28.0, 8, -3, 7, -1, 1, 18, 12], "g": list("ABCDEFGH")})
    errors = [15.0, 10, 16, 11, 9, 11, 10, 18]  # Rubin (1981), J. Educ. Stat. 6:377, table 1
    design = build(mfx.parse("y ~ 1 + (1 | g)"), studies, residual_sd=errors)
    likelihood = GaussianLikelihood.from_design(design, reml=True)
    coordinates, x = likelihood.parametrization.coordinates, np.array([0.7])
    scaled = ScaledLikelihood(likelihood, coordinates)
    gradient, hessian = scaled.exact_derivatives(x)
    np.testing.assert_allclose(gradient, scaled.score(x), rtol=1e-10)
    np.testing.assert_allclose(hessian, jacobian(scaled.score, x, np.array([1e-3])), rtol=1e-8)
    found = DenseCrossProducts.of(likelihood.crossprod).deviances(x[None], reml=likelihood.reml)
    np.testing.assert_allclose(found, scaled.at(x).deviance, rtol=1e-12)


@examples(20)
@given(cases())
def test_one_dense_factor_has_the_deviance_and_the_score(case):
    likelihood = GaussianLikelihood(case.crossprod, case.reml)
    scaled = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    solution = scaled.at(case.theta)
    point = scaled.dense_point(case.theta)
    score = point.gradient(scaled.coordinates, case.theta)
    assert point.deviance == pytest.approx(solution.deviance, rel=1e-11, abs=1e-9)
    assert point.pwrss == pytest.approx(solution.pwrss, rel=1e-9)
    expected = scaled.score_at(case.theta, solution)
    size = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-9 * size)


@examples(20)
@given(cases())
def test_one_dense_factor_has_the_solution(case):
    likelihood = GaussianLikelihood(case.crossprod, case.reml)
    scaled = ScaledLikelihood(likelihood, likelihood.parametrization.coordinates)
    expected, found = scaled.at(case.theta), scaled.dense_point(case.theta).solution
    close = partial(np.testing.assert_allclose, rtol=1e-8)
    for name in ("deviance", "pwrss", "sigma"):
        close(getattr(found, name), getattr(expected, name))
    sds = expected.sigma * np.sqrt(np.diag(expected.vcov_in_basis))
    close(found.coef_vector[:-1], expected.coef_vector[:-1], atol=1e-8 * sds.max(initial=1e-30))
    close(found.vcov_in_basis, expected.vcov_in_basis, atol=1e-10 * (sds**2).max(initial=1e-30))
    size = np.abs(expected.schur.matrix).max()
    close(found.schur.matrix, expected.schur.matrix, atol=1e-9 * size)
    for own, other in zip(found.conditional_modes(), expected.conditional_modes(), strict=True):
        close(own, other, atol=1e-8 * max(np.abs(other).max(), 1e-30))


@pytest.mark.full
@examples(60)
@given(cases())
def test_derivatives_are_those_of_differences(case):
    likelihood = GaussianLikelihood(case.crossprod, case.reml)
    coordinates = likelihood.parametrization.coordinates
    scaled = ScaledLikelihood(likelihood, coordinates)
    gradient, hessian = scaled.exact_derivatives(case.theta)
    expected = jacobian(scaled.score, case.theta, relative_steps(case.theta, 1e-3))
    size = max(np.abs(expected).max(), 1e-2)
    np.testing.assert_allclose(hessian, expected, rtol=0, atol=1e-5 * size)
    np.testing.assert_allclose(gradient, scaled.score(case.theta), rtol=0, atol=1e-8 * size)


@pytest.mark.parametrize("reml", [True, False])
def test_pairs_of_levels_within_a_factor_are_in_the_dense_matrix(reml):
    """Correlated residuals of subjects whose rows are of several levels of a crossed factor."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(20), 5),
            "t": np.tile(np.arange(5), 20),
            "item": rng.integers(0, 6, 100),
            "y": rng.standard_normal(100),
        }
    )
    data["y"] += rng.standard_normal(6)[data["item"]]
    fit = mfx.lmer("y ~ t + (1 | item)", data, residual="ar1(t | id)", reml=reml)
    dense = DenseCrossProducts.of(fit.model.crossprod)
    assert fit.model.crossprod.ZtZ.pattern.within
    sds = np.array([[0.0], [0.3], [2.0]])
    found = dense.deviances(sds, reml=reml)
    likelihood = fit.model.likelihood
    expected = [likelihood.at_factors([s * np.eye(1)]).deviance for s in sds[:, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.fixture(scope="module")
def sleep_likelihood():
    design = build(mfx.parse("Reaction ~ Days + (Days | Subject)"), mfx.datasets.load("sleepstudy"))
    return GaussianLikelihood.from_design(design, reml=True)


def test_at_identities_nothing_is_multiplied(sleep_likelihood):
    dense, unit = sleep_likelihood.dense, [np.eye(2)]
    short = DensePoint.at_identity(dense, unit, reml=True)
    full = DensePoint.of(dense, unit, reml=True)
    assert short.deviance == full.deviance
    np.testing.assert_array_equal(short.half, full.half)


def test_second_derivatives_are_kept_for_the_point_and_coordinates_they_are_of(sleep_likelihood):
    coordinates = sleep_likelihood.parametrization.coordinates
    x = np.array([0.9, 0.1, 0.5])
    point = ScaledLikelihood(sleep_likelihood, coordinates).dense_point(x)
    first = point.hessian(coordinates, x)
    assert point.hessian(coordinates, x.copy()) is first
    (term,) = coordinates.terms
    fewer = Coordinates((term.without([(1, 0)]),))
    assert point.hessian(fewer, x[[0, 2]]).shape == (2, 2)
    np.testing.assert_array_equal(point.hessian(coordinates, x), first)
