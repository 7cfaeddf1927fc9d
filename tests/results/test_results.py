"""Results: names, shapes and agreement of the parts with each other.

Source of truth: statsmodels' and lme4's conventions for names and shapes, identities between
quantities, and tests/oracle.py for conditional covariances.
"""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DataError, MissingColumnError, NewLevelError
from mixedfx.likelihood.pls import solve_pls

# Fits are smooth in their data: the same number by two routes differs by rounding only.
ROUNDING = 1e-10


@pytest.fixture(scope="module")
def rich():
    """Two crossed factors, one of them nested in a third; slopes, weights, offset, a gap."""
    rng = np.random.default_rng(21)
    n = 240
    site = rng.integers(6, size=n)
    plot = rng.integers(4, size=n)
    day = rng.integers(9, size=n)
    x = rng.normal(size=n)
    z = rng.uniform(size=n)
    y = (
        2.0
        + 0.5 * x
        + rng.normal(size=6)[site]
        + (0.8 * rng.normal(size=6))[site] * x
        + 0.7 * rng.normal(size=(6, 4))[site, plot]
        + 0.9 * rng.normal(size=9)[day]
        + 0.6 * rng.normal(size=n)
    )
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": z,
            "site": [f"s{i}" for i in site],
            "plot": [f"p{i}" for i in plot],
            "day": day,
            "arm": pd.Categorical(rng.choice(["old", "new", "none"], size=n)),
            "w": rng.uniform(0.5, 2.0, size=n),
            "off": 0.1 * rng.normal(size=n),
        },
        index=pd.Index(np.arange(1000, 1000 + 2 * n, 2), name="row"),
    )


FORMULAS = {
    "slope": "y ~ x + arm + (x | site)",
    "several": "y ~ x + arm + (x | site) + (1 | site:plot) + (1 | day)",
    "two terms of a group": "y ~ x + (1 | site) + (0 + x | site) + (1 | day)",
    "uncorrelated": "y ~ x + (x || site)",
    "no intercept": "y ~ 0 + arm + (0 + x | site)",
    "not fixed": "y ~ 1 + (x | site)",
}
every_fit = pytest.mark.parametrize("name", FORMULAS)


@pytest.fixture(scope="module")
def fits(rich):
    return {name: mfx.lmer(formula, rich) for name, formula in FORMULAS.items()}


@pytest.fixture(scope="module")
def sleep():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))


# ---------------------------------------------------------------- names and shapes

SERIES = ["params", "bse", "tvalues", "fe_params"]
NUMBERS = ["llf", "deviance", "aic", "bic", "nobs", "df_resid", "scale", "sigma"]


@every_fit
def test_fixed_effects_are_series_by_column(fits, name):
    for quantity in SERIES:
        found = getattr(fits[name], quantity)
        assert isinstance(found, pd.Series), quantity
        assert list(found.index) == list(fits[name].model.spec.column_names), quantity


@every_fit
def test_scalars_are_numbers(fits, name):
    for quantity in NUMBERS:
        assert isinstance(getattr(fits[name], quantity), int | float), quantity


@every_fit
def test_the_covariance_of_the_fixed_effects_is_square_by_name(fits, name):
    found = fits[name].cov_params()
    assert list(found.index) == list(found.columns) == list(fits[name].params.index)


@pytest.mark.covering(1)
@every_fit
@pytest.mark.parametrize("quantity", ["fittedvalues", "resid"])
def test_rows_keep_the_datas_index(fits, rich, name, quantity):
    pd.testing.assert_index_equal(getattr(fits[name], quantity).index, rich.index)


@every_fit
def test_theta_is_an_array_of_every_parameter(fits, name):
    assert fits[name].theta.shape == (fits[name].model.crossprod.parametrization.size,)


def test_groups_are_counted_by_name(fits, rich):
    expected = {"site": 6, "site:plot": len(rich[["site", "plot"]].drop_duplicates()), "day": 9}
    assert fits["several"].ngroups == expected


def test_the_formula_is_the_parsed_one(fits):
    assert fits["several"].formula == mfx.parse(FORMULAS["several"])


@pytest.mark.parametrize("reml", [True, False])
def test_the_criterion_is_remembered(rich, reml):
    assert mfx.lmer(FORMULAS["slope"], rich, reml=reml).reml is reml


# ---------------------------------------------------------------- identities


@every_fit
def test_standard_errors_are_roots_of_the_covariance(fits, name):
    fit = fits[name]
    np.testing.assert_allclose(fit.bse**2, np.diag(fit.cov_params()), rtol=ROUNDING)
    pd.testing.assert_frame_equal(fit.vcov(), fit.cov_params())


@every_fit
def test_t_values_are_estimates_over_standard_errors(fits, name):
    fit = fits[name]
    np.testing.assert_allclose(fit.tvalues, fit.params / fit.bse, rtol=ROUNDING)


@every_fit
def test_information_criteria_count_every_parameter(fits, name):
    # lme4 counts fixed effects, theta and sigma, and log n for BIC.
    fit = fits[name]
    count = len(fit.params) + len(fit.theta) + 1
    assert fit.df_modelwc == count
    assert fit.aic == pytest.approx(-2.0 * fit.llf + 2.0 * count, rel=ROUNDING)
    assert fit.bic == pytest.approx(-2.0 * fit.llf + count * np.log(fit.nobs), rel=ROUNDING)


@every_fit
def test_scale_is_sigma_squared(fits, name):
    assert fits[name].scale == pytest.approx(fits[name].sigma ** 2, rel=ROUNDING)


@every_fit
def test_fitted_values_and_residuals_add_up(fits, rich, name):
    fit = fits[name]
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, rich["y"], rtol=ROUNDING)


# ---------------------------------------------------------------- variance components


@every_fit
def test_varcorr_has_lme4s_columns(fits, name):
    assert list(fits[name].varcorr) == ["group", "effect", "effect2", "vcov", "sdcor"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "several",
            [
                ("site", "Intercept", None),
                ("site", "x", None),
                ("site", "Intercept", "x"),
                ("site:plot", "Intercept", None),
                ("day", "Intercept", None),
                ("Residual", None, None),
            ],
        ),
        (
            "uncorrelated",
            [("site", "Intercept", None), ("site", "x", None), ("Residual", None, None)],
        ),
        (
            "two terms of a group",
            [
                ("site", "Intercept", None),
                ("site", "x", None),
                ("day", "Intercept", None),
                ("Residual", None, None),
            ],
        ),
    ],
)
def test_varcorr_lists_variances_then_covariances_then_the_residual(fits, name, rows):
    table = fits[name].varcorr[["group", "effect", "effect2"]]
    found = [tuple(None if pd.isna(v) else v for v in row) for row in table.to_numpy()]
    assert found == rows


@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_three_effects_have_their_pairs_in_lme4s_order(rich):
    fit = mfx.lmer("y ~ x + (x + z | day)", rich)
    pairs = fit.varcorr.dropna(subset=["effect2"])[["effect", "effect2"]].to_numpy().tolist()
    assert pairs == [["Intercept", "x"], ["Intercept", "z"], ["x", "z"]]


@every_fit
def test_standard_deviations_are_roots_of_variances(fits, name):
    table = fits[name].varcorr
    single = table[table["effect2"].isna()]
    np.testing.assert_allclose(single["sdcor"] ** 2, single["vcov"], rtol=ROUNDING)


@every_fit
def test_correlations_are_covariances_over_standard_deviations(fits, name):
    table = fits[name].varcorr
    sd = {(r.group, r.effect): r.sdcor for r in table.itertuples() if pd.isna(r.effect2)}
    for r in table.dropna(subset=["effect2"]).itertuples():
        expected = r.vcov / (sd[r.group, r.effect] * sd[r.group, r.effect2])
        assert r.sdcor == pytest.approx(expected, rel=ROUNDING)


@every_fit
def test_the_residual_is_sigma(fits, name):
    last = fits[name].varcorr.iloc[-1]
    assert (last["group"], last["sdcor"]) == ("Residual", fits[name].sigma)


@every_fit
def test_covariances_of_effects_are_those_of_varcorr(fits, name):
    fit = fits[name]
    by_group = fit.cov_re if isinstance(fit.cov_re, dict) else {fit.formula.groups[0]: fit.cov_re}
    for row in fit.varcorr.itertuples():
        if row.group == "Residual":
            continue
        other = row.effect if pd.isna(row.effect2) else row.effect2
        assert by_group[row.group].loc[row.effect, other] == pytest.approx(row.vcov, rel=ROUNDING)


@every_fit
def test_covariances_of_effects_are_theta_times_scale(fits, name):
    fit = fits[name]
    by_group = fit.cov_re if isinstance(fit.cov_re, dict) else {fit.formula.groups[0]: fit.cov_re}
    lambdas = fit.model.crossprod.parametrization.lambdas(fit.theta)
    for random_term, lam in zip(fit.model.spec.random_terms, lambdas, strict=True):
        found = by_group[random_term.group].loc[
            list(random_term.effect_names), list(random_term.effect_names)
        ]
        np.testing.assert_allclose(found, fit.scale * lam @ lam.T, rtol=ROUNDING, atol=1e-12)


def test_covariances_of_effects_are_a_frame_for_one_group(fits):
    assert isinstance(fits["slope"].cov_re, pd.DataFrame)


def test_covariances_of_effects_are_by_group_for_several(fits):
    assert list(fits["several"].cov_re) == ["site", "site:plot", "day"]


def test_terms_of_one_group_share_a_matrix_with_zeros_between(fits):
    cov = fits["two terms of a group"].cov_re["site"]
    assert (list(cov), cov.loc["Intercept", "x"]) == (["Intercept", "x"], 0.0)


@every_fit
def test_variance_components_are_those_of_varcorr(fits, name):
    table = fits[name].varcorr
    single = table[table["effect2"].isna() & table["effect"].notna()]
    assert list(fits[name].vcomp.index) == list(zip(single["group"], single["effect"], strict=True))
    np.testing.assert_array_equal(fits[name].vcomp, single["vcov"])


def at_theta(fit, theta):
    """Look at a fit's data from another theta."""
    solution = solve_pls(fit.model.crossprod, np.array(theta), reml=fit.reml)
    return mfx.Results(replace(fit.model, solution=solution))


def test_a_correlation_with_a_zero_variance_is_missing(sleep):
    pair = at_theta(sleep, [0.0, 0.0, 0.2]).varcorr.iloc[2]
    assert (pair["effect"], pair["effect2"], pair["vcov"]) == ("Intercept", "Days", 0.0)
    assert np.isnan(pair["sdcor"])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_correlation_of_one_does_not_exceed_it(sleep, sign):
    found = at_theta(sleep, [0.3, sign * 0.1, 0.0]).varcorr.iloc[2]["sdcor"]
    assert 1.0 - 1e-12 <= sign * found <= 1.0


# ---------------------------------------------------------------- random effects


@every_fit
def test_effects_are_a_row_per_level_and_a_column_per_effect(fits, name):
    fit = fits[name]
    for group, table in fit.ranef().items():
        effects = [
            e for b in fit.model.spec.random_terms if b.group == group for e in b.effect_names
        ]
        assert (len(table), list(table)) == (fit.ngroups[group], effects)
        assert table.index.name == group


@every_fit
def test_effects_of_one_group_are_those_of_all(fits, name):
    for group, table in fits[name].ranef().items():
        pd.testing.assert_frame_equal(fits[name].ranef(group), table)


def test_levels_are_labelled_by_their_values(fits, rich):
    tables = fits["several"].ranef()
    assert list(tables["site"].index) == sorted(rich["site"].unique())
    assert list(tables["day"].index) == sorted(rich["day"].unique())
    expected = sorted((rich["site"] + ":" + rich["plot"]).unique())
    assert list(tables["site:plot"].index) == expected


def test_levels_keep_the_order_of_a_categorical(rich):
    order = ["s3", "s0", "s5", "s1", "s4", "s2"]
    data = rich.assign(site=pd.Categorical(rich["site"], categories=order))
    assert list(mfx.lmer("y ~ x + (1 | site)", data).ranef("site").index) == order


@every_fit
def test_conditional_sds_stand_beside_the_effects(fits, name):
    for group, table in fits[name].ranef(cond_sd=True).items():
        effects = list(fits[name].ranef(group))
        assert list(table) == [*effects, *(f"{e}_sd" for e in effects)]


@every_fit
def test_effects_as_statsmodels_gives_them_are_the_tables_rows(fits, name):
    fit = fits[name]
    found = fit.random_effects
    by_group = found if len(fit.ngroups) > 1 else {fit.formula.groups[0]: found}
    for group, table in fit.ranef().items():
        assert list(by_group[group]) == list(table.index)
        for level in table.index:
            pd.testing.assert_series_equal(by_group[group][level], table.loc[level])


@every_fit
def test_conditional_covariances_have_the_conditional_sds_on_their_diagonal(fits, name):
    fit = fits[name]
    found = fit.random_effects_cov
    by_group = found if len(fit.ngroups) > 1 else {fit.formula.groups[0]: found}
    for group, table in fit.ranef(cond_sd=True).items():
        effects = list(fit.ranef(group))
        for level in table.index:
            cov = by_group[group][level]
            assert list(cov.index) == list(cov.columns) == effects
            sds = table.loc[level, [f"{e}_sd" for e in effects]]
            np.testing.assert_allclose(np.sqrt(np.diag(cov)), sds, rtol=ROUNDING)


def test_conditional_covariances_are_the_oracles(fits):
    # Also between two terms of one group, whose effects are independent only before the data.
    fit = fits["two terms of a group"]
    joint = dense_model(fit.model.design, fit.theta, reml=True).joint_cov
    for at, level in enumerate(fit.ranef("site").index):
        places = [at, 6 + at]  # the intercepts of 6 sites, then their slopes
        np.testing.assert_allclose(
            fit.random_effects_cov["site"][level], joint[np.ix_(places, places)], rtol=1e-7
        )


@every_fit
def test_coefficients_by_level_are_fixed_plus_random(fits, name):
    fit = fits[name]
    for group, table in fit.coef().items():
        effects = fit.ranef(group)
        for column in table:
            fixed = fit.params.get(column, 0.0)
            random = effects.get(column, 0.0)
            np.testing.assert_allclose(table[column], fixed + random, rtol=ROUNDING)


@every_fit
def test_coefficients_by_level_have_every_coefficient(fits, name):
    fit = fits[name]
    for group, table in fit.coef().items():
        expected = list(fit.params.index)
        expected += [e for e in fit.ranef(group) if e not in expected]
        assert list(table) == expected
        pd.testing.assert_index_equal(table.index, fit.ranef(group).index)


@pytest.mark.parametrize("method", ["ranef", "coef"])
def test_an_unknown_group_lists_the_groups(fits, method):
    with pytest.raises(ArgumentError, match=r"'site', 'site:plot', 'day'"):
        getattr(fits["several"], method)("Site")


@every_fit
def test_effects_of_a_group_average_to_nothing_in_a_balanced_design(sleep, name):
    # Balanced and with the effects among the fixed ones: their conditional means sum to zero.
    np.testing.assert_allclose(sleep.ranef("Subject").sum(), 0.0, atol=1e-9)


# ---------------------------------------------------------------- prediction


@every_fit
def test_prediction_without_data_is_the_fitted_values(fits, name):
    found = fits[name].predict()
    np.testing.assert_allclose(found, fits[name].fittedvalues, rtol=ROUNDING)


@every_fit
def test_prediction_of_the_training_data_is_the_fitted_values(fits, rich, name):
    found = fits[name].predict(rich)
    pd.testing.assert_series_equal(found, fits[name].fittedvalues, rtol=ROUNDING, check_names=False)


@every_fit
def test_prediction_does_not_need_the_response(fits, rich, name):
    found = fits[name].predict(rich.drop(columns="y"))
    np.testing.assert_allclose(found, fits[name].fittedvalues, rtol=ROUNDING)


@every_fit
def test_prediction_does_not_depend_on_other_rows(fits, rich, name):
    # Stateful parts of the formula are those of the fit, whichever rows come.
    some = rich.iloc[[7, 3, 100]]
    found = fits[name].predict(some)
    np.testing.assert_allclose(found, fits[name].fittedvalues.loc[some.index], rtol=ROUNDING)


@pytest.mark.covering(1)
@every_fit
@pytest.mark.parametrize("data", ["own", "training"])
def test_prediction_without_random_effects_is_the_fixed_part(fits, rich, name, data):
    fit = fits[name]
    found = fit.predict(None if data == "own" else rich, random="none")
    expected = fit.model.rows.X @ fit.params.to_numpy()
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


@pytest.mark.covering(1)
@pytest.mark.parametrize("groups", [["site"], ["day"], ["site", "day"], ["site:plot"], []])
@pytest.mark.parametrize("data", ["own", "training"])
def test_prediction_adds_the_groups_asked_for(fits, rich, groups, data):
    fit = fits["several"]
    expected = fit.predict(random="none")
    labels = {
        "site": rich["site"],
        "day": rich["day"],
        "site:plot": rich["site"] + ":" + rich["plot"],
    }
    for group in groups:
        effects = fit.ranef(group).loc[labels[group]]
        expected = expected + effects["Intercept"].to_numpy()
        if "x" in effects:
            expected = expected + effects["x"].to_numpy() * rich["x"]
    found = fit.predict(None if data == "own" else rich, random=groups)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_group_may_be_named_by_itself(fits):
    fit = fits["several"]
    pd.testing.assert_series_equal(fit.predict(random="day"), fit.predict(random=["day"]))


def test_columns_of_groups_not_asked_for_are_not_needed(fits, rich):
    fit = fits["several"]
    found = fit.predict(rich[["x", "arm", "day"]], random=["day"])
    np.testing.assert_allclose(found, fit.predict(random=["day"]), rtol=ROUNDING)


def test_columns_of_grouping_factors_are_not_needed_for_the_fixed_part(fits, rich):
    fit = fits["several"]
    found = fit.predict(rich[["x", "arm"]], random="none")
    np.testing.assert_allclose(found, fit.predict(random="none"), rtol=ROUNDING)


@pytest.mark.parametrize("random", ["nobody", ["site", "nobody"], "sites"])
def test_an_unknown_group_to_predict_from_is_refused(fits, random):
    with pytest.raises(ArgumentError, match="'site'"):
        fits["several"].predict(random=random)


def test_random_of_another_kind_is_refused(fits):
    with pytest.raises(ArgumentError, match="random"):
        fits["several"].predict(random=3)


def test_an_intercept_alone_predicts_new_rows():
    dyestuff = mfx.datasets.load("Dyestuff")
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", dyestuff)
    found = fit.predict(dyestuff.head(7), random="none")
    np.testing.assert_allclose(found, [fit.params["Intercept"]] * 7, rtol=ROUNDING)


# ---------------------------------------------------------------- new levels


def test_a_new_level_is_refused_by_name(fits, rich):
    with pytest.raises(NewLevelError, match=r"'site': 's99'"):
        fits["slope"].predict(rich.head(3).assign(site="s99"))


def test_a_new_level_may_be_predicted_for_the_population(fits, rich):
    new = rich.head(3).assign(site="s99")
    fit = fits["slope"]
    found = fit.predict(new, new_levels="population")
    np.testing.assert_allclose(found, fit.predict(new, random="none"), rtol=ROUNDING)


def test_a_new_level_of_one_group_leaves_the_others_effects(fits, rich):
    fit, some = fits["several"], rich.head(4)
    found = fit.predict(some.assign(day=99), new_levels="population")
    expected = fit.predict(some, random=["site", "site:plot"])
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_a_new_level_does_not_matter_where_its_group_is_left_out(fits, rich):
    fit, some = fits["several"], rich.head(4)
    found = fit.predict(some.assign(day=99), random=["site"])
    np.testing.assert_allclose(found, fit.predict(some, random=["site"]), rtol=ROUNDING)


@pytest.fixture(scope="module")
def incomplete(rich):
    """The same, with one plot of one site taken out: both names are still known."""
    return rich[~((rich["site"] == "s1") & (rich["plot"] == "p2"))]


NESTED = "y ~ x + (1 | site/plot)"


def test_an_unseen_combination_of_seen_names_is_refused(rich, incomplete):
    fit = mfx.lmer(NESTED, incomplete)
    gone = rich.drop(incomplete.index)
    with pytest.raises(NewLevelError, match="'site:plot': 's1:p2'"):
        fit.predict(gone)


def test_an_unseen_combination_keeps_the_effects_of_its_seen_parts(rich, incomplete):
    fit = mfx.lmer(NESTED, incomplete)
    gone = rich.drop(incomplete.index)
    found = fit.predict(gone, new_levels="population")
    np.testing.assert_allclose(found, fit.predict(gone, random=["site"]), rtol=ROUNDING)


def test_a_seen_combination_beside_an_unseen_one_is_predicted(rich, incomplete):
    fit = mfx.lmer(NESTED, incomplete)
    found = fit.predict(rich, new_levels="population").loc[incomplete.index]
    np.testing.assert_allclose(found, fit.fittedvalues, rtol=ROUNDING)


def test_many_new_levels_are_listed_shortly(fits, rich):
    new = rich.head(9).assign(site=[f"n{i}" for i in range(9)])
    with pytest.raises(NewLevelError, match=r"'n4', \.\.\."):
        fits["slope"].predict(new)


def test_what_to_do_with_new_levels_has_two_choices(fits, rich):
    with pytest.raises(ArgumentError, match="'error', 'population'"):
        fits["slope"].predict(rich, new_levels="ignore")


# ---------------------------------------------------------------- missing values


@pytest.mark.parametrize("column", ["x", "arm", "site", "day", "plot"])
def test_a_row_with_a_missing_value_is_predicted_as_missing(fits, rich, column):
    data = rich.copy()
    data[column] = data[column].astype(object)
    data.loc[[1004, 1010], column] = None
    found = fits["several"].predict(data.infer_objects())
    expected = fits["several"].fittedvalues.where(~data[column].isna())
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


def test_a_missing_value_that_is_not_needed_does_not_matter(fits, rich):
    data = rich.assign(day=np.nan)
    found = fits["several"].predict(data, random=["site"])
    np.testing.assert_allclose(found, fits["several"].predict(random=["site"]), rtol=ROUNDING)


def test_missing_values_do_not_hide_new_levels(fits, rich):
    data = rich.head(3).assign(site=["s99", None, "s1"])
    with pytest.raises(NewLevelError, match="'s99'"):
        fits["slope"].predict(data)


def test_rows_dropped_from_the_fit_are_not_among_the_fitted_values(rich):
    data = rich.copy()
    data.loc[[1004, 1010], "x"] = np.nan
    fit = mfx.lmer(FORMULAS["slope"], data)
    pd.testing.assert_index_equal(fit.fittedvalues.index, rich.index.drop([1004, 1010]))


def test_a_missing_column_is_refused_with_the_nearest_name(fits, rich):
    with pytest.raises(MissingColumnError, match="Did you mean 'X'"):
        fits["slope"].predict(rich.rename(columns={"x": "X"}))


# ---------------------------------------------------------------- offset and weights


@pytest.fixture(scope="module", params=["name", "array", "series"])
def with_offset(request, rich):
    value = {"name": "off", "array": rich["off"].to_numpy(), "series": rich["off"]}
    return mfx.lmer(FORMULAS["slope"], rich, offset=value[request.param]), request.param


def test_an_offset_is_part_of_the_fitted_values(with_offset, rich):
    fit, _ = with_offset
    plain = mfx.lmer(FORMULAS["slope"], rich.assign(y=rich["y"] - rich["off"]))
    np.testing.assert_allclose(fit.fittedvalues, plain.fittedvalues + rich["off"], rtol=1e-7)


def test_an_offset_is_not_part_of_the_residuals(with_offset, rich):
    fit, _ = with_offset
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, rich["y"], rtol=ROUNDING)


def test_an_offset_is_part_of_predictions_without_random_effects(with_offset, rich):
    fit, _ = with_offset
    fixed = fit.model.rows.X @ fit.params.to_numpy()
    np.testing.assert_allclose(fit.predict(random="none"), fixed + rich["off"], rtol=ROUNDING)


def test_an_offset_by_name_is_read_from_new_rows(rich):
    fit = mfx.lmer(FORMULAS["slope"], rich, offset="off")
    moved = rich.assign(off=rich["off"] + 10.0)
    np.testing.assert_allclose(fit.predict(moved), fit.fittedvalues + 10.0, rtol=ROUNDING)


def test_an_offset_by_value_cannot_be_known_for_new_rows(rich):
    fit = mfx.lmer(FORMULAS["slope"], rich, offset=rich["off"].to_numpy())
    with pytest.raises(DataError, match="column's name"):
        fit.predict(rich)


def test_an_offset_that_new_rows_lack_is_named(rich):
    fit = mfx.lmer(FORMULAS["slope"], rich, offset="off")
    with pytest.raises(MissingColumnError, match="'off'"):
        fit.predict(rich.drop(columns="off"))


def test_a_missing_offset_is_predicted_as_missing(rich):
    fit = mfx.lmer(FORMULAS["slope"], rich, offset="off")
    data = rich.assign(off=rich["off"].where(rich.index != 1004))
    assert fit.predict(data).isna().to_numpy().nonzero()[0].tolist() == [2]


@pytest.mark.parametrize("kind", ["name", "array", "series"])
def test_weights_may_be_given_by_name_or_value(rich, kind):
    value = {"name": "w", "array": rich["w"].to_numpy(), "series": rich["w"]}[kind]
    fit = mfx.lmer(FORMULAS["slope"], rich, weights=value)
    expected = mfx.lmer(FORMULAS["slope"], rich, weights="w")
    assert fit.deviance == expected.deviance


def test_weights_are_relative_precisions(rich):
    # Var(e_i) = sigma**2 / w_i: rows scaled by sqrt(w) have one variance. With theta as found,
    # the oracle, which divides by the weights, gives the same deviance and coefficients.
    fit = mfx.lmer(FORMULAS["slope"], rich, weights="w")
    expected = dense_model(fit.model.design, fit.theta, reml=True)
    assert fit.deviance == pytest.approx(expected.deviance, rel=ROUNDING)
    np.testing.assert_allclose(fit.params, expected.beta, rtol=1e-8)


def test_weights_do_not_enter_predictions_of_new_rows(rich):
    fit = mfx.lmer(FORMULAS["slope"], rich, weights="w")
    found = fit.predict(rich.drop(columns="w"))
    np.testing.assert_allclose(found, fit.fittedvalues, rtol=ROUNDING)


def test_dependent_columns_are_reported_as_missing(rich):
    data = rich.assign(twice=2.0 * rich["x"])
    with pytest.warns(mfx.errors.DroppedColumnsWarning, match="twice"):
        fit = mfx.lmer("y ~ x + twice + (1 | site)", data)
    assert fit.params.isna().to_dict() == {"Intercept": False, "x": False, "twice": True}


def test_dependent_columns_do_not_change_predictions(rich):
    data = rich.assign(twice=2.0 * rich["x"])
    with pytest.warns(mfx.errors.DroppedColumnsWarning):
        fit = mfx.lmer("y ~ x + twice + (1 | site)", data)
    plain = mfx.lmer("y ~ x + (1 | site)", rich)
    np.testing.assert_allclose(fit.predict(data), plain.fittedvalues, rtol=1e-9)


# ---------------------------------------------------------------- another response


@pytest.mark.full
def test_a_refit_to_the_same_response_is_the_same_fit(fits, rich):
    again = fits["several"].refit(rich["y"])
    assert again.deviance == pytest.approx(fits["several"].deviance, abs=1e-8)


@pytest.mark.full
def test_a_refit_is_a_fit_to_the_new_response(fits, rich):
    y = rich["y"] + np.sin(rich["x"])
    again = fits["several"].refit(y)
    anew = mfx.lmer(FORMULAS["several"], rich.assign(y=y), engine="profiled")
    assert again.deviance == pytest.approx(anew.deviance, abs=1e-8)
    np.testing.assert_allclose(again.fittedvalues, anew.fittedvalues, rtol=1e-6)


def test_a_refit_leaves_the_first_fit(fits, rich):
    before = fits["slope"].fittedvalues.copy()
    fits["slope"].refit(-rich["y"])
    pd.testing.assert_series_equal(fits["slope"].fittedvalues, before)


# ---------------------------------------------------------------- frozen


def test_results_cannot_be_assigned_to(sleep):
    with pytest.raises(FrozenInstanceError):
        sleep.model = None


@pytest.mark.parametrize("name", ["params", "theta", "deviance", "note"])
def test_results_take_no_other_values(sleep, name):
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(sleep, name, 0)


@pytest.mark.parametrize(
    "part",
    ["design", "crossprod", "solution", "optimizer_result", "formula", "convergence"],
)
def test_the_values_inside_are_frozen(sleep, part):
    inside = getattr(sleep.model, part)
    first = next(iter(vars(inside)))
    with pytest.raises(FrozenInstanceError):
        setattr(inside, first, None)


def spoil(value):
    """Overwrite the first number of whatever was given out, if it lets itself be."""
    try:
        if isinstance(value, np.ndarray):
            value[0] = -99.0
        elif isinstance(value, pd.Series):
            value.iloc[0] = -99.0
        elif isinstance(value, pd.DataFrame):
            value.iloc[0, -1] = -99.0
        elif isinstance(value, dict):
            value.clear()
    except ValueError:  # read-only
        pass


GIVEN_OUT = {
    "params": lambda fit: fit.params,
    "fe_params": lambda fit: fit.fe_params,
    "bse": lambda fit: fit.bse,
    "tvalues": lambda fit: fit.tvalues,
    "cov_params": lambda fit: fit.cov_params(),
    "vcov": lambda fit: fit.vcov(),
    "theta": lambda fit: fit.theta,
    "varcorr": lambda fit: fit.varcorr,
    "vcomp": lambda fit: fit.vcomp,
    "cov_re": lambda fit: fit.cov_re,
    "ranef": lambda fit: fit.ranef("Subject"),
    "coef": lambda fit: fit.coef("Subject"),
    "random_effects": lambda fit: fit.random_effects,
    "random_effects_cov": lambda fit: fit.random_effects_cov,
    "fittedvalues": lambda fit: fit.fittedvalues,
    "resid": lambda fit: fit.resid,
    "predict": lambda fit: fit.predict(),
    "ngroups": lambda fit: fit.ngroups,
}


@pytest.mark.full
@pytest.mark.parametrize("name", GIVEN_OUT)
def test_what_is_given_out_can_be_changed_without_changing_the_fit(name):
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))
    before = repr(GIVEN_OUT[name](fit))
    spoil(GIVEN_OUT[name](fit))
    assert repr(GIVEN_OUT[name](fit)) == before


@pytest.fixture(scope="module")
def rich_model(rich):
    return mfx.lmer(FORMULAS["several"], rich, weights="w", offset="off").model


@pytest.mark.parametrize("part", ["rows", "spec", "crossprod", "solution", "optimizer_result"])
def test_arrays_inside_are_read_only(rich_model, part):
    arrays = {
        name: value
        for name, value in vars(getattr(rich_model, part)).items()
        if isinstance(value, np.ndarray)
    }
    assert arrays
    assert [name for name, array in arrays.items() if array.flags.writeable] == []


@pytest.mark.full
def test_the_data_is_not_changed(rich):
    before = rich.copy(deep=True)
    mfx.lmer(FORMULAS["several"], rich, weights="w", offset="off").predict(rich)
    pd.testing.assert_frame_equal(rich, before)


def test_the_data_may_change_after_the_fit(rich):
    data = rich.copy()
    fit = mfx.lmer(FORMULAS["slope"], data, weights=data["w"].to_numpy(copy=False))
    expected = fit.fittedvalues.copy(), fit.resid.copy()
    data.loc[:, ["y", "x", "w"]] = 0.0
    again = mfx.Results(fit.model)
    pd.testing.assert_series_equal(again.fittedvalues, expected[0])
    pd.testing.assert_series_equal(again.resid, expected[1])


# ---------------------------------------------------------------- shown


class _Text(HTMLParser):
    """Collects text, and complains of tags that are not closed."""

    VOID = frozenset({"br", "hr", "img", "meta", "col"})

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    parser = _Text()
    parser.feed(html)
    assert parser.open == []
    return " ".join(parser.text)


@every_fit
def test_the_html_view_is_well_formed(fits, name):
    assert read(fits[name]._repr_html_())


def test_the_html_view_shows_every_number_of_the_text(sleep):
    shown = read(sleep._repr_html_())
    assert [n for n in re.findall(r"\d+\.\d+", str(sleep)) if n not in shown] == []


def test_the_html_view_escapes_names(rich):
    data = rich.rename(columns={"x": "a<b"})
    fit = mfx.lmer('y ~ Q("a<b") + (1 | site)', data)
    assert "a<b" not in fit._repr_html_()
    assert "a<b" in read(fit._repr_html_())


def test_the_repr_names_model_criterion_and_engine(sleep):
    expected = "Reaction ~ Days + (Days | Subject); REML criterion 1743.6283, statsmodels engine"
    assert expected in repr(sleep)


def test_printing_is_the_summary(sleep):
    assert str(sleep) == str(sleep.summary())


def test_coef_adds_effects_whose_names_hold_brackets():
    # "maximum(x, (0))" is one name, whatever brackets and blanks it has.
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ np.maximum(Days, (0)) + (np.maximum(Days, (0)) | Subject)", sleep)
    plain = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    np.testing.assert_allclose(fit.coef("Subject"), plain.coef("Subject"), rtol=1e-6)
