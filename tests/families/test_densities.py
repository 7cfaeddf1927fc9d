"""Log densities against SciPy's, and their derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from families.family_cases import CASES, distribution, family_with
from scipy import special

from mixedfx.families import FAMILIES, resolve_family
from mixedfx.families.thresholds import Flexible


def scipy_log_density(case):
    w = 1.0 if case.w is None else case.w
    if case.family.takes_trials:
        return distribution(case).logpmf(np.rint(case.y * w))
    if case.family.discrete:
        return w * distribution(case).logpmf(case.y)
    # Of a share the weight multiplies the log density, as of a count.
    return (w if case.family.name == "beta" else 1.0) * distribution(case).logpdf(case.y)


@pytest.mark.parametrize("case", [c for c in CASES if 1e-8 not in c.params], ids=str)
def test_value_and_constants_are_the_log_density_of_scipy(case):
    f = case.family
    log_density = f.derivatives(case.y, case.w, case.eta, case.params).value
    log_density = log_density + f.constants(case.y, case.w)
    np.testing.assert_allclose(log_density, scipy_log_density(case), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["nbinom2", "nbinom1"])
def test_with_a_small_alpha_counts_are_poisson(name):
    # The log densities differ by alpha ((y - mu)^2 - y) / 2, or that over mu, to first order.
    y, eta = np.array([0.0, 1.0, 4.0, 60.0]), np.array([-1.0, 0.3, 1.2, 4.0])
    alpha, mu = 1e-8, np.exp(eta)
    rows = resolve_family(name).derivatives(y, None, eta, np.array([alpha]), third=True)
    poisson = resolve_family("poisson").derivatives(y, None, eta, np.empty(0), third=True)
    first_order = alpha * ((y - mu) ** 2 - y) / 2.0 / (mu if name == "nbinom1" else 1.0)
    np.testing.assert_allclose(rows.value - poisson.value, first_order, atol=1e-13)
    for one, other in zip(rows[1:], poisson[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def differences(function, x, h=2e-3):
    """Derivatives by differences of order six; of arrays of shape (parts, n)."""
    steps = [(45.0, 1), (-9.0, 2), (1.0, 3)]
    return sum(c * (function(x + k * h) - function(x - k * h)) for c, k in steps) / (60.0 * h)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_by_eta_are_those_of_differences(case):
    def parts(eta):
        value, first, weight, _ = case.family.derivatives(case.y, case.w, eta, case.params)
        return np.array([value, first, -weight])

    _, first, weight, slope = case.family.derivatives(
        case.y, case.w, case.eta, case.params, third=True
    )
    found = differences(parts, case.eta)
    scale = 1.0 + np.abs(parts(case.eta)).max(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array([first, -weight, -slope]) / scale, found / scale, atol=1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if len(c.params)], ids=str)
def test_derivatives_by_coordinates_of_the_params_are_those_of_differences(case):
    exact = np.array(case.family.by_params(case.y, case.w, case.eta, case.params))
    at = case.family.coordinates(case.params)
    for i in range(len(at)):

        def parts(coordinate, i=i):
            params = case.family.natural(np.r_[at[:i], coordinate, at[i + 1 :]])
            return np.array(case.family.derivatives(case.y, case.w, case.eta, params)[:3])

        found = differences(parts, at[i])
        scale = 1.0 + np.abs(parts(at[i])).max(axis=1, keepdims=True)
        np.testing.assert_allclose(exact[:, i] / scale, found / scale, atol=1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if c.has_all_derivatives], ids=str)
def test_second_derivatives_by_the_params_are_those_of_differences(case):
    f, y, w, eta = case.family, case.y, case.w, case.eta
    known = f.all_derivatives(y, w, eta, case.params)
    rows = f.derivatives(y, w, eta, case.params, third=True)
    by_params = f.by_params(y, w, eta, case.params)
    for one, other in zip((*known.rows, *known.by_params), (*rows, *by_params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    at, rows = f.coordinates(case.params), np.random.default_rng(0).normal(size=(2, len(y)))
    exact = f.all_derivatives(y, w, eta, case.params)

    def sums(coordinates):
        by = f.by_params(y, w, eta, f.natural(coordinates))
        return -2.0 * by.value.sum(axis=-1) + by.first @ rows[0] + by.weight @ rows[1]

    unit = np.eye(len(at))
    twice = np.array([differences(lambda t, e=e: sums(at + t * e), 0.0) for e in unit])
    found = exact.by_two(-2.0, rows[0], rows[1])
    np.testing.assert_allclose(found, twice, rtol=1e-7, atol=1e-7 * np.abs(twice).max())

    def slope(eta):
        return f.derivatives(y, w, eta, case.params, third=True).weight_slope

    def weight(eta):
        return f.by_params(y, w, eta, case.params).weight

    scale = 1.0 + np.abs(exact.weight_curvature).max()
    assert np.abs(exact.weight_curvature - differences(slope, eta)).max() < 1e-7 * scale
    assert np.abs(exact.weight_slope - differences(weight, eta)).max() < 1e-7 * scale


@pytest.mark.parametrize("case", [c for c in CASES if c.is_log_concave], ids=str)
def test_log_concave_densities_have_no_negative_weight(case):
    for shift in (-30.0, -3.0, 0.0, 3.0, 30.0):
        rows = case.family.derivatives(case.y, case.w, case.eta + shift, case.params)
        assert (rows.weight >= 0.0).all()


@pytest.mark.parametrize("anchor", range(4))
def test_thresholds_about_each_have_the_jacobian_of_differences(anchor):
    thresholds, at = Flexible(anchor), np.array([0.3, -0.4, 0.8, 0.1])
    found = [
        differences(lambda v, i=i: thresholds.natural(np.r_[at[:i], v, at[i + 1 :]]), at[i])
        for i in range(4)
    ]
    np.testing.assert_allclose(
        thresholds.natural_jacobian(at), np.array(found).T, rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize("case", [c for c in CASES if len(c.params)], ids=str)
def test_coordinates_of_params_are_inverted_and_their_jacobian_is_that_of_differences(case):
    family = case.family
    at = family.coordinates(case.params)
    np.testing.assert_allclose(family.natural(at), case.params, rtol=1e-13)
    found = [
        differences(lambda v, i=i: family.natural(np.r_[at[:i], v, at[i + 1 :]]), at[i])
        for i in range(len(at))
    ]
    np.testing.assert_allclose(
        family.natural_jacobian(at), np.array(found).T, rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nodes_broadcast(case):
    nodes = np.stack([case.eta, 0.9 * case.eta])
    together = case.family.derivatives(case.y, case.w, nodes, case.params, third=True)
    by_params = case.family.by_params(case.y, case.w, nodes, case.params)
    for i in range(2):
        alone = case.family.derivatives(case.y, case.w, nodes[i], case.params, third=True)
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[i], other, rtol=1e-14)
        for one, other in zip(
            by_params, case.family.by_params(case.y, case.w, nodes[i], case.params), strict=True
        ):
            assert one.shape == (len(case.params), *nodes.shape)
            np.testing.assert_allclose(one[:, i], other, rtol=1e-14)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_linear_predictors_of_40_all_is_finite(name):
    for link in FAMILIES[name].links:
        family = family_with(FAMILIES[name], link)
        eta = np.array([-40.0, -40.0, 40.0, 40.0])
        if family.takes_trials and link == "log":
            eta = np.array([-40.0, -40.0, -1e-9, -1e-9])
        if link in ("sqrt", "identity", "inverse"):
            eta = np.abs(eta)
        y = np.tile([0.0, 1.0] if family.discrete else [0.5, 3.0], 2)
        y = np.tile([0.01, 0.99], 2) if name == "beta" else y
        y = np.array([1.0, 5.0, 3.0, 4.0]) if family.ordered else y
        for param in (1e-8, 1.0, 1e4) if family.param_names else (1.0,):
            params = np.full(len(family.param_names), param)
            if family.name == "tweedie":
                params = np.array([max(param, 1e-3), 1.5])
            if family.ordered:
                params = min(param, 50.0) * np.array([-1.0, 0.0, 1.0, 2.0])
            assert np.isfinite(family.derivatives(y, None, eta, params, third=True)).all()
            assert np.isfinite(family.by_params(y, None, eta, params)).all()


@pytest.mark.parametrize(
    ("name", "link", "eta"),
    [
        ("binomial", "log", 0.2),
        ("poisson", "sqrt", -0.1),
        ("poisson", "identity", -0.1),
        ("gamma", "identity", -1.0),
        ("gamma", "inverse", -1.0),
        ("inverse_gaussian", "inverse", 0.0),
        ("gaussian", "inverse", 0.0),
    ],
)
def test_outside_the_links_domain_the_log_density_is_minus_infinity(name, link, eta):
    family = resolve_family(name, link)
    inside = -0.5 if link == "log" else 0.5
    params = np.ones(len(family.param_names))
    rows = family.derivatives(np.ones(2), None, np.array([eta, inside]), params, third=True)
    assert rows.value[0] == -np.inf
    assert np.isfinite(rows.value[1])
    assert np.isfinite(rows[1:]).all()


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.mergeable])
def test_merged_rows_have_the_sums_of_their_rows(name):
    for link in FAMILIES[name].links:
        family = FAMILIES[name].with_link(link)
        w = np.array([2.0, 5.0, 3.0])
        y = np.array([0.5, 0.4, 1.0]) if name == "binomial" else np.array([0.0, 4.0, 3.0])
        eta = np.full(3, -0.6 if (name, link) == ("binomial", "log") else 0.6)
        rows = family.derivatives(y, w, eta, np.empty(0), third=True)
        merged = family.derivatives(
            np.array([w @ y / w.sum()]), np.array([w.sum()]), eta[:1], np.empty(0), third=True
        )
        for one, other in zip(merged, rows, strict=True):
            np.testing.assert_allclose(one, other.sum(), rtol=1e-13)


@pytest.mark.parametrize("link", FAMILIES["binomial"].links)
def test_k_of_n_is_its_trials(link):
    family = resolve_family("binomial", link)
    eta = np.array([-0.8])
    together = family.derivatives(np.array([0.6]), np.array([5.0]), eta, np.empty(0), third=True)
    alone = family.derivatives(
        np.array([1.0, 1.0, 1.0, 0.0, 0.0]), None, np.full(5, -0.8), np.empty(0), third=True
    )
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other.sum(), rtol=1e-13)
    np.testing.assert_allclose(
        family.constants(np.array([0.6]), np.array([5.0])), np.log(special.comb(5, 3))
    )
