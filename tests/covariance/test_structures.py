"""The structures of levels and of coordinates: definitions, derivatives, and what is reported.

Source of truth: each correlation written out from its definition, and differences.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from mixedfx.covariance.components import Positions
from mixedfx.covariance.registry import STRUCTURES

NAMES = [name for name in STRUCTURES if name not in ("us", "diag")]
LEVELS = {
    "contiguous": [0, 1, 2, 3, 4],
    "gaps": [1, 2, 4, 9],
    "weeks": [0, 12, 24, 60],
    "two": [3, 7],
    "one": [2],
}
POINTS = {
    "line": np.array([[0.3], [1.7], [2.0], [4.4], [9.1]]),
    "plane": np.array([[0.0, 1.0], [2.5, 3.0], [0.4, 4.0], [3.1, 0.2]]),
    "one": np.array([[1.5]]),
}


def positions_of(structure):
    if structure.design != "coordinates":
        return {k: Positions(len(v), np.array(v, float)[:, None]) for k, v in LEVELS.items()}
    points = {k: v for k, v in POINTS.items() if v.shape[1] <= structure.max_coordinates}
    return {k: Positions(len(v), v) for k, v in points.items()}


CASES = [(name, at) for name in NAMES for at in positions_of(STRUCTURES[name])]


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    name, key = request.param
    structure, rng = STRUCTURES[name], np.random.default_rng(5)
    at = positions_of(structure)[key]
    params = structure.generic_params(at)
    return structure, at, params + 0.1 * rng.normal(size=len(params))


def differences(function, x, step=1e-6):
    moves = step * np.eye(len(x))
    found = [(function(x + h) - function(x - h)) / (2.0 * step) for h in moves]
    return np.array(found).reshape(len(x), *np.shape(function(x)))


def test_the_factor_is_lower_triangular_and_that_of_the_covariance(case):
    structure, at, params = case
    factor = structure.factor(params, at)
    assert not np.triu(factor, 1).any()
    np.testing.assert_allclose(factor @ factor.T, structure.covariance(params, at), atol=1e-12)


def test_the_derivatives_of_factor_and_covariance_are_those_of_differences(case):
    structure, at, params = case
    for value, by_params in (
        (structure.factor, structure.factor_jacobian),
        (structure.covariance, structure.covariance_jacobian),
    ):
        expected = differences(lambda x, value=value: value(x, at), params)
        np.testing.assert_allclose(by_params(params, at), expected, atol=2e-7)


@pytest.mark.parametrize("name", ["us", "diag", "homdiag", "csh", "ar1", "ou"])
def test_the_curvature_along_a_matrix_is_that_of_differences(name):
    structure, rng = STRUCTURES[name], np.random.default_rng(8)
    at = positions_of(structure)["line" if structure.design == "coordinates" else "contiguous"]
    params = structure.generic_params(at)
    B = rng.normal(size=(at.k, at.k))
    B += B.T
    expected = differences(
        lambda x: np.tensordot(structure.covariance_jacobian(x, at), B, axes=2), params
    )
    found = structure.covariance_curvature(params, at, B)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_derivatives_by_variances_and_correlations_are_those_of_differences(case):
    structure, at, params = case
    J = structure.natural_jacobian(params, at)
    natural = differences(lambda x: structure.natural(x, at)[1], params).T
    np.testing.assert_allclose(J, natural, atol=1e-7)
    first = np.tensordot(J.T, structure.covariance_jacobian_natural(params, at), axes=1)
    np.testing.assert_allclose(first, structure.covariance_jacobian(params, at), atol=1e-9)
    second = np.einsum("ma,mnij->anij", J, structure.covariance_hessian_natural(params, at))
    expected = differences(lambda x: structure.covariance_jacobian_natural(x, at), params, 1e-4)
    np.testing.assert_allclose(second, expected, atol=2e-6)


def test_the_parameters_of_a_factor_are_found_again(case):
    structure, at, params = case
    back = structure.params_of_factor(structure.factor(params, at), at)
    np.testing.assert_allclose(back, params, rtol=1e-7, atol=1e-7)


def test_all_positions_of_one_effect_have_one_parameter():
    at = Positions(1)
    assert {name: STRUCTURES[name].size(at) for name in NAMES} == dict.fromkeys(NAMES, 1)


def definition(name, d, c):
    """The correlation at distance, or lag, d."""
    if name.startswith("cs"):
        return np.where(d == 0.0, 1.0, c[0])
    if name.startswith("ar1"):
        return c[0] ** d
    if name == "ou":
        return np.exp(-c[0] * d)
    if name == "exp":
        return np.exp(-d / c[0])
    if name == "gau":
        return np.exp(-((d / c[0]) ** 2))
    z = np.where(d == 0.0, 1.0, d / c[0])
    matern = 2.0 ** (1.0 - c[1]) / special.gamma(c[1]) * z ** c[1] * special.kv(c[1], z)
    return np.where(d == 0.0, 1.0, matern)


@pytest.mark.parametrize("name", ["cs", "csh", "ar1", "ar1h", "ou", "exp", "gau", "mat"])
def test_the_correlations_are_those_of_the_definition(name):
    structure = STRUCTURES[name]
    at = positions_of(structure)["gaps" if structure.design != "coordinates" else "line"]
    params = structure.generic_params(at)
    names, natural = structure.natural(params, at)
    n = len(structure.sds(at))
    d = np.abs(np.subtract.outer(at.points[:, 0], at.points[:, 0]))
    sds = np.sqrt(natural[:n]) * np.ones(at.k)
    expected = sds[:, None] * definition(name, d, natural[n:]) * sds
    np.testing.assert_allclose(structure.covariance(params, at), expected, rtol=1e-12)
    assert len(names) == len(natural)


def test_toeplitz_correlations_depend_on_the_lag_alone_and_any_parameters_are_a_covariance():
    structure, rng = STRUCTURES["toep"], np.random.default_rng(1)
    at = Positions(6)
    for _ in range(20):
        C = structure.covariance(np.append(1.0, 2.0 * rng.normal(size=5)), at)
        assert np.linalg.eigvalsh(C)[0] > -1e-12
        for lag in range(6):
            np.testing.assert_allclose(np.diag(C, lag), C[0, lag], atol=1e-12)


def test_partial_autocorrelations_of_an_autoregression_are_zero_after_the_first():
    structure, at = STRUCTURES["toep"], Positions(5)
    x = structure.nearest(0.6 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))), at)
    np.testing.assert_allclose(x, [1.0, np.arctanh(0.6), 0.0, 0.0, 0.0], atol=1e-12)


def test_antedependent_correlations_are_products_of_the_neighbours():
    structure, at = STRUCTURES["ad"], Positions(4)
    c = np.array([0.9, 0.2, -0.5])
    R = structure.correlation(c, at)
    assert R[0, 3] == pytest.approx(c.prod())
    assert R[1, 3] == pytest.approx(c[1] * c[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_standard_deviation_of_zero_is_a_covariance_of_zero(name):
    structure = STRUCTURES[name]
    at = next(iter(positions_of(structure).values()))
    params = structure.generic_params(at)
    params[list(structure.sds(at))] = 0.0
    assert not structure.factor(params, at).any()
    found = structure.components(structure.factor(params, at), at)
    assert all(c.value == 0.0 for c in found if c.kind == "sd")
    assert all(np.isnan(c.value) for c in found if c.kind != "sd")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("homdiag", ["sd"]),
        ("cs", ["sd", "corr"]),
        ("ar1", ["sd", "corr"]),
        ("toep", ["sd", "corr", "corr", "corr", "corr"]),
        ("ou", ["sd", "rate"]),
        ("exp", ["sd", "range"]),
        ("gau", ["sd", "range"]),
        ("mat", ["sd", "range", "smoothness"]),
    ],
)
def test_what_is_reported(name, kinds):
    structure = STRUCTURES[name]
    at = positions_of(structure)["contiguous" if structure.design != "coordinates" else "line"]
    found = structure.components(structure.factor(structure.generic_params(at), at), at)
    assert [c.kind for c in found] == kinds


@pytest.mark.parametrize("name", ["exp", "gau", "mat", "ou"])
def test_parameters_do_not_depend_on_the_unit_of_distance(name):
    structure, points = STRUCTURES[name], POINTS["line"]
    metres, kilometres = (Positions(len(points), points * unit) for unit in (1000.0, 1.0))
    x = structure.generic_params(kilometres)
    np.testing.assert_allclose(
        structure.covariance(x, metres), structure.covariance(x, kilometres), rtol=1e-12
    )


def test_a_smooth_field_at_many_near_points_has_a_factor():
    at = Positions(60, np.linspace(0.0, 1.0, 60)[:, None])
    factor = STRUCTURES["gau"].factor(np.array([1.0, 2.0]), at)
    assert np.isfinite(factor).all()


@pytest.mark.parametrize(
    ("name", "absorbs"), [("cs", True), ("toep", True), ("homdiag", True), ("ar1", False)]
)
def test_whether_the_residual_variance_is_within_the_family(name, absorbs):
    assert STRUCTURES[name].absorbs_residual(4) is absorbs
