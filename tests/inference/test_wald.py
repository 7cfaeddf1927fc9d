"""Tests and intervals of the fixed effects.

Sources of truth: statsmodels' OLS and WLS, which are the same tests for models without random
terms; scipy's distributions; and for mixed models the definition of the statistics from the
estimates and their covariance. Degrees of freedom are compared with R in test_denominator_df.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from reference_models import REFERENCES, fit_of
from scipy import stats

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning

# The same closed forms, by other routes: rounding, relative to sizes of order one.
ROUNDING = 1e-10

METHODS = ["satterthwaite", "kenward-roger", "residual", "normal"]
FINITE = METHODS[:3]
COLUMNS = [
    "term",
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "conf_low",
    "conf_high",
]
every_method = pytest.mark.parametrize("method", METHODS)

HYPOTHESES = [
    "x = 0",
    "x = 0.3",
    "arm[T.b] = arm[T.c]",
    "2 * Intercept - x = 1",
    "arm[T.b] = 0, arm[T.c] = 0",
    "arm[T.b] = arm[T.c], x = 0.5, Intercept = 2",
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(12)
    n = 80
    g, h = rng.integers(9, size=n), rng.integers(6, size=n)
    x = rng.normal(size=n)
    arm = rng.permutation(np.resize(["a", "b", "c"], n))
    return pd.DataFrame(
        {
            "y": 2.0
            + 0.4 * x
            + rng.normal(size=9)[g]
            + rng.normal(size=6)[h] * x
            + rng.normal(size=n),
            "x": x,
            "arm": arm,
            "g": g,
            "h": h,
            "w": rng.uniform(0.2, 3.0, size=n),
        }
    )


@pytest.fixture(scope="module")
def fit(data):
    return mfx.lmer("y ~ x + arm + (1 | g) + (0 + x | h)", data)


@pytest.fixture(scope="module", params=["unweighted", "weighted"])
def plain(request, data):
    """A model without random terms, by this package and by statsmodels."""
    weights = "w" if request.param == "weighted" else None
    ours = mfx.lmer("y ~ x + arm", data, weights=weights)
    by = np.ones(len(data)) if weights is None else data[weights]
    return ours, smf.wls("y ~ x + arm", data, weights=by).fit()


@pytest.fixture(scope="module")
def fit_without_a_column(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedColumnsWarning)
        return mfx.lmer("y ~ x + I(2 * x) + arm + (1 | g)", data)


def close(found, expected, rtol=ROUNDING):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-14)


# ---------------------------------------------------------------- without random terms: OLS, WLS


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("estimate", "params"),
        ("std_error", "bse"),
        ("statistic", "tvalues"),
        ("p_value", "pvalues"),
    ],
)
def test_table_without_random_terms_is_least_squares(plain, method, ours, theirs):
    fit, ols = plain
    found = fit.tidy(df_method=method).set_index("term")[ours]
    close(found.loc[ols.params.index], getattr(ols, theirs))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_intervals_without_random_terms_are_those_of_least_squares(plain, method, level):
    fit, ols = plain
    found = fit.tidy(df_method=method, conf_level=level).set_index("term")
    expected = ols.conf_int(alpha=1 - level)
    close(found.loc[expected.index, ["conf_low", "conf_high"]], expected)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("written", HYPOTHESES)
def test_t_tests_without_random_terms_are_those_of_least_squares(plain, method, written):
    fit, ols = plain
    found, expected = fit.t_test(written, df_method=method), ols.t_test(written)
    close(found["statistic"], np.ravel(expected.tvalue))
    close(found["p_value"], np.ravel(expected.pvalue))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("written", HYPOTHESES)
def test_intervals_of_combinations_without_random_terms_are_those_of_least_squares(
    plain, method, written
):
    fit, ols = plain
    found = fit.t_test(written, df_method=method, conf_level=0.9)
    close(found[["conf_low", "conf_high"]], ols.t_test(written).conf_int(alpha=0.1))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("written", HYPOTHESES)
def test_joint_tests_without_random_terms_are_those_of_least_squares(plain, method, written):
    fit, ols = plain
    found, expected = fit.wald_test(written, df_method=method), ols.f_test(written)
    close(found["F"], expected.fvalue)
    close(found["num_df"], expected.df_num)
    close(found["den_df"], expected.df_denom)
    close(found["p_value"], expected.pvalue)


@pytest.mark.parametrize("written", HYPOTHESES)
def test_normal_joint_tests_without_random_terms_are_chi_squared(plain, written):
    fit, ols = plain
    found = fit.wald_test(written, df_method="normal")
    expected = ols.wald_test(written, use_f=False, scalar=True)
    close(found["F"] * found["num_df"], expected.statistic)
    close(found["p_value"], expected.pvalue)


@pytest.mark.parametrize("name", [n for n, r in REFERENCES.items() if len(r["fixef"]) > 1][:6])
def test_residual_degrees_of_freedom_count_rows_less_fixed_effects(name):
    expected = REFERENCES[name]["nobs"] - len(REFERENCES[name]["fixef"])
    assert set(fit_of(name, "profiled").tidy(df_method="residual")["df"]) == {expected}


def test_columns_left_out_do_not_count_as_fixed_effects(fit_without_a_column, data):
    table = fit_without_a_column.tidy(df_method="residual").dropna()
    assert set(table["df"]) == {len(data) - 4}


# ---------------------------------------------------------------- the table


@every_method
def test_table_has_the_columns_of_broom(fit, method):
    assert list(fit.tidy(df_method=method).columns) == COLUMNS


@every_method
def test_table_has_a_row_for_each_coefficient_in_order(fit, method):
    assert list(fit.tidy(df_method=method)["term"]) == list(fit.params.index)


@every_method
def test_statistic_is_the_estimate_over_its_error(fit, method):
    table = fit.tidy(df_method=method)
    close(table["statistic"], table["estimate"] / table["std_error"])


@pytest.mark.parametrize("method", ["satterthwaite", "residual", "normal"])
def test_errors_are_those_of_the_covariance_unless_adjusted(fit, method):
    close(fit.tidy(df_method=method)["std_error"], np.sqrt(np.diag(fit.cov_params())))


@pytest.mark.parametrize("method", FINITE)
def test_p_values_are_both_tails_of_t(fit, method):
    table = fit.tidy(df_method=method)
    close(table["p_value"], 2 * stats.t.sf(np.abs(table["statistic"]), table["df"]))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("level", [0.01, 0.95, 0.9999])
def test_intervals_are_quantiles_of_t_about_the_estimate(fit, method, level):
    table = fit.tidy(df_method=method, conf_level=level)
    half = stats.t.ppf(0.5 + level / 2, table["df"]) * table["std_error"]
    close(table["conf_low"], table["estimate"] - half)
    close(table["conf_high"], table["estimate"] + half)


def test_normal_degrees_of_freedom_are_infinite(fit):
    assert np.isinf(fit.tidy(df_method="normal")["df"]).all()


def test_normal_p_values_are_both_tails_of_the_normal(fit):
    table = fit.tidy(df_method="normal")
    close(table["p_value"], 2 * stats.norm.sf(np.abs(table["statistic"])))


@pytest.mark.parametrize("options", [{}, {"df_method": "normal"}])
def test_intervals_are_those_of_conf_int(fit, options):
    table = fit.tidy(**options).set_index("term")
    close(table[["conf_low", "conf_high"]], fit.conf_int(**options))


def test_far_tails_keep_their_digits():
    # 1 - cdf would be zero. t = 66 here; the p-value of R is 2.2e-219 (for F = t**2).
    name = "schools5__reml"
    expected = next(row["p"] for row in REFERENCES[name]["anova"])
    found = fit_of(name, "profiled").anova()["p_value"].iloc[0]
    assert expected < 1e-200
    # An error e in t is one of e t in log p: 1e-8 of 1e3.
    assert found == pytest.approx(expected, rel=1e-3, abs=0)


def test_p_values_of_the_fit_are_satterthwaites(fit):
    close(fit.pvalues, fit.tidy()["p_value"])


# ---------------------------------------------------------------- columns that were left out


@every_method
def test_a_column_that_was_left_out_has_a_row_of_nan(fit_without_a_column, method):
    table = fit_without_a_column.tidy(df_method=method).set_index("term")
    assert table.loc["I(2 * x)"].isna().all()


@every_method
def test_other_rows_are_those_of_the_model_without_the_column(fit_without_a_column, data, method):
    found = fit_without_a_column.tidy(df_method=method).set_index("term")
    expected = mfx.lmer("y ~ x + arm + (1 | g)", data).tidy(df_method=method).set_index("term")
    pd.testing.assert_frame_equal(found.loc[expected.index], expected, rtol=ROUNDING)


# ---------------------------------------------------------------- combinations


@every_method
def test_t_test_has_the_columns_of_the_table(fit, method):
    assert list(fit.t_test("x = 1", df_method=method).columns) == COLUMNS


@every_method
def test_single_coefficients_are_rows_of_the_table(fit, method):
    found = fit.t_test(np.eye(len(fit.params)), df_method=method)
    pd.testing.assert_frame_equal(found[COLUMNS[1:]], fit.tidy(df_method=method)[COLUMNS[1:]])


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("written", HYPOTHESES)
def test_estimate_is_of_the_left_side_with_all_coefficients_on_it(fit, method, written):
    found = fit.t_test(written, df_method=method)
    close(found["estimate"], _rows(fit, written) @ fit.params)


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("value", [-1.0, 0.4, 7.0])
def test_statistic_measures_the_distance_from_the_hypothesis(fit, method, value):
    found = fit.t_test(f"x = {value}", df_method=method)
    close(found["statistic"], (found["estimate"] - value) / found["std_error"])


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("value", [-1.0, 7.0])
def test_hypothesised_value_does_not_move_the_interval(fit, method, value):
    interval = ["conf_low", "conf_high"]
    found = fit.t_test(f"x = {value}", df_method=method)[interval]
    close(found, fit.t_test("x = 0", df_method=method)[interval])


@every_method
def test_an_end_of_the_interval_is_rejected_at_its_level(fit, method):
    # The duality of tests and intervals: at either end of a 90 % interval, p = 0.1.
    table = fit.tidy(df_method=method, conf_level=0.9).set_index("term")
    for end in ("conf_low", "conf_high"):
        tested = fit.t_test({"x": table.loc["x", end]}, df_method=method)
        close(tested["p_value"], 0.1, rtol=1e-8)


def _rows(fit, written):
    info = fit.model.spec.fixed_info
    return info.linear_constraint(written).coefs


# ---------------------------------------------------------------- several at once


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize("written", [h for h in HYPOTHESES if "," not in h])
def test_one_row_gives_the_square_of_t(fit, method, written):
    single = fit.t_test(written, df_method=method).iloc[0]
    joint = fit.wald_test(written, df_method=method)
    close(
        joint[["F", "num_df", "den_df", "p_value"]],
        [single["statistic"] ** 2, 1.0, single["df"], single["p_value"]],
        rtol=1e-8,  # the p-value of F, at df near the poles of Kenward and Roger's formula
    )


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["satterthwaite", "residual", "normal"])
@pytest.mark.parametrize("written", HYPOTHESES)
def test_f_is_the_wald_statistic_over_its_rows(fit, method, written):
    read = fit.model.spec.fixed_info.linear_constraint(written)
    gap = read.coefs @ fit.params - read.constants.ravel()
    wald = gap @ np.linalg.solve(read.coefs @ fit.cov_params() @ read.coefs.T, gap)
    close(fit.wald_test(written, df_method=method)["F"], wald / len(gap))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", FINITE)
@pytest.mark.parametrize("written", HYPOTHESES)
def test_p_value_is_the_upper_tail_of_f(fit, method, written):
    found = fit.wald_test(written, df_method=method)
    close(found["p_value"], stats.f.sf(found["F"], found["num_df"], found["den_df"]))


@pytest.mark.parametrize("written", HYPOTHESES)
def test_normal_joint_tests_are_chi_squared(fit, written):
    found = fit.wald_test(written, df_method="normal")
    assert found["den_df"] == np.inf
    close(found["p_value"], stats.chi2.sf(found["F"] * found["num_df"], found["num_df"]))


def test_satterthwaites_joint_degrees_of_freedom_are_fai_and_cornelius(fit):
    # 1996, and lmerTest: along the principal axes of the rows' covariance the squared t are
    # independent; the F with the mean of their average has these degrees of freedom.
    rows = _rows(fit, HYPOTHESES[-1])
    _, axes = np.linalg.eigh(rows @ fit.cov_params().to_numpy() @ rows.T)
    each = fit.t_test(axes.T @ rows)["df"]
    mean = (each / (each - 2)).sum()
    close(fit.wald_test(rows)["den_df"], 2 * mean / (mean - len(each)))


@every_method
def test_rows_that_follow_from_others_change_nothing(fit, method):
    found = fit.wald_test("x = 1, arm[T.b] = 2, x + arm[T.b] = 3, 2 * x = 2", df_method=method)
    expected = fit.wald_test("x = 1, arm[T.b] = 2", df_method=method)
    pd.testing.assert_series_equal(found, expected)


@pytest.mark.parametrize("method", ["kenward-roger", "residual", "normal"])
def test_joint_tests_do_not_depend_on_how_the_hypothesis_is_written(fit, method):
    # Satterthwaite's do: the principal axes are those of the rows as written, as in lmerTest.
    found = fit.wald_test("arm[T.b] = 0, arm[T.c] = 0", df_method=method)
    other = fit.wald_test("arm[T.b] = arm[T.c], arm[T.b] + 3 * arm[T.c] = 0", df_method=method)
    close(found, other)


@pytest.mark.covering(1)
@every_method
@pytest.mark.parametrize(
    ("name", "term"),
    [("star_nested__reml", "cltype"), ("cake_temp__reml", "recipe"), ("ratpup__reml", "Lsize")],
)
def test_joint_tests_of_a_term_are_its_row_of_the_anova(name, term, method):
    # Terms in no interaction: treatment and sum coding test the same.
    fit = fit_of(name, "profiled")
    own = [c for c in fit.params.index if c.startswith(term)]
    found = fit.wald_test(", ".join(f"{c} = 0" for c in own), df_method=method)
    expected = fit.anova(df_method=method).loc[term, ["F", "num_df", "den_df", "p_value"]]
    close(found, expected, rtol=1e-8)


@every_method
def test_f_test_is_another_name(fit, method):
    found = fit.f_test(HYPOTHESES[-1], df_method=method)
    pd.testing.assert_series_equal(found, fit.wald_test(HYPOTHESES[-1], df_method=method))


def test_contradictions_cannot_be_tested_together(fit):
    with pytest.raises(ArgumentError, match="contradict"):
        fit.wald_test("x = 1, x = 2")


def test_contradictions_can_be_tested_one_by_one(fit):
    found = fit.t_test("x = 1, x = 2")
    assert list(found["term"]) == ["x = 1", "x = 2"]


# ---------------------------------------------------------------- arguments


@pytest.mark.covering(1)
@pytest.mark.parametrize("level", [0, 1, -0.5, 95, 1.5, np.nan, "0.95", None, True])
@pytest.mark.parametrize("call", ["tidy", "t_test"])
def test_levels_that_are_no_probability_are_refused(fit, call, level):
    arguments = ("x = 0",) if call == "t_test" else ()
    with pytest.raises(ArgumentError, match="conf_level"):
        getattr(fit, call)(*arguments, conf_level=level)


@pytest.mark.parametrize("call", ["tidy", "t_test", "wald_test", "f_test", "anova"])
def test_unknown_methods_are_refused_wherever_they_are_asked_for(fit, call):
    arguments = () if call in ("tidy", "anova") else ("x = 0",)
    with pytest.raises(ArgumentError, match="df_method='containment'"):
        getattr(fit, call)(*arguments, df_method="containment")


@every_method
def test_without_fixed_effects_the_table_is_empty(data, method):
    table = mfx.lmer("y ~ 0 + (1 | g)", data).tidy(df_method=method)
    assert (list(table.columns), len(table)) == (COLUMNS, 0)
