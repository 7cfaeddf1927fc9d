"""Deviances near a theta: reduced sums of squares, and the polynomial of what is left."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.likelihood.reduced_pwrss import ProjectedProducts, ReducedPwrss
from mixedfx.likelihood.response_free import ResponseFreePart


@pytest.fixture(scope="module")
def unbalanced():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"a": rng.integers(12, size=90), "b": rng.integers(8, size=90) ** 2 // 7})
    data["x"] = rng.standard_normal(90)
    data["y"] = rng.standard_normal(12)[data["a"]] + data["b"] / 2 + rng.standard_normal(90)
    return mfx.lmer("y ~ x + (1 | a) + (1 | b)", data, engine="profiled").model


def pwrss_at(fit, variances):
    return fit.likelihood.at_factors([np.array([[s**0.5]]) for s in variances]).pwrss


def reduced(fit, *, further):
    variances = np.array([F[0, 0] ** 2 for F in fit.solution.factors])
    products = ProjectedProducts.at(fit.solution)
    return ReducedPwrss.of(products, fit.solution, variances, further=further)


# Errors of the first order that is not exact: halving the distance divides them by 2**order.
@pytest.mark.parametrize(("further", "order"), [(False, 3), (True, 5)])
def test_a_reduced_sum_of_squares_is_exact_up_to_its_order(unbalanced, further, order):
    model = reduced(unbalanced, further=further)
    direction = np.array([0.1, -0.08]) * model.at

    def error(step):
        at = model.at + step * direction
        return abs(model.derivatives(at)[0] - pwrss_at(unbalanced, at))

    assert error(1.0) / error(0.5) > 0.8 * 2.0**order
    assert error(0.5) < 1e-2 * abs(pwrss_at(unbalanced, model.at + direction) - model.pwrss)


def test_its_derivatives_are_those_of_its_value(unbalanced):
    model = reduced(unbalanced, further=True)
    at, h = 1.1 * model.at, 1e-4 * model.at
    _, gradient, hessian = model.derivatives(at)
    for i, step in enumerate(np.diag(h)):
        above, below = model.derivatives(at + step), model.derivatives(at - step)
        assert gradient[i] == pytest.approx((above[0] - below[0]) / (2.0 * h[i]), rel=1e-6)
        np.testing.assert_allclose(hessian[i], (above[1] - below[1]) / (2.0 * h[i]), rtol=1e-6)


def cubic(t):
    """A polynomial, of degree 5 in one, 4 in two and 3 in three of its variables; its gradient."""
    a, b, c = t
    value = 7.0 + 2.0 * a - b + 3.0 * a * b + a**2 * c**2 + 0.5 * c**5 + b**3 * c - 4.0 * a * b * c
    gradient = [
        2.0 + 3.0 * b + 2.0 * a * c**2 - 4.0 * b * c,
        -1.0 + 3.0 * a + 3.0 * b**2 * c - 4.0 * a * c,
        2.0 * a**2 * c + 2.5 * c**4 + b**3 - 4.0 * a * b,
    ]
    return value, np.array(gradient)


def test_a_polynomial_is_interpolated_exactly():
    found = ResponseFreePart.of(cubic, np.array([0.2, 0.1, -0.3]), np.array([0.3, 0.2, 0.4]))
    for t in np.random.default_rng(1).normal(size=(3, 3)):
        value, gradient, hessian = found.derivatives(t)
        np.testing.assert_allclose(value, cubic(t)[0], rtol=1e-8)
        np.testing.assert_allclose(gradient, cubic(t)[1], rtol=1e-8)
        differences = [(cubic(t + e)[1] - cubic(t - e)[1]) / 2e-5 for e in 1e-5 * np.eye(3)]
        np.testing.assert_allclose(hessian, differences, rtol=1e-5, atol=1e-7)


def test_it_goes_through_a_value_and_gradient_that_are_given():
    found = ResponseFreePart.of(cubic, np.zeros(3), 0.1 * np.ones(3))
    t, gradient = np.array([0.3, -0.2, 0.1]), np.array([1.0, 2.0, 3.0])
    value, slope, _ = found.through(t, 5.0, gradient).derivatives(t)
    assert value == pytest.approx(5.0)
    np.testing.assert_allclose(slope, gradient)
