"""The marginal likelihood against its dense definition, at random parameters of random designs.

Source of truth: ``dense_laplace`` and ``brute_force`` of tests/oracle.py, on SciPy's densities.
"""

from __future__ import annotations

import numpy as np
import pytest
from designs import Case, Factor
from generalized_designs import NARROW, PAIRS, GeneralizedCase, generalized_cases
from hypothesis import assume, given
from oracle import brute_force, dense_laplace, slope
from tiers import examples

from mixedfx.likelihood.generalized.laplace_hessian import has_laplace_hessian, laplace_curvature


@pytest.mark.full
@examples(200)
@given(generalized_cases())
def test_laplace_deviance_and_modes_are_those_of_the_dense_definition(case):
    found = case.likelihood().at(case.point)
    expected = dense_laplace(case.design, case.lambdas, case.beta, case.params)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-8, abs=1e-8)
    effects = _by_term(case, found.modes.b)
    for ours, theirs in zip(effects, expected.effects, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8 * (1 + np.abs(theirs).max()))


def _by_term(case, by_group):
    """Effects of the formula's columns, (levels, k) of each term."""
    positions = zip(case.rows.term_positions, case.rows.bases, strict=True)
    return [basis.effects(by_group[at.group][at.columns]).T for at, basis in positions]


def _slopes(case, nagq, deviance):
    """Exact slope along a random direction of all parameters, and that of a definition."""
    coordinates, rows = case.coordinates, case.rows
    x = coordinates.vector(rows.parametrization.to_params(case.point.factors), case.point)
    direction = np.random.default_rng(case.case.seed).normal(size=len(x)) * case.spread
    at = case.likelihood(nagq).at(coordinates.point(x))
    found = coordinates.gradient(x, rows, at.gradient) @ direction
    along = slope(
        lambda t: deviance(*case.as_in_formula(coordinates.point(x + t[0] * direction))), [0.0]
    )
    return found, along[0]


@pytest.mark.full
@examples(60)
@given(generalized_cases(kinds=("ordinary",)))
def test_gradient_is_that_of_the_dense_definition(case):
    found, expected = _slopes(case, 1, lambda *at: dense_laplace(case.design, *at).deviance)
    assert found == pytest.approx(expected, rel=1e-6, abs=2e-6)


@pytest.mark.full
@examples(60)
@given(generalized_cases(kinds=("ordinary",)))
def test_gradient_with_the_hessian_is_the_gradient_and_the_hessian_that_of_differences(case):
    coordinates, rows, likelihood = case.coordinates, case.rows, case.likelihood()
    assume(has_laplace_hessian(rows, coordinates))
    x = coordinates.vector(rows.parametrization.to_params(case.point.factors), case.point)
    direction = np.random.default_rng(case.case.seed).normal(size=len(x))
    curvature = laplace_curvature(likelihood.at(coordinates.point(x)).modes, coordinates, x)
    found = curvature.hessian
    assume(np.isfinite(found).all())  # not where the link ends

    def gradient(t):
        moved = x + t * direction
        return coordinates.gradient(moved, rows, likelihood.at(coordinates.point(moved)).gradient)

    here = gradient(0.0)
    np.testing.assert_allclose(curvature.gradient, here, rtol=1e-8, atol=1e-8 * np.abs(here).max())
    step = 1e-5
    expected = (gradient(step) - gradient(-step)) / (2.0 * step)
    size = np.abs(found @ direction).max() + np.abs(np.diag(found)).max()
    np.testing.assert_allclose(found @ direction, expected, rtol=0, atol=2e-5 * size)


# Adaptive quadrature converges fast where every level's integrand is analytic and has normal tails:
# not across the end of the range of a link, which 30 nodes reach, nor with Cauchy's tails.
ROUGH = ("identity", "inverse", "sqrt", "cauchit")
SMOOTH = [pair for pair in PAIRS if pair[1] not in ROUGH and pair != ("binomial", "log")]
# A normal response's likelihood is flat where the logarithm of its mean goes to minus infinity.
FLAT = ("gaussian", "log")
CONVERGENT = [pair for pair in SMOOTH if pair != FLAT]


@pytest.mark.full
@examples(40)
@given(generalized_cases(kinds=("ordinary", "tiny"), terms=NARROW, pairs=tuple(CONVERGENT)))
def test_quadrature_converges_to_a_sum_over_a_grid(case):
    # The density of many counts is a few of 200 points wide.
    expected = brute_force(case.design, case.lambdas, case.beta, case.params, points=400)
    found = [case.likelihood(k).at(case.point).deviance for k in (1, 9, 30)]
    error = np.abs(np.array(found) - expected)
    assert error[2] <= 1e-6 * (1.0 + abs(expected))
    assert error[2] <= error[0] + 1e-8 * (1.0 + abs(expected))


def test_quadrature_of_a_likelihood_with_a_flat_side_converges_slowly():
    factor = Factor(levels=2, nested_in=None, terms=["1 |"])
    design = Case(
        rows=12,
        factors=[factor],
        fixed="1",
        weighted=False,
        has_offset=False,
        reml=False,
        theta_kind="ordinary",
        seed=2,
    )
    case = GeneralizedCase(case=design, pair=FLAT, rounded=False)
    expected = brute_force(case.design, case.lambdas, case.beta, case.params, points=800)
    found = [case.likelihood(k).at(case.point).deviance for k in (1, 9, 30, 100)]
    error = np.abs(np.array(found) - expected)
    assert (np.diff(error) < 0.0).all()
    assert error[-1] <= 1e-4


@pytest.mark.full
@examples(40)
@given(generalized_cases(kinds=("ordinary",), terms=NARROW, pairs=tuple(SMOOTH)))
def test_gradient_of_quadrature_is_that_of_its_deviance(case):
    def deviance(*at):
        factors, beta, params = at
        point = case.point_of(factors, beta, params)
        return case.likelihood(7).at(point).deviance

    found, expected = _slopes(case, 7, deviance)
    assert found == pytest.approx(expected, rel=1e-6, abs=2e-6)
