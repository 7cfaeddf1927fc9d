"""Contrasts by name, interaction contrasts and adjustments from the joint t distribution.

Source of truth: scipy's multivariate t distribution, Tukey's adjustment in a balanced design (there
the same), Dunnett's (1955) table, and identities of coefficients. R's numbers are in
test_like_emmeans.py.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError
from mixedfx.inference.emmeans.multivariate_t import LargestT
from mixedfx.inference.emmeans.p_adjust import _HALF_WIDTHS as HALF_WIDTHS
from mixedfx.inference.emmeans.p_adjust import ContrastFamily
from mixedfx.inference.emmeans.studentized_range import studentized_range_tail


@pytest.fixture(scope="module")
def cake():
    return mfx.lmer(
        "angle ~ recipe * temperature + (1 | recipe:replicate)", mfx.datasets.load("cake")
    )


@pytest.fixture(scope="module")
def uneven():
    rng = np.random.default_rng(3)
    n = 150
    dose = rng.choice(["none", "low", "high"], n, p=[0.6, 0.3, 0.1])
    table = pd.DataFrame({"dose": dose, "sex": rng.choice(["f", "m"], n), "year": 2000})
    table["year"] += rng.integers(3, size=n)
    table["g"] = rng.integers(10, size=n).astype(str)
    effect = rng.normal(size=10)[table["g"].astype(int)]
    table["y"] = rng.normal(size=n) + effect + (table["dose"] == "high")
    return mfx.lmer("y ~ dose * sex + C(year) + (1 | g)", table)


def coefficients(table):
    return table[["contrast", "estimate", "std_error", "p_value"]]


# ---------------------------------------------------------------- by name


def test_contrasts_by_name_are_those_of_their_coefficients(uneven):
    means = uneven.emmeans("dose")
    assert means.table["dose"].tolist() == ["high", "low", "none"]
    by_name = means.contrasts({"h-l": {"high": 1, "low": -1}, "dosed": {"none": -1, "low": 1}})
    by_position = means.contrasts({"h-l": [1, -1, 0], "dosed": [0, 1, -1]})
    pd.testing.assert_frame_equal(by_name, by_position)


def test_levels_of_several_variables_are_tuples_or_labels(uneven):
    means = uneven.emmeans(["dose", "sex"])
    found = means.contrasts(
        {"a": {("high", "f"): 1, ("low", "m"): -1}, "b": {"high f": 1, "low m": -1}}
    )
    emmean = means.table["emmean"]
    assert found["estimate"].tolist() == pytest.approx([emmean[0] - emmean[4]] * 2)


def test_numbers_are_levels_by_value_text_or_label(uneven):
    means = uneven.emmeans("year")
    found = means.contrasts({"a": {2002: 1, 2000: -1}, "b": {"2002": 1, "year2000": -1}})
    assert found["estimate"].iloc[0] == found["estimate"].iloc[1]


def test_a_reference_is_named_by_its_level(uneven):
    found = uneven.emmeans("dose").contrasts("trt.vs.ctrl", ref="none")
    assert found["contrast"].tolist() == ["high - none", "low - none"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": {"d": {"hi": 1, "low": -1}}}, "'hi' is none of the means high, low, none"),
        ({"method": {"d": {"hihg": 1}}}, "Did you mean 'high'"),
        (
            {"method": {"d": {"high": "1"}}},
            "the coefficient of 'high' in 'd' is '1': give a number",
        ),
        ({"method": {"d": {"high": 0}}}, "the coefficients of 'd' are all zero"),
        ({"method": "pairwise", "ref": "none"}, "add method='trt.vs.ctrl' or 'dunnett'"),
        ({"method": "dunnett", "ref": "placebo"}, "ref: 'placebo' is none of the means"),
        ({"interaction": ["pairwise", "poly"]}, "interaction has 2 methods for 1 variables"),
        ({"interaction": "pair"}, "interaction='pair'"),
        ({"interaction": 3}, "interaction=3 is not one of the choices"),
        ({"method": "dunnett", "ref": np.zeros(2)}, "is none of the means"),
        ({"interaction": {"sex": "pairwise"}}, "interaction='sex'"),
        ({"interaction": "pairwise", "ref": "low"}, "ref= goes with a method"),
        ({"adjust": "dunnet"}, "mean 'dunnettx'"),
    ],
    ids=str,
)
def test_wrong_contrasts_are_refused_with_what_is_right(uneven, how, message):
    with pytest.raises(ArgumentError, match=message):
        uneven.emmeans("dose").contrasts(**how)


# ---------------------------------------------------------------- interactions


def test_interaction_contrasts_are_differences_of_differences(uneven):
    means = uneven.emmeans(["dose", "sex"])
    cell = means.table.set_index(["dose", "sex"])["emmean"]
    found = means.contrasts(interaction=["trt.vs.ctrl", "revpairwise"])
    assert found["contrast"].tolist() == ["low - high : m - f", "none - high : m - f"]
    expected = (cell["low", "m"] - cell["low", "f"]) - (cell["high", "m"] - cell["high", "f"])
    assert found["estimate"].iloc[0] == pytest.approx(expected)


def test_interaction_contrasts_do_not_depend_on_the_order_of_the_variables(cake):
    a = cake.emmeans(["recipe", "temperature"]).contrasts(interaction=["pairwise", "consec"])
    b = cake.emmeans(["temperature", "recipe"]).contrasts(interaction=["consec", "pairwise"])
    assert sorted(a["estimate"].round(9)) == sorted(b["estimate"].round(9))


def test_interaction_contrasts_together_are_the_interaction(cake):
    found = cake.emmeans(["recipe", "temperature"]).contrasts(interaction="trt.vs.ctrl")
    expected = cake.params.filter(like=":")
    assert sorted(found["estimate"].round(9)) == sorted(expected.round(9))


def test_one_variable_has_its_own_contrasts_as_interaction(uneven):
    means = uneven.emmeans("dose")
    pd.testing.assert_frame_equal(
        means.contrasts(interaction="pairwise"), means.contrasts("pairwise", adjust="none")
    )


# ---------------------------------------------------------------- the joint t distribution


@pytest.mark.full
def test_all_pairs_of_a_balanced_design_have_tukeys_p_values(cake):
    means = cake.emmeans("temperature")
    tukey, mvt = (means.contrasts(adjust=adjust) for adjust in ("tukey", "mvt"))
    for name in ("p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(mvt[name], tukey[name], rtol=2e-3, atol=2e-4)


@pytest.mark.full
def test_p_values_are_those_of_scipys_multivariate_t(uneven):
    found = uneven.emmeans("dose", df_method="residual").contrasts("dunnett")
    assert found.attrs["adjust"] == "mvt"
    rows = uneven.emmeans("dose").rows
    differences = rows[1:] - rows[0]
    cov = differences @ uneven.cov_params().to_numpy() @ differences.T
    R = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    df = int(found["df"].iloc[0])
    joint = stats.multivariate_t(shape=R, df=df, seed=1)
    for t, p in zip(found["statistic"].abs(), found["p_value"], strict=True):
        inside = joint.cdf([t, t], lower_limit=[-t, -t], maxpts=100_000)
        assert p == pytest.approx(1.0 - inside, abs=2e-5)


@pytest.mark.parametrize(("k", "expected"), [(2, 2.38), (3, 2.54)])
def test_dunnetts_table_is_found(k, expected):
    # Dunnett (1964), Biometrics 20:482, table II: two-sided 5 % points at 20 degrees of freedom of
    # k comparisons with one mean, all of the same size: correlations of one half.
    largest = LargestT.of(np.full((k, k), 0.5) + 0.5 * np.eye(k))
    assert largest.tail(expected - 0.006, 20) > 0.05 > largest.tail(expected + 0.006, 20)


@pytest.mark.cases(1)
@pytest.mark.parametrize("k", [2, 3, 5, 9, 15])
@pytest.mark.parametrize("t", [1.5, 2.5, 4.0])
def test_comparisons_with_one_mean_have_dunnetts_integral(k, t):
    # Given the control's deviation z, the k comparisons (z_j - z) / sqrt(2) are independent.
    z, w = np.polynomial.hermite_e.hermegauss(160)
    reach = np.sqrt(2) * t
    each = stats.norm.cdf(z + reach) - stats.norm.cdf(z - reach)
    inside = each**k @ w / w.sum()
    found = LargestT.of(np.full((k, k), 0.5) + 0.5 * np.eye(k)).tail(t, np.inf)
    assert found == pytest.approx(1.0 - inside, rel=1e-3 if k > 5 else 1e-4)


@pytest.mark.parametrize("k", but_for([3, 5, 8], [3, 5]))
def test_all_pairs_of_means_have_the_studentised_range(k):
    pairs = itertools.combinations(range(k), 2)
    C = np.array([np.eye(k)[i] - np.eye(k)[j] for i, j in pairs]) / np.sqrt(2)
    largest = LargestT.of(C @ C.T)
    for t in (1.5, 3.0, 5.0):
        expected = studentized_range_tail(np.sqrt(2) * t, k, 12)
        assert largest.tail(t, 12) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("df", [4.5, np.inf])
def test_independent_statistics_have_the_product(df):
    # At infinite degrees of freedom independent statistics are independent: Sidak's.
    tails = [LargestT.of(np.eye(m)).tail(2.5, df) for m in (1, 2, 4)]
    assert tails[0] == pytest.approx(2 * stats.t.sf(2.5, df), rel=1e-12)
    sidak = [1 - (1 - tails[0]) ** m for m in (2, 4)]
    if np.isinf(df):
        np.testing.assert_allclose(tails[1:], sidak, rtol=5e-4)
    else:
        assert tails[0] < tails[1] < sidak[0]


@pytest.mark.full
def test_simultaneous_intervals_leave_out_zero_where_the_test_rejects(uneven):
    for adjust in ("mvt", "dunnettx", "scheffe"):
        found = uneven.emmeans("dose").contrasts("trt.vs.ctrl", adjust=adjust)
        excluded = (found["conf_low"] > 0) | (found["conf_high"] < 0)
        assert (excluded == (found["p_value"] < 0.05)).all()
        assert f"Adjustment: {adjust}, for 2 contrasts" in str(found)


@pytest.mark.full
@pytest.mark.parametrize("adjust", but_for(["tukey", "mvt", "dunnettx"], ["tukey"]))
def test_intervals_of_many_degrees_of_freedom_are_those_of_each_alone(adjust):
    rng = np.random.default_rng(9)
    m, df = 28, rng.uniform(3.0, 400.0, 28)
    C = rng.normal(size=(m, 7))
    R = C @ C.T / np.sqrt(np.outer(*[np.square(C).sum(axis=1)] * 2))

    def half_widths(rows):
        family = ContrastFamily(np.full(m, 0.5)[rows], np.ones(m)[rows], df[rows], 8, R)
        return HALF_WIDTHS[adjust](replace(family, p=np.full(m, 0.5)), 0.95)

    some = [0, 7, int(df.argmin()), int(df.argmax())]
    alone = [half_widths(slice(i, i + 1)).item() for i in some]
    np.testing.assert_allclose(half_widths(slice(None))[some], alone, rtol=1e-6)


def test_adjustments_are_reproducible(uneven):
    found = [uneven.emmeans("dose").contrasts(adjust="mvt") for _ in range(2)]
    pd.testing.assert_frame_equal(*found)


# ---------------------------------------------------------------- means of the response


def test_regridded_means_are_those_of_the_response_and_contrasts_their_differences():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = mfx.glmer(formula, mfx.datasets.load("cbpp"), "binomial")
    response, own = fit.emmeans("period", which="mean"), fit.emmeans("period").regrid()
    for name in ("emmean", "std_error"):
        np.testing.assert_allclose(own.table[name], response.table[name])
    p = response.table["emmean"]
    found = own.contrasts("consec")
    np.testing.assert_allclose(found["estimate"], p.diff().dropna())
    assert "Contrasts are differences of the probability." in found.attrs["caption"]
    pd.testing.assert_frame_equal(response.regrid().table, own.table)
    assert own.regrid() is own
    with pytest.raises(ArgumentError, match=r"regrid\(\) has left the linear predictor"):
        own.contrasts(which="linear")


def test_means_of_a_linear_model_and_slopes_are_on_their_scale_already(uneven):
    means = uneven.emmeans("dose")
    assert means.regrid() is means
