"""Results of fits of the beta, beta-binomial and Student's t families."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import mixedfx as mfx


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    n, g, x = 400, np.repeat(np.arange(40), 10), rng.normal(size=400)
    eta = 0.2 + 0.5 * x + rng.normal(0, 0.6, 40)[g]
    mu = 1 / (1 + np.exp(-eta))
    successes = rng.binomial(12, rng.beta(mu * 5, (1 - mu) * 5))
    columns = {"share": rng.beta(mu * 8, (1 - mu) * 8), "k": successes, "n": 12}
    columns |= {"t": eta + 0.5 * rng.standard_t(3, n), "normal": eta + rng.normal(0, 0.5, n)}
    return pd.DataFrame({"g": g, "x": x, **columns})


RESPONSES = {"beta": "share", "betabinomial": "cbind(k, n - k)", "student": "t"}


@pytest.fixture(scope="module")
def fits(data):
    return {
        family: mfx.glmer(f"{response} ~ x + (1 | g)", data, family=family)
        for family, response in RESPONSES.items()
    }


@pytest.mark.parametrize("family", RESPONSES)
def test_without_random_terms_it_is_the_maximum_of_scipy_s_likelihood(data, family):
    fit = mfx.glmer(f"{RESPONSES[family]} ~ x", data, family=family)
    x = data["x"].to_numpy()

    def minus_loglik(p):
        eta, phi = p[0] + p[1] * x, np.exp(p[2])
        mu = 1 / (1 + np.exp(-eta))
        if family == "beta":
            return -stats.beta.logpdf(data["share"], mu * phi, (1 - mu) * phi).sum()
        if family == "betabinomial":
            return -stats.betabinom.logpmf(data["k"], 12, mu * phi, (1 - mu) * phi).sum()
        return -stats.t.logpdf(data["t"], np.exp(p[3]), eta, phi).sum()

    start = [*fit.params, *np.log(fit.family_params)]
    found = optimize.minimize(minus_loglik, start, options={"gtol": 1e-5})
    assert fit.llf == pytest.approx(-minus_loglik(start), abs=1e-8)
    assert fit.llf >= -found.fun - 1e-6


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("family", RESPONSES)
def test_a_prediction_interval_stays_within_the_support_and_holds_its_share(data, fits, family):
    fit = fits[family]
    table = fit.predict(interval="prediction", conf_level=0.9)
    y = data["k"] / 12 if family == "betabinomial" else data[RESPONSES[family]]
    if family != "student":
        assert (table["conf_low"] >= 0.0).all()
        assert (table["conf_high"] <= 1.0).all()
    inside = ((y >= table["conf_low"]) & (y <= table["conf_high"])).mean()
    assert 0.85 < inside < (0.99 if family == "betabinomial" else 0.97)  # few values: wider


@pytest.mark.parametrize("family", RESPONSES)
def test_quantile_residuals_are_standard_normal(fits, family):
    residuals = fits[family].residuals(kind="quantile", rng=1)
    assert stats.kstest(residuals, "norm").pvalue > 0.01


def test_a_normal_response_has_no_residual_row_of_student_s_scale(fits):
    assert "Residual" not in set(fits["student"].varcorr["group"])


@pytest.mark.full
def test_without_more_variation_the_limit_is_fitted_and_said(data):
    rng = np.random.default_rng(8)
    mu = 1 / (1 + np.exp(-0.5 * data["x"]))
    table = data.assign(k=np.rint(12 * mu) + rng.integers(0, 2, len(data)) * (mu < 0.9))
    table["k"] = table["k"].clip(0, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mfx.glmer("prop(k, n) ~ x + (1 | g)", table, family="betabinomial")
        binomial = mfx.glmer("prop(k, n) ~ x + (1 | g)", table, family="binomial")
    assert fit.converged
    assert fit.llf == pytest.approx(binomial.llf, abs=1e-4)
    assert any("phi is estimated as infinite" in note for note in fit.notes)
    assert np.isfinite(fit.bse).all()
