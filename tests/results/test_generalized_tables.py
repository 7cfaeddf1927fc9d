"""Tables and tests of generalised models.

Source of truth: R 4.2.2 with glmmTMB 1.1.5 and lme4 1.1-31 on the same files, by the calls that the
tests quote; glmmTMB with ``optim``'s BFGS at ``reltol = 1e-14``.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixedfx as mfx
from mixedfx._other_programs import ADVICE
from mixedfx.errors import ArgumentError, EngineRefusal

DATA = Path(__file__).parent.parent / "reference" / "generalized" / "data"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
# glmmTMB's own Hessian is by differences, of which five digits remain.
TOLERANCE = 2e-5


def read(name, *categories):
    data = pd.read_csv(DATA / f"{name}.csv")
    return data.astype(dict.fromkeys(categories, str))


@pytest.fixture(scope="module")
def cbpp():
    return mfx.glmer(CBPP, read("cbpp", "period", "herd"), family="binomial")


@pytest.fixture(scope="module")
def epil():
    """Negative binomial: a parameter of the family."""
    data = read("epil2", "subject")
    return mfx.glmer("y ~ Base * trt + Age + Visit + (1 | subject)", data, family="nbinom2")


@pytest.fixture(scope="module")
def salamanders():
    """Two crossed factors with an interaction."""
    return mfx.glmer("count ~ spp * mined + (1 | site)", read("Salamanders"), family="nbinom2")


@pytest.fixture(scope="module")
def gamma():
    return mfx.glmer("y ~ x + f + (1 | g)", read("gammasim", "g", "f"), family="gamma", link="log")


# ------------------------------------------------------------------ z tests


def test_tests_are_normal(cbpp):
    table = cbpp.tidy().set_index("term")
    z = table["estimate"] / table["std_error"]
    assert np.isinf(table["df"]).all()
    np.testing.assert_allclose(table["statistic"], z)
    np.testing.assert_allclose(cbpp.zvalues, z)
    np.testing.assert_allclose(cbpp.tvalues, z)
    # R: 2 * pnorm(-abs(z)), the definition.
    np.testing.assert_allclose(cbpp.pvalues, 2.0 * stats.norm.sf(np.abs(z)))
    np.testing.assert_allclose(
        cbpp.conf_int()[1], table["estimate"] + stats.norm.ppf(0.975) * table["std_error"]
    )


def test_z_values_of_a_linear_fit_are_its_t_values():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
    np.testing.assert_array_equal(fit.zvalues, fit.tvalues)


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger", "residual"])
@pytest.mark.parametrize("ask", ["tidy", "anova", "summary", "conf_int"])
def test_degrees_of_freedom_of_linear_models_are_refused(cbpp, ask, method):
    with pytest.raises(ArgumentError, match=r"df_method='normal'.*profile"):
        getattr(cbpp, ask)(df_method=method)


def test_normal_and_default_tests_are_the_same(cbpp):
    pd.testing.assert_frame_equal(cbpp.tidy(), cbpp.tidy(df_method="normal"))


def test_wald_test_is_chi_squared_over_its_degrees_of_freedom(cbpp):
    test = cbpp.wald_test("period[T.2] = 0, period[T.3] = 0")
    b, V = cbpp.params.to_numpy()[1:3], cbpp.cov_params().to_numpy()[1:3, 1:3]
    np.testing.assert_allclose(2.0 * test["F"], b @ np.linalg.solve(V, b))
    assert test["den_df"] == np.inf


# With contr.sum: b <- fixef(m)$cond; V <- vcov(m)$cond; W <- function(j) b[j] %*% solve(V[j, j],
# b[j]). III: W(own columns); II: W(own and interaction) - W(interaction), as car::Anova has them.
WALD = {
    2: {"spp": 88.61925956, "mined": 57.6907366491, "spp:mined": 17.0941238414},
    3: {"spp": 60.7476073046, "mined": 63.0292768204, "spp:mined": 17.0941238414},
}


@pytest.mark.parametrize("kind", WALD)
def test_terms_are_tested_as_in_car(salamanders, kind):
    table = salamanders.anova(type=kind)
    assert list(table.columns) == ["chisq", "df", "p_value"]
    np.testing.assert_allclose(table["chisq"], list(WALD[kind].values()), rtol=TOLERANCE)
    assert table["df"].tolist() == [6.0, 1.0, 6.0]


def test_sequential_tests_add_up_to_the_joint_one(salamanders):
    joint = salamanders.wald_test(", ".join(f"{x} = 0" for x in salamanders.params.index[1:]))
    np.testing.assert_allclose(salamanders.anova(type=1)["chisq"].sum(), 13.0 * joint["F"])


def test_terms_are_tested_beside_a_coefficient_without_a_finite_estimate():
    data = read("bacteria")
    data.loc[data["trt"] == "drug", "yn"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mfx.glmer("yn ~ week + trt + (1 | ID)", data, family="binomial")
    for kind in (1, 2, 3):
        assert fit.anova(type=kind)["p_value"].between(0.0, 1.0).all()


def test_exponentials_have_standard_errors_by_the_delta_method(cbpp):
    table, ratios = cbpp.tidy(), cbpp.tidy(exponentiate=True)
    for name in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(ratios[name], np.exp(table[name]))
    np.testing.assert_allclose(ratios["std_error"], ratios["estimate"] * table["std_error"])
    pd.testing.assert_series_equal(ratios["p_value"], table["p_value"])


def test_exponentials_are_refused_where_they_mean_nothing():
    fit = mfx.glmer(CBPP, read("cbpp", "period"), family="binomial", link="probit")
    with pytest.raises(ArgumentError, match=r"probit link.*odds ratios for logit"):
        fit.tidy(exponentiate=True)


# ------------------------------------------------------------------ the family


def test_family_and_its_parameters(cbpp, epil, gamma):
    assert (cbpp.family.name, cbpp.family.link.name) == ("binomial", "logit")
    assert cbpp.family_params.empty
    # sigma() of glmmTMB is theta, of which alpha is the inverse.
    np.testing.assert_allclose(epil.family_params["alpha"], 1.0 / 7.45782112209, rtol=TOLERANCE)
    assert list(gamma.family_params.index) == ["phi"]


def test_scale_is_that_of_statsmodels(cbpp, epil, gamma):
    assert (cbpp.scale, epil.scale) == (1.0, 1.0)
    assert gamma.scale == pytest.approx(gamma.family_params["phi"])
    assert gamma.sigma == pytest.approx(np.sqrt(gamma.scale))


def test_family_deviance_is_that_of_r(cbpp):
    # deviance(glmer(...)), whose search ended 3e-4 above the largest log-likelihood
    assert cbpp.family_deviance == pytest.approx(73.4743950222, abs=5e-3)
    # It is the sum of squares of the deviance residuals of binomial proportions.
    mu = 1.0 / (
        1.0
        + np.exp(
            -np.asarray(
                cbpp.model.rows.linear_predictor(
                    cbpp.model.solution.beta, cbpp.model.solution.conditional_modes()
                )
            )
        )
    )
    n, y = cbpp.model.rows.weights, cbpp.model.rows.y
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(y > 0, y * np.log(y / mu), 0) + np.where(
            y < 1, (1 - y) * np.log((1 - y) / (1 - mu)), 0
        )
    np.testing.assert_allclose(cbpp.family_deviance, (2.0 * n * parts).sum())


def test_only_a_normal_response_has_a_residual_variance(cbpp, gamma):
    assert "Residual" not in set(cbpp.varcorr["group"])
    assert "Residual" not in set(gamma.varcorr["group"])
    sleep = mfx.datasets.load("sleepstudy")
    normal = mfx.glmer("Reaction ~ Days + (1 | Subject)", sleep, family="gaussian")
    linear = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, reml=False)
    np.testing.assert_allclose(normal.varcorr["sdcor"], linear.varcorr["sdcor"], rtol=1e-5)
    assert normal.sigma == pytest.approx(linear.sigma, rel=1e-6)


def test_there_is_no_dispersion_model(epil):
    with pytest.raises(ArgumentError, match="family_params"):
        _ = epil.dispersion


# ------------------------------------------------------------------ Wald limits

# confint(glmmTMB(...), parm = "theta_") and, of alpha, 1 / confint(..., full = TRUE)["sigma", ].
LIMITS = {
    "cbpp": {"sd(Intercept | herd)": (0.372443059682, 1.10755122833)},
    "epil": {
        "sd(Intercept | subject)": (0.357279580387, 0.607854682057),
        "alpha": (1.0 / 11.8367126206633, 1.0 / 4.698863415164),
    },
}


@pytest.mark.parametrize("model", LIMITS)
def test_limits_of_standard_deviations_and_family_parameters(model, request):
    fit = request.getfixturevalue(model)
    found = fit.conf_int(parm=list(LIMITS[model]))
    np.testing.assert_allclose(found, list(LIMITS[model].values()), rtol=TOLERANCE)


def test_limits_of_a_correlation():
    # theta of glmmTMB(..., (Visit | subject), family = poisson): log sds, and t with the
    # correlation t / sqrt(1 + t^2), whose Fisher's z has the standard error se / sqrt(1 + t^2).
    log_sds, errors = (
        np.array([-0.694479360626, -0.306291336549]),
        np.array([0.116680996544, 0.213287373155]),
    )
    t, se = 0.00928598405703, 0.240603492876
    fit = mfx.glmer(
        "y ~ Base * trt + Age + Visit + (Visit | subject)",
        read("epil2", "subject"),
        family="poisson",
    )
    half = 1.959963984540054 * np.array([-1.0, 1.0])
    sds = np.exp(log_sds[:, None] + half * errors[:, None])
    corr = np.tanh(np.arcsinh(t) + half * se / np.sqrt(1.0 + t * t))
    parm = ["sd(Intercept | subject)", "sd(Visit | subject)", "corr(Intercept, Visit | subject)"]
    np.testing.assert_allclose(fit.conf_int(parm=parm), [*sds, corr], rtol=TOLERANCE)


def test_a_column_with_the_name_of_a_parameter_keeps_it():
    data = read("epil2", "subject").rename(columns={"Age": "alpha"})
    fit = mfx.glmer("y ~ alpha + (1 | subject)", data, family="nbinom2")
    found = fit.conf_int(parm=["alpha", "alpha(Residual)"])
    assert found.loc["alpha"].mean() == pytest.approx(fit.params["alpha"])
    assert found.loc["alpha(Residual)"].prod() == pytest.approx(fit.family_params["alpha"] ** 2)


# ------------------------------------------------------------------ summaries


def test_summary_says_family_link_and_approximation(cbpp):
    text = str(cbpp)
    for line in (
        "binomial, logit link",
        "Integral:  Laplace",
        "log-likelihood -92.0263",
        "z value",
    ):
        assert line in text
    assert "Pr(>|t|)" not in text
    assert "Scaled residuals" not in text
    assert "log-likelihood -92.0263" in repr(cbpp)
    assert "<h4>Pearson residuals</h4>" in cbpp.summary().to_html()


def test_summary_has_the_quantiles_of_pearson_residuals(cbpp):
    # quantile(residuals(glmer(...), "pearson"), c(0, .25, .5, .75, 1)) near the optimum
    expected = [-2.38163949384, -0.788933591175, -0.202634359532, 0.514257908518, 2.87908380658]
    np.testing.assert_allclose(cbpp.summary().residuals, expected, atol=1e-3)


def test_summary_has_the_parameters_of_the_family(epil):
    table = epil.summary().dispersion
    assert "Family parameters" in str(epil)
    # d log(alpha) is -d log(theta): glmmTMB's interval of log(theta) is symmetric.
    log_error = np.log(11.8367126206633 / 4.698863415164) / (2.0 * 1.959963984540054)
    np.testing.assert_allclose(
        table.loc["alpha", "Std. Error"], epil.family_params["alpha"] * log_error, rtol=TOLERANCE
    )


def test_summary_says_which_level_is_the_success():
    data = read("bacteria").assign(answer=lambda d: np.where(d["yn"] == 1, "yes", "no"))
    fit = mfx.glmer("answer ~ trt + (1 | ID)", data, family="binomial", nagq=5)
    assert "adaptive Gauss-Hermite quadrature, 5 nodes" in str(fit)
    assert "probability that 'answer' is 'yes'" in str(fit)


def test_glance_has_no_sigma_where_there_is_none(cbpp, gamma):
    assert np.isnan(cbpp.glance()["sigma"].item())
    assert gamma.glance()["sigma"].item() == pytest.approx(gamma.sigma)
    row = cbpp.glance().iloc[0]
    assert row["aic"] == pytest.approx(-2.0 * cbpp.llf + 2.0 * 5)  # 4 coefficients and theta
    assert row["bic"] == pytest.approx(-2.0 * cbpp.llf + np.log(56) * 5)


def test_parameters_of_the_family_are_counted(epil):
    assert epil.df_modelwc == 6 + 1 + 1


def test_table_shows_families_and_their_parameters(cbpp, epil):
    frame = mfx.table(cbpp, epil).frame.set_index("")
    assert frame.loc["Family"].tolist() == ["binomial (logit)", "nbinom2 (log)"]
    assert frame.loc["alpha"].tolist() == ["", "0.134 (0.0316)"]
    assert frame.loc["Criterion"].tolist() == ["ML (Laplace)"] * 2


# ------------------------------------------------------------------ comparisons


def test_random_terms_are_tested_by_refitting(cbpp):
    fixed = mfx.glmer(
        "cbind(incidence, size - incidence) ~ period", read("cbpp", "period"), family="binomial"
    )
    table = cbpp.ranova()
    chisq = 2.0 * (cbpp.llf - fixed.llf)
    np.testing.assert_allclose(table.loc["(1 | herd)", "chisq"], chisq, rtol=1e-7)
    # An equal mixture of chi-squared distributions with 0 and 1 degrees of freedom.
    np.testing.assert_allclose(
        table.loc["(1 | herd)", "p_mixture"], 0.5 * stats.chi2.sf(chisq, 1), rtol=1e-6
    )


def test_a_family_is_compared_with_its_limit(epil):
    data = read("epil2", "subject")
    poisson = mfx.glmer(str(epil.formula), data, family="poisson")
    table = mfx.compare(poisson, epil)
    assert table["nested"].tolist() == [None, True]
    np.testing.assert_allclose(table["chisq"].iloc[1], 2.0 * (epil.llf - poisson.llf))


def test_different_families_are_compared_by_criteria_alone(epil):
    other = mfx.glmer(str(epil.formula), read("epil2", "subject"), family="nbinom1")
    table = mfx.compare(epil, other)
    assert table["aic"].notna().all()
    assert not any(table["nested"].iloc[1:])


def test_counts_are_not_compared_with_densities(epil):
    linear = mfx.lmer("y ~ Base + (1 | subject)", read("epil2", "subject"))
    with pytest.raises(ArgumentError, match="densities"):
        mfx.compare(linear, epil)
    assert "densities" in mfx.table(linear, epil).notes[0]


@pytest.mark.full
def test_approximations_with_different_nodes_are_not_compared(epil):
    data = read("epil2", "subject")
    finer = mfx.glmer("y ~ Base + (1 | subject)", data, family="nbinom2", nagq=5)
    with pytest.raises(ArgumentError, match="nagq="):
        mfx.compare(finer, epil)


def test_proportions_of_other_trials_are_not_compared(cbpp):
    data = read("cbpp", "period", "herd").assign(incidence=lambda d: 2 * d["incidence"])
    doubled = mfx.glmer(CBPP.replace("size", "2 * size"), data.assign(size=data["size"]))
    with pytest.raises(ArgumentError, match="different responses"):
        mfx.compare(cbpp, doubled)


@pytest.mark.full
def test_a_normal_family_is_compared_with_a_linear_model():
    data = read("epil2", "subject")
    linear = mfx.lmer("y ~ Base + (1 | subject)", data)
    normal = mfx.glmer("y ~ Base + trt + (1 | subject)", data, family="gaussian")
    table = mfx.compare(linear, normal)
    full = mfx.lmer("y ~ Base + trt + (1 | subject)", data)
    np.testing.assert_allclose(table["chisq"].iloc[1], mfx.compare(linear, full)["chisq"].iloc[1])


# ------------------------------------------------------------------ without random terms

GLM = {
    "logit": ("cbpp", "cbind(incidence, size - incidence) ~ period", {"offset": "x"}),
    "probit": ("cbpp", "prop ~ period", {"link": "probit", "weights": "size"}),
    "bernoulli": ("bacteria", "yn ~ trt", {"link": "cloglog"}),
    "poisson": ("epil2", "y ~ Base * trt", {"family": "poisson", "weights": "w", "offset": "x"}),
    "sqrt": ("epil2", "y ~ Base", {"family": "poisson", "link": "sqrt"}),
    "nbinom2": ("epil2", "y ~ Base * trt", {"family": "nbinom2", "weights": "w", "offset": "x"}),
    "gamma": ("gammasim", "y ~ x + f", {"family": "gamma", "link": "log", "weights": "w"}),
    "inverse": ("gammasim", "y ~ x + f", {"family": "gamma", "link": "inverse"}),
    "inverse_gaussian": ("gammasim", "y ~ x + f", {"family": "inverse_gaussian", "link": "log"}),
    "gaussian": ("gammasim", "y ~ x + f", {"family": "gaussian", "link": "log", "weights": "w"}),
}


@pytest.mark.parametrize("case", GLM)
def test_a_model_without_random_terms_is_that_of_statsmodels(case):
    name, formula, options = GLM[case]
    data = read(name)
    data = data.astype({"period": str}) if name == "cbpp" else data
    data = data.assign(w=1.0 + np.arange(len(data)) % 3)
    if "x" not in data:
        data = data.assign(x=np.linspace(-0.5, 0.5, len(data)))
    fit = mfx.glmer(formula, data, **options)
    theirs = fit.statsmodels
    np.testing.assert_allclose(theirs.llf, fit.llf, rtol=0, atol=1e-6)
    np.testing.assert_allclose(theirs.params, fit.params, rtol=0, atol=1e-6)
    assert list(theirs.params.index) == list(fit.params.index)
    if case in ("logit", "poisson", "inverse"):  # canonical links: observed is expected information
        np.testing.assert_allclose(fit.bse, theirs.bse, rtol=TOLERANCE)


@pytest.mark.kept("poisson-0", "nbinom2-9")
@pytest.mark.parametrize("nagq", [0, 9])
@pytest.mark.parametrize("family", ["poisson", "nbinom2"])
def test_without_random_terms_there_is_no_integral(nagq, family):
    data = read("epil2")
    found = mfx.glmer("y ~ Base * trt", data, family=family, nagq=nagq)
    expected = mfx.glmer("y ~ Base * trt", data, family=family)
    np.testing.assert_allclose(found.llf, expected.llf, rtol=1e-12)
    np.testing.assert_allclose(found.params, expected.params, atol=1e-6)


def test_random_terms_are_tested_after_quadrature():
    data = read("epil2", "subject")
    fit = mfx.glmer("y ~ Base + (1 | subject)", data, family="poisson", nagq=5)
    fixed = mfx.glmer("y ~ Base", data, family="poisson")
    np.testing.assert_allclose(fit.ranova()["chisq"].iloc[1], 2.0 * (fit.llf - fixed.llf))


def test_statsmodels_predicts_from_a_table():
    fit = mfx.glmer("yn ~ trt", read("bacteria"), family="binomial")
    new = pd.DataFrame({"trt": ["drug", "placebo"]})
    np.testing.assert_allclose(fit.statsmodels.predict(new), fit.predict(new))


def test_statsmodels_has_no_mixed_generalised_model(cbpp):
    with pytest.raises(EngineRefusal, match="no maximum likelihood fit"):
        _ = cbpp.statsmodels


def test_statsmodels_has_no_negative_binomial_of_linear_variance():
    fit = mfx.glmer("y ~ Base", read("epil2"), family="nbinom1")
    with pytest.raises(EngineRefusal, match="family='nbinom2'"):
        _ = fit.statsmodels


@pytest.fixture(scope="module")
def without_random_terms():
    return mfx.glmer("y ~ Base * trt + Visit", read("epil2"), family="nbinom2")


@pytest.mark.parametrize(
    "ask",
    ["summary", "tidy", "anova", "conf_int", "glance", "ranef", "augment", "predict", "vif"],
)
def test_methods_work_without_random_terms(without_random_terms, ask):
    assert len(str(getattr(without_random_terms, ask)()))


def test_a_summary_without_random_terms_is_of_a_generalised_linear_model(without_random_terms):
    assert "generalised linear model" in str(without_random_terms)
    assert "Integral" not in str(without_random_terms)


# ------------------------------------------------------------------ what is not there


def test_residual_standard_deviations_are_of_normal_responses(cbpp):
    with pytest.raises(ArgumentError, match="family_params"):
        _ = cbpp.residual_sd
    sleep = mfx.datasets.load("sleepstudy").assign(w=lambda d: 1.0 + d["Days"] % 2)
    normal = mfx.glmer("Reaction ~ Days + (1 | Subject)", sleep, family="gaussian", weights="w")
    linear = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep, reml=False, weights="w")
    np.testing.assert_allclose(normal.residual_sd, linear.residual_sd, rtol=1e-6)


def test_rows_without_trials_do_not_hinder_a_comparison(cbpp):
    data = read("cbpp", "period", "herd")
    data.loc[3, ["incidence", "size"]] = 0
    small = CBPP.replace("period", "1")
    fits = [mfx.glmer(formula, data, family="binomial") for formula in (small, CBPP)]
    assert mfx.compare(*fits)["nested"].tolist() == [None, True]


@pytest.mark.parametrize("name", sorted(ADVICE))
def test_advice_for_names_of_other_programs_works(gamma, epil, name):
    with pytest.raises(AttributeError) as caught:
        getattr(epil, name)
    advice = str(caught.value).split("take ")[1].removesuffix(".")
    fit = gamma if name == "phi" else epil
    assert eval(advice, {"fit": fit}) is not None
