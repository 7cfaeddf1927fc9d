"""Tests, means and predictions by columns far from zero are those of the same columns near it.

Source of truth: invariance. A shift of a column changes no estimate, test or prediction that is
not of the value zero itself.
"""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx

BOTH_METHODS = pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
# Rounding of a column's own values is its shift times 1e-16.
CLOSE = 1e-6
NUMBERS = ["estimate", "std_error", "df"]


@pytest.fixture(scope="module", params=[1e3, 1e7])
def shifted(request):
    """The shift, and fits by x far from zero and near it."""
    r, n, c = np.random.default_rng(3), 160, request.param
    g, f = np.arange(n) % 16, np.array(list("abc"))[r.integers(0, 3, n)]
    x, u = np.round(r.normal(size=n), 3) + c, r.normal(size=(16, 2)) @ [[1, 0.3], [0, 0.6]]
    y = 2 + (x - c) * (1 + u[g, 1]) + (f == "b") * 0.5 + u[g, 0] + r.normal(size=n)
    far = pd.DataFrame({"y": y, "x": x, "f": f, "g": g})
    near = far.assign(x=far["x"] - c)  # with the same rounding
    return c, *(mfx.lmer("y ~ x * f + (x | g)", d) for d in (far, near)), far, near


def at(x):
    """Row of the mean of 'b' at x."""
    return np.array([1.0, 1.0, 0.0, x, x, 0.0])


def assert_same(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=CLOSE)


@BOTH_METHODS
def test_a_mean_far_from_zero(shifted, method):
    c, far, near, _, _ = shifted
    assert far.model.spec.dropped_names == ()
    found, expected = (
        fit.t_test(at(x), df_method=method) for fit, x in ((far, c + 0.5), (near, 0.5))
    )
    assert_same(found[NUMBERS], expected[NUMBERS])


def test_hypotheses_that_depend_on_one_another_but_for_the_last_digits(shifted):
    c, far, near, _, _ = shifted
    slope = np.eye(6)[3]
    found, expected = (
        fit.wald_test(np.vstack([at(x), slope]), df_method="kenward-roger")
        for fit, x in ((far, c + 0.5), (near, 0.5))
    )
    assert_same(found[["F", "den_df"]], expected[["F", "den_df"]])


@BOTH_METHODS
@pytest.mark.parametrize(
    ("type_", "terms"), [(1, ["x", "f", "x:f"]), (2, ["x", "x:f"]), (3, ["x", "x:f"])]
)
def test_anova(shifted, method, type_, terms):
    _, far, near, _, _ = shifted  # f of types II and III is the difference at x = 0
    found, expected = (
        fit.anova(type_, df_method=method).loc[terms, ["F", "den_df"]] for fit in (far, near)
    )
    assert_same(found, expected)


@BOTH_METHODS
def test_marginal_means(shifted, method):
    _, far, near, _, _ = shifted
    found, expected = (fit.emmeans("f", df_method=method) for fit in (far, near))
    assert_same(found.table.drop(columns="f"), expected.table.drop(columns="f"))
    assert_same(found.joint(), expected.joint())


@pytest.mark.cases(1)
def test_predictions_and_influence(shifted):
    _, far, near, far_rows, near_rows = shifted
    found, expected = (
        fit.predict(rows.head(9), se=True, interval="prediction")
        for fit, rows in ((far, far_rows), (near, near_rows))
    )
    assert_same(found, expected)
    found, expected = (fit.influence("g")["cooks_distance"] for fit in (far, near))
    assert_same(found, expected)


def test_an_intercept_only_model_is_not_handed_to_an_engine_without_the_digits(shifted):
    _, _, near, far_rows, near_rows = shifted
    far, near = (mfx.lmer("y ~ x + (1 | g)", rows) for rows in (far_rows, near_rows))
    assert far.deviance == pytest.approx(near.deviance, abs=1e-6)
    assert_same(far.tidy()[NUMBERS].iloc[1].astype(float), near.tidy()[NUMBERS].iloc[1])
