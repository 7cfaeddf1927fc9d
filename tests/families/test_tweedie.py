"""Tweedie's series against all of its terms, recovery of parameters, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

import mixedfx as mfx
from mixedfx.errors import ArgumentError, PriorError, ResponseError
from mixedfx.families import resolve_family
from mixedfx.families.tweedie_series import log_series, poisson_gamma_cdf


def all_terms(y, phi, p, n=60_000):
    """Logarithm of the sum of the first n terms, and the mean term number."""
    nu, j = (2.0 - p) / (p - 1.0), np.arange(1.0, n + 1.0)
    rate = nu * np.log(y / (phi * (p - 1.0))) - np.log(phi * (2.0 - p))
    terms = j * rate - special.gammaln(j + 1.0) - special.gammaln(j * nu)
    total = special.logsumexp(terms)
    return total, float(np.sum(np.exp(terms - total) * j))


@pytest.mark.parametrize(
    ("y", "phi", "p"),
    [
        *[(1e-3, 1.0, 1.5), (5.0, 2.0, 1.05), (3.0, 0.5, 1.97), (30.0, 0.1, 1.5)],
        *[(100.0, 0.01, 1.5), (1000.0, 0.01, 1.3), (1.0, 1e-3, 1.9), (50.0, 0.05, 1.2)],
    ],
)
def test_the_series_has_the_sum_of_all_terms_also_where_some_are_left_out(y, phi, p):
    found = log_series(np.array([y]), np.array([phi]), p)
    total, mean = all_terms(y, phi, p)
    assert found.value[0] == pytest.approx(total, rel=1e-14, abs=1e-12)
    assert found.by_log_phi[0] == pytest.approx(-mean / (p - 1.0), rel=1e-11)
    h = 1e-4
    ends = [log_series(np.array([y]), np.array([phi]), p + k * h).value[0] for k in (-2, -1, 1, 2)]
    slope = np.dot([1.0, -8.0, 8.0, -1.0], ends) / (12.0 * h)
    assert found.by_power[0] == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_the_distribution_function_ends_at_one_and_begins_at_the_probability_of_zero():
    mu, phi = np.array([0.3, 4.0, 500.0]), np.array([1.5, 0.7, 0.02])
    at_zero = poisson_gamma_cdf(np.zeros(3), mu, phi, 1.6)
    np.testing.assert_allclose(at_zero, np.exp(-(mu**0.4) / (phi * 0.4)), rtol=1e-12)
    np.testing.assert_allclose(poisson_gamma_cdf(1e6 * mu, mu, phi, 1.6), 1.0, atol=1e-12)


@pytest.fixture(scope="module")
def catches():
    rng = np.random.default_rng(4)
    boats, n = 120, 1800
    boat = np.repeat(np.arange(boats), n // boats)
    x = rng.normal(size=n)
    mu = np.exp(0.4 + 0.5 * x + 0.6 * rng.normal(size=boats)[boat])
    y = resolve_family("tweedie").simulate(mu, None, np.array([1.4, 1.6]), rng)
    return pd.DataFrame({"y": y, "x": x, "boat": boat})


@pytest.mark.full
def test_simulated_catches_recover_the_parameters(catches):
    fit = mfx.glmer("y ~ x + (1 | boat)", catches, "tweedie")
    interval = fit.conf_int(parm=["phi", "power", "x"], conf_level=0.999)
    for name, value in {"phi": 1.4, "power": 1.6, "x": 0.5}.items():
        assert interval.loc[name].iloc[0] < value < interval.loc[name].iloc[1]
    assert 1.0 < interval.loc["power"].min() < interval.loc["power"].max() < 2.0
    assert fit.theta[0] == pytest.approx(0.6, abs=0.2)
    resid = fit.residuals("quantile", random="fitted", rng=1)
    assert np.isfinite(resid).all()
    assert resid.std() == pytest.approx(1.0, abs=0.1)


def test_a_weight_divides_the_dispersion(catches):
    family, eta = resolve_family("tweedie"), np.array([0.2, 0.2])
    params, y = np.array([1.4, 1.6]), np.array([0.0, 2.5])
    weighted = family.derivatives(y, np.array([2.0, 2.0]), eta, params)
    halved = family.derivatives(y, None, eta, np.array([0.7, 1.6]))
    np.testing.assert_allclose(weighted.value, halved.value, rtol=1e-13)


def test_responses_and_parameters_outside_their_ranges_are_refused(catches):
    with pytest.raises(ResponseError, match="not negative"):
        mfx.glmer("y ~ x + (1 | boat)", catches.assign(y=catches["y"] - 1.0), "tweedie")
    priors = {"power": mfx.priors.HalfNormal(1)}
    with pytest.raises(PriorError, match="Flat"):
        mfx.glmer("y ~ x + (1 | boat)", catches, "tweedie", priors=priors)
    fit = mfx.glmer("y ~ x", catches, "tweedie")
    with pytest.raises(ArgumentError, match="the power between 1 and 2"):
        fit.simulate(1, rng=1, params={"power": 2.5})
