"""Average predictions and comparisons over rows, and joint tests of terms.

Source of truth: predictions of changed data, their numeric Jacobian by the coefficients (the delta
method), statsmodels' average marginal effects of a model without random effects, the analysis of
variance, and R's ``emmeans::joint_tests`` (tests/reference/marginal_effects.json, by
``r/marginal_effects.R``; it prints three decimals of F).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from emmeans_models import MADE_BY_R, cbpp, fit_named
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DroppedColumnsWarning


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(17)
    n = 200
    table = pd.DataFrame({"x": rng.uniform(0, 4, n), "a": rng.choice(["p", "q", "r"], n)})
    table["g"] = rng.integers(10, size=n)
    effect = rng.normal(size=10)[table["g"]]
    table["k"] = rng.poisson(np.exp(0.3 * table["x"] + 0.5 * (table["a"] == "q") + 0.5 * effect))
    table["y"] = table["x"] * (table["a"] == "q") + effect + rng.normal(size=n)
    table["hit"] = (rng.random(n) < 1 / (1 + np.exp(1 - table["x"]))).astype(int)
    return table


@pytest.fixture(scope="module")
def fit(data):
    return mfx.glmer("k ~ x * a + (1 | g)", data, family="poisson")


def shifted(fit, beta):
    return mfx.Results(replace(fit.model, solution=replace(fit.model.solution, beta=beta)))


def delta_errors(fit, value):
    """Standard errors of a vector by the numeric Jacobian."""
    beta, h = fit.model.solution.beta, 1e-5
    columns = [
        (value(shifted(fit, beta + h * e)) - value(shifted(fit, beta - h * e))) / (2 * h)
        for e in np.eye(len(beta))
    ]
    J = np.atleast_2d(np.array(columns).T)
    return np.sqrt(np.diag(J @ fit.cov_params().to_numpy() @ J.T))


def predicted(fit, data, which="mean"):
    return fit.predict(data, random="none", which=which)


# ---------------------------------------------------------------- predictions


@pytest.mark.parametrize("which", ["mean", "linear"])
def test_average_predictions_are_means_of_predictions(fit, data, which):
    found = fit.predictions("a", which=which)

    def value(one):
        return predicted(one, data, which).groupby(data["a"]).mean().to_numpy()

    np.testing.assert_allclose(found["estimate"], value(fit), rtol=1e-10)
    np.testing.assert_allclose(found["std_error"], delta_errors(fit, value), rtol=1e-6)
    assert found["a"].tolist() == ["p", "q", "r"]


def test_predictions_of_each_row_are_those_of_predict(data):
    fit = mfx.lmer("y ~ x * a + (1 | g)", data)
    found = fit.predictions(average=False)
    table = fit.predict(random="none", interval="confidence", se=True)
    np.testing.assert_allclose(found["estimate"], table["predicted"])
    np.testing.assert_allclose(found["std_error"], table["std_error"], rtol=1e-6)
    np.testing.assert_array_equal(found["x"], data["x"])


def test_predictions_at_a_value_have_it_in_all_rows(fit, data):
    found = fit.predictions(at={"a": "q"})["estimate"].item()
    assert found == pytest.approx(predicted(fit, data.assign(a="q")).mean())


def test_predictions_of_other_rows_are_of_those(fit, data):
    found = fit.predictions(by="a", data=data.iloc[:50])
    expected = predicted(fit, data.iloc[:50]).groupby(data["a"]).mean()
    np.testing.assert_allclose(found["estimate"], expected)


def test_a_single_row_has_the_marginal_mean(fit):
    row = pd.DataFrame({"x": [1.5], "a": ["q"]})
    found = fit.predictions(data=row, which="linear")
    expected = fit.emmeans("a", at={"x": 1.5, "a": ["q"]}).table
    assert found["estimate"].item() == pytest.approx(expected["emmean"].item())
    assert found["std_error"].item() == pytest.approx(expected["std_error"].item())


# ---------------------------------------------------------------- comparisons


@pytest.mark.full
def test_comparisons_are_means_of_differences_of_predictions(fit, data):
    found = fit.comparisons()

    def value(one):
        base = predicted(one, data.assign(a="p"))
        return np.array(
            [
                (predicted(one, data.assign(x=data["x"] + 1)) - predicted(one, data)).mean(),
                (predicted(one, data.assign(a="q")) - base).mean(),
                (predicted(one, data.assign(a="r")) - base).mean(),
            ]
        )

    assert found["term"].tolist() == ["x", "a", "a"]
    assert found["contrast"].tolist() == ["+1", "q - p", "r - p"]
    np.testing.assert_allclose(found["estimate"], value(fit), rtol=1e-9)
    np.testing.assert_allclose(found["std_error"], delta_errors(fit, value), rtol=1e-6)
    z = found["estimate"] / found["std_error"]
    np.testing.assert_allclose(found["statistic"], z)


def test_ratios_are_of_the_averages(fit, data):
    found = fit.comparisons({"a": ["p", "q"]}, comparison="ratio")

    def value(one):
        means = [predicted(one, data.assign(a=level)).mean() for level in "pq"]
        return np.array([np.log(means[1] / means[0])])

    assert found["contrast"].item() == "q / p"
    assert np.log(found["estimate"].item()) == pytest.approx(value(fit)[0])
    error = delta_errors(fit, value)[0]
    assert found["std_error"].item() == pytest.approx(found["estimate"].item() * error, rel=1e-6)
    assert found["statistic"].item() == pytest.approx(value(fit)[0] / error, rel=1e-6)


def test_comparisons_are_made_within_by(fit, data):
    found = fit.comparisons("x", by="a")
    change = predicted(fit, data.assign(x=data["x"] + 1)) - predicted(fit, data)
    np.testing.assert_allclose(found["estimate"], change.groupby(data["a"]).mean())
    assert fit.comparisons(by="a")["term"].unique().tolist() == ["x"]


@pytest.mark.parametrize(
    ("how", "low", "high", "label"),
    [
        (2.5, lambda x: x, lambda x: x + 2.5, "+2.5"),
        (-1, lambda x: x, lambda x: x - 1, "-1"),
        ([1, 3], lambda x: 0 * x + 1, lambda x: 0 * x + 3, "3 - 1"),
        ("sd", lambda x: x - x.std() / 2, lambda x: x + x.std() / 2, "+sd"),
        ("minmax", lambda x: 0 * x + x.min(), lambda x: 0 * x + x.max(), None),
        ("iqr", lambda x: 0 * x + x.quantile(0.25), lambda x: 0 * x + x.quantile(0.75), None),
    ],
)
def test_numbers_are_compared_as_told(fit, data, how, low, high, label):
    found = fit.comparisons({"x": how})
    ends = (predicted(fit, data.assign(x=f(data["x"]))).mean() for f in (high, low))
    assert found["estimate"].item() == pytest.approx(np.subtract(*ends))
    assert label is None or found["contrast"].item() == label


@pytest.mark.parametrize(
    ("how", "labels"),
    [
        ("reference", ["q - p", "r - p"]),
        ("sequential", ["q - p", "r - q"]),
        ("pairwise", ["q - p", "r - p", "r - q"]),
        (["r", "p"], ["p - r"]),
    ],
)
def test_levels_are_compared_as_told(fit, how, labels):
    assert fit.comparisons({"a": how})["contrast"].tolist() == labels


def test_a_number_of_two_values_is_compared_at_both(data):
    data = data.assign(d=(data["a"] == "q").astype(int))
    fit = mfx.glmer("k ~ x + d + (1 | g)", data, family="poisson")
    found = fit.comparisons("d")
    ends = [predicted(fit, data.assign(d=value)).mean() for value in (1, 0)]
    assert found["contrast"].item() == "1 - 0"
    assert found["estimate"].item() == pytest.approx(np.subtract(*ends))


def test_without_an_interaction_a_linear_model_has_its_coefficients(data):
    fit = mfx.lmer("y ~ x + a + (1 | g)", data)
    found = fit.comparisons()
    expected = fit.tidy().set_index("term").loc[["x", "a[T.q]", "a[T.r]"]]
    for name in ("estimate", "std_error", "df", "p_value", "conf_low"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-7)


def test_comparisons_of_each_row_average_to_the_average(fit):
    each = fit.comparisons({"a": ["p", "q"]}, average=False)
    assert len(each) == fit.nobs
    average = fit.comparisons({"a": ["p", "q"]})["estimate"].item()
    assert each["estimate"].mean() == pytest.approx(average)


def test_slopes_and_comparisons_are_statsmodels_average_effects(data):
    # statsmodels' Logit: average derivatives, and discrete changes of dummies, by the delta method.
    data = data.assign(b=np.where(data["a"] == "q", "yes", "no"))
    fit = mfx.glmer("hit ~ x + b", data, family="binomial")
    X = sm.add_constant(pd.DataFrame({"x": data["x"], "b": (data["a"] == "q").astype(float)}))
    theirs = sm.Logit(data["hit"], X).fit(disp=0).get_margeff(dummy=True).summary_frame()
    slope = fit.slopes("x", which="mean", average=True).table
    changes = fit.comparisons("b")
    estimates = [*slope["slope"], *changes["estimate"]]
    errors = [*slope["std_error"], *changes["std_error"]]
    np.testing.assert_allclose(estimates, theirs["dy/dx"], rtol=1e-5)
    np.testing.assert_allclose(errors, theirs["Std. Err."], rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.comparisons("g"), "variables: 'g' is in no term"),
        (lambda f: f.comparisons("X"), "mean 'x'"),
        (lambda f: f.comparisons({"x": [1, 2, 3]}), "'x' is compared at .* give two values"),
        (lambda f: f.comparisons({"x": "big"}), "variables='big' is not one of .*'sd'"),
        (lambda f: f.comparisons({"x": True}), "'x' is compared at True"),
        (lambda f: f.comparisons({"a": ["p", "s"]}), "'a' has no level 's'"),
        (lambda f: f.comparisons({"a": "all"}), "variables='all' is not one of .*'pairwise'"),
        (lambda f: f.comparisons({"a": 1}), "'a' is compared at 1; .* or 'reference'"),
        (lambda f: f.comparisons("a", by="g"), "by: 'g' is in no term"),
        (lambda f: f.comparisons("a", average=False, by="a"), "leave out by="),
        (lambda f: f.comparisons(by=["a", "x"]), "no variable to compare"),
        (lambda f: f.comparisons([]), "no variable to compare"),
        (lambda f: f.joint_tests(at=["x"]), "must map variables to values"),
        (lambda f: f.plot.means("a", at=3), "must map variables to values"),
        (lambda f: f.comparisons("a", comparison="odds"), "comparison='odds'"),
        (lambda f: f.predictions(which="response"), "which='response'"),
        (lambda f: f.predictions(at={"x": [0, 1]}), "'x' has 2 values"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_right(fit, call, message):
    with pytest.raises(ArgumentError, match=message):
        call(fit)


def test_ratios_of_means_that_are_not_positive_are_refused(data):
    fit = mfx.lmer("y ~ x + a + (1 | g)", data.assign(y=data["y"] - 100))
    with pytest.raises(ArgumentError, match="is of positive means"):
        fit.comparisons("a", comparison="ratio")


# ---------------------------------------------------------------- joint tests

JOINT = {
    "jt/pup": lambda df: fit_named("pup").joint_tests(df_method=df),
    "jt/pupby": lambda df: fit_named("pup").joint_tests(by="sex", df_method=df),
    "jt/cake": lambda df: fit_named("cakelin").joint_tests(df_method=df),
}
DF = ("satterthwaite", "kenward-roger")


@pytest.mark.parametrize(
    ("case", "df"), but_for([(c, d) for c in JOINT for d in DF], [("jt/pupby", DF[1])])
)
def test_joint_tests_match_emmeans(case, df):
    ours, theirs = JOINT[case](df), pd.DataFrame(MADE_BY_R[f"{case}/{df}"])
    assert ours["term"].tolist() == theirs["model term"].tolist()
    np.testing.assert_allclose(ours["num_df"], theirs["df1"])
    np.testing.assert_allclose(ours["F"], theirs["F.ratio"], atol=5.1e-4, rtol=1e-5)
    # emmeans takes the least degrees of freedom of the contrasts.
    assert (ours["den_df"] >= theirs["df2"] - 0.01).all()


def test_joint_tests_of_a_generalised_model_match_emmeans():
    ours, theirs = cbpp().joint_tests(), pd.DataFrame(MADE_BY_R["jt/cbpp"])
    assert ours["term"].tolist() == theirs["model term"].tolist()
    np.testing.assert_allclose(ours["F"], theirs["F.ratio"], atol=5.1e-4, rtol=1e-4)
    assert np.isinf(ours["den_df"]).all()


def test_joint_tests_of_factors_are_the_analysis_of_variance():
    fit = mfx.lmer(
        "angle ~ recipe * temperature + (1 | recipe:replicate)", mfx.datasets.load("cake")
    )
    ours, anova = fit.joint_tests().set_index("term"), fit.anova()
    for name in ("num_df", "den_df", "F", "p_value"):
        np.testing.assert_allclose(ours[name], anova[name], rtol=1e-6)


def test_joint_tests_of_nested_factors_are_within_those_around():
    rng = np.random.default_rng(4)
    family = np.repeat(["a", "b"], [40, 60])
    variety = [f"v{i // 20}" for i in range(100)]
    table = pd.DataFrame({"family": family, "variety": variety, "block": np.arange(100) % 5})
    effect = rng.normal(size=5)[table["block"]]
    table["y"] = rng.normal(size=100) + effect + (table["variety"] == "v4")
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ family + family:variety + (1 | block)", table)
    found = fit.joint_tests().set_index("term")
    assert found["num_df"].to_dict() == {"family": 1.0, "family:variety": 3.0}
    cells = mfx.lmer("y ~ 0 + variety + (1 | block)", table)
    within = cells.wald_test(
        "variety[v0] = variety[v1], variety[v2] = variety[v3], variety[v3] = variety[v4]"
    )
    assert found.loc["family:variety", "F"] == pytest.approx(within["F"], rel=1e-6)


def test_joint_tests_need_something_to_test():
    with pytest.raises(ArgumentError, match="no variable of several values"):
        fit_named("sleep").joint_tests(
            by="Days",
        )
