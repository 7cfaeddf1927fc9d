"""Power: exact laws where there are some, and simulation against the expected moments."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedfx as mfx
from mixedfx.design.extended import with_levels, with_rows
from mixedfx.errors import ArgumentError, MixedfxWarning
from mixedfx.inference.variance_power import variance_test

SLEEP = mfx.datasets.load("sleepstudy")
SLOPES = mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP)


def two_arms(groups=10, each=4):
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(groups), each)
    data = pd.DataFrame({"g": g, "arm": np.where(g % 2, "new", "control")})
    data["y"] = rng.standard_normal(groups)[g] + rng.standard_normal(len(g))
    return data


ARMS = mfx.lmer("y ~ arm + (1 | g)", two_arms())
PARAMS = {"arm[T.new]": 1.5, "sd(Intercept | g)": 0.8, "sigma": 1.2}


@pytest.mark.parametrize("groups", [6, 10, 24])
def test_the_power_of_a_difference_of_group_means_is_that_of_students_test(groups):
    # Means of groups of four rows are independent with variance 0.8^2 + 1.2^2 / 4: a t test.
    curve = mfx.power(ARMS, "arm[T.new]", params=PARAMS, groups={"g": groups}, method="exact")
    se = np.sqrt((0.64 + 1.44 / 4) * 4 / groups)
    df, ncp = groups - 2, 1.5 / se
    limit = stats.t.ppf(0.975, df)
    expected = stats.nct.sf(limit, df, ncp) + stats.nct.cdf(-limit, df, ncp)
    assert curve.table["power"].item() == pytest.approx(expected, rel=1e-7)
    assert curve.table["nobs"].item() == 4 * groups


def test_a_term_of_several_columns_has_the_noncentral_f_distribution():
    data = mfx.datasets.load("cake")
    fit = mfx.lmer("angle ~ recipe + (1 | recipe:replicate)", data)
    params = {"recipe[T.B]": 3.0, "recipe[T.C]": 4.0}
    curve = mfx.power(fit, "recipe", params=params, method="exact")
    variance = fit.scale / 6 + float(fit.vcomp.iloc[0])
    means = np.array([0.0, 3.0, 4.0])
    ncp = 15 * ((means - means.mean()) ** 2).sum() / variance
    expected = stats.ncf.sf(stats.f.ppf(0.95, 2, 42), 2, 42, ncp)
    assert curve.table["power"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.full
def test_without_an_effect_the_power_is_the_level():
    curve = mfx.power(SLOPES, "Days", params={"Days": 0.0}, method="exact", alpha=0.1)
    assert curve.table["power"].item() == pytest.approx(0.1, rel=1e-9)
    simulated = mfx.power(SLOPES, "Days = 10", params={"Days": 10.0}, rng=3, n_sim=400)
    row = simulated.table.iloc[0]
    assert row["conf_low"] < 0.05 < row["conf_high"]


@pytest.mark.full
@pytest.mark.parametrize("term", ["Days", "Days = 2"])
def test_simulations_agree_with_the_expected_moments(term):
    options = {"params": {"Days": 5.0}, "groups": {"Subject": [8, 18]}}
    exact = mfx.power(SLOPES, term, method="exact", **options).table
    simulated = mfx.power(SLOPES, term, rng=11, n_sim=500, **options).table
    assert (simulated["conf_low"] < exact["power"]).all()
    assert (exact["power"] < simulated["conf_high"]).all()
    assert (simulated["n_failed"] == 0).all()
    assert list(simulated["nobs"]) == [80, 180]


@pytest.mark.full
def test_crossed_factors_and_terms_are_simulated():
    data = mfx.datasets.load("Penicillin").assign(lab=lambda d: np.where(d.index % 2, "a", "b"))
    fit = mfx.lmer("diameter ~ lab + (1 | plate) + (1 | sample)", data)
    options = {"params": {"lab[T.b]": 0.2}, "groups": {"plate": 12}}
    exact = mfx.power(fit, "lab", method="exact", **options).table["power"].item()
    row = mfx.power(fit, "lab", rng=4, n_sim=200, **options).table.iloc[0]
    assert row["conf_low"] < exact < row["conf_high"]


@pytest.mark.full
def test_generalised_models_are_simulated():
    herds = mfx.datasets.load("cbpp")
    fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
    curve = mfx.power(fit, "period", rng=2, n_sim=20, groups={"herd": 20})
    assert curve.table["power"].item() > 0.5
    none = {f"period[T.{i}]": 0.0 for i in (2, 3, 4)}
    assert mfx.power(fit, "period", rng=2, n_sim=20, params=none).table["power"].item() < 0.35


@pytest.mark.full
def test_residual_models_have_the_power_of_their_own_design():
    data = two_arms()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        fit = mfx.lmer("y ~ arm + (1 | g)", data, dispersion="~ arm")
    curve = mfx.power(fit, "arm[T.new]", params={"arm[T.new]": 4.0}, rng=1, n_sim=20)
    assert curve.table["power"].item() > 0.5
    with pytest.raises(ArgumentError, match="copy rows"):
        mfx.power(fit, "arm[T.new]", groups={"g": [20]})


@pytest.mark.full
def test_a_seed_gives_the_same_power_and_sizes_do_not_depend_on_each_other():
    options = {"params": {"Days": 4.0}, "rng": 5, "n_sim": 40}
    both = mfx.power(SLOPES, "Days", groups={"Subject": [6, 12]}, **options).table
    again = mfx.power(SLOPES, "Days", groups={"Subject": [6, 12]}, **options).table
    first = mfx.power(SLOPES, "Days", groups={"Subject": [6]}, **options).table
    pd.testing.assert_frame_equal(both, again)
    pd.testing.assert_frame_equal(both.iloc[:1], first)


def test_levels_are_copied_with_what_is_nested_in_them():
    frame = pd.DataFrame(
        {"school": list("aabb"), "pupil": list("wxyz"), "item": list("1212"), "x": range(4)}
    )
    found = with_levels(frame, "school", 5, ["school", "pupil", "item"])
    assert found["school"].nunique() == 5
    assert found["pupil"].nunique() == 10
    assert found["item"].nunique() == 2
    assert list(found["x"]) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert with_levels(frame, "school", 2)["x"].tolist() == frame["x"].tolist()


def test_rows_are_those_of_the_level_in_turn():
    frame = pd.DataFrame({"g": list("aab"), "x": [1, 2, 3]})
    assert with_rows(frame, "g", 3)["x"].tolist() == [1, 2, 1, 3, 3, 3]


def test_a_curve_says_the_smallest_size_and_is_drawn():
    curve = mfx.power(
        SLOPES,
        "Days",
        params={"Days": 4.0},
        method="exact",
        groups={"Subject": [10, 20, 30]},
        rows=[5, 10],
    )
    assert list(curve.table.columns[:3]) == ["Subject", "rows", "nobs"]
    assert curve.smallest(0.8)["Subject"] == 30
    assert curve.smallest(0.999) is None
    ax = curve.plot()
    assert len(ax.get_legend().get_texts()) == 2
    assert ax.get_xlabel() == "levels of Subject"
    assert "power" in repr(curve)
    assert "<table" in curve._repr_html_()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"term": "Day"}, "did you mean|no coefficient"),
        ({"groups": {"subject": [10]}}, "no grouping factor"),
        ({"groups": {"Subject": [1.5]}}, "whole numbers"),
        ({"groups": [10]}, "must map"),
        ({"rows": 0}, "whole numbers"),
        ({"alpha": 5}, "alpha"),
        ({"method": "normal"}, "method"),
        ({"n_sim": 0}, "n_sim"),
        ({"params": {"days": 1.0}}, "params"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    given = {"term": "Days", **given}
    with pytest.raises(ArgumentError, match=message):
        mfx.power(SLOPES, given.pop("term"), **given)


def test_what_is_no_fit_and_exact_of_other_models_are_refused():
    with pytest.raises(ArgumentError, match="takes a fit"):
        mfx.power("y ~ x", "x")
    herds = mfx.datasets.load("cbpp")
    fit = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", herds)
    with pytest.raises(ArgumentError, match="linear models"):
        mfx.power(fit, "period", method="exact")


# ---------------------------------------------------------------- variances

DYESTUFF = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
VARIANCES = {"sd(Intercept | Batch)": 20.0, "sigma": 50.0}


@pytest.mark.full
@pytest.mark.parametrize("batches", [6, 20])
def test_the_power_of_a_variance_is_that_of_the_f_test_of_a_balanced_design(batches):
    # The restricted likelihood ratio increases with the ratio of mean squares, which has
    # (1 + n l) times an F distribution: five rows in each batch, l = (20 / 50)^2.
    curve = mfx.power(
        DYESTUFF, "(1 | Batch)", params=VARIANCES, groups={"Batch": batches}, method="exact", rng=1
    )
    df = batches - 1, 4 * batches
    expected = stats.f.sf(stats.f.ppf(0.95, *df) / (1 + 5 * 0.16), *df)
    n_sim = curve.table["n_sim"].item()
    # The critical value is drawn, too: its error is that of the level times the slope of the power.
    slope = (stats.f.sf(stats.f.ppf(0.949, *df) / 1.8, *df) - expected) / 0.001
    error = np.sqrt((expected * (1 - expected) + slope**2 * 0.05 * 0.95) / n_sim)
    assert curve.table["power"].item() == pytest.approx(expected, abs=4 * error)


@pytest.mark.full
def test_draws_without_fits_have_the_power_of_fits():
    by_draws = mfx.power(DYESTUFF, "Batch", params=VARIANCES, n_sim=1000, rng=2).table
    responses = DYESTUFF.simulate(150, rng=3, params=VARIANCES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        p_values = [DYESTUFF.refit(responses[i]).rlrt(n_sim=2000)["p_value"] for i in responses]
    share = np.mean(np.array(p_values) < 0.05)
    assert share == pytest.approx(by_draws["power"].item(), abs=4 * np.sqrt(0.25 * 0.75 / 150))


@pytest.mark.full
def test_the_power_of_one_of_several_variances_is_by_fits_of_both_models():
    fit = mfx.lmer("Reaction ~ Days + (Days || Subject)", SLEEP)
    large, none = (
        mfx.power(fit, "sd(Days | Subject)", params={"sd(Days | Subject)": s}, n_sim=40, rng=1)
        for s in (8.0, 0.0)
    )
    assert large.table["power"].item() == 1.0
    assert none.table["power"].item() < 0.2
    correlated = mfx.power(SLOPES, "sd(Days | Subject)", n_sim=20, rng=1)
    assert correlated.table["power"].item() > 0.9


@pytest.mark.full
def test_a_term_is_found_by_its_whole_text():
    # "cs(0 + x | g)" ends as "(0 + x | g)" does.
    data = two_arms().assign(x=np.linspace(-1.0, 1.0, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        fit = mfx.lmer("y ~ 1 + (0 + x | g) + cs(0 + x | g)", data).model
    tests = [variance_test(fit, term) for term in ("(0 + x | g)", "cs(0 + x | g)")]
    assert [test.t for test in tests if test is not None] == [0, 1]


def test_variances_that_cannot_be_tested_are_named():
    with pytest.raises(ArgumentError, match=r"sd\(Days \| Subject\)"):
        mfx.power(SLOPES, "sd(days | Subject)")
    with pytest.raises(ArgumentError, match="method='simulation'"):
        mfx.power(SLOPES, "sd(Days | Subject)", method="exact")
