"""Predictions of generalised fits: scales, averages over effects, errors, predictive quantiles.

Source of truth: glmmTMB 1.1.5 for standard errors with random effects (printed numbers), numerical
integrals of the definition for averages, differences for their gradients, draws for quantiles.
Means and errors without random effects are compared with R in test_generalized_reference.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from generalized_models import GENERALIZED, generalized_fit
from scipy import integrate, special, stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MissingColumnError

HERDS = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def herds():
    return mfx.glmer(HERDS, mfx.datasets.load("cbpp"), family="binomial")


@pytest.fixture(scope="module")
def counts():
    """Poisson counts with slopes, whose effects vary much."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(40), 12)
    x = rng.uniform(-1, 1, len(g))
    b = rng.normal(size=(40, 2)) * [0.7, 0.5]
    y = rng.poisson(np.exp(0.4 + 0.3 * x + b[g, 0] + b[g, 1] * x))
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "off": rng.normal(size=len(g)) / 4})
    return mfx.glmer("y ~ x + (x | g)", data, family="poisson", offset="off"), data


# predict(glmmTMB(...), type = "link" and "response", se.fit = TRUE)[1:4], rel.tol 1e-14
LINK_SE = [0.37833013, 0.43020006, 0.44951077, 0.53248750]
RESPONSE_SE = [0.08066592, 0.05233629, 0.04948767, 0.04098446]
NB2_LINK_SE = [0.35350742, 0.28884192, 0.51076844, 0.23657473]


def test_standard_errors_with_random_effects_match_glmmtmb(herds):
    linear = herds.predict(which="linear", se=True)["std_error"]
    np.testing.assert_allclose(linear[:4], LINK_SE, rtol=1e-5)
    np.testing.assert_allclose(herds.predict(se=True)["std_error"][:4], RESPONSE_SE, rtol=1e-5)


def test_standard_errors_with_a_family_parameter_match_glmmtmb():
    data = GENERALIZED["salam_nb2__laplace"].data
    fit = mfx.glmer("count ~ mined + (1 | site)", data, family="nbinom2")
    linear = fit.predict(which="linear", se=True)["std_error"]
    np.testing.assert_allclose(linear[:4], NB2_LINK_SE, rtol=1e-5)


def test_confidence_limits_are_those_of_the_linear_predictor(herds):
    mean = herds.predict(interval="confidence")
    linear = herds.predict(which="linear", interval="confidence")
    np.testing.assert_allclose(mean, special.expit(linear), rtol=1e-12)


def test_limits_of_a_decreasing_link_are_in_order():
    fit = generalized_fit("gamma_inverse__laplace")
    table = fit.predict(interval="confidence", random="none")
    assert (table["conf_low"] < table["predicted"]).all()
    assert (table["predicted"] < table["conf_high"]).all()


def test_limits_beyond_the_domain_of_a_link_are_its_end():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(12), 4)
    y = rng.poisson((0.6 + 0.3 * rng.normal(size=12)[g]) ** 2)
    data = pd.DataFrame({"g": g.astype(str), "y": y})
    fit = mfx.glmer("y ~ 1 + (1 | g)", data, family="poisson", link="sqrt")
    table = fit.predict({"g": ["0"]}, interval="confidence", conf_level=1 - 1e-9)
    assert table.loc[0, "conf_low"] == 0.0 < table.loc[0, "conf_high"]


def test_linear_predictor_has_the_offset(counts):
    fit, data = counts
    new = data.drop(columns="y").head(5)
    shifted = new.assign(off=new["off"] + 1.0)
    for which, change in (("linear", np.add), ("mean", lambda m, _: m * np.e)):
        expected = change(fit.predict(new, which=which), 1.0)
        np.testing.assert_allclose(fit.predict(shifted, which=which), expected, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(new), fit.fittedvalues[:5], rtol=1e-12)


def test_new_rows_need_neither_response_nor_trials(herds):
    new = pd.DataFrame({"period": ["1", "2"], "herd": ["1", "2"]})
    np.testing.assert_allclose(herds.predict(new), herds.fittedvalues.iloc[[0, 5]], rtol=1e-12)


@pytest.mark.parametrize("average", [None, "population"])
def test_rows_with_missing_values_are_nan_and_others_are_not_touched(herds, average):
    new = pd.DataFrame({"period": ["1", None, "3"], "herd": ["1", "2", None]})
    asked = {"average": average, "random": "all", "se": True, "interval": "confidence"}
    table = herds.predict(new, **asked)
    assert table.isna().all(axis=1).tolist() == [False, True, True]
    assert table.isna().any(axis=1).tolist() == [False, True, True]
    pd.testing.assert_frame_equal(table.head(1), herds.predict(new.head(1), **asked))


def test_predictions_without_random_terms_are_those_of_statsmodels():
    data = mfx.datasets.load("cbpp")
    fit = mfx.glmer("incidence ~ period", data, family="poisson")
    glm = sm.GLM(data["incidence"], fit.model.rows.X, family=sm.families.Poisson()).fit(tol=1e-12)
    expected = glm.get_prediction(fit.model.rows.X).summary_frame()
    found = fit.predict(se=True, interval="confidence")
    # Standard errors are of differences of the gradient.
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(average="population"), fit.fittedvalues, rtol=1e-12)


def test_which_is_indifferent_for_a_linear_model():
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
    mean, linear = (
        fit.predict(which=which, interval="prediction", se=True) for which in ("mean", "linear")
    )
    pd.testing.assert_frame_equal(mean, linear)
    average = fit.predict(average="population", se=True)
    pd.testing.assert_frame_equal(average, fit.predict(random="none", se=True))


# ---------------------------------------------------------------- averages over random effects


def _average(eta, sd, mean):
    return integrate.quad(lambda x: mean(eta + sd * x) * stats.norm.pdf(x), -12, 12)[0]


def test_average_over_random_effects_is_the_integral_of_the_mean(herds):
    eta, sd = herds.predict(which="linear", random="none"), float(herds.theta[0])
    expected = [_average(e, sd, special.expit) for e in eta[:4]]
    np.testing.assert_allclose(herds.predict(average="population")[:4], expected, rtol=1e-10)


@pytest.mark.cases(1)
@pytest.mark.parametrize("sd", [0.3, 3.0, 10.0])
@pytest.mark.parametrize("mean", [special.expit, stats.norm.cdf])
def test_expectations_are_exact_for_large_variances(mean, sd):
    from mixedfx.linalg.normal_expectation import expectation

    eta = np.array([-4.0, 0.0, 1.3])
    expected = [_average(e, sd, mean) for e in eta]
    np.testing.assert_allclose(expectation(mean, eta, np.full(3, sd)), expected, rtol=1e-7)


def test_average_of_the_log_link_has_a_closed_form(counts):
    fit, data = counts
    Z = np.column_stack([np.ones(len(data)), data["x"]])
    variance = np.einsum("na,ab,nb->n", Z, fit.cov_re.to_numpy(), Z)
    expected = np.exp(fit.predict(which="linear", random="none") + variance / 2)
    np.testing.assert_allclose(fit.predict(average="population"), expected, rtol=1e-10)


def test_new_levels_are_averaged_over_and_known_ones_are_not(counts):
    fit, data = counts
    new = data.head(2).assign(g=["0", "new"])
    both = fit.predict(new, random="all", average="population", new_levels="population")
    known, new_level = fit.predict(new.head(1)), fit.predict(new.tail(1), average="population")
    np.testing.assert_allclose(both, [known.iloc[0], new_level.iloc[0]], rtol=1e-12)


def test_standard_error_of_an_average_is_by_its_gradient(counts):
    fit, _ = counts
    estimate = fit.model.residual
    m = estimate.n_covariance
    x = np.array([[1.0, 0.5]])
    new = pd.DataFrame({"x": [0.5], "off": [0.0]})
    crossprod = fit.model.crossprod
    T = crossprod.bases[0].T

    def log_average(free):
        # Coordinates of a full-rank factor are its entries by rows, as of the lower triangle.
        F = np.zeros((2, 2))
        F[np.tril_indices(2)] = free[:m]
        z = x @ T @ F
        beta = np.linalg.solve(crossprod.qr_R, free[m:])
        return float(x[0] @ beta + 0.5 * (z @ z.T)[0, 0])

    at = np.array(estimate.x)
    steps = 1e-5 * np.eye(len(at))
    gradient = [(log_average(at + h) - log_average(at - h)) / 2e-5 for h in steps]
    table = fit.predict(new, average="population", se=True, interval="confidence")
    mean = table.loc[0, "predicted"]
    assert mean == pytest.approx(np.exp(log_average(at)), rel=1e-9)
    sd = float(np.sqrt(gradient @ estimate.acov @ gradient))
    assert table.loc[0, "std_error"] == pytest.approx(mean * sd, rel=1e-6)
    limits = mean * np.exp(stats.norm.ppf([0.025, 0.975]) * sd)
    np.testing.assert_allclose(table.loc[0, ["conf_low", "conf_high"]].astype(float), limits)


# ---------------------------------------------------------------- predictive distributions


def test_predictive_quantiles_of_a_normal_response_are_normal():
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.glmer("Reaction ~ Days + (Days | Subject)", data, family="gaussian")
    table = fit.predict(interval="prediction", se=True)
    sd = np.hypot(table["std_error"], fit.model.residual.params[0])
    for side, z in (("conf_low", -1.959964), ("conf_high", 1.959964)):
        np.testing.assert_allclose(table[side], table["predicted"] + z * sd, rtol=1e-6)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["binomial", "poisson", "nbinom2", "gamma"])
def test_predictive_quantiles_are_those_of_draws(name, herds, counts):
    fit = {
        "binomial": herds,
        "poisson": counts[0],
        "nbinom2": generalized_fit("epil2_nb2__laplace"),
        "gamma": generalized_fit("gamma_log__laplace"),
    }[name]
    rng = np.random.default_rng(1)
    new = None if name in ("binomial", "poisson") else fit.model.rows.model_frame.head(3)
    table = fit.predict(new, interval="prediction", conf_level=0.9).iloc[:3]
    linear = fit.predict(which="linear", se=True).iloc[:3]
    rows, estimate = fit.model.rows, fit.model.residual
    for i in range(3):
        eta = rng.normal(linear["predicted"].iloc[i], linear["std_error"].iloc[i], 200_000)
        w = None if rows.weights is None else np.full(len(eta), rows.weights[i])
        family = fit.model.spec.family
        y = family.simulate(family.mean(eta), w, estimate.params, rng)
        for side, share in (("conf_low", 0.05), ("conf_high", 0.95)):
            q = table[side].iloc[i]
            # Standard error of a share of 200,000 draws: 5e-4.
            assert (y <= q + 1e-9).mean() >= share - 0.0025
            assert (y < q - 1e-9).mean() <= share + 0.0025


def test_predictive_quantiles_of_a_left_out_group_have_its_variance(counts):
    fit, data = counts
    new = data.head(1)
    given = fit.predict(new, interval="prediction")
    left_out = fit.predict(new, random="none", interval="prediction")
    unseen = fit.predict(new.assign(g="?"), new_levels="population", interval="prediction")
    width = [t["conf_high"].iloc[0] - t["conf_low"].iloc[0] for t in (given, left_out)]
    assert width[1] > width[0]
    pd.testing.assert_frame_equal(left_out, unseen)


# ---------------------------------------------------------------- conditional modes


def test_joint_deviations_of_a_linear_model_are_hendersons():
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", data)
    X = np.column_stack([np.ones(len(data)), data["Days"]])
    codes = pd.Categorical(data["Subject"]).codes
    Z = np.zeros((len(data), 36))
    for effect in (0, 1):
        Z[np.arange(len(data)), 2 * codes + effect] = X[:, effect]
    prior = np.kron(np.eye(18), np.linalg.inv(fit.cov_re.to_numpy()))
    W = np.hstack([X, Z])
    equations = W.T @ W / fit.scale
    equations[2:, 2:] += prior
    expected = np.sqrt(np.diag(np.linalg.inv(equations)))[2:].reshape(18, 2)
    found = fit.ranef("Subject", cond_sd="joint")[["Intercept_sd", "Days_sd"]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"which": "link"}, "which"),
        ({"average": "levels"}, "average"),
        ({"which": "linear", "average": "population"}, "random='none'"),
        ({"which": "linear", "interval": "prediction"}, "interval='confidence'"),
    ],
)
def test_what_has_no_meaning_is_refused(herds, asked, words):
    with pytest.raises(ArgumentError, match=words):
        herds.predict(**asked)


def test_average_of_the_inverse_link_is_refused():
    with pytest.raises(ArgumentError, match="link='log'"):
        generalized_fit("gamma_inverse__laplace").predict(average="population")


def test_new_responses_have_the_trials_of_the_new_rows(herds):
    data = mfx.datasets.load("cbpp")
    new = herds.predict(data.head(4), interval="prediction")
    pd.testing.assert_frame_equal(new, herds.predict(interval="prediction").head(4))
    with pytest.raises(MissingColumnError, match="trials"):
        herds.predict({"period": ["1"], "herd": ["1"]}, interval="prediction")
