"""Ordered categories: the fit against R, symmetries, what is asked of the response."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER

import mixedfx as mfx
from mixedfx.errors import ArgumentError, ConvergenceWarning, DataError, PriorError, ResponseError

DATA = FOLDER / "generalized" / "data"


@pytest.fixture(scope="module")
def wine():
    table = pd.read_csv(DATA / "wine.csv")
    rating = pd.Categorical(table["rating"].astype(str), list("12345"), ordered=True)
    return table.assign(rating=rating, judge=table["judge"].astype(str))


def fitted(formula, data, **options):
    return mfx.glmer(formula, data, family="cumulative", **options)


@pytest.fixture(scope="module")
def fit(wine):
    return fitted("rating ~ temp + contact + (1 | judge)", wine)


def test_few_evaluations_are_needed(fit):
    assert fit.model.optimizer_result.evaluations <= 4


def test_the_optimum_does_not_depend_on_the_start(fit, wine):
    other = fitted("rating ~ temp + contact + (1 | judge)", wine, start=[0.2])
    np.testing.assert_allclose(other.params, fit.params, rtol=1e-7)
    np.testing.assert_allclose(other.bse, fit.bse, rtol=1e-6)
    assert other.deviance == pytest.approx(fit.deviance, abs=1e-9)


def test_an_offset_is_part_of_the_start(wine):
    shifted = wine.assign(known=2.0 * (wine["temp"] == "warm"))
    plain = fitted("rating ~ temp + contact + (1 | judge)", wine)
    beside = fitted("rating ~ temp + contact + (1 | judge)", shifted, offset="known")
    moved = plain.params - beside.params
    np.testing.assert_allclose(moved.filter(like="temp"), 2.0, rtol=1e-6)
    np.testing.assert_allclose(moved.filter(like="contact"), 0.0, atol=1e-6)


# ---------------------------------------------------------------- R

# ordinal 2022.11-16: clmm(rating ~ ..., wine, link, threshold, nAGQ): log-likelihood, coefficients,
# parameters of the thresholds, standard errors of all of them, thresholds first (by differences;
# none where clmm's Hessian is singular). Its search ends up to 4e-4 below the maximum. What clmm
# calls "loglog" is the "cloglog" of clm in the same package, F = 1 - exp(-exp(x)), and the other
# way round: clm(rating ~ temp + contact, link = "cloglog") has -86.634079, as we have.
CLMM = [
    (
        "rating ~ temp + contact + (1 | judge)",
        {"thresholds": "equidistant"},
        -83.0549717308,
        [3.0020622, 1.791635],
        [-1.2145532, 2.5592499],
        [0.563971, 0.323879, 0.579489, 0.503136],
    ),
    (
        "rating ~ temp + contact + (1 | judge)",
        {"link": "cloglog"},
        -81.54137257,
        [2.0473956, 1.2246194],
        [-1.7873234, 0.5295634, 2.3570139, 3.49218],
        [0.540589, 0.380446, 0.502718, 0.604275, 0.396668, 0.335874],
    ),
    (
        "rating ~ temp + contact + (1 | judge)",
        {"link": "cloglog", "nagq": 7},
        -81.52339752,
        [2.0468116, 1.2255656],
        [-1.7878372, 0.5293255, 2.3566943, 3.492691],
        [0.541289, 0.381087, 0.503784, 0.605107, 0.396487, 0.336186],
    ),
    (
        "rating ~ temp + contact + (1 | judge)",
        {"link": "cauchit"},
        -86.8349890117,
        [3.1556864, 2.1481807],
        [-1.9557615, 1.6582371, 4.5460108, 6.8184397],
        [1.007324, 0.77119, 1.174128, 1.585248, 0.866738, 0.677686],
    ),
    (
        "rating ~ temp * contact + (1 | judge)",
        {"link": "probit"},
        -80.8763056295,
        [1.7125073, 0.9593702, 0.1764322],
        [-0.9624605, 0.8374527, 2.42246, 3.5008201],
        [0.402676, 0.381495, 0.467167, 0.537391, 0.420169, 0.391834, 0.535303],
    ),
    (
        "rating ~ temp + contact + (temp | judge)",
        {},
        -81.5463952554,
        [3.0655958, 1.8319754],
        [-1.5993192, 1.4967748, 4.222327, 6.1143878],
        None,
    ),
]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("formula", "options", "loglik", "coefficients", "thresholds", "errors"),
    CLMM,
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_models_of_clmm(wine, formula, options, loglik, coefficients, thresholds, errors):
    fit = fitted(formula, wine, **options)
    assert loglik - 1e-7 <= fit.llf <= loglik + 4e-4
    ours = fit.conf_int(parm=[*fit.family_params.index, *fit.params.index])
    tolerance = 1e-2 if errors is None else 1e-2 * np.array(errors)
    found = np.append(fit.family_params, fit.params)
    assert (np.abs(found - np.append(thresholds, coefficients)) <= tolerance).all()
    if errors is not None:
        widths = (ours[1] - ours[0]) / (2.0 * 1.959963984540054)
        if "thresholds" in options:  # the interval of a spacing is about its logarithm
            widths.iloc[1] = fit.model.residual.components[1].std_error
        np.testing.assert_allclose(widths, errors, rtol=5e-3)


# ---------------------------------------------------------------- symmetries


@pytest.mark.parametrize("link", ["logit", "probit", "cauchit"])
def test_reversed_categories_have_the_signs_changed(wine, link):
    backwards = wine.assign(rating=wine["rating"].cat.reorder_categories(list("54321")))
    formula = "rating ~ temp + contact + (1 | judge)"
    one, other = (fitted(formula, data, link=link) for data in (wine, backwards))
    assert one.llf == pytest.approx(other.llf, abs=1e-8)
    np.testing.assert_allclose(one.params, -other.params, rtol=1e-5)
    np.testing.assert_allclose(one.family_params, -other.family_params[::-1], rtol=1e-5)
    np.testing.assert_allclose(one.theta, other.theta, rtol=1e-5)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("nagq", [1, 7])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_two_categories_are_binomial(wine, link, nagq):
    data = wine.assign(high=wine["rating"] > "2", low=wine["rating"] <= "2")
    formula = "{} ~ temp + contact + (1 | judge)"
    ordered = fitted(formula.format("high"), data, link=link, nagq=nagq)
    assert "family='binomial' is the same model" in ordered.notes[0]
    # P(y <= 1) = F(alpha - eta), so that it is the lower category whose link is linear.
    binomial = mfx.glmer(formula.format("low"), data, "binomial", link=link, nagq=nagq)
    assert ordered.llf == pytest.approx(binomial.llf, abs=1e-8)
    np.testing.assert_allclose(ordered.params, -binomial.params[1:], rtol=5e-4)
    np.testing.assert_allclose(ordered.bse, binomial.bse[1:], rtol=5e-4)
    assert ordered.family_params.iloc[0] == pytest.approx(binomial.params.iloc[0], rel=5e-4)
    error = ordered.model.residual.components[0].std_error
    assert error == pytest.approx(binomial.bse.iloc[0], rel=5e-4)


def test_without_random_effects_the_fit_is_clm_s(wine):
    fit = fitted("rating ~ temp + contact", wine, link="cloglog")
    assert fit.llf == pytest.approx(-86.634079, abs=1e-6)
    np.testing.assert_allclose(fit.params, [1.60576, 0.8597137], atol=1e-5)
    thresholds = [-1.740082, 0.2963291, 1.728855, 2.596797]
    np.testing.assert_allclose(fit.family_params, thresholds, atol=1e-5)


def test_integers_and_an_ordered_column_are_the_same_response(wine, fit):
    of_numbers = fitted(
        "rating ~ temp + contact + (1 | judge)", wine.assign(rating=wine.rating.astype(int))
    )
    assert of_numbers.llf == fit.llf
    assert list(of_numbers.family_params.index) == list(fit.family_params.index)


def test_a_weight_counts_the_row_that_often(wine, fit):
    twice = pd.concat([wine, wine], ignore_index=True)
    formula = "rating ~ temp + contact + (1 | judge)"
    weighted = fitted(formula, wine.assign(w=2.0), weights="w")
    assert weighted.llf == pytest.approx(fitted(formula, twice).llf, abs=1e-7)


def test_simulated_responses_recover_the_parameters():
    rng = np.random.default_rng(3)
    n, groups = 4000, 200
    data = pd.DataFrame({"x": rng.normal(size=n), "g": np.repeat(np.arange(groups), n // groups)})
    eta = 0.8 * data["x"] + 0.9 * rng.normal(size=groups)[data["g"]]
    latent = eta + rng.logistic(size=n)
    data["y"] = 1 + (latent.to_numpy()[:, None] > [-1.0, 0.5, 2.0]).sum(axis=1)
    fit = fitted("y ~ x + (1 | g)", data)
    errors = [c.std_error for c in fit.model.residual.components]
    assert (np.abs(fit.family_params - [-1.0, 0.5, 2.0]) < 3.5 * np.array(errors)).all()
    assert abs(fit.params["x"] - 0.8) < 3.5 * fit.bse["x"]
    assert fit.theta[0] == pytest.approx(0.9, abs=0.25)


def test_factors_are_coded_as_with_an_intercept(wine, fit):
    sums = fitted("rating ~ C(temp, Sum) * C(contact, Sum) + (1 | judge)", wine)
    treatment = fitted("rating ~ temp * contact + (1 | judge)", wine)
    assert sums.llf == pytest.approx(treatment.llf, abs=1e-8)
    # Type III: main effects averaged over the other factor, whatever the coding.
    found, expected = (fit.anova(type=3)["chisq"].to_numpy() for fit in (sums, treatment))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(found, (sums.params / sums.bse) ** 2, rtol=1e-6)


def test_the_fit_has_only_thresholds_without_predictors(wine):
    null = fitted("rating ~ 1 + (1 | judge)", wine)
    assert len(null.params) == 0
    assert len(null.family_params) == 4
    # Without random effects they are the links of the cumulative shares.
    plain = fitted("rating ~ 1 + (1 | judge)", wine.assign(judge=np.arange(72)))
    shares = np.cumsum(wine["rating"].value_counts(sort=False) / 72)[:-1]
    if plain.theta[0] == 0.0:
        np.testing.assert_allclose(plain.family_params, np.log(shares / (1 - shares)), atol=1e-4)


# ---------------------------------------------------------------- inference


def test_category_probabilities_sum_to_one_and_have_the_mean_class(wine, fit):
    p = fit.predict(which="probabilities")
    assert list(p.columns) == list("12345")
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(p @ np.arange(1.0, 6.0), fit.fittedvalues)
    for average in ("population", None):
        p = fit.predict(wine, which="probabilities", random="none", average=average)
        mean = fit.predict(wine, random="none", average=average)
        np.testing.assert_allclose(p @ np.arange(1.0, 6.0), mean, rtol=1e-8)


def test_standard_errors_of_the_mean_class_are_by_the_delta_method(wine, fit):
    # Marginal means of one cell each are the same function of the parameters.
    cells = fit.emmeans(["temp", "contact"], which="mean").table
    rows = cells[["temp", "contact"]].assign(judge="1")
    found = fit.predict(rows, random="none", se=True)
    np.testing.assert_allclose(found["std_error"], cells["std_error"], rtol=1e-9)
    np.testing.assert_allclose(found["predicted"], cells["emmean"], rtol=1e-12)


# ordinal 2022.11-16: predict(clm(rating ~ temp + contact), newdata, type = "prob", se.fit = TRUE,
# interval = TRUE) at cold and no contact, warm and contact; limits by the logits.
OF_CLM = {
    "predicted": [[0.20679013, 0.5706497, 0.19229094], [0.00460827, 0.05380128, 0.30420994]],
    "std_error": [[0.0848192, 0.08683884, 0.06388672], [0.00352285, 0.02668355, 0.07805942]],
    "conf_low": [[0.08644108, 0.39887109, 0.09609419], [0.00102654, 0.01994752, 0.17506663]],
    "conf_high": [[0.41802603, 0.72694468, 0.34773992], [0.02043158, 0.13707386, 0.47389279]],
}


def test_probabilities_have_the_errors_and_limits_of_clm(wine):
    fit = fitted("rating ~ temp + contact", wine)
    new = pd.DataFrame({"temp": ["cold", "warm"], "contact": ["no", "yes"]})
    found = fit.predict(new, which="probabilities", se=True, interval="confidence")
    for column, expected in OF_CLM.items():
        np.testing.assert_allclose(found[column][["1", "2", "3"]], expected, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("options", [{}, {"random": "none"}, {"average": "population"}])
def test_errors_of_two_categories_are_those_of_a_binomial_response(wine, options):
    data = wine.assign(high=(wine["rating"] > "2").astype(int))
    formula = "high ~ temp + contact + (1 | judge)"
    ordered, binomial = fitted(formula, data), mfx.glmer(formula, data)
    asked = {"se": True, "interval": "confidence", **options}
    found = ordered.predict(data, which="probabilities", **asked)
    expected = binomial.predict(data, **asked)
    for column in expected:
        np.testing.assert_allclose(found[column]["1"], expected[column], atol=2e-5)
    np.testing.assert_allclose(found["std_error"]["0"], expected["std_error"], atol=2e-5)


@pytest.mark.full
def test_probabilities_with_errors_are_written_to_files(wine, fit, tmp_path):
    pytest.importorskip("pyarrow")
    folder = fit.predict(wine, which="probabilities", se=True, to=tmp_path / "rows")
    table = pd.read_parquet(folder)
    expected = fit.predict(wine, which="probabilities", se=True)
    np.testing.assert_allclose(table["std_error 3"], expected["std_error"]["3"])


def test_probability_quantities_that_do_not_exist_are_refused(fit):
    with pytest.raises(ArgumentError, match="interval='prediction' is for a new response"):
        fit.predict(which="probabilities", interval="prediction")
    with pytest.raises(ArgumentError, match="which='linear'"):
        fit.emmeans("temp", which="mean").joint()
    with pytest.raises(ArgumentError, match="bias_adjust"):
        fit.emmeans("temp", which="mean", bias_adjust=True)
    with pytest.raises(ArgumentError, match="these means are which='mean'"):
        fit.emmeans("temp", which="mean").contrasts(which="linear")
    for which in ("mean", "probabilities"):  # averages of cells: estimates of their own
        means = fit.emmeans("temp", which=which)
        assert means.regrid() is means
    with pytest.raises(ArgumentError, match="means of the response, and these are latent"):
        fit.emmeans("temp").regrid()


def test_simulations_and_intervals_of_thresholds(wine, fit):
    drawn = fit.simulate(2, rng=1)
    assert set(np.unique(drawn)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    shifted = fit.simulate(1, rng=1, params={"1|2": 1.5})[0]
    assert (shifted == 1.0).sum() > (drawn[0] == 1.0).sum()
    with pytest.raises(ArgumentError, match="increasing order"):
        fit.simulate(1, rng=1, params={"1|2": 2.0})
    assert fit.refit(wine["rating"]).llf == pytest.approx(fit.llf, abs=1e-8)
    wald = fit.conf_int(parm="2|3").iloc[0]
    se = fit.model.residual.components[1].std_error
    np.testing.assert_allclose(
        wald, fit.family_params["2|3"] + 1.959963985 * se * np.array([-1, 1])
    )


@pytest.mark.full
@pytest.mark.parametrize("thresholds", ["flexible", "equidistant"])
def test_profile_limits_are_where_the_deviance_has_risen(wine, thresholds):
    # At the limits of a threshold the constrained maximum is chi-squared's quantile below.
    fit = fitted("rating ~ temp + contact + (1 | judge)", wine, thresholds=thresholds)
    name = fit.family_params.index[1]
    low, high = fit.conf_int(method="profile", parm=name).iloc[0]
    assert low < fit.family_params[name] < high
    profile = fit.profile(parm=name)
    at = profile.table if hasattr(profile, "table") else profile
    ends = at[np.isclose(np.abs(at["zeta"]), 1.959963984540054)]
    np.testing.assert_allclose(sorted(ends["value"]), [low, high], rtol=1e-6)


def test_equidistant_thresholds_are_nested_in_flexible_ones(wine, fit):
    equidistant = fitted("rating ~ temp + contact + (1 | judge)", wine, thresholds="equidistant")
    compared = mfx.compare(equidistant, fit)
    assert compared["nested"].iloc[1]
    assert compared["df"].iloc[1] == 2


def test_saved_fits_predict_the_same(fit, wine, tmp_path):
    fit.save(tmp_path / "fit")
    read = mfx.read(tmp_path / "fit")
    pd.testing.assert_frame_equal(
        read.predict(wine, which="probabilities"), fit.predict(wine, which="probabilities")
    )


def test_the_equation_has_thresholds_and_no_intercept(fit):
    text = fit.equation(estimates=True)
    assert "logit P(y ≤ k) = αₖ − ηᵢⱼ" in text.unicode
    assert "1 < 2 < 3 < 4 < 5" in " ".join(text.notes)
    assert "β₀" not in fit.equation().unicode
    assert [n.label for n in fit.graph().nodes if n.kind == "parameter"][-1] == "α"


# ---------------------------------------------------------------- responses


def test_text_without_an_order_is_refused_with_the_way_to_order_it(wine):
    words = {"1": "bad", "2": "poor", "3": "ok", "4": "good", "5": "great"}
    data = wine.assign(rating=wine["rating"].astype(str).map(words))
    with pytest.raises(ResponseError, match=r"without an order.*ordered=True") as error:
        fitted("rating ~ temp + (1 | judge)", data)
    call = str(error.value).split("Say their order: df['rating'] = ")[1].split(", the levels")[0]
    assert call.startswith("pd.Categorical(df['rating'], [")
    data["rating"] = pd.Categorical(data["rating"], list(words.values()), ordered=True)
    fit = fitted("rating ~ temp + (1 | judge)", data)
    assert list(fit.family_params.index) == ["bad|poor", "poor|ok", "ok|good", "good|great"]


@pytest.mark.parametrize(
    ("name", "response"), [("rating", "rating"), ("my rating", "`my rating`"), (7, "`7`")]
)
def test_a_category_without_rows_is_left_out_with_a_note(wine, name, response):
    data = wine.assign(rating=wine["rating"].cat.add_categories(["6"]))
    fit = fitted(f"{response} ~ temp + (1 | judge)", data.rename(columns={"rating": name}))
    assert f"no row has '{name}' '6'" in fit.notes[0]
    assert len(fit.family_params) == 4


@pytest.mark.parametrize(
    ("formula", "change", "error", "message"),
    [
        ("rating ~ 0 + temp + (1 | judge)", {}, DataError, "take '0 \\+' or '- 1' out"),
        ("x ~ temp + (1 | judge)", {"x": np.arange(72) / 7}, ResponseError, "pandas.cut"),
        ("x ~ temp + (1 | judge)", {"x": 3}, ResponseError, "nothing to explain"),
        ("cbind(bottle, judge) ~ temp", {"judge": 2}, ResponseError, "successes of trials"),
    ],
)
def test_other_responses_and_formulas_are_refused(wine, formula, change, error, message):
    with pytest.raises(error, match=message):
        fitted(formula, wine.assign(**change))


def test_a_category_that_the_fit_has_not_is_refused(fit, wine):
    with pytest.raises(ResponseError, match=r"is 7 in row 6.*categories of the fit"):
        fit.refit(wine["rating"].astype(object).replace("5", "7"))
    with pytest.raises(ResponseError, match="no row of the response 'rating' is in the category 5"):
        fit.refit(wine["rating"].astype(object).replace("5", "4"))
    words = wine["rating"].cat.rename_categories(list("abcde"))
    lettered = fitted("rating ~ temp + (1 | judge)", wine.assign(rating=words))
    with pytest.raises(ResponseError, match="'z', which is none of the categories of the fit"):
        lettered.refit(words.astype(object).replace("e", "z"))


def test_arguments_of_thresholds(wine):
    with pytest.raises(ArgumentError, match="'flexible', 'equidistant'"):
        fitted("rating ~ temp + (1 | judge)", wine, thresholds="symmetric")
    with pytest.raises(ArgumentError, match="family='cumulative', not family='poisson'"):
        mfx.glmer("bottle ~ 1 + (1 | judge)", wine, "poisson", thresholds="equidistant")
    with pytest.raises(PriorError, match="can be one of Flat"):
        fitted("rating ~ temp + (1 | judge)", wine, priors={"1|2": mfx.priors.HalfNormal(1)})


@pytest.mark.cases(1)
@pytest.mark.parametrize("separating", ["all categories", "the highest"])
def test_separation_is_named(wine, separating):
    x = wine["rating"].astype(float)
    x = x if separating == "all categories" else (x == 5.0) * 1.0
    with pytest.warns(ConvergenceWarning, match="the coefficient of x goes to \\+infinity"):
        fitted("rating ~ x + (1 | judge)", wine.assign(x=x))
    # What moves within an inner category is not separated.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted("rating ~ x + (1 | judge)", wine.assign(x=(wine["rating"] == "3") * 1.0))
