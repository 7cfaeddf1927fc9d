"""Slopes along a covariate: what they are of, on any scale, and what is refused.

Source of truth: coefficients where the model is linear, derivatives by hand, numeric Jacobians of
predictions by the coefficients (the delta method), and identities. R's numbers are in
test_like_emmeans.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, CallError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = 240
    table = pd.DataFrame(
        {
            "x": rng.uniform(1.0, 9.0, n),
            "z": rng.normal(size=n),
            "a": rng.choice(["p", "q", "r"], n, p=[0.5, 0.3, 0.2]),
            "b": rng.choice(["lo", "hi"], n, p=[0.3, 0.7]),
            "g": [f"g{i:02}" for i in rng.integers(12, size=n)],
            "flag": rng.random(n) < 0.4,
        }
    )
    effect = rng.normal(size=12)[table["g"].str[1:].astype(int)]
    table["y"] = np.sqrt(table["x"]) * (table["a"] == "q") + 0.2 * table["x"] + effect
    table["y"] += rng.normal(size=n)
    table["k"] = rng.poisson(np.exp(0.1 * table["x"] + 0.3 * effect))
    return table


def test_the_slope_of_a_linear_term_is_its_coefficient(data):
    fit = mfx.lmer("y ~ x + z + (1 | g)", data)
    (slope,) = fit.slopes("x").table.to_dict("records")
    expected = fit.tidy().set_index("term").loc["x"]
    for name in ("std_error", "df", "statistic", "p_value", "conf_low", "conf_high"):
        assert slope[name] == pytest.approx(expected[name], rel=1e-9)
    assert slope["slope"] == pytest.approx(expected["estimate"], rel=1e-10)


def test_a_difference_of_slopes_is_the_coefficient_of_the_interaction(data):
    fit = mfx.lmer("y ~ x * a + (1 | g)", data)
    found = fit.slopes("x", by="a").contrasts("trt.vs.ctrl", adjust="none")
    expected = fit.tidy().set_index("term").loc[["x:a[T.q]", "x:a[T.r]"]]
    assert found["contrast"].tolist() == ["q - p", "r - p"]
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-9)
    np.testing.assert_allclose(found["p_value"], expected["p_value"], rtol=1e-8)


@pytest.mark.parametrize(
    ("term", "derivative"),
    [
        ("I(x**2)", lambda x: 2 * x),
        ("np.log(x)", lambda x: 1 / x),
        ("np.sqrt(x)", lambda x: 0.5 / np.sqrt(x)),
        ("I(x**4)", lambda x: 4 * x**3),
    ],
)
def test_derivatives_are_those_by_hand(data, term, derivative):
    fit = mfx.lmer(f"y ~ {term} + (1 | g)", data)
    at = [1.5, 4.0, 8.0]
    found = fit.slopes("x", by="x", at={"x": at}).table
    expected = fit.params.iloc[1] * derivative(np.array(at))
    np.testing.assert_allclose(found["slope"], expected, rtol=1e-10)


@pytest.mark.parametrize("basis", ["bs(x, df=4)", "poly(x, 3)", "ns(x, df=3)"])
def test_slopes_at_the_ends_of_a_basis_are_taken_from_the_inside(data, basis):
    fit = mfx.lmer(f"y ~ {basis} + (1 | g)", data)
    low, high = data["x"].min(), data["x"].max()
    found = fit.slopes("x", by="x", at={"x": [low, high]}).table["slope"]
    h = 1e-5
    near = pd.DataFrame({"x": [low, low + h, high - h, high]})
    p = fit.predict(near, random="none").to_numpy()
    np.testing.assert_allclose(found, [(p[1] - p[0]) / h, (p[3] - p[2]) / h], rtol=1e-4)


@pytest.mark.full
def test_the_unit_of_the_covariate_is_that_of_the_slope(data):
    fit = mfx.lmer("y ~ bs(x, df=4) * a + (1 | g)", data)
    scaled = mfx.lmer("y ~ bs(x, df=4) * a + (1 | g)", data.assign(x=1e4 + 10 * data["x"]))
    found, expected = (f.slopes("x", by="a").table["slope"] for f in (scaled, fit))
    np.testing.assert_allclose(10 * found, expected, rtol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("which", but_for(["linear", "mean"], ["mean"]))
def test_errors_are_those_of_the_delta_method(data, which):
    fit = mfx.glmer("k ~ np.log(x) * b + z + (1 | g)", data, family="poisson")
    found = fit.slopes("x", by="b", which=which).table

    def slopes(beta):
        solution = replace(fit.model.solution, beta=beta)
        shifted = mfx.Results(replace(fit.model, solution=solution))
        return shifted.slopes("x", by="b", which=which).table["slope"].to_numpy()

    beta, h = fit.model.solution.beta, 1e-5
    J = np.array([(slopes(beta + h * e) - slopes(beta - h * e)) / (2 * h) for e in np.eye(5)]).T
    expected = np.sqrt(np.diag(J @ fit.cov_params().to_numpy() @ J.T))
    np.testing.assert_allclose(found["std_error"], expected, rtol=1e-6)


def test_slopes_of_the_mean_are_those_of_predictions(data):
    fit = mfx.glmer("k ~ np.log(x) * b + z + (1 | g)", data, family="poisson")
    h, x, z = 1e-4, data["x"].mean(), data["z"].mean()
    new = pd.DataFrame({"x": [x - h, x + h] * 2, "b": ["hi"] * 2 + ["lo"] * 2, "z": z})
    p = fit.predict(new, random="none").to_numpy()
    found = fit.slopes("x", by="b", which="mean").table["slope"]
    np.testing.assert_allclose(found, [(p[1] - p[0]) / (2 * h), (p[3] - p[2]) / (2 * h)], rtol=1e-7)


def test_slopes_of_a_transformed_response_are_of_the_response(data):
    data = data.assign(y=np.exp(0.2 * data["y"]))
    fit = mfx.lmer("np.log(y) ~ x * b + (1 | g)", data)
    table, means = fit.slopes("x", "b").table, fit.emmeans("b", which="mean").table
    found = fit.slopes("x", "b", which="mean").table["slope"]
    np.testing.assert_allclose(found, table["slope"] * means["emmean"], rtol=1e-10)


def test_a_formula_groups_the_comparisons(data):
    fit = mfx.lmer("y ~ x * a * b + (1 | g)", data)
    found = fit.slopes("x", by="~ a | b").contrasts("consec")
    assert list(found.columns[:2]) == ["b", "contrast"]
    assert len(found) == 4


def test_slopes_averaged_over_a_factor_are_their_mean(data):
    fit = mfx.lmer("y ~ x * a + (1 | g)", data)
    by_level = fit.slopes("x", by="a").table["slope"]
    assert fit.slopes("x").table["slope"].item() == pytest.approx(by_level.mean())
    shares = data["a"].value_counts(normalize=True).sort_index().to_numpy()
    weighted = fit.slopes("x", weights="proportional").table["slope"].item()
    assert weighted == pytest.approx(shares @ by_level)


@pytest.mark.parametrize("which", ["linear", "mean"])
def test_average_slopes_are_the_mean_of_the_derivatives_of_the_rows(data, which):
    fit = mfx.glmer("k ~ np.log(x) * b + z + (1 | g)", data, family="poisson")
    h = 1e-4
    up, down = (
        fit.predict(data.assign(x=data["x"] + d), random="none", which=which) for d in (h, -h)
    )
    derivative = (up - down) / (2 * h)
    table = fit.slopes("x", which=which, average=True).table
    assert table["slope"].item() == pytest.approx(derivative.mean(), rel=1e-7)
    by_level = fit.slopes("x", by="b", which=which, average=True)
    np.testing.assert_allclose(
        by_level.table["slope"], derivative.groupby(data["b"]).mean(), rtol=1e-7
    )
    (difference,) = by_level.contrasts()["estimate"]
    assert difference == pytest.approx(-by_level.table["slope"].diff().iloc[1])


@pytest.mark.full
def test_errors_of_average_slopes_are_those_of_the_delta_method(data):
    fit = mfx.glmer("k ~ np.log(x) * b + z + (1 | g)", data, family="poisson")

    def average(beta):
        shifted = mfx.Results(replace(fit.model, solution=replace(fit.model.solution, beta=beta)))
        h = 1e-4
        up, down = (shifted.predict(data.assign(x=data["x"] + d), random="none") for d in (h, -h))
        return (up - down).mean() / (2 * h)

    beta, h = fit.model.solution.beta, 1e-4
    J = np.array([average(beta + h * e) - average(beta - h * e) for e in np.eye(5)]) / (2 * h)
    expected = np.sqrt(J @ fit.cov_params().to_numpy() @ J)
    found = fit.slopes("x", which="mean", average=True).table["std_error"].item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_average_slopes_of_other_rows_are_of_those(data):
    fit = mfx.lmer("y ~ x + I(x**2) + (1 | g)", data)
    found = fit.slopes("x", average=True, data=data.iloc[:7]).table["slope"].item()
    expected = fit.params["x"] + 2 * fit.params["I(x ** 2)"] * data["x"].iloc[:7].mean()
    assert found == pytest.approx(expected, rel=1e-9)


def test_average_slopes_at_one_level_are_those_of_all_rows_there(data):
    fit = mfx.lmer("y ~ x * a + I(x**2) + (1 | g)", data)
    found = fit.slopes("x", at={"a": "q"}, average=True).table["slope"].item()
    b = fit.params
    expected = b["x"] + b["x:a[T.q]"] + 2 * b["I(x ** 2)"] * data["x"].mean()
    assert found == pytest.approx(expected, rel=1e-9)


def test_emtrends_is_another_name(data):
    fit = mfx.lmer("y ~ x * a + (1 | g)", data)
    pd.testing.assert_frame_equal(fit.emtrends("x", by="a").table, fit.slopes("x", by="a").table)


def test_a_fit_without_rows_has_the_same_slopes(data):
    fit = mfx.lmer("y ~ np.log(x) * a + (1 | g)", data)
    slim = fit.slim().slopes("x", by="a", weights="proportional")
    pd.testing.assert_frame_equal(slim.table, fit.slopes("x", by="a").table)


def test_what_is_averaged_over_and_interacts_is_noted(data):
    fit = mfx.lmer("y ~ x * a + b + (1 | g)", data)
    assert "the slopes by x may mislead, as it interacts with a." in fit.slopes("x", "b").notes
    assert fit.slopes("x", "a").notes == ()
    assert "Slopes by x." in str(fit.slopes("x", "a"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"variable": "a"}, r"'a' is categorical and has no slope; .*fit.emmeans\('a'\)"),
        ({"variable": "flag"}, "'flag' is categorical"),
        ({"variable": "g"}, "variable: 'g' is in no term .*numeric variables are: x"),
        ({"variable": "X"}, "mean 'x'"),
        ({"variable": 3}, "variable: 3 is in no term"),
        ({"variable": "x", "by": "g"}, "by: 'g' is in no term .*: x, a, flag"),
        ({"variable": "x", "by": "a + b"}, "by: "),
        ({"variable": "x", "which": "link"}, "which='link'"),
        ({"variable": "x", "weights": "even"}, "weights='even'"),
        ({"variable": "x", "average": 1}, "average=1"),
        ({"variable": "x", "average": True, "by": "g"}, "by: 'g' is in no term"),
        ({"variable": "x", "average": True, "at": {"x": [1, 2]}}, "'x' has 2 values; rows are"),
        ({"variable": "x", "data": [1]}, "data= has rows to average over: add average=True"),
        ({"variable": "x", "average": True, "weights": "cells"}, "average=True averages over"),
        ({"variable": "x", "at": {"a": "s"}}, "'a' has no level 's'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_with_what_is_right(data, how, message):
    fit = mfx.lmer("y ~ x * a + flag + (1 | g)", data)
    with pytest.raises(ArgumentError, match=message):
        fit.slopes(**how)


def test_slopes_have_one_scale(data):
    slopes = mfx.lmer("y ~ x * a + (1 | g)", data).slopes("x", "a")
    with pytest.raises(ArgumentError, match=r"write fit.slopes\('x', which='mean'\)"):
        slopes.contrasts(which="mean")


def test_names_of_other_programs_are_explained(data):
    fit = mfx.lmer("y ~ x * a + (1 | g)", data)
    with pytest.raises(CallError, match=r"emtrends\(\) has no argument var=: .*fit.slopes\('x'"):
        fit.emtrends("a", var="x")
    with pytest.raises(CallError, match=r"slopes\(\) needs variable: write slopes\(variable\)"):
        fit.slopes()
    with pytest.raises(AttributeError, match="here it is slopes"):
        fit.avg_slopes()
