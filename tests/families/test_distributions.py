"""Means, variances, deviances and draws of the families, and families of statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from families.family_cases import CASES, distribution

from mixedfx.families import resolve_family
from mixedfx.families import statsmodels as bridge

OF_GLM = {*bridge.FAMILIES, "nbinom1"}
REGULAR = [c for c in CASES if not set(c.params) & {1e-8, 1e4}]


def _is_costly(case) -> bool:
    """Weighted, of a link that is not the family's own: draws depend on the mean alone."""
    return case.weighted and case.family.link.name != case.family.links[0]


TWENTY_THOUSAND_ROWS = [
    pytest.param(c, marks=pytest.mark.full) if _is_costly(c) else c for c in REGULAR
]


@pytest.mark.parametrize("case", [c for c in CASES if 1e-8 not in c.params], ids=str)
def test_probabilities_below_and_up_to_the_response(case):
    y = np.rint(case.y * case.w) if case.family.takes_trials and case.w is not None else case.y
    below, up_to = case.family.cdf(case.y, case.mu, case.w, case.params)
    of_scipy = distribution(case)
    before = y - 1.0 if case.family.discrete else y
    expected = of_scipy.cdf(before)
    if case.family.name == "tweedie":
        expected = np.where(y > 0.0, expected, 0.0)
    np.testing.assert_allclose(below, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(up_to, of_scipy.cdf(y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c.family.name[:2] == "nb"], ids=str)
def test_probabilities_of_counts_are_sums_of_the_density(case):
    # SciPy's own keep half of their digits where alpha is small.
    family, y = case.family, np.arange(30.0)
    for eta in (-1.0, 1.3):
        etas = np.full(30, eta)
        density = family.derivatives(y, None, etas, case.params).value + family.constants(y, None)
        below, up_to = family.cdf(y, np.exp(etas), None, case.params)
        total = np.cumsum(np.exp(density))
        np.testing.assert_allclose(up_to, total, rtol=1e-11)
        np.testing.assert_allclose(below, np.concatenate([[0.0], total[:-1]]), rtol=1e-11)


@pytest.mark.cases(1)
@pytest.mark.parametrize("case", TWENTY_THOUSAND_ROWS, ids=str)
def test_draws_have_the_mean_and_the_variance(case):
    family, n = case.family, 20_000
    mu, w = np.tile(case.mu, (n, 1)), None if case.w is None else np.tile(case.w, (n, 1))
    draws = family.simulate(mu, w, case.params, np.random.default_rng(1))
    mean = family.response_mean(case.eta, case.params)
    of_counts = (family.discrete or family.name == "beta") and not family.takes_trials
    variance = family.variance(case.mu, None if of_counts else case.w, case.params)
    errors = (draws.mean(axis=0) - mean) / np.sqrt(variance / n)
    assert np.abs(errors).max() < 4.5
    np.testing.assert_allclose(np.mean(draws.var(axis=0) / variance), 1.0, atol=0.05)
    assert not family.outside(draws[0], None if of_counts else case.w).any()


OF_FIRST_LINKS = [c for c in REGULAR if c.family.link.name == c.family.links[0]]


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "case", [c for c in OF_FIRST_LINKS if len(c.params) and not c.weighted], ids=str
)
def test_parameters_by_moments_are_near(case):
    family, mu = case.family, np.repeat(case.mu, 20_000)
    w = np.full(len(mu), 200.0) if family.takes_trials else None
    y = family.simulate(mu, w, case.params, np.random.default_rng(3))
    found = family.starting_params(y, w, mu)
    if family.name == "truncated_nbinom2":  # where a search begins, whatever the response
        return
    if family.name == "tweedie":  # phi alone, at a power of 1.5
        assert 0.5 < found[0] / case.params[0] < 2.0
        return
    if family.name == "student":  # sigma alone, by a quantile that depends on df a little
        assert 0.2 < found[0] / case.params[0] < 2.0
        return
    np.testing.assert_allclose(found, case.params, rtol=0.1, atol=0.01)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_starting_means_have_a_linear_predictor(case):
    mu = case.family.starting_mean(case.y, case.w)
    eta = case.family.link.link(mu)
    assert np.isfinite(eta).all()
    assert np.isfinite(case.family.derivatives(case.y, case.w, eta, case.params).value).all()


@pytest.mark.parametrize("case", [c for c in REGULAR if c.family.name in OF_GLM], ids=str)
def test_mean_variance_and_deviance_are_those_of_statsmodels(case):
    theirs = case.family.statsmodels_family(case.params)
    np.testing.assert_allclose(case.mu, theirs.fitted(case.eta), rtol=1e-12)
    if case.family.name == "nbinom1":  # has none of its own there
        np.testing.assert_allclose(
            case.family.variance(case.mu, None, case.params),
            theirs.variance(case.mu) * (1.0 + case.params[0]),
        )
        return
    scale = 1.0
    if case.params.size and case.family.name != "nbinom2":
        scale = case.params[0] ** case.family.power
    np.testing.assert_allclose(
        case.family.variance(case.mu, None, case.params), scale * theirs.variance(case.mu)
    )
    w = np.ones(24) if case.w is None else case.w
    y = case.y if case.family.name == "binomial" else np.maximum(case.y, 0.2)
    deviance = case.family.unit_deviance(y, case.mu, case.w, case.params).sum()
    np.testing.assert_allclose(deviance, theirs.deviance(y, case.mu, var_weights=w), rtol=1e-9)


@pytest.mark.parametrize("name", ["nbinom1", "nbinom2"])
def test_a_deviance_is_zero_at_the_response_and_positive_elsewhere(name):
    family, y = resolve_family(name), np.array([1.0, 7.0, 300.0])
    params = np.array([0.6])
    np.testing.assert_allclose(family.unit_deviance(y, y, None, params), 0.0, atol=1e-12)
    assert (family.unit_deviance(y, 1.3 * y, None, params) > 0).all()


@pytest.mark.parametrize("name", ["gaussian", "gamma", "inverse_gaussian"])
def test_twice_the_fall_of_the_log_density_is_the_deviance_over_the_scale(name):
    family = resolve_family(name, "log")
    y, params, mu = np.array([0.3, 2.0]), np.array([0.7]), np.array([0.5, 1.1])
    w = np.array([2.0, 3.0])
    fall = [family.derivatives(y, w, np.log(m), params).value for m in (y, mu)]
    deviance = family.unit_deviance(y, mu, w, params) / 0.7**family.power
    np.testing.assert_allclose(2.0 * (fall[0] - fall[1]), deviance, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(OF_GLM))
def test_statsmodels_fits_each_of_its_families(name):
    family = resolve_family(name)
    rng = np.random.default_rng(5)
    X = sm.add_constant(rng.standard_normal(400))
    params = np.full(len(family.param_names), 0.3)
    y = family.simulate(family.mean(X @ [0.3, 0.5]), None, params, rng)
    fitted = sm.GLM(y, X, family=family.statsmodels_family(params)).fit()
    np.testing.assert_allclose(fitted.params, [0.3, 0.5], atol=0.35)


@pytest.mark.parametrize(
    ("name", "w"), [("beta", None), ("betabinomial", np.array([4.0, 10.0, 3.0, 50.0]))]
)
def test_a_beta_deviance_is_twice_what_the_largest_log_density_is_above(name, w):
    # The largest over a grid of logits, to the square of the grid's width.
    family, y, params = resolve_family(name), np.array([0.25, 0.9, 1 / 3, 0.04]), np.array([6.0])
    logits = np.linspace(-12.0, 12.0, 2401)[:, np.newaxis] + np.zeros(4)
    best = family.derivatives(y, w, logits, params).value.max(axis=0)
    eta = np.array([0.3, -1.0, 2.0, -3.5])
    expected = 2.0 * (best - family.derivatives(y, w, eta, params).value)
    deviance = family.unit_deviance(y, family.mean(eta), w, params)
    np.testing.assert_allclose(deviance, expected, atol=1e-3)
    assert (deviance >= expected - 1e-12).all()


def test_limits_of_the_beta_binomial_and_of_student_s_t():
    y, eta, w = np.array([0.2, 0.6]), np.array([-0.4, 0.3]), np.array([5.0, 10.0])
    wide = resolve_family("betabinomial").derivatives(y, w, eta, np.array([1e10]), third=True)
    binomial = resolve_family("binomial").derivatives(y, w, eta, np.empty(0), third=True)
    for one, other in zip(wide, binomial, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-8)
    t = resolve_family("student").derivatives(y, w, eta, np.array([0.7, 1e10]), third=True)
    normal = resolve_family("gaussian").derivatives(y, w, eta, np.array([0.7]), third=True)
    for one, other in zip(t, normal, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("nbinom2", [1e-7], [True]),
        ("nbinom2", [1e7], [False]),
        ("betabinomial", [1e-7], [False]),
        ("betabinomial", [1e7], [True]),
        ("student", [1e-7, 1e7], [False, True]),
        ("gaussian", [1e-7], [False]),
        ("gamma", [1e-7], [False]),
        ("beta", [1e7], [False]),
    ],
)
def test_a_family_with_a_limit_knows_when_it_is_there(name, params, expected):
    assert resolve_family(name).at_limit(np.array(params)).tolist() == expected


@pytest.mark.parametrize("case", [c for c in REGULAR if c.family.truncated], ids=str)
def test_a_mean_of_positive_counts_and_its_slopes_are_those_of_the_density(case):
    family, y = case.family, np.arange(1.0, 3000.0)
    for eta in (-3.0, 0.2, 2.0):

        def mean(at):
            density = family.derivatives(y, None, np.full_like(y, at), case.params).value
            return float(y @ np.exp(density + family.constants(y, None)))

        at = np.array([eta])
        if case.params.size and case.params[0] > 2.0:
            continue  # the sum would need more terms
        found = family.response_mean(at, case.params)[0]
        assert found == pytest.approx(mean(eta), rel=1e-9)
        slope = (mean(eta + 1e-4) - mean(eta - 1e-4)) / 2e-4
        assert family.response_mean_derivatives(at, case.params)[0][0] == pytest.approx(
            slope, rel=1e-6
        )
        assert family.predictor_of_mean(np.array([found]), case.params)[0] == pytest.approx(eta)
