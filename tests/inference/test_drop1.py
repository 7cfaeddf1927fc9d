"""Terms left out one at a time.

Source of truth: R's lmerTest 3.1-3, lme4 and glmmTMB on the same data, and fits of the shorter
formulas.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory


@cache
def cake() -> pd.DataFrame:
    return mfx.datasets.load("cake")


@cache
def additive(*, reml: bool = True) -> mfx.Results:
    return mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake(), reml=reml)


@cache
def herds() -> mfx.Results:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return mfx.glmer(formula, mfx.datasets.load("cbpp"), "binomial")


def test_f_tests_are_those_of_lmertest():
    # as.data.frame(drop1(lmer(angle ~ recipe + temp + (1 | recipe:replicate), cake)))
    table = additive().drop1()
    assert list(table.index) == ["recipe", "temp"]
    np.testing.assert_allclose(table["sum_sq"], [10.30354667, 1966.70507936], rtol=2e-6)
    np.testing.assert_allclose(table["num_df"], [2, 1])
    np.testing.assert_allclose(table["den_df"], [41.99999975, 224.00000373], rtol=2e-6)
    np.testing.assert_allclose(table["F"], [0.2487887861, 94.9758728830], rtol=2e-6)
    np.testing.assert_allclose(table["p_value"], [7.808856051e-01, 6.192748247e-19], rtol=1e-4)


def test_f_tests_by_kenward_and_roger_are_those_of_lmertest():
    # The same of lmerTest, with ddf = "Kenward-Roger".
    table = additive().drop1(df_method="kenward-roger")
    np.testing.assert_allclose(table["den_df"], [42.0, 224.0], rtol=1e-6)
    np.testing.assert_allclose(table["F"], [0.2487887861, 94.9758728830], rtol=2e-6)


def test_likelihood_ratios_of_a_reml_fit_are_of_maximum_likelihood():
    # drop1(fit, ddf = "lme4", test = "Chisq"), of lme4
    table = additive().drop1("chisq")
    assert list(table.index) == ["<none>", "recipe", "temp"]
    np.testing.assert_allclose(table["aic"], [1708.157752, 1704.687738, 1785.688371], rtol=1e-8)
    np.testing.assert_allclose(table["chisq"][1:], [0.5299855995, 79.5306182094], rtol=1e-7)
    np.testing.assert_allclose(table["p_value"][1:], [7.672114741e-01, 4.748098429e-19], rtol=1e-6)
    assert list(table["npar"]) == [6, 4, 5]


def test_of_an_interaction_only_that_can_be_left_out():
    fit = mfx.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake())
    assert list(fit.drop1().index) == ["recipe:temp"]


def test_maximum_likelihood_is_tested_by_likelihood_ratios_unless_asked():
    # Slopes and an interaction of covariates, by lme4 and lmerTest:
    # drop1(lmer(Reaction ~ Days * z + w + (Days || Subject), s, REML = FALSE))
    s = mfx.datasets.load("sleepstudy")
    s = s.assign(z=np.tile([-1.0, 1, 2, 0, 1], 36), w=np.tile([1.0, 0, 0, 2, -1, 3], 30))
    fit = mfx.lmer("Reaction ~ Days * z + w + (Days || Subject)", s, reml=False)
    ratios, tests = fit.drop1(), fit.drop1("F")
    expected = pd.Series({"w": 0.26800835841, "Days:z": 0.03222807408})
    np.testing.assert_allclose(ratios["chisq"][expected.index], expected, rtol=1e-6)
    expected = pd.Series({"w": 0.26827788767, "Days:z": 0.03223156998})
    np.testing.assert_allclose(tests["F"][expected.index], expected, rtol=5e-6)
    expected = pd.Series({"w": 145.9972198, "Days:z": 145.8925485})
    np.testing.assert_allclose(tests["den_df"][expected.index], expected, rtol=2e-6)


def test_likelihood_ratios_of_a_generalised_model_are_those_of_glmmtmb():
    # drop1(glmmTMB(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial),
    #       test = "Chisq")
    table = herds().drop1()
    np.testing.assert_allclose(table["chisq"]["period"], 25.6100634499, rtol=1e-6)
    assert table["df"]["period"] == 3


def test_the_ratio_is_that_of_the_two_fits():
    fit = mfx.lmer("angle ~ recipe + (1 | recipe:replicate)", cake(), reml=False)
    compared = mfx.compare(fit, additive(reml=False))
    found = additive(reml=False).drop1()
    assert found["chisq"]["temp"] == pytest.approx(compared["chisq"].iloc[1], rel=1e-8)


def test_without_an_intercept_the_next_factor_has_all_of_its_levels():
    # The formula without recipe is that with an intercept without it: the same tests.
    formula = "angle ~ {} recipe + temperature + (1 | recipe:replicate)"
    without, with_one = (mfx.lmer(formula.format(one), cake()).drop1() for one in ("0 +", ""))
    pd.testing.assert_frame_equal(without, with_one, rtol=1e-7)


@pytest.mark.full
def test_thresholds_stay_where_a_term_is_left_out():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(20), 8), rng.normal(size=160)
    y = np.digitize(x + rng.normal(size=20)[g] + rng.logistic(size=160), [-1.0, 1.0])
    data = pd.DataFrame({"y": pd.Categorical(y, ordered=True), "x": x, "g": g})
    fit = mfx.glmer("y ~ x + (1 | g)", data, "cumulative")
    null = mfx.glmer("y ~ 1 + (1 | g)", data, "cumulative")
    table = fit.drop1()
    assert table["llf"]["x"] == pytest.approx(null.llf, rel=1e-9)
    assert table["df"]["x"] == 1


def test_what_does_not_apply_is_named():
    with pytest.raises(ArgumentError, match="test='F' is of linear models"):
        herds().drop1("F")
    with pytest.raises(ArgumentError, match="write test='F'"):
        additive(reml=False).drop1(df_method="satterthwaite")
    with pytest.raises(ArgumentError, match="test='t'"):
        additive().drop1("t")


def test_f_tests_need_no_rows_and_ratios_say_that_they_do():
    slim = additive().slim()
    pd.testing.assert_frame_equal(slim.drop1(), additive().drop1())
    with pytest.raises(RowsNotInMemory):
        slim.drop1("chisq")
