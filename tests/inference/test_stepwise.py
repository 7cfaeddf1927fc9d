"""Backward elimination.

Source of truth: step() of R's lmerTest 3.1-3 on the same data, and fits of the formulas left.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SelectionWarning

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@cache
def data() -> pd.DataFrame:
    s = mfx.datasets.load("sleepstudy")
    return s.assign(z=np.tile([-1.0, 1, 2, 0, 1], 36), w=np.tile([1.0, 0, 0, 2, -1, 3], 30))


@cache
def full_model() -> mfx.Results:
    return mfx.lmer("Reaction ~ Days * z + w + (Days + w | Subject)", data())


def quiet(fit: mfx.Results, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return fit.step(**options)


@cache
def steps():
    return quiet(full_model())


def test_random_effects_are_taken_out_as_by_lmertest():
    # step(lmer(Reaction ~ Days * z + w + (Days + w | Subject), s))$random
    table = steps().random
    assert list(table.index) == ["<none>", "w in (Days + w | Subject)", "Days in (Days | Subject)"]
    assert list(table["eliminated"]) == [0, 1, 0]
    assert list(table["npar"]) == [12, 9, 7]
    np.testing.assert_allclose(table["llf"], [-866.3998774, -866.6121777, -888.0192917], atol=1e-6)
    np.testing.assert_allclose(table["chisq"][1:], [0.4246005516, 42.8142279585], rtol=1e-6)
    np.testing.assert_allclose(table["p_value"][1:], [9.351150003e-01, 5.046712043e-10], rtol=1e-6)


def test_fixed_terms_are_taken_out_as_by_lmertest():
    # step(...)$fixed; lme4's optimiser ends with errors of 1e-6 in theta.
    table = steps().fixed
    assert list(table.index) == ["Days:z", "w", "z", "Days"]
    assert list(table["eliminated"]) == [1, 2, 3, 0]
    expected = [0.03147166433, 0.27476633388, 3.36055370604, 45.85296155586]
    np.testing.assert_allclose(table["F"], expected, rtol=5e-6)
    expected = [141.00138461, 142.12713544, 143.00002449, 16.99998373]
    np.testing.assert_allclose(table["den_df"], expected, rtol=5e-6)


def test_the_fit_is_that_of_the_formula_left():
    left, again = steps().fit, mfx.lmer("Reaction ~ Days + (Days | Subject)", data())
    assert str(left.formula) == str(again.formula)
    assert left.deviance == pytest.approx(again.deviance, rel=1e-10)
    new = {"Days": [3.0, 12.0], "Subject": ["308", "309"]}  # without z and w
    np.testing.assert_allclose(left.predict(new), again.predict(new), rtol=1e-6)
    pd.testing.assert_frame_equal(left.tidy(), again.tidy(), rtol=1e-4)


def test_selection_is_warned_of_and_noted():
    with pytest.warns(SelectionWarning, match="too optimistic"):
        found = full_model().step(reduce_random=False, keep=["w", "z", "Days:z"])
    assert "by tests on the same data" in found.fit.notes[-1]
    assert "too optimistic" in str(found.fit.summary()).replace("\n  ", " ")


def test_what_is_kept_stays():
    found = quiet(full_model(), reduce_random=False, keep="w")
    assert list(found.fixed.index[found.fixed["eliminated"] > 0]) == ["Days:z", "z"]
    assert list(found.random["eliminated"]) == [0, 0, 0]
    assert str(found.fit.formula) == "Reaction ~ Days + w + (Days + w | Subject)"


@pytest.mark.full
def test_all_random_terms_and_covariates_can_go():
    shuffled = data().assign(Reaction=data()["Reaction"].sample(frac=1, random_state=1).to_numpy())
    found = quiet(mfx.lmer("Reaction ~ Days + (Days || Subject)", shuffled))
    assert str(found.fit.formula) == "Reaction ~ 1"
    assert found.fit.params["Intercept"] == pytest.approx(shuffled["Reaction"].mean())
    assert list(found.random["eliminated"]) == [0, 1, 2]
    assert "Model: Reaction ~ 1" in str(found)


def test_a_last_term_without_an_intercept_stays():
    found = quiet(mfx.lmer("z ~ 0 + w", data()), alpha_fixed=1e-9)
    assert str(found.fit.formula) == "z ~ 0 + w"


@pytest.mark.full
def test_a_generalised_model_is_reduced_by_likelihood_ratios():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = mfx.glmer(formula, mfx.datasets.load("cbpp"), "binomial")
    found = quiet(fit, alpha_fixed=1e-9)
    null = mfx.glmer(formula.replace("period", "1"), mfx.datasets.load("cbpp"), "binomial")
    assert list(found.fixed["eliminated"]) == [0, 1]
    assert found.fit.llf == pytest.approx(null.llf, rel=1e-9)


def test_names_and_levels_that_are_none_are_refused():
    with pytest.raises(ArgumentError, match="keep='u'"):
        full_model().step(keep="u")
    with pytest.raises(ArgumentError, match="alpha_fixed"):
        full_model().step(alpha_fixed=0)
