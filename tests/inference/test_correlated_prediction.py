"""Predictions and simulations with correlated residuals, against the dense definition."""

import numpy as np
import pandas as pd
import pytest
from correlated_fits import CALLS, data_of, effects_matrix, fit_of, residual_matrix
from scipy import stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError

FITS = list(CALLS)


def unobserved(name) -> pd.DataFrame:
    """Rows of known subjects at positions where they were not observed."""
    data = data_of(name)
    subject, position = ("patient", "visit") if "patient" in data else ("subject", "trial")
    seen = set(zip(data[subject], data[position], strict=True))
    grid = [
        (s, p)
        for s in sorted(set(data[subject]))
        for p in sorted(set(data[position]))
        if (s, p) not in seen
    ]
    new = pd.DataFrame(grid, columns=[subject, position])
    if subject == "patient":
        new["arm"] = new["patient"].map(data.groupby("patient")["arm"].first())
    else:
        new["item"], new["x"] = "i0", np.linspace(-1, 1, len(new))
    return new.assign(w=1.0)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FITS)
def test_the_prediction_of_another_visit_is_the_best_linear_one(name):
    fit, data, new = fit_of(name), data_of(name), unobserved(name)
    V = residual_matrix(fit, name, data, data) + effects_matrix(fit, data, data)
    C = residual_matrix(fit, name, new, data) + effects_matrix(fit, new, data)
    own = np.diag(residual_matrix(fit, name, new, new) + effects_matrix(fit, new, new))
    X, Q = fit.model.rows.X, np.linalg.inv(V)
    X_new = mfx_columns(fit, new)
    Phi = np.linalg.inv(X.T @ Q @ X)
    beta = Phi @ X.T @ Q @ data["y"].to_numpy()
    expected = X_new @ beta + C @ Q @ (data["y"].to_numpy() - X @ beta)
    D = X_new - C @ Q @ X
    variance = own - np.einsum("ij,jk,ik->i", C, Q, C) + np.einsum("ip,pq,iq->i", D, Phi, D)
    found = fit.predict(new, interval="prediction")
    np.testing.assert_allclose(found["predicted"], expected, rtol=1e-6, atol=1e-7)
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    np.testing.assert_allclose(found["conf_high"] - found["predicted"], half, rtol=1e-6)


def mfx_columns(fit, new) -> np.ndarray:
    """Columns of the fixed part in new rows."""
    if "x" in new:
        return np.column_stack([np.ones(len(new)), new["x"]])
    visits = np.column_stack([new["visit"] == v for v in ("v2", "v3", "v4")]).astype(float)
    b = (new["arm"] == "b").to_numpy(dtype=float)
    return np.column_stack([np.ones(len(new)), b, visits, b[:, None] * visits])


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FITS)
def test_rows_that_were_used_have_their_fitted_values(name):
    fit = fit_of(name)
    np.testing.assert_allclose(fit.predict(data_of(name)), fit.fittedvalues, rtol=1e-12)


def test_without_the_residuals_group_the_mean_is_predicted():
    fit, new = fit_of("visits"), unobserved("visits")
    np.testing.assert_allclose(
        fit.predict(new, random="none"), mfx_columns(fit, new) @ fit.params, rtol=1e-12
    )
    np.testing.assert_array_equal(fit.predict(new, random="Residual"), fit.predict(new))
    unknown = new.assign(patient="nobody")
    np.testing.assert_allclose(fit.predict(unknown), mfx_columns(fit, new) @ fit.params, rtol=1e-12)
    no_subject = new.drop(columns="patient")
    np.testing.assert_allclose(fit.predict(no_subject), fit.predict(unknown), rtol=1e-12)


def test_a_forecast_beyond_the_last_position_goes_on_as_the_process_does():
    data = data_of("crossed")
    fit = mfx.lmer("y ~ x", data, residual="ar1(trial | subject)")
    rho = fit.varcorr["sdcor"].iloc[1]
    last = data[data["subject"] == "s0"].sort_values("trial").iloc[-1]
    new = pd.DataFrame({"x": [0.0], "subject": ["s0"], "trial": [last["trial"] + 3]})
    expected = fit.params["Intercept"] + rho**3 * fit.resid[last.name]
    assert fit.predict(new).iloc[0] == pytest.approx(expected, rel=1e-9)
    assert fit.predict(new.assign(trial=400)).iloc[0] == pytest.approx(fit.params["Intercept"])


def test_positions_without_a_covariance_are_refused_for_known_subjects():
    data = data_of("visits")
    fit = mfx.lmer("y ~ arm", data, residual="us(visit | patient)")
    new = pd.DataFrame({"arm": ["a"], "patient": ["p0"], "visit": ["v9"]})
    with pytest.raises(ArgumentError, match=r"has not seen 'v9'.*random='none'"):
        fit.predict(new)
    assert np.isfinite(fit.predict(new, random="none")).all()
    with pytest.raises(ArgumentError, match="'v9'"):
        fit.simulate(1, data=new)


@pytest.mark.full
@pytest.mark.parametrize("name", ["by arm", "weighted"])
def test_simulated_responses_have_the_covariance_of_the_model(name):
    fit, data = fit_of(name), data_of(name)
    V = residual_matrix(fit, name, data, data) + effects_matrix(fit, data, data)
    for table in (None, data):
        draws = fit.simulate(4000, rng=1, data=table).to_numpy()
        found = np.cov(draws)
        scale = np.sqrt(np.diag(V))
        # entries of a sample covariance of 4000 have errors of 1 / sqrt(4000) sds
        assert np.abs((found - V) / np.outer(scale, scale)).max() < 5.0 / np.sqrt(4000)


@pytest.mark.full
def test_the_bootstrap_finds_the_parameters_again():
    fit = fit_of("visits")
    draws = fit.bootstrap(n=8, rng=1, progress=False)
    assert list(draws.estimates.index) == list(draws.draws.columns)
    assert draws.estimates["sd(v1 | patient)"] == pytest.approx(
        np.sqrt(fit.residual_cov().iloc[0, 0])
    )
    assert not draws.failures
    again = fit.refit(fit.model.rows.y)
    assert again.deviance == pytest.approx(fit.deviance, abs=1e-7)
