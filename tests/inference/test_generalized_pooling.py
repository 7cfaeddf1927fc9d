"""Pooling of generalised fits: levels' own estimates, weights, and what separation does.

Source of truth: statsmodels' GLM on the rows of one level with the rest as an offset; the
definition of the weights; the data's construction.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from generalized_models import generalized_fit

import mixedfx as mfx
from mixedfx.errors import CallError

SEPARATED = {"ones": "1", "zeros": "2", "by x": "3"}


@pytest.fixture(scope="module")
def herds():
    data = mfx.datasets.load("cbpp")
    return mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data), data


@pytest.fixture(scope="module")
def slopes():
    """Answers of 40 levels with slopes; three levels are separated."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 30)
    x = rng.normal(size=len(g))
    eta = 0.3 + 0.5 * x + 0.7 * rng.normal(size=40)[g] + 0.4 * rng.normal(size=40)[g] * x
    y = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int)
    y[g == 1], y[g == 2] = 1, 0
    y[g == 3] = x[g == 3] > 0
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
    return mfx.glmer("y ~ x + (x | g)", data, family="binomial"), data


def _glm(y, columns, offset, family):
    return sm.GLM(y, columns, family=family, offset=offset).fit(tol=1e-14, maxiter=200).params


def test_unpooled_estimates_are_those_of_each_level(herds):
    fit, data = herds
    table = fit.pooling()
    period = fit.predict(which="linear", random="none") - fit.params["Intercept"]
    for level in table.index[:6]:
        rows = (data["herd"] == level).to_numpy()
        y = np.column_stack([data["incidence"], data["size"] - data["incidence"]])[rows]
        expected = _glm(y, np.ones((rows.sum(), 1)), period[rows], sm.families.Binomial())
        assert table.loc[level, "unpooled"] == pytest.approx(expected[0], abs=1e-8)


def test_unpooled_slopes_are_those_of_each_level(slopes):
    fit, data = slopes
    table = fit.pooling()
    for level in ["0", "4", "5"]:
        rows = data["g"] == level
        columns = sm.add_constant(data.loc[rows, "x"])
        expected = _glm(data.loc[rows, "y"], columns, None, sm.families.Binomial())
        np.testing.assert_allclose(table.loc[level, "unpooled"], expected, atol=1e-7)


@pytest.mark.full
def test_crossed_levels_have_the_other_factor_as_an_offset():
    fit = generalized_fit("verbagg_probit__laplace")
    group = fit.formula.groups[0]
    table, rows = fit.pooling(group), fit.model.rows
    term = next(t for t in rows.random_terms if t.group == group)
    assert term.model_matrix.shape[1] == 1
    modes = fit.ranef(group).iloc[:, 0].to_numpy()
    rest = fit.predict(which="linear").to_numpy() - modes[term.codes] - fit.params["Intercept"]
    probit = sm.families.Binomial(sm.families.links.Probit())
    finite = np.flatnonzero(np.isfinite(table["unpooled"]))[:3]
    for i in finite:
        of_level = term.codes == i
        ones = np.ones((of_level.sum(), 1))
        expected = _glm(rows.y[of_level], ones, rest[of_level], probit)
        assert table["unpooled"].iloc[i] == pytest.approx(expected[0], abs=1e-6)


def test_separated_levels_have_infinite_estimates(slopes):
    fit, _ = slopes
    table = fit.pooling()
    unpooled = table["unpooled"]
    assert unpooled[SEPARATED["ones"], "Intercept"] == np.inf
    assert unpooled[SEPARATED["zeros"], "Intercept"] == -np.inf
    assert unpooled[SEPARATED["by x"], "x"] == np.inf
    assert np.isfinite(unpooled.drop(index=list(SEPARATED.values()), level=0)).all()
    assert np.isfinite(table.drop(columns="unpooled")).all(axis=None)


def test_levels_with_counts_of_zero_have_infinite_estimates():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(20), 6)
    y = rng.poisson(np.exp(0.5 + 0.6 * rng.normal(size=20)[g]))
    y[g == 7] = 0
    data = pd.DataFrame({"y": y, "g": g.astype(str)})
    table = mfx.glmer("y ~ 1 + (1 | g)", data, family="poisson").pooling()
    means = data.groupby("g")["y"].mean()[table.index]
    with np.errstate(divide="ignore"):
        expected = np.log(means)
    np.testing.assert_allclose(table["unpooled"], expected, atol=1e-8)


def test_columns_are_on_the_scale_of_the_linear_predictor(herds):
    fit, data = herds
    table = fit.pooling()
    assert (table["pooled"] == fit.params["Intercept"]).all()
    partial = fit.params["Intercept"] + fit.ranef("herd")["Intercept"]
    np.testing.assert_allclose(table["partial"], partial, rtol=1e-12)
    mu = fit.fittedvalues.to_numpy()
    information = (data["size"] * mu * (1 - mu)).groupby(data["herd"]).sum()[table.index]
    weight = information / (information + 1 / float(fit.theta[0]) ** 2)
    np.testing.assert_allclose(table["weight"], weight, rtol=1e-6)


def test_normal_levels_are_those_of_least_squares():
    data = mfx.datasets.load("sleepstudy")
    formula = "Reaction ~ Days + (Days | Subject)"
    family = mfx.glmer(formula, data, family="gaussian").pooling()
    linear = mfx.lmer(formula, data, reml=False).pooling()
    np.testing.assert_allclose(family["unpooled"], linear["unpooled"], rtol=1e-6)


def test_comparing_fits_of_other_families_names_glmer(herds):
    _, data = herds
    with pytest.raises(CallError, match=r"mfx\.glmer"):
        mfx.pooling_fits("incidence ~ 1 + (1 | herd)", data, family="poisson")
