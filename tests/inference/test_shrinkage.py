"""Partial pooling: the identity of the textbook, and the three ways side by side.

Source of truth: the weight lambda = s^2 / (s^2 + sigma^2 / n) of Gelman and Hill (2007), equation
12.1, and least squares level by level.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given
from hypothesis import strategies as st

import mixedfx as mfx
from mixedfx.errors import ArgumentError

# An identity of numbers that are computed in two ways.
ROUNDING = 1e-10


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return mfx.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def friends() -> mfx.Results:
    return mfx.lmer("rating ~ 1 + (1 | friend)", mfx.datasets.load("romcom"))


def _wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column, a row per subject and a column per effect."""
    effects = {e: table[column].xs(e, level="effect") for e in ("Intercept", "Days")}
    return pd.DataFrame(effects)


def _intercepts(sizes: list[int], seed: int, weighted: bool) -> mfx.Results:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    y = rng.normal(size=len(sizes))[group] + rng.normal(size=len(group))
    table = pd.DataFrame({"y": y, "x": rng.normal(size=len(y)), "g": group})
    weights = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    return mfx.lmer("y ~ x + (1 | g)", table, weights=weights, engine="profiled")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=12).filter(lambda n: sum(n) > len(n) + 3),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_partial_is_the_weighted_mean_of_unpooled_and_pooled(sizes, seed, weighted):
    table = _intercepts(sizes, seed, weighted).pooling("g")
    mean = table["weight"] * table["unpooled"] + (1 - table["weight"]) * table["pooled"]
    assert np.abs(mean - table["partial"]).max() < ROUNDING


def test_weights_are_those_of_the_textbook(friends):
    table = friends.pooling("friend")
    s2 = friends.vcomp.iloc[0]
    expected = s2 / (s2 + friends.scale / table["n"])
    np.testing.assert_allclose(table["weight"], expected, rtol=ROUNDING)


def test_unpooled_is_each_levels_mean(friends):
    means = mfx.datasets.load("romcom").groupby("friend", observed=True)["rating"].mean()
    found = friends.pooling("friend")["unpooled"]
    np.testing.assert_allclose(found, means.reindex(found.index), rtol=ROUNDING)


def test_rows_are_counted(friends):
    sizes = mfx.datasets.load("romcom").groupby("friend", observed=True).size()
    found = friends.pooling("friend")["n"]
    assert found.to_dict() == sizes.to_dict()


def test_partial_is_coef(sleep):
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    found = _wide(fit.pooling("Subject"), "partial")
    np.testing.assert_allclose(found, fit.coef("Subject"), rtol=ROUNDING)


def test_conditional_deviations_are_ranefs(sleep):
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    found = _wide(fit.pooling("Subject"), "cond_sd")
    expected = fit.ranef("Subject", cond_sd=True)
    np.testing.assert_allclose(found["Days"], expected["Days_sd"], rtol=ROUNDING)


def test_matrix_weights_give_the_partial_vector(sleep):
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    table = fit.pooling("Subject").loc["308"]
    Z = np.column_stack([np.ones(10), np.arange(10)])
    prior = np.linalg.inv(fit.cov_re.to_numpy() / fit.scale)
    W = np.linalg.solve(Z.T @ Z + prior, Z.T @ Z)
    expected = table["pooled"] + W @ (table["unpooled"] - table["pooled"])
    np.testing.assert_allclose(table["partial"], expected, rtol=1e-8)
    np.testing.assert_allclose(table["weight"], np.diag(W), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_a_level_that_says_nothing_of_a_slope_has_no_unpooled_one():
    table = _intercepts([5, 6, 7, 4, 5], 3, False).model.rows.model_frame
    table = table.assign(x=np.where(table["g"] == 0, 1.0, table["x"]))
    fit = mfx.lmer("y ~ x + (x || g)", table, engine="profiled")
    assert fit.pooling("g").loc[0]["unpooled"].isna().all()


def test_an_unknown_group_is_refused_with_the_choices(friends):
    with pytest.raises(ArgumentError, match="'friend'"):
        friends.pooling("movie")


# ---------------------------------------------------------------- three ways


def test_no_pooling_is_least_squares_in_each_level(sleep):
    found = _wide(mfx.pooling_fits("Reaction ~ Days + (Days | Subject)", sleep), "none")
    for subject, rows in sleep.groupby("Subject", observed=True):
        slope, intercept = np.polyfit(rows["Days"], rows["Reaction"], 1)
        assert found.loc[subject].tolist() == pytest.approx([intercept, slope], rel=1e-9)


def test_no_pooling_shares_the_other_coefficients(sleep):
    found = mfx.pooling_fits("Reaction ~ Days + (1 | Subject)", sleep)["none"]
    indicators = smf.ols("Reaction ~ 0 + C(Subject) + Days", sleep).fit().params
    np.testing.assert_allclose(found, indicators.iloc[:18], rtol=1e-9)


def test_no_pooling_survives_columns_that_are_nearly_dependent(sleep):
    shifted = sleep.assign(Days=sleep["Days"] + 20_000)
    found = mfx.pooling_fits("Reaction ~ Days + (1 | Subject)", shifted)["none"]
    indicators = smf.ols("Reaction ~ 0 + C(Subject) + Days", shifted).fit().params
    np.testing.assert_allclose(found, indicators.iloc[:18], rtol=1e-6)


def test_complete_pooling_is_least_squares(sleep):
    found = _wide(mfx.pooling_fits("Reaction ~ Days + (Days | Subject)", sleep), "complete")
    plain = smf.ols("Reaction ~ Days", sleep).fit().params
    expected = np.tile([plain["Intercept"], plain["Days"]], (18, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_partial_pooling_is_the_model(sleep):
    found = mfx.pooling_fits("Reaction ~ Days + (1 | Subject)", sleep)["partial"]
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    np.testing.assert_allclose(found, fit.coef("Subject")["Intercept"], rtol=1e-9)


def test_functions_of_the_caller_are_seen(sleep):
    def halved(x):
        return x / 2

    found = mfx.pooling_fits("Reaction ~ halved(Days) + (1 | Subject)", sleep)
    assert len(found) == 18


def test_a_column_between_levels_cannot_be_told_from_them(sleep):
    table = sleep.assign(old=sleep["Subject"].astype(str) > "340")
    with pytest.raises(ArgumentError, match=r"old\[T.True\] varies between the levels"):
        mfx.pooling_fits("Reaction ~ Days + old + (1 | Subject)", table)


def test_several_groups_need_a_choice():
    with pytest.raises(ArgumentError, match="'publisher', 'publisher:app'"):
        mfx.pooling_fits("y ~ 1 + (1 | publisher/app)", mfx.datasets.load("appcrash"))
