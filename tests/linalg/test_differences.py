"""Central differences against analytic derivatives, and their order."""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.differences import jacobian, relative_steps

X = np.array([0.3, -1.2, 40.0])


def function(x):
    return np.array([[np.exp(x[0]) * x[1], np.sin(x[1])], [x[1] * x[2] ** 2, x[0] / x[2]]])


def analytic(x):
    e = np.exp(x[0])
    return np.array(
        [
            [[e * x[1], 0.0], [0.0, 1.0 / x[2]]],
            [[e, np.cos(x[1])], [x[2] ** 2, 0.0]],
            [[0.0, 0.0], [2.0 * x[1] * x[2], -x[0] / x[2] ** 2]],
        ]
    )


@pytest.mark.parametrize(("order", "error"), [(2, 1e-6), (4, 1e-11)])
def test_the_derivatives_are_the_analytic_ones(order, error):
    found = jacobian(function, X, relative_steps(X, 1e-3), order=order)
    np.testing.assert_allclose(found, analytic(X), rtol=error, atol=error)


@pytest.mark.parametrize("order", [2, 4])
def test_the_error_has_its_order_in_the_step(order):
    errors = [
        np.abs(jacobian(function, X, np.full(3, h), order=order) - analytic(X))[:2, 0].max()
        for h in (0.2, 0.1)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("order", "degree"), [(2, 2), (4, 4)])
def test_polynomials_are_differentiated_exactly(order, degree):
    found = jacobian(lambda x: x[0] ** degree, np.array([1.5]), np.array([0.5]), order=order)
    assert found == pytest.approx(degree * 1.5 ** (degree - 1), rel=1e-14)


def test_steps_grow_with_large_coordinates_only():
    np.testing.assert_array_equal(relative_steps(X, 0.5), [0.5, 0.6, 20.0])


def test_a_function_of_no_coordinates_is_not_evaluated():
    assert jacobian(lambda x: 1 / 0, np.zeros(0), np.zeros(0)).shape == (0, 0)
