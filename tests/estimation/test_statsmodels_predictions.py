"""Predictions of the statsmodels result from a table, against ours without random effects."""

import pickle

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import DroppedColumnsWarning

FORMULAS = {
    "slopes": "Reaction ~ Days + (Days | Subject)",
    "splines": "Reaction ~ bs(Days, 4) + (1 | Subject)",
    "transforms": "Reaction ~ scale(Days) + np.log1p(Days) + I(Days**2) + (1 | Subject)",
    "factors": "Reaction ~ kind * Days + C(part, Sum) + (1 | Subject)",
    "no intercept": "Reaction ~ 0 + kind + (1 | Subject)",
    "odd name": "Reaction ~ Q('the day') + (1 | Subject)",
    "regression": "Reaction ~ kind * Days",
    "intercept": "Reaction ~ 1",
}


@pytest.fixture(scope="module")
def data(sleep):
    day = sleep["Days"].to_numpy()
    return sleep.assign(kind=np.where(day % 2, "odd", "even"), part=day // 4).assign(
        **{"the day": day}
    )


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_table_is_transformed_as_in_the_fit(data, name):
    fit = mfx.lmer(FORMULAS[name], data)
    new = data.iloc[[3, 17, 40]].drop(columns="Reaction")
    found = fit.statsmodels.predict(new)
    expected = fit.predict(new, random="none")
    pd.testing.assert_series_equal(found, expected, check_names=False, rtol=1e-10)


def test_a_row_with_a_missing_value_is_missing(data):
    fit = mfx.lmer(FORMULAS["slopes"], data)
    found = fit.statsmodels.predict(pd.DataFrame({"Days": [1.0, np.nan]}, index=["a", "b"]))
    assert found.index.tolist() == ["a", "b"]
    assert found.isna().tolist() == [False, True]


def test_dependent_columns_are_left_out(data):
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("Reaction ~ Days + I(2 * Days) + (1 | Subject)", data)
    new = data.iloc[[3, 17, 40]]
    np.testing.assert_allclose(fit.statsmodels.predict(new), fit.predict(new, random="none"))


def test_a_matrix_is_taken_as_it_is(data):
    fit = mfx.lmer(FORMULAS["slopes"], data)
    found = fit.statsmodels.predict(np.array([[1.0, 5.0]]), transform=False)
    np.testing.assert_allclose(found, fit.params["Intercept"] + 5.0 * fit.params["Days"])


@pytest.mark.parametrize("name", ["slopes", "regression"])
def test_the_result_is_pickled(data, name):
    result = mfx.lmer(FORMULAS[name], data).statsmodels
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_series_equal(again.predict(data.head(3)), result.predict(data.head(3)))
