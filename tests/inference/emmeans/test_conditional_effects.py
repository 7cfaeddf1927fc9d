"""Predictions and comparisons at the conditional modes.

Source of truth: predict(), whose means are averaged and subtracted, and errors by differences in
the coefficients with the modes as they are.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MissingColumnError, NewLevelError


@cache
def herds() -> pd.DataFrame:
    return mfx.datasets.load("cbpp")


@cache
def binomial() -> mfx.Results:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return mfx.glmer(formula, herds(), "binomial")


@cache
def slopes() -> mfx.Results:
    data = mfx.datasets.load("sleepstudy")
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", data, engine="profiled")


def test_comparisons_are_differences_of_averaged_predictions():
    found = binomial().comparisons("period", random="all")["estimate"]
    means = [binomial().predict(herds().assign(period=p)).mean() for p in "1234"]
    np.testing.assert_allclose(found, np.array(means)[1:] - means[0], rtol=1e-10)


def test_predictions_are_averages_of_predict():
    found = binomial().predictions("period", random="all")
    expected = binomial().predict(herds()).groupby(herds()["period"], observed=True).mean()
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-10)


def test_the_slope_of_a_level_has_its_conditional_mode():
    found = slopes().comparisons("Days", random=["Subject"], average=False)
    of_subject = slopes().coef("Subject")["Days"]
    labels = mfx.datasets.load("sleepstudy")["Subject"]
    np.testing.assert_allclose(found["estimate"], of_subject.loc[labels], rtol=1e-10)
    # The modes are taken as known.
    np.testing.assert_allclose(found["std_error"], slopes().bse["Days"], rtol=1e-10)


def test_errors_are_those_of_the_coefficients():
    fit, found = binomial(), binomial().comparisons("period", random="all")
    modes = fit.ranef("herd")["Intercept"].loc[herds()["herd"]].to_numpy()

    def difference(beta):
        means = [(1 / (1 + np.exp(-(beta[0] + shift + modes)))).mean() for shift in (0.0, beta[1])]
        return means[1] - means[0]

    beta, h = fit.params.to_numpy(), 1e-5
    steps = h * np.eye(len(beta))
    gradient = [(difference(beta + e) - difference(beta - e)) / (2 * h) for e in steps]
    expected = np.sqrt(gradient @ fit.cov_params().to_numpy() @ gradient)
    assert found["std_error"][0] == pytest.approx(expected, rel=1e-6)


def test_new_rows_need_the_grouping_columns_and_known_levels():
    rows = herds().head(6)
    found = binomial().comparisons("period", random="all", data=rows)["estimate"]
    means = [binomial().predict(rows.assign(period=p)).mean() for p in "12"]
    assert found[0] == pytest.approx(means[1] - means[0], rel=1e-10)
    with pytest.raises(MissingColumnError, match="'herd', which the random part reads"):
        binomial().comparisons("period", random="all", data=rows.drop(columns="herd"))
    with pytest.raises(NewLevelError):
        binomial().predictions(random="all", data=rows.assign(herd="new"))


def test_without_them_nothing_changes_and_other_groups_are_named():
    pd.testing.assert_frame_equal(
        binomial().comparisons("period", random="none"), binomial().comparisons("period")
    )
    with pytest.raises(ArgumentError, match="random='cow'"):
        binomial().comparisons("period", random="cow")
