"""Residuals by kind, and leverages and deletion of generalised fits.

Source of truth: residuals(glmer(...), type =) of lme4 1.1-31 (printed numbers; bobyqa with rhoend
1e-9), the definitions, draws from the model for quantile residuals, the dense hat matrix, and
refits on data without a level.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalized_models import GENERALIZED, generalized_fit
from scipy import stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError

# residuals(g, type = ...)[1:4], g of cbind(incidence, size - incidence) ~ period + (1 | herd)
LME4 = {
    "pearson": [-1.33986162, 1.07512586, 2.87961554, -0.67726405],
    "deviance": [-1.43803186, 0.98874314, 2.35699780, -0.93685803],
    "working": [-0.77550812, 0.88982063, 2.89290996, -1.09173732],
    "response": [-0.16535050, 0.10825174, 0.31848691, -0.08402875],
}


@pytest.fixture(scope="module")
def herds():
    data = mfx.datasets.load("cbpp")
    return mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data)


@pytest.mark.parametrize("kind", LME4)
def test_residuals_match_lme4(herds, kind):
    np.testing.assert_allclose(herds.residuals(kind)[:4], LME4[kind], rtol=1e-6)


def test_default_is_the_response_residual(herds):
    pd.testing.assert_series_equal(herds.residuals(), herds.resid)


def test_squared_deviance_residuals_add_up_to_the_family_deviance(herds):
    assert (herds.residuals("deviance") ** 2).sum() == pytest.approx(herds.family_deviance)


def test_residuals_of_a_linear_model_are_over_their_standard_deviation():
    data = mfx.datasets.load("sleepstudy").assign(w=np.linspace(0.5, 2, 180))
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", data, weights="w")
    scaled = fit.resid * np.sqrt(data["w"]) / fit.sigma
    np.testing.assert_allclose(fit.residuals("pearson"), scaled, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals("quantile", random="fitted"), scaled, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals("deviance"), scaled * fit.sigma, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals("working"), fit.resid, rtol=1e-12)


def test_pearson_residuals_of_a_negative_binomial_match_glmmtmb():
    # residuals(glmmTMB(count ~ mined + (1 | site), family = nbinom2), type = "pearson")[1:4]
    data = GENERALIZED["salam_nb2__laplace"].data
    fit = mfx.glmer("count ~ mined + (1 | site)", data, family="nbinom2")
    expected = [-0.41828413, -0.58181286, -0.30713770, -0.14683302]
    np.testing.assert_allclose(fit.residuals("pearson")[:4], expected, rtol=1e-4)


def test_quantile_residuals_repeat_with_a_seed(herds):
    first = herds.residuals("quantile", rng=3)
    pd.testing.assert_series_equal(first, herds.residuals("quantile", rng=3))
    assert not first.equals(herds.residuals("quantile", rng=4))


@pytest.mark.parametrize("family", ["poisson", "binomial", "gamma"])
def test_quantile_residuals_of_the_model_are_standard_normal(family):
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(300), 4)
    x = rng.normal(size=len(g))
    eta = 0.3 + 0.4 * x + 0.6 * rng.normal(size=300)[g]
    y = {
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "binomial": lambda: rng.binomial(1, 1 / (1 + np.exp(-eta))),
        "gamma": lambda: rng.gamma(4.0, np.exp(eta) / 4.0),
    }[family]()
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
    fit = mfx.glmer(
        "y ~ x + (1 | g)", data, family=family, link="log" if family == "gamma" else None
    )
    residuals = fit.residuals("quantile", rng=1)
    # One row a level is an independent sample; its critical value at 1e-3 is 0.112.
    assert stats.kstest(residuals[::4], "norm").statistic < 0.112
    assert np.isfinite(residuals).all()


def test_quantile_residuals_see_overdispersion():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(60), 10)
    data = pd.DataFrame({"g": g.astype(str), "y": rng.negative_binomial(0.8, 0.2, len(g))})
    poisson = mfx.glmer("y ~ 1 + (1 | g)", data, family="poisson")
    assert poisson.residuals("quantile", rng=1).std() > 1.4


def test_conditional_quantile_residuals_are_between_the_family_probabilities(herds):
    rows = herds.model.rows
    mu = herds.fittedvalues.to_numpy()
    k, size = np.rint(rows.y * rows.weights), rows.weights
    share = stats.norm.cdf(herds.residuals("quantile", random="fitted", rng=2))
    assert (share >= stats.binom.cdf(k - 1, size, mu) - 1e-12).all()
    assert (share <= stats.binom.cdf(k, size, mu) + 1e-12).all()


@pytest.mark.parametrize("asked", [{"kind": "student"}, {"kind": "quantile", "random": "old"}])
def test_unknown_kinds_are_refused(herds, asked):
    with pytest.raises(ArgumentError, match="not one of the choices"):
        herds.residuals(**asked)


def test_leverages_are_those_of_the_working_linear_model(herds):
    rows, mu = herds.model.rows, herds.fittedvalues.to_numpy()
    w = rows.weights * mu * (1 - mu)
    Z = np.eye(15)[rows.random_terms[0].codes]
    C = np.hstack([rows.X, Z])
    equations = (C * w[:, None]).T @ C
    equations[4:, 4:] += np.eye(15) / float(herds.theta[0]) ** 2
    hat = w * np.einsum("nc,cd,nd->n", C, np.linalg.inv(equations), C)
    np.testing.assert_allclose(herds.augment()["hat"], hat, rtol=1e-6)
    table = herds.influence()
    pearson = herds.residuals("pearson")
    np.testing.assert_allclose(table["std_resid"], pearson / np.sqrt(1 - hat), rtol=1e-6)
    cook = pearson**2 * hat / (1 - hat) ** 2 / 4  # of a GLM, dispersion one
    np.testing.assert_allclose(table["cooks_distance"], cook, rtol=1e-6)


def test_augment_has_means(herds):
    table = herds.augment()
    np.testing.assert_array_equal(table["fitted"], herds.fittedvalues)
    np.testing.assert_array_equal(table["fixed"], herds.predict(random="none"))


# ---------------------------------------------------------------- leaving levels out

DELETED = {"cbpp_prop__laplace": "1", "cbpp_probit__agq9": "3", "gamma_log__laplace": None}


@pytest.mark.kept("cbpp_prop__laplace", "gamma_log__laplace")
@pytest.mark.parametrize("name", DELETED)
def test_refit_without_a_level_is_the_fit_of_the_other_rows(name):
    fit, reference = generalized_fit(name), GENERALIZED[name]
    group = fit.formula.groups[0]
    changes = fit.influence(group, method="refit")
    level = DELETED[name] or changes.index[2]
    data = reference.data
    others = data[data[group].astype(str) != str(level)].copy()
    others[group] = others[group].astype(str)
    refit = mfx.glmer(
        reference["formula_py"],
        others,
        family=reference.family,
        link=reference["link"],
        nagq=reference.nagq,
        weights=reference["weights"],
        offset=reference["offset"],
    )
    found = changes.set_index(changes.index.astype(str)).loc[str(level)]
    expected = [*(refit.params - fit.params), *(refit.family_params - fit.family_params)]
    expected += list(refit.theta - fit.theta)
    scale = [*fit.bse, *fit.family_params, *fit.theta]
    np.testing.assert_allclose(found[2:].to_numpy() / scale, np.divide(expected, scale), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "cbpp_prop__laplace",
        pytest.param("epil_pois__laplace", marks=pytest.mark.full),
        pytest.param("owls_nb1__laplace", marks=pytest.mark.full),
        pytest.param("grouse_nested__laplace", marks=pytest.mark.full),  # three factors
    ],
)
def test_one_step_is_near_the_refit(name):
    fit = generalized_fit(name)
    group = fit.formula.groups[-1] if name.startswith("grouse") else fit.formula.groups[0]
    step, refit = (fit.influence(group, method=method) for method in ("one_step", "refit"))
    # Measured: at most 0.027 standard errors, where changes are up to 1.2.
    difference = (step[fit.params.index] - refit[fit.params.index]) / fit.bse
    assert difference.abs().to_numpy().max() < 0.04
    np.testing.assert_allclose(step["theta[0]"], refit["theta[0]"], atol=0.04 * fit.theta[0])


def test_levels_are_not_left_out_of_a_fit_of_another_function():
    fit = mfx.glmer("incidence ~ period + (1 | herd)", mfx.datasets.load("cbpp"), "poisson", nagq=0)
    with pytest.raises(ArgumentError, match="nagq=1"):
        fit.influence("herd")
