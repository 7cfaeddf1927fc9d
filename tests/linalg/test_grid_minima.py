"""Local minima on a grid: those of functions whose minima are known."""

from __future__ import annotations

import numpy as np
import pytest

from mixedfx.linalg.grid_minima import minima_on_grid

AXIS = np.linspace(-2.0, 2.0, 9)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_the_minimum_of_a_paraboloid_is_found_to_the_step_of_the_grid(dimensions):
    centre = np.linspace(-0.9, 0.7, dimensions)
    (found,) = minima_on_grid(lambda x: ((x - centre) ** 2).sum(axis=1), AXIS, dimensions, near=1.0)
    assert np.abs(found.point - centre).max() <= 0.5 * found.step + 1e-12
    assert found.value == pytest.approx(((found.point - centre) ** 2).sum())
    assert found.step == (0.25 if dimensions in (2, 3) else 0.5)


def test_all_minima_are_found_and_points_without_value_are_left_out():
    def wells(x):
        values = np.minimum(((x - 1.0) ** 2).sum(axis=1), 0.5 + ((x + 1.5) ** 2).sum(axis=1))
        return np.where(x[:, 0] > 1.9, np.inf, values)

    found = sorted(minima_on_grid(wells, AXIS, 2, near=0.2), key=lambda m: m.value)
    assert [m.point.tolist() for m in found] == [[1.0, 1.0], [-1.5, -1.5]]
    assert [m.step for m in found] == [0.25, 0.5]


def test_a_minimum_between_the_points_is_seen_on_the_finer_grid():
    def wells(x):
        narrow = 1.0 - 1.2 * np.exp(-30.0 * ((x - 0.25) ** 2).sum(axis=1))
        return narrow + 0.1 * np.abs(x + 1.0).sum(axis=1)

    coarse = minima_on_grid(wells, AXIS, 2, near=0.0)
    fine = minima_on_grid(wells, AXIS, 2, near=1.0)
    assert min(m.value for m in fine) < min(m.value for m in coarse) - 0.2


def test_nothing_is_found_where_no_value_is_finite():
    assert minima_on_grid(lambda x: np.full(len(x), np.inf), AXIS, 2, near=1.0) == []


def test_the_vertex_of_a_separable_parabola_is_its_minimum():
    # Between the points of the grid: 0.37 and -0.21, both in the interior.
    axis = np.linspace(-1.0, 1.0, 9)

    def parabola(points):
        return 3.0 * (points[:, 0] - 0.37) ** 2 + (points[:, 1] + 0.21) ** 2

    (found,) = minima_on_grid(parabola, axis, 2, near=4.0)
    np.testing.assert_allclose(found.vertex, [0.37, -0.21], rtol=1e-12)
    assert (np.abs(found.vertex - found.point) <= 0.5 * found.step).all()
