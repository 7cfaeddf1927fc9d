"""Models with a zero part or a dispersion formula: identities, errors, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from reference_models import FOLDER
from scipy import special

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    ConvergenceWarning,
    FormulaError,
    ResponseError,
    SingularFitWarning,
)


@pytest.fixture(scope="module")
def counts():
    """400 counts of 10 groups, with excess zeros in kind b."""
    rng = np.random.default_rng(5)
    n = 400
    frame = pd.DataFrame({"x": rng.standard_normal(n), "kind": np.tile(["a", "b"], n // 2)})
    frame["g"] = np.repeat([f"g{i}" for i in range(10)], n // 10)
    mu = np.exp(0.9 + 0.3 * frame["x"] + np.repeat(0.8 * rng.standard_normal(10), n // 10))
    level = np.repeat(rng.standard_normal(10), n // 10)
    absent = rng.random(n) < special.expit(-1.0 + 1.2 * (frame["kind"] == "b") + level)
    frame["y"] = np.where(absent, 0, rng.negative_binomial(3.0, 1.0 / (1.0 + mu / 3.0)))
    return frame


def test_a_hurdle_without_random_effects_is_a_binomial_and_a_truncated_model(counts):
    both = mfx.glmer("y ~ x", counts, "truncated_poisson", zero_inflation="~ kind")
    positive = mfx.glmer("y ~ x", counts[counts["y"] > 0], "truncated_poisson")
    zero = mfx.glmer("I(y == 0) ~ kind", counts, "binomial")
    assert both.llf == pytest.approx(positive.llf + zero.llf, abs=1e-8)
    pd.testing.assert_series_equal(both.params, positive.params, atol=1e-6)
    pd.testing.assert_series_equal(both.zero_inflation.params, zero.params, atol=1e-6)
    pd.testing.assert_series_equal(both.bse, positive.bse, rtol=1e-5)
    pd.testing.assert_series_equal(both.zero_inflation.bse, zero.bse, rtol=1e-5)


@pytest.mark.full
def test_random_effects_of_both_parts_of_a_hurdle_are_those_of_separate_models(counts):
    both = mfx.glmer("y ~ x + (1 | g)", counts, "truncated_poisson", zero_inflation="~ 1 + (1 | g)")
    positive = mfx.glmer("y ~ x + (1 | g)", counts[counts["y"] > 0], "truncated_poisson")
    zero = mfx.glmer("I(y == 0) ~ 1 + (1 | g)", counts, "binomial")
    assert both.llf == pytest.approx(positive.llf + zero.llf, abs=1e-7)
    np.testing.assert_allclose(both.ranef("g"), positive.ranef("g"), atol=1e-5)
    expected = zero.ranef("g", cond_sd="joint")
    found = both.zero_inflation.ranef("g", cond_sd="joint")
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.full
def test_a_dispersion_formula_with_an_intercept_is_one_parameter(counts):
    one = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2")
    modelled = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", dispersion="~ 1")
    assert modelled.llf == pytest.approx(one.llf, abs=1e-8)
    assert modelled.df_modelwc == one.df_modelwc
    assert modelled.dispersion.loc["Intercept", "alpha"] == pytest.approx(
        one.family_params["alpha"], rel=1e-4
    )


@pytest.mark.full
def test_a_normal_dispersion_is_that_of_lmer(counts):
    frame = counts.assign(z=np.sqrt(counts["y"]) + counts["x"])
    linear = mfx.lmer("z ~ x + (1 | g)", frame, dispersion="~ kind", reml=False)
    general = mfx.glmer("z ~ x + (1 | g)", frame, "gaussian", dispersion="~ kind")
    assert general.llf == pytest.approx(linear.llf, abs=1e-7)
    np.testing.assert_allclose(
        general.dispersion["estimate"], linear.dispersion["estimate"], atol=1e-4
    )


# R 4.2.2, glmmTMB 1.1.5: catch ~ depth + (1 | boat), dispformula = ~ area or ~ depth, tweedie, with
# rel.tol 1e-14: log-likelihood, coefficients of the mean and of log phi, their standard errors,
# power and standard deviation of boats.
TWEEDIE = {
    "~ area": (
        -556.9875829,
        [0.8997420, 0.8580029, 0.0859075, 0.1797588, 0.2642384],
        [0.1301682976, 0.1004581057, 0.1268988422, 0.1906338947, 0.1754448089],
        [1.604675623, 0.5006679838],
    ),
    "~ depth": (
        -558.0091987,
        [0.9004178, 0.8544460, 0.23585567, -0.07493863],
        [0.12876963304, 0.10033022999, 0.07424531073, 0.13652557983],
        [1.61059932, 0.5011764901],
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("formula", TWEEDIE)
def test_a_dispersion_formula_of_tweedie_is_that_of_glmmtmb(formula):
    catch = pd.read_csv(FOLDER / "generalized" / "data" / "catch.csv")
    fit = mfx.glmer("catch ~ depth + (1 | boat)", catch, "tweedie", dispersion=formula)
    llf, coefficients, errors, others = TWEEDIE[formula]
    assert fit.llf == pytest.approx(llf, abs=1e-6)
    found = np.append(fit.params, fit.dispersion["estimate"])
    np.testing.assert_allclose(found, coefficients, atol=1e-5)
    found = np.append(fit.bse, fit.dispersion["std_error"])
    np.testing.assert_allclose(found, errors, rtol=1e-4)
    power, sd = fit.family_params["power"], fit.varcorr["sdcor"].iloc[0]
    np.testing.assert_allclose([power, sd], others, rtol=1e-5)
    residuals = fit.residuals("quantile", rng=1, random="fitted")
    assert abs(residuals.mean()) < 0.15
    assert residuals.std() == pytest.approx(1.0, abs=0.1)
    drawn = fit.simulate(200, rng=1, random="fitted").to_numpy()
    assert drawn.mean() == pytest.approx(fit.fittedvalues.mean(), rel=0.03)


@pytest.mark.full
def test_rows_in_another_order_give_the_same_fit(counts):
    options = {"family": "poisson", "zero_inflation": "~ kind + (1 | g)"}
    one = mfx.glmer("y ~ x + (1 | g)", counts, **options)
    other = mfx.glmer("y ~ x + (1 | g)", counts.sample(frac=1.0, random_state=2), **options)
    assert one.llf == pytest.approx(other.llf, abs=1e-8)
    np.testing.assert_allclose(one.zero_inflation.params, other.zero_inflation.params, atol=1e-4)


@pytest.mark.full
def test_missing_values_of_any_part_leave_the_row_out(counts):
    frame = counts.assign(w=counts["x"] ** 2, v=counts["x"])
    frame.loc[3, "w"], frame.loc[5, "v"], frame.loc[7, "x"] = np.nan, np.nan, np.nan
    options = {"zero_inflation": "~ w", "dispersion": "~ v"}
    fit = mfx.glmer("y ~ x + (1 | g)", frame, "nbinom2", **options)
    complete = mfx.glmer("y ~ x + (1 | g)", frame.drop(index=[3, 5, 7]), "nbinom2", **options)
    assert fit.nobs == 397
    assert fit.llf == complete.llf


@pytest.mark.full
def test_the_offset_is_of_the_mean_alone(counts):
    frame = counts.assign(o=0.7)
    plain = mfx.glmer("y ~ x + (1 | g)", counts, "poisson", zero_inflation="~ kind")
    shifted = mfx.glmer("y ~ x + (1 | g)", frame, "poisson", zero_inflation="~ kind", offset="o")
    assert shifted.params["Intercept"] == pytest.approx(plain.params["Intercept"] - 0.7, abs=1e-5)
    np.testing.assert_allclose(
        shifted.zero_inflation.params, plain.zero_inflation.params, atol=1e-5
    )


@pytest.mark.full
def test_weights_of_two_are_two_rows(counts):
    options = {"family": "poisson", "zero_inflation": "~ kind"}
    twice = mfx.glmer("y ~ x + (1 | g)", pd.concat([counts, counts]), **options)
    weighted = mfx.glmer("y ~ x + (1 | g)", counts.assign(w=2.0), weights="w", **options)
    assert weighted.llf == pytest.approx(twice.llf, abs=1e-7)


def test_standard_errors_of_the_mean_are_those_of_the_delta_method(counts):
    # The same numbers by differences of the prediction by each coefficient.
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "poisson", zero_inflation="~ kind")
    new = pd.DataFrame({"x": [0.3], "kind": ["b"]})
    found = fit.predict(new, random="none", se=True, interval="confidence").iloc[0]
    eta = fit.params["Intercept"] + 0.3 * fit.params["x"]
    z = float(fit.zero_inflation.params.sum())
    p = special.expit(z)
    assert found["predicted"] == pytest.approx((1.0 - p) * np.exp(eta))
    gradient = np.zeros(len(fit.model.residual.x))
    estimate = fit.model.residual
    by_beta = np.linalg.solve(fit.model.crossprod.qr_R.T, [1.0, 0.3])
    zero = fit.zero_inflation.model
    by_zero = np.linalg.solve(zero.crossprod.qr_R.T, [1.0, 1.0])
    gradient[1:3] = (1.0 - p) * np.exp(eta) * by_beta
    gradient[3:5] = -p * (1.0 - p) * np.exp(eta) * by_zero
    variance = gradient @ estimate.acov @ gradient
    assert found["std_error"] == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_grouping_factors_of_another_kind_are_refused(counts):
    fit = mfx.glmer("y ~ x", counts[::5], "poisson", zero_inflation="~ 1")
    with pytest.raises(ArgumentError, match="random=3 must be 'all', 'none' or a list of groups"):
        fit.predict(random=3)


def test_simulated_zeros_are_as_many_as_the_model_s(counts):
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "poisson", zero_inflation="~ kind + (1 | g)")
    drawn = fit.simulate(200, rng=1, random="fitted").to_numpy()
    p = fit.predict(which="zero")
    mean = fit.predict(which="conditional")
    expected = float((p + (1.0 - p) * np.exp(-mean)).sum())
    assert (drawn == 0.0).sum(axis=0).mean() == pytest.approx(expected, rel=0.02)
    assert drawn.mean() == pytest.approx(fit.fittedvalues.mean(), rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "gamma", "zero_inflation": "~ 1"}, "never exactly zero"),
        ({"family": "poisson", "dispersion": "~ x"}, "no parameter beside its mean"),
        ({"family": "poisson", "zero_inflation": "~ 1", "nagq": 0}, "leave nagq at 1"),
        (
            {
                "family": "poisson",
                "zero_inflation": "~ 1",
                "priors": {"x": mfx.priors.Normal(0, 1)},
            },
            "one linear predictor",
        ),
    ],
)
def test_what_is_not_defined_is_refused(counts, arguments, message):
    frame = counts[counts["y"] > 0] if arguments["family"] == "gamma" else counts
    with pytest.raises(ArgumentError, match=message):
        mfx.glmer("y ~ x + (1 | g)", frame, **arguments)


@pytest.mark.parametrize("text", ["y ~ x", "~ x + (1 | g", "~ .", "~ x | g"])
def test_a_formula_of_a_part_has_the_parser_s_errors(counts, text):
    with pytest.raises(FormulaError):
        mfx.glmer("y ~ x + (1 | g)", counts, "poisson", zero_inflation=text)


def test_counts_without_zeros_have_no_zero_part(counts):
    with pytest.raises(ResponseError, match=r"has no zeros.*truncated_poisson"):
        mfx.glmer("y ~ x", counts[counts["y"] > 0], "poisson", zero_inflation="~ 1")


def test_zeros_of_a_truncated_family_ask_for_a_hurdle(counts):
    with pytest.raises(ResponseError, match=r"zero_inflation='~ 1'.*hurdle"):
        mfx.glmer("y ~ x", counts, "truncated_poisson")


def test_no_more_zeros_than_the_family_s_are_not_certified(counts):
    frame = counts.assign(y=np.random.default_rng(0).poisson(1.5, len(counts)))
    with pytest.warns(ConvergenceWarning, match="leave zero_inflation= out"):
        fit = mfx.glmer("y ~ x", frame, "poisson", zero_inflation="~ 1")
    plain = mfx.glmer("y ~ x", frame, "poisson")
    assert not fit.converged
    assert fit.llf == pytest.approx(plain.llf, abs=1e-6)
    assert fit.zero_inflation.bse["Intercept"] > 100.0


def test_a_level_of_zeros_alone_has_no_finite_coefficient(counts):
    frame = counts.assign(y=np.where(counts["g"] == "g3", 0, counts["y"]))
    frame["third"] = np.where(frame["g"] == "g3", "yes", "no")
    with pytest.warns(ConvergenceWarning, match=r"zero_inflation\(third\[T.yes\]\).*40 rows to 1"):
        fit = mfx.glmer("y ~ x", frame, "poisson", zero_inflation="~ third")
    assert fit.zero_inflation.bse["third[T.yes]"] > 100.0
    others = mfx.glmer("y ~ x", frame[frame["third"] == "no"], "poisson", zero_inflation="~ 1")
    assert fit.bse["x"] == pytest.approx(others.bse["x"], rel=1e-3)
    assert fit.zero_inflation.bse["Intercept"] == pytest.approx(
        others.zero_inflation.bse["Intercept"], rel=1e-3
    )


@pytest.mark.full
def test_a_variance_of_zero_in_the_zero_part_is_said(counts):
    frame = counts.assign(h=np.arange(400) % 7)
    with pytest.warns(SingularFitWarning, match=r"zero_inflation: .*sd\(Intercept \| h\)"):
        mfx.glmer("y ~ x + (1 | g)", frame, "poisson", zero_inflation="~ 1 + (1 | h)")


@pytest.mark.full
def test_checks_of_a_model_that_simulated_the_data_pass(counts):
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", zero_inflation="~ kind + (1 | g)")
    drawn = fit.simulate(1, rng=4).iloc[:, 0]
    table = fit.refit(drawn.to_numpy()).check(rng=2).table
    assert table["p_adjusted"].min() > 0.01


@pytest.mark.full
def test_checks_say_that_there_are_too_many_zeros(counts):
    text = str(mfx.glmer("y ~ x + (1 | g)", counts, "poisson").check(rng=2))
    assert 'zero_inflation="~ 1"' in text
    with_zeros = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", zero_inflation="~ kind + (1 | g)")
    zeros = with_zeros.check(rng=2).table.set_index("check").loc["zero-inflation"]
    assert zeros["p_value"] > 0.1


@pytest.mark.full
def test_prediction_intervals_cover_simulated_responses(counts):
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", zero_inflation="~ kind")
    limits = fit.predict(interval="prediction")
    drawn = fit.simulate(400, rng=3, random="fitted")
    inside = drawn.ge(limits["conf_low"], axis=0) & drawn.le(limits["conf_high"], axis=0)
    assert 0.945 < inside.to_numpy().mean() < 0.995
    population = fit.predict(counts, random="none", interval="prediction")
    assert (population["conf_high"] >= 1.0).all()
    assert population["conf_high"].mean() > limits["conf_high"].mean()


def test_marginal_means_of_the_response_are_those_of_predict(counts):
    fit = mfx.glmer("y ~ x * kind + (1 | g)", counts, "poisson", zero_inflation="~ kind + (1 | g)")
    means = fit.emmeans("kind", at={"x": [0.5]}, which="mean").table
    new = pd.DataFrame({"kind": ["a", "b"], "x": 0.5})
    expected = fit.predict(new, random="none", se=True)
    np.testing.assert_allclose(means["emmean"], expected["predicted"], rtol=1e-12)
    np.testing.assert_allclose(means["std_error"], expected["std_error"], rtol=1e-9)


@pytest.mark.full
def test_marginal_means_average_the_means_of_the_cells(counts):
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "truncated_nbinom2", zero_inflation="~ kind")
    mean = fit.emmeans("x", at={"x": [0.5]}, which="mean").table.loc[0]
    cells = fit.emmeans(["kind", "x"], at={"x": [0.5]}, which="mean")
    assert mean["emmean"] == pytest.approx(cells.table["emmean"].mean())
    contrast = cells.contrasts({"mean": [0.5, 0.5]}).loc[0]
    assert mean["std_error"] == pytest.approx(contrast["std_error"], rel=1e-9)


def test_vuong_s_test_without_random_effects_is_that_of_r():
    # R 4.2.2: the log densities of glm(poisson) and of glmmTMB(ziformula = ~1), and the formula.
    herds = mfx.datasets.load("cbpp")
    plain = mfx.glmer("incidence ~ period", herds, "poisson")
    zeros = mfx.glmer("incidence ~ period", herds, "poisson", zero_inflation="~ 1")
    found = zeros.vuong(plain)["z"]
    np.testing.assert_allclose(found, [0.6563565, 0.2586254, -0.1441473], atol=2e-6)
    np.testing.assert_allclose(plain.vuong(zeros)["z"], -found, rtol=1e-12)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("nagq", [1, 5])
def test_vuong_s_units_are_the_levels_whose_log_likelihoods_add_up(counts, nagq):
    from mixedfx.inference.vuong import _Units

    fit = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom2", zero_inflation="~ kind", nagq=nagq)
    assert _Units.of(fit.model).loglik.sum() == pytest.approx(fit.llf, abs=1e-8)
    other = mfx.glmer(
        "y ~ x + (1 | g)", counts, "truncated_poisson", zero_inflation="~ 1", nagq=nagq
    )
    assert fit.vuong(other).loc["none", "better"] == "this"


@pytest.mark.full
@pytest.mark.parametrize("kind", ["memberships", "relationship matrix"])
def test_vuong_s_test_refuses_levels_that_depend_on_each_other(counts, kind):
    # Their log-likelihoods are of combinations of levels, and do not add up to that of the fit.
    frame = counts[::5].assign(h=np.tile([f"g{i}" for i in range(10)], 8))
    if kind == "memberships":
        fit = mfx.glmer("y ~ x + (1 | mm(g, h))", frame, "poisson", nagq=0)
    else:
        A = pd.DataFrame(0.5 * np.eye(10) + 0.5, *[[f"g{i}" for i in range(10)]] * 2)
        fit = mfx.glmer("y ~ x + (1 | g)", frame, "poisson", relmat={"g": A}, nagq=0)
    with pytest.raises(ArgumentError, match=f"takes no {kind} .* Compare by AIC"):
        fit.vuong(mfx.glmer("y ~ x", frame, "poisson"))


@pytest.mark.full
def test_a_fit_in_a_file_is_the_same(counts, tmp_path):
    options = {"zero_inflation": "~ kind + (1 | g)", "dispersion": "~ x"}
    fit = mfx.glmer("y ~ x + (1 | g)", counts, "nbinom1", **options)
    fit.save(tmp_path / "fit.mfx")
    again = mfx.read(tmp_path / "fit.mfx")
    assert again.llf == fit.llf
    pd.testing.assert_frame_equal(again.predict(se=True), fit.predict(se=True))
    found, expected = (f.zero_inflation.ranef(cond_sd="joint") for f in (again, fit))
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(again.dispersion, fit.dispersion)
    assert str(again.summary()) == str(fit.summary())


@pytest.mark.full
def test_errors_of_means_in_the_rows_used_are_those_of_the_same_rows_as_new_ones(counts):
    # By the pattern of the factorisation, and by solving for each row.
    options = {"zero_inflation": "~ x + (1 | kind)"}
    frame = counts.assign(kind=np.arange(400) % 8)
    fit = mfx.glmer("y ~ x + (1 | g)", frame, "nbinom2", **options)
    used, new = fit.predict(se=True), fit.predict(frame, se=True)
    pd.testing.assert_frame_equal(used, new, rtol=1e-10)


def test_a_part_that_reads_the_response_is_refused(counts):
    with pytest.raises(ArgumentError, match="reads the response 'y'"):
        mfx.glmer("y ~ x", counts, "poisson", zero_inflation="~ I(y > 2)")


def _half(counts):
    """Two rows of each four: both kinds in all groups."""
    return counts[np.arange(len(counts)) % 4 < 2]


@pytest.fixture(scope="module")
def nbinom2(counts):
    """A fit of half of the counts, with effects in the mean alone."""
    return mfx.glmer("y ~ x + (1 | g)", _half(counts), "nbinom2", zero_inflation="~ kind")


@pytest.mark.full
def test_what_is_of_one_linear_predictor_is_refused(nbinom2):
    means = nbinom2.emmeans("x")
    asked = [
        lambda: nbinom2.influence(),
        lambda: nbinom2.slopes("x", which="mean"),
        lambda: means.regrid(),
    ]
    for ask in asked:
        with pytest.raises(ArgumentError, match="linear predictor"):
            ask()
    of_mean = nbinom2.emmeans("x", which="mean")
    assert of_mean.regrid() is of_mean


@pytest.mark.full
def test_estimates_move_to_those_of_quadrature_as_the_approximation_says(counts, nbinom2):
    found = nbinom2.approximation()
    options = {"zero_inflation": "~ kind", "nagq": 25}
    exact = mfx.glmer("y ~ x + (1 | g)", _half(counts), "nbinom2", **options)
    assert exact.llf - 0.01 < found.loglik <= exact.llf  # at other estimates
    table = found.table
    for part, prefix in ((exact.params, "{}"), (exact.zero_inflation.params, "zero_inflation({})")):
        moved = table.loc[[prefix.format(name) for name in part.index]]
        np.testing.assert_allclose(moved["estimate"] + moved["change"], part, atol=1e-5)
    alpha = table.loc["alpha", "estimate"] + table.loc["alpha", "change"]
    assert alpha == pytest.approx(exact.family_params["alpha"], rel=1e-5)
    names = [*nbinom2.params.index]
    np.testing.assert_allclose(table.loc[names, "std_error"], nbinom2.bse, rtol=1e-6)


@pytest.mark.full
def test_an_approximation_over_crossed_factors_of_two_predictors_is_refused(counts):
    frame = counts.assign(h=np.arange(400) % 8)
    fit = mfx.glmer("y ~ x + (1 | h)", frame, "poisson", zero_inflation="~ kind + (1 | g)")
    with pytest.raises(ArgumentError, match="levels of one factor"):
        fit.approximation()


@pytest.mark.full
def test_influence_of_a_level_is_that_of_a_fit_without_it(counts, nbinom2):
    refitted = nbinom2.influence("g", method="refit")
    without = _half(counts).query("g != 'g3'")
    other = mfx.glmer("y ~ x + (1 | g)", without, "nbinom2", zero_inflation="~ kind")
    row = refitted.loc["g3"]
    zero = other.zero_inflation.params - nbinom2.zero_inflation.params
    np.testing.assert_allclose(row[["Intercept", "x"]], other.params - nbinom2.params, atol=2e-4)
    np.testing.assert_allclose(row[[f"zero_inflation({c})" for c in zero.index]], zero, atol=2e-4)
    assert row["theta[0]"] == pytest.approx(float(other.theta[0] - nbinom2.theta[0]), abs=2e-4)
    # One step is close to it, as for one linear predictor.
    step = nbinom2.influence("g")
    np.testing.assert_allclose(step["x"], refitted["x"], atol=0.1 * refitted["x"].abs().max())


@pytest.mark.full
def test_levels_of_the_zero_part_alone_are_left_out_too(counts):
    options = {"zero_inflation": "~ 1 + (1 | g)"}
    fit = mfx.glmer("y ~ x", _half(counts), "truncated_poisson", **options)
    found = fit.influence("g", method="refit")
    other = mfx.glmer("y ~ x", _half(counts).query("g != 'g2'"), "truncated_poisson", **options)
    assert found.loc["g2", "x"] == pytest.approx(other.params["x"] - fit.params["x"], abs=1e-5)
    sd = [one.zero_inflation.varcorr["sdcor"].iloc[0] for one in (other, fit)]
    assert found.loc["g2", "zero_inflation(theta[0])"] == pytest.approx(sd[0] - sd[1], abs=1e-4)


@pytest.mark.full
def test_fitted_lines_are_means_of_the_response(counts, nbinom2):
    from mixedfx.results.fitted_lines import fitted_lines

    found = fitted_lines(nbinom2.model, "x", "g", 3)
    kind = found.held_at.removeprefix("kind = ")
    lines = found.lines.assign(g=found.lines["level"], kind=kind)
    np.testing.assert_allclose(lines["partial"], nbinom2.predict(lines), rtol=1e-12)
    population = found.population.assign(kind=kind)
    expected = nbinom2.predict(population, random="none")
    np.testing.assert_allclose(population["population"], expected, rtol=1e-12)
    labels = [text.get_text() for text in nbinom2.plot.fitted(levels=3)[0].figure.findobj(Text)]
    assert "unpooled" not in labels
