"""Responses simulated from generalised fits.

Source of truth: the means and variances of the families' definitions, marginal moments by
quadrature over the random effects, and fits of the same numbers written otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalized_models import GENERALIZED, generalized_fit

import mixedfx as mfx
from mixedfx.errors import ArgumentError, EngineRefusal, MissingColumnError

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")

DRAWS = 2000
FAR = 5.0  # Monte Carlo standard errors

CBIND = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp():
    return GENERALIZED["cbpp_prop__laplace"].data


@pytest.fixture(scope="module")
def fit(cbpp):
    return mfx.glmer(CBIND, cbpp, family="binomial")


# Variance of a response of mean m and weight w by each family's definition.
VARIANCES = {
    "binomial": lambda m, w, _: m * (1 - m) / w,
    "poisson": lambda m, w, _: m,
    "nbinom2": lambda m, w, alpha: m + alpha * m**2,
    "nbinom1": lambda m, w, alpha: m * (1 + alpha),
    "gamma": lambda m, w, phi: phi * m**2 / w,
    "inverse_gaussian": lambda m, w, phi: phi * m**3 / w,
    "gaussian": lambda m, w, sigma: sigma**2 / w,
}


def simulated_by_hand(family):
    """A fit of small data of one family."""
    rng = np.random.default_rng(5)
    n = 60
    row = np.arange(n)
    data = pd.DataFrame({"x": rng.normal(size=n), "g": row % 6, "w": 2.0 + row % 3})
    mu = np.exp(0.5 + 0.1 * data["x"] + 0.3 * rng.normal(size=6)[data["g"]])
    if family == "binomial":
        data["y"] = rng.binomial(data["w"].astype(int), mu / (1 + mu)) / data["w"]
    elif family == "gaussian":
        data["y"] = mu + rng.normal(size=n)
    else:
        data["y"] = rng.poisson(3 * mu) + 0.5 * (family in ("gamma", "inverse_gaussian"))
    weights = {"weights": "w"} if family in ("binomial", "gamma", "gaussian") else {}
    link = {"gaussian": "log", "inverse_gaussian": "log"}.get(family)
    fit = mfx.glmer("y ~ x + (1 | g)", data, family=family, link=link, **weights)
    return fit, data, bool(weights)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
@pytest.mark.parametrize("family", VARIANCES)
def test_responses_given_the_effects_have_the_familys_mean_and_variance(family):
    fit, data, weighted = simulated_by_hand(family)
    params = dict.fromkeys(fit.model.spec.family.param_names, 0.3)
    y = fit.simulate(DRAWS, rng=1, random="fitted", params=params).to_numpy()
    solution = fit.model.solution
    eta = fit.model.rows.linear_predictor(solution.beta, solution.conditional_modes())
    mu = fit.model.spec.family.mean(eta)
    variance = VARIANCES[family](mu, data["w"].to_numpy() if weighted else 1.0, 0.3)
    z = (y.mean(axis=1) - mu) / np.sqrt(variance / DRAWS)
    assert np.abs(z).max() < FAR
    # The standard error of a variance, with the kurtosis of the draws themselves.
    squares = (y - mu[:, None]) ** 2
    z = (squares.mean(axis=1) - variance) / (squares.std(axis=1) / np.sqrt(DRAWS))
    assert np.abs(z).max() < FAR


@pytest.mark.full
def test_new_effects_give_the_marginal_mean(fit):
    y = fit.simulate(DRAWS, rng=2).to_numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    eta = fit.model.rows.fixed_predictor(fit.model.solution.beta)
    sd = fit.model.solution.lambdas[0][0, 0]
    mean = (1 / (1 + np.exp(-(eta[:, None] + sd * nodes)))) @ weights / weights.sum()
    assert (np.abs(y.mean(axis=1) - mean) / (y.std(axis=1) / np.sqrt(DRAWS))).max() < FAR


def test_refit_takes_what_simulate_returns_and_the_response_as_it_is_written(fit, cbpp):
    y = fit.simulate(1, rng=3)[0]
    k = (y * cbpp["size"]).round()
    expected = mfx.glmer(CBIND, cbpp.assign(incidence=k), family="binomial")
    for response in (y, y.to_numpy(), pd.DataFrame({"k": k, "m": cbpp["size"] - k})):
        again = fit.refit(response)
        assert again.llf == pytest.approx(expected.llf, abs=1e-8)
        np.testing.assert_allclose(again.params, expected.params, rtol=1e-6)


def test_refit_takes_other_numbers_of_trials(fit, cbpp):
    k, n = 2 * cbpp["incidence"], 2 * cbpp["size"]
    doubled = pd.DataFrame({"k": k, "m": n - k})
    formula = "cbind(2 * incidence, 2 * (size - incidence)) ~ period + (1 | herd)"
    assert fit.refit(doubled).llf == pytest.approx(mfx.glmer(formula, cbpp).llf, abs=1e-8)


def test_refit_of_two_levels_takes_levels_and_what_simulate_returns(cbpp):
    data = cbpp.assign(sick=np.where(cbpp["incidence"] > 1, "yes", "no"))
    data["sick"] = pd.Categorical(data["sick"], ["no", "yes"])
    fit = mfx.glmer("sick ~ period + (1 | herd)", data)
    y = fit.simulate(1, rng=0)[0]
    assert set(y) == {0.0, 1.0}
    levels = pd.Categorical.from_codes(y.astype(int), ["no", "yes"])
    assert fit.refit(y).llf == fit.refit(levels).llf


def test_trials_of_new_rows_are_those_of_their_response(fit, cbpp):
    new = cbpp.head(4).assign(incidence=0, size=[1, 2, 5, 1000])
    y = fit.simulate(500, rng=1, data=new).to_numpy()
    k = y * new["size"].to_numpy()[:, None]
    np.testing.assert_allclose(k, np.rint(k), atol=1e-9)
    assert set(y[0]) == {0.0, 1.0}
    assert len(np.unique(y[3])) > 100


def test_new_rows_of_prop_need_the_trials_alone(cbpp):
    fit = mfx.glmer("prop(incidence, size) ~ period + (1 | herd)", cbpp)
    new = cbpp.head(3).drop(columns="incidence")
    assert fit.simulate(2, rng=1, data=new).shape == (3, 2)
    with pytest.raises(MissingColumnError, match=r"trials of new rows .* column 'size'"):
        fit.simulate(1, rng=1, data=new.drop(columns="size"))


def test_a_missing_value_of_new_rows_gives_no_response(fit, cbpp):
    new = cbpp.head(3).assign(size=[5.0, np.nan, 5.0])
    assert fit.simulate(1, rng=1, data=new)[0].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0.0}, "alpha = 0 must be above 0"),
        ({"alpha": "much"}, "must be a finite number"),
        ({"phi": 1.0}, "not one of the choices"),
    ],
)
def test_impossible_family_parameters_are_refused(params, message):
    with pytest.raises(ArgumentError, match=message):
        generalized_fit("epil2_nb2__laplace").simulate(1, params=params)


def test_posterior_draws_are_refused_with_what_there_is_instead(fit):
    with pytest.raises(EngineRefusal, match=r"family='binomial'.*bootstrap\(\)"):
        fit.sample(10)
