"""Trust-region minimisation: minima of functions for which they are known.

Source of truth: Rosenbrock's and Powell's functions, quadratics, and a double well.
"""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.trust_region import ExactHessian, minimize


def rosenbrock(x):
    """Rosenbrock's function in any dimension: its minimum is 0, at ones."""
    a, b = x[:-1], x[1:]
    value = float((100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2).sum())
    gradient = np.zeros_like(x)
    gradient[:-1] = -400.0 * a * (b - a**2) - 2.0 * (1.0 - a)
    gradient[1:] += 200.0 * (b - a**2)
    return value, gradient


def powell(x):
    """Powell's function: its minimum is 0, at zeros, with a singular Hessian."""
    p, q, r, s = x[0] + 10 * x[1], x[2] - x[3], x[1] - 2 * x[2], x[0] - x[3]
    value = p**2 + 5 * q**2 + r**4 + 10 * s**4
    gradient = np.array(
        [
            2 * p + 40 * s**3,
            20 * p + 4 * r**3,
            10 * q - 8 * r**3,
            -10 * q - 40 * s**3,
        ]
    )
    return float(value), gradient


def double_well(x):
    """Minima -1 at (+-1, 0), and a saddle at zero."""
    value = (x[0] ** 2 - 1.0) ** 2 - 1.0 + x[1] ** 2
    return float(value), np.array([4.0 * x[0] * (x[0] ** 2 - 1.0), 2.0 * x[1]])


def minimized(function, start, *, tolerance=1e-12, max_evaluations=500, hessian=None):
    start = np.asarray(start, dtype=float)
    first = np.eye(len(start)) if hessian is None else hessian
    return minimize(
        function,
        start,
        initial_hessian=lambda: first,
        tolerance=tolerance,
        max_evaluations=max_evaluations,
    )


@pytest.mark.parametrize("start", [[-1.2, 1.0], [3.0, -4.0], [-1.2, 1.0, -1.2, 1.0, 0.5]])
def test_rosenbrocks_function_is_minimized(start):
    np.testing.assert_allclose(minimized(rosenbrock, start).x, 1.0, atol=1e-5)


@pytest.mark.parametrize("start", [[-1.2, 1.0], [3.0, -4.0], [-1.2, 1.0, -1.2, 1.0, 0.5]])
def test_rosenbrocks_function_takes_few_evaluations(start):
    # BFGS with a line search takes about 40 evaluations in two dimensions.
    assert minimized(rosenbrock, start).evaluations < 60 * (len(start) - 1)


def test_a_function_with_a_singular_hessian_is_minimized():
    assert minimized(powell, [3.0, -1.0, 0.0, 1.0]).value < 1e-8


def test_a_saddle_point_is_left():
    end = minimized(double_well, [1e-3, 1.0])
    np.testing.assert_allclose(np.abs(end.x), [1.0, 0.0], atol=1e-5)


def test_negative_curvature_is_followed_where_the_hessian_shows_it():
    # At the saddle itself the gradient is zero, and only the Hessian has a direction of descent.
    end = minimized(double_well, [0.0, 0.0], hessian=np.diag([-4.0, 2.0]))
    np.testing.assert_allclose(np.abs(end.x), [1.0, 0.0], atol=1e-5)


def test_a_quadratic_with_its_hessian_needs_one_step():
    H = np.array([[3.0, 1.0], [1.0, 2.0]])
    minimum = np.array([0.3, -0.2])
    end = minimized(
        lambda x: (float((x - minimum) @ H @ (x - minimum)) / 2, H @ (x - minimum)),
        [0, 0],
        hessian=H,
    )
    assert end.evaluations == 2
    np.testing.assert_allclose(end.x, minimum, atol=1e-12)


def test_the_step_is_shortened_where_the_function_is_infinite():
    # Defined for positive x only; the first step goes across.
    def barrier(x):
        if x[0] <= 0.0:
            return np.inf, np.zeros(1)
        return float(x[0] - np.log(x[0])), 1.0 - 1.0 / x

    end = minimized(barrier, [4.0], hessian=np.array([[0.1]]))
    np.testing.assert_allclose(end.x, 1.0, atol=1e-5)


def test_the_best_point_evaluated_is_returned():
    end = minimized(rosenbrock, [-1.2, 1.0], max_evaluations=15)
    assert end.value == min(end.trace)
    assert rosenbrock(end.x)[0] == end.value


def test_stopping_early_is_not_convergence():
    end = minimized(rosenbrock, [-1.2, 1.0], max_evaluations=15)
    assert (end.converged, end.evaluations) == (False, 15)


def test_a_start_at_the_minimum_converges_at_once():
    end = minimized(rosenbrock, [1.0, 1.0])
    assert (end.converged, end.evaluations) == (True, 1)


@pytest.mark.parametrize("curvature", [1.0, -1.0])
def test_a_radius_of_zero_ends_without_convergence(curvature):
    start = np.array([2.0, 2.0])
    end = minimize(
        double_well,
        start,
        initial_hessian=lambda: np.diag([curvature, 1.0]),
        tolerance=1e-12,
        max_evaluations=50,
        radius=0.0,
    )
    assert (end.converged, end.evaluations) == (False, 1)
    np.testing.assert_array_equal(end.x, start)


def test_an_exact_hessian_is_used_where_it_is_given():
    point = {}

    def recorded(x):
        point["x"] = x
        return rosenbrock(x)

    def exact():
        a, b = point["x"]
        return np.array([[1200 * a**2 - 400 * b + 2, -400 * a], [-400 * a, 200.0]])

    end = minimize(
        recorded,
        np.array([-1.2, 1.0]),
        initial_hessian=exact,
        hessian=exact,
        tolerance=1e-12,
        max_evaluations=500,
    )
    np.testing.assert_allclose(end.x, 1.0, atol=1e-6)
    assert end.evaluations < minimized(rosenbrock, [-1.2, 1.0]).evaluations


def newton_minimized(function, hessian, start):
    """Minimised with the exact Hessian at each point."""
    point = {}

    def recorded(x):
        point["x"] = x
        return function(x)

    def exact():
        return hessian(point["x"])

    return minimize(
        recorded,
        np.asarray(start, dtype=float),
        initial_hessian=exact,
        hessian=ExactHessian(exact),
        tolerance=1e-12,
        max_evaluations=500,
    )


def test_steps_do_not_update_an_exact_hessian():
    # Newton's method: the decrement is squared at each step, to that of rounding.
    def cosh(x):
        return float(np.cosh(x).sum()), np.sinh(x)

    end = newton_minimized(cosh, lambda x: np.diag(np.cosh(x)), [0.5, -0.3])
    assert (end.converged, end.evaluations) == (True, 4)
    np.testing.assert_allclose(end.x, 0.0, atol=1e-7)
    np.testing.assert_array_equal(end.hessian, np.diag(np.cosh(end.x)))


def test_a_function_that_is_constant_along_a_line_is_minimized_across_it():
    # Of x + y alone: one eigenvalue of the exact Hessian is zero.
    def along(x):
        t = x.sum() - 1.0
        return float(t**2 + t**4), np.full(2, 2.0 * t + 4.0 * t**3)

    def hessian(x):
        return np.full((2, 2), 2.0 + 12.0 * (x.sum() - 1.0) ** 2)

    end = newton_minimized(along, hessian, [3.0, 0.5])
    assert end.converged
    assert end.evaluations < 12
    assert end.x.sum() == pytest.approx(1.0, abs=1e-7)


def test_a_saddle_is_left_by_the_exact_hessian():
    def hessian(x):
        return np.diag([12.0 * x[0] ** 2 - 4.0, 2.0])

    end = newton_minimized(double_well, hessian, [0.0, 1.0])
    assert end.converged
    assert end.value == pytest.approx(-1.0, abs=1e-10)
