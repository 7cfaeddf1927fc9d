"""Log densities of several predictors against their definition, derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from families.test_densities import differences
from scipy import special

from mixedfx.families import resolve_family
from mixedfx.families.several_predictors import SeveralPredictors

COUNTS = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 40.0, 1.0, 0.0])
TRIALS = np.array([5.0, 8.0, 20.0, 3.0, 9.0, 9.0, 4.0, 7.0])
SUCCESSES = np.array([0.0, 3.0, 11.0, 0.0, 9.0, 4.0, 1.0, 0.0])
SHARES = np.array([0.02, 0.3, 0.7, 0.99, 0.5, 0.4, 0.1, 0.8])
PARAMS = {"nbinom1": [0.7], "nbinom2": [0.7], "truncated_nbinom2": [0.7], "student": [0.6, 5.0]}
PARAMS["tweedie"] = [0.7, 1.4]
WITH_ZEROS = ["poisson", "nbinom1", "nbinom2", "truncated_poisson", "truncated_nbinom2"]
CONTINUOUS = [
    *[("gamma", link) for link in ("log", "inverse", "identity")],
    *[("gaussian", link) for link in ("identity", "log")],
    *[("inverse_gaussian", "log"), ("student", "identity"), ("tweedie", "log")],
    *[("beta", link) for link in ("logit", "cloglog")],
]
CASES = [
    *[(name, "log", True, False) for name in WITH_ZEROS],
    *[(name, "log", True, True) for name in WITH_ZEROS if "nbinom" in name],
    *[(name, "log", False, True) for name in ("nbinom1", "nbinom2")],
    *[("binomial", "logit", True, False), ("betabinomial", "probit", True, True)],
    ("betabinomial", "logit", False, True),
    *[("tweedie", "log", True, dispersion) for dispersion in (False, True)],
    *[(name, link, False, True) for name, link in CONTINUOUS],
]


class Case:
    """A density, rows and predictors."""

    def __init__(self, name, link, zeros, dispersion, *, weighted):
        family = resolve_family(name, link)
        self.density = SeveralPredictors(family, zeros, dispersion)
        default = [0.4] * len(family.param_names)
        self.all_params = np.array(PARAMS.get(name, default))
        n_own = len(self.density.param_names)
        self.params = self.all_params[len(self.all_params) - n_own :]
        self.y = COUNTS if family.discrete else SHARES
        if family.has_zeros and not family.discrete:
            self.y = COUNTS / 3.0
        self.w = np.tile([1.0, 2.0, 3.0, 1.5], 2) if weighted else None
        if family.takes_trials:
            self.y, self.w = SUCCESSES / TRIALS, TRIALS
        rng = np.random.default_rng(4)
        self.eta = rng.normal(0.2, 0.7, (self.density.m, 8))
        if link in ("inverse", "identity") and name != "student":
            self.eta[0] = np.abs(self.eta[0]) + 0.3

    def at(self, eta=None, params=None, **options):
        eta, params = (self.eta if eta is None else eta), self.params if params is None else params
        return self.density.derivatives(self.y, self.w, eta, params, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "link", "zeros", "dispersion"), CASES)
def test_derivatives_are_those_of_differences(name, link, zeros, dispersion, weighted):
    case = Case(name, link, zeros, dispersion, weighted=weighted)
    exact = case.at(third=True)
    for k in range(case.density.m):

        def parts(shift, k=k):
            eta = case.eta.copy()
            eta[k] += shift
            at = case.at(eta)
            return np.concatenate([at.value[None], at.first, at.weight.reshape(-1, 8)])

        slopes = exact.weight_slope[:, :, k].reshape(-1, 8)
        expected = np.concatenate([exact.first[k][None], -exact.weight[k], slopes])
        scale = 1.0 + np.abs(expected).max()
        np.testing.assert_allclose(differences(parts, 0.0) / scale, expected / scale, atol=1e-8)


@pytest.mark.parametrize(("name", "link", "zeros", "dispersion"), CASES)
def test_derivatives_by_params_are_those_of_differences(name, link, zeros, dispersion):
    case = Case(name, link, zeros, dispersion, weighted=True)
    exact = case.density.by_params(case.y, case.w, case.eta, case.params)
    for j in range(len(case.params)):

        def parts(shift, j=j):
            coordinates = case.density.coordinates(case.params)
            coordinates[j] += shift
            at = case.at(params=case.density.natural(coordinates))
            return np.concatenate([at.value[None], at.first, at.weight.reshape(-1, 8)])

        expected = [exact.value[j][None], exact.first[j], exact.weight[j].reshape(-1, 8)]
        np.testing.assert_allclose(differences(parts, 0.0), np.concatenate(expected), atol=1e-7)


@pytest.mark.parametrize(("name", "link", "zeros", "dispersion"), CASES)
def test_the_value_is_the_mixture_s_log_density(name, link, zeros, dispersion):
    case = Case(name, link, zeros, dispersion, weighted=False)
    family, eta = case.density.family, case.eta
    for i in range(8):
        params = case.all_params.copy()
        if dispersion:
            params[family.param_names.index(family.dispersion_param)] = np.exp(eta[-1, i])
        y, w = case.y[i : i + 1], None if case.w is None else case.w[i : i + 1]
        positive = not (family.truncated and y[0] == 0.0)
        f = family.derivatives(y, w, eta[0, i : i + 1], params).value[0] if positive else -np.inf
        if zeros:
            p = special.expit(eta[1, i])
            f = np.log((y[0] == 0.0) * p + (1.0 - p) * np.exp(f))
        assert case.at().value[i] == pytest.approx(f, rel=1e-12)


def test_predictors_of_40_leave_all_finite():
    for name in WITH_ZEROS:
        density = SeveralPredictors(resolve_family(name), True, False)
        params = np.array([0.5] * len(density.param_names))
        etas = np.array(np.meshgrid([-40.0, 0.0, 40.0], [-40.0, 40.0])).reshape(2, -1)
        for y in (0.0, 1.0, 7.0):
            at = density.derivatives(np.full(6, y), None, etas, params, third=True)
            assert all(np.isfinite(part).all() for part in at)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", WITH_ZEROS)
def test_draws_have_the_mean_the_variance_and_the_distribution(name):
    density = SeveralPredictors(resolve_family(name), True, False)
    params, n = np.array([0.5] * len(density.param_names)), 200_000
    etas = np.array([[-0.4, 1.1], [-1.0, 0.3]])
    rng = np.random.default_rng(3)
    y = density.simulate(np.repeat(etas[:, None], n, axis=1), None, params, rng)
    mean, variance = density.mean(etas, params), density.variance(etas, None, params)
    assert np.abs((y.mean(axis=0) - mean) / np.sqrt(variance / n)).max() < 4.0
    np.testing.assert_allclose(y.var(axis=0), variance, rtol=0.03)
    for value in (0.0, 1.0, 3.0):
        below, up_to = density.cdf(np.full(2, value), etas, None, params)
        np.testing.assert_allclose(
            [(y < value).mean(axis=0), (y <= value).mean(axis=0)], [below, up_to], atol=0.006
        )


@pytest.mark.parametrize("name", ["truncated_nbinom2", "nbinom2"])
def test_slopes_of_the_mean_are_those_of_differences(name):
    density = SeveralPredictors(resolve_family(name), True, True)
    etas, none = np.array([[-0.4, 1.1], [-1.0, 0.3], [0.2, -0.8]]), np.empty(0)
    slopes = density.mean_slopes(etas, none)
    for k in range(3):

        def mean(shift, k=k):
            moved = etas.copy()
            moved[k] += shift
            return density.mean(moved, none)

        np.testing.assert_allclose(differences(mean, 0.0), slopes[k], atol=1e-9)
