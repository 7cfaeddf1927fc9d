"""Predictions at positions of a structured random term that the fit has not seen.

Source of truth: the best linear unbiased prediction with the covariance of old and new responses
written out (universal kriging; Cressie 1993, section 3.4).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import special

import mixedfx as mfx
from mixedfx.errors import ArgumentError, NewLevelError

Z = special.ndtri(0.975)


@cache
def table():
    """Levels with six of twelve whole times each, two rows a time."""
    rng, rows = np.random.default_rng(4), []
    for g in range(12):
        t = np.sort(rng.choice(np.arange(12.0), 6, replace=False))
        b = np.linalg.cholesky(np.exp(-np.abs(t[:, None] - t) / 3)) @ rng.standard_normal(6)
        for time, effect in zip(t, b, strict=True):
            for x in rng.standard_normal(2):
                y = 1.0 + 0.5 * x + 1.2 * effect + 0.5 * rng.standard_normal()
                rows.append((f"g{g}", time, x, y))
    return pd.DataFrame(rows, columns=["g", "t", "x", "y"]).sample(frac=1.0, random_state=1)


@cache
def fit_of(term, reml=True):
    return mfx.lmer(f"y ~ x + {term}", table(), reml=reml)


NEW = pd.DataFrame(
    {"g": ["g0", "g0", "g3", "g5"], "t": [3.5, 20.0, -1.25, 4.0], "x": [0.0, 1.0, 0.5, 0.0]}
)
WHOLE = NEW.assign(t=[30.0, 20.0, -1.0, 4.0])
CASES = {
    "ou(t | g)": (NEW, lambda d, rate: np.exp(-rate * d)),
    "exp(t | g)": (NEW, lambda d, reach: np.exp(-d / reach)),
    "gau(t | g)": (NEW, lambda d, reach: np.exp(-((d / reach) ** 2))),
    "ar1(0 + t | g)": (WHOLE, lambda d, rho: rho**d),
}
each_structure = pytest.mark.parametrize("term", CASES)


def effects_covariance(term, a, b):
    """Covariance of the effects in rows of two tables, from the reported parameters."""
    rows = fit_of(term).varcorr
    apart = np.abs(a["t"].to_numpy()[:, None] - b["t"].to_numpy())
    same = a["g"].to_numpy()[:, None] == b["g"].to_numpy()
    return rows["vcov"].iloc[0] * CASES[term][1](apart, rows["sdcor"].iloc[1]) * same


def columns(data):
    return np.column_stack([np.ones(len(data)), data["x"]])


def blup(term, new):
    """Prediction of the mean given the effects, its error variance, and that of the effects."""
    data = table()
    V = effects_covariance(term, data, data) + fit_of(term).sigma ** 2 * np.eye(len(data))
    C, own = effects_covariance(term, new, data), np.diag(effects_covariance(term, new, new))
    X, Q = columns(data), np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ Q @ X)
    beta = Phi @ X.T @ Q @ data["y"].to_numpy()
    D = columns(new) - C @ Q @ X
    mean = columns(new) @ beta + C @ Q @ (data["y"].to_numpy() - X @ beta)
    variance = own - np.einsum("ij,jk,ik->i", C, Q, C) + np.einsum("ip,pq,iq->i", D, Phi, D)
    return mean, variance


@pytest.mark.cases(1)
@each_structure
def test_the_mean_and_both_intervals_are_those_of_kriging(term):
    fit, new = fit_of(term), CASES[term][0]
    mean, variance = blup(term, new)
    of_mean = fit.predict(new, interval="confidence", se=True)
    of_response = fit.predict(new, interval="prediction")
    np.testing.assert_allclose(of_mean["predicted"], mean, rtol=1e-8)
    np.testing.assert_allclose(of_mean["std_error"], np.sqrt(variance), rtol=1e-6)
    half = (of_mean["conf_high"] - of_mean["conf_low"]) / 2
    np.testing.assert_allclose(half, Z * np.sqrt(variance), rtol=1e-6)
    half = (of_response["conf_high"] - of_response["conf_low"]) / 2
    np.testing.assert_allclose(half, Z * np.sqrt(variance + fit.sigma**2), rtol=1e-6)


@each_structure
def test_an_effect_that_is_left_out_has_its_whole_variance(term):
    fit, new = fit_of(term), CASES[term][0]
    of_beta = np.einsum("ip,pq,iq->i", columns(new), fit.cov_params(), columns(new))
    total = of_beta + fit.varcorr["vcov"].iloc[0] + fit.sigma**2
    unknown = new.assign(g="nobody")
    for found in (
        fit.predict(new, random="none", interval="prediction"),
        fit.predict(unknown, new_levels="population", interval="prediction"),
    ):
        np.testing.assert_allclose((found["conf_high"] - found["conf_low"]) / 2, Z * total**0.5)


def test_a_position_of_the_fit_is_predicted_as_before():
    fit, data = fit_of("ou(t | g)"), table()
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=1e-10)


@pytest.mark.full
def test_a_new_point_of_a_field_is_predicted_from_those_around_it():
    rng, n = np.random.default_rng(1), 60
    data = pd.DataFrame({"lon": rng.uniform(0, 9, n), "lat": rng.uniform(0, 9, n)})
    points = data.to_numpy()
    D = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    smooth = np.linalg.cholesky(np.exp(-D / 2) + 1e-9 * np.eye(n)) @ rng.standard_normal(n)
    data["y"] = smooth + 0.4 * rng.standard_normal(n)
    fit = mfx.lmer("y ~ exp(lon + lat | 1)", data)
    near = data[["lon", "lat"]].iloc[:1] + 1e-6
    assert fit.predict(near).iloc[0] == pytest.approx(fit.fittedvalues.iloc[0], abs=1e-4)
    far = fit.predict(near + 1e4, se=True)
    assert far["predicted"].iloc[0] == pytest.approx(fit.params["Intercept"], abs=1e-8)
    sd = np.sqrt(fit.vcomp.iloc[0] + fit.cov_params().iloc[0, 0])
    assert far["std_error"].iloc[0] == pytest.approx(sd, rel=1e-8)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("term", "new"),
    [("ar1h(0 + t | g)", WHOLE), ("ar1(0 + t | g)", NEW)],
    ids=["a standard deviation for each position", "no whole number"],
)
def test_where_there_is_no_covariance_the_position_is_named(term, new):
    with pytest.raises(NewLevelError, match=r"3\.5|30"):
        fit_of(term).predict(new)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_the_variance_at_another_position_is_known_where_all_have_one():
    fit, new = fit_of("toep(0 + t | g)"), WHOLE
    found = fit.predict(new, new_levels="population", interval="prediction").iloc[:3]
    X = columns(new)[:3]
    of_beta = np.einsum("ip,pq,iq->i", X, fit.cov_params(), X)
    total = of_beta + fit.varcorr["vcov"].iloc[0] + fit.sigma**2
    np.testing.assert_allclose((found["conf_high"] - found["conf_low"]) / 2, Z * total**0.5)


def test_a_prediction_interval_without_a_variance_is_refused():
    fit = fit_of("ar1h(0 + t | g)")
    options = {"new_levels": "population"}
    assert np.isfinite(fit.predict(WHOLE, interval="confidence", **options)).all(axis=None)
    with pytest.raises(ArgumentError, match="confidence"):
        fit.predict(WHOLE, interval="prediction", **options)


def test_draws_at_other_positions_are_refused():
    with pytest.raises(ArgumentError, match="predict"):
        fit_of("ou(t | g)").simulate(data=NEW)
