"""``fit.check()``: size and power of each check, advice that works when followed, the table."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checked_models import (
    RIGHT,
    WRONG,
    frame,
    poisson_of_nbinom2,
    predictor,
    zeros_left_out,
)

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory
from mixedfx.inference.checks import finding
from mixedfx.inference.checks.checks import drawn_fit
from mixedfx.inference.checks.registry import CHECKS


@pytest.fixture(scope="module")
def sleep_fit():
    return mfx.lmer("Reaction ~ Days + (Days | Subject)", mfx.datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def wrong():
    return poisson_of_nbinom2(np.random.default_rng(1))


def row(checks, check, what):
    table = checks.table
    return table[(table["check"] == check) & (table["what"] == what)].iloc[0]


# ---------------------------------------------------------------- the table


def test_every_check_is_a_row_of_one_table(sleep_fit):
    table = sleep_fit.check().table
    assert list(table) == ["check", "what", "statistic", "p_value", "p_adjusted", "advice"]
    assert list(zip(table["check"], table["what"], strict=True)) == [
        ("dispersion", "response"),
        ("outliers", "residuals"),
        ("uniformity", "residuals"),
        ("normality", "residuals"),
        ("normality", "Subject: Intercept"),
        ("normality", "Subject: Days"),
        ("residuals", "fitted"),
        ("residuals", "Days"),
        ("residuals", "Subject"),
        ("heteroscedasticity", "fitted"),
        ("heteroscedasticity", "Days"),
        ("heteroscedasticity", "Subject"),
        ("autocorrelation", "Days within Subject"),
    ]
    assert table["p_value"].between(0.0, 1.0).all()
    assert (table["p_adjusted"] >= table["p_value"]).all()


@pytest.mark.full
def test_sleepstudy_has_the_known_outliers_and_the_advice_works(sleep_fit):
    # Subject 332's day 6 and 308's days 6 and 7: residuals of up to five standard deviations.
    checks = sleep_fit.check()
    outliers = row(checks, "outliers", "residuals")
    assert outliers["p_adjusted"] < 0.001
    assert "[56, 7, 59]" in outliers["advice"] or "rows [56, 59, 7]" in outliers["advice"]
    robust = eval(outliers["advice"].split("\n")[1], *_names(mfx.datasets.load("sleepstudy")))
    assert not (robust.check().failed["check"] == "outliers").any()


def _names(data, fit=None):
    return {"mfx": mfx, "data": data, "fit": fit}, {}


@pytest.mark.full
def test_a_seed_gives_the_same_table(sleep_fit):
    first, again, other = (sleep_fit.check(rng=rng).table for rng in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert not first["p_value"].equals(other["p_value"])


def test_the_text_has_the_table_the_sentences_and_the_code(wrong):
    checks = wrong[0].check()
    text, code = str(checks), 'mfx.glmer("y ~ x + f + w + (1 | g)", data, family="nbinom2")'
    assert repr(checks) == text
    assert "times what the model says" in " ".join(text.split())
    assert text.count(code) == 1
    assert checks.to_try[0] == code
    assert "<table" in checks._repr_html_()
    assert "family=&quot;nbinom2&quot;" in checks._repr_html_()


@pytest.mark.full
def test_a_fit_that_passes_says_so(wrong):
    fit = mfx.glmer("y ~ x + f + w + (1 | g)", wrong[1], family="nbinom2")
    checks = fit.check()
    assert not len(checks.failed)
    assert checks.to_try == ()
    assert checks.sentences[0].startswith("None of 17 checks fails")


def test_checks_of_a_regression_without_random_terms():
    data = mfx.datasets.load("sleepstudy")
    checks = mfx.lmer("Reaction ~ Days", data).check()
    # The residuals of a person share the person's own line, which spreads over the days.
    assert row(checks, "heteroscedasticity", "Days")["p_adjusted"] < 0.05


def test_single_trials_have_no_dispersion():
    data = mfx.datasets.load("appcrash").head(300)
    checks = mfx.glmer("y > 1.5 ~ 1 + (1 | app)", data).check()
    assert "dispersion" not in set(checks.table["check"])


def test_known_residual_standard_deviations_that_are_too_small_are_found():
    data = mfx.datasets.load("sleepstudy").assign(sd=15.0)
    fit = mfx.lmer("Reaction ~ Days + (Days | Subject)", data, residual_sd="sd")
    found = row(fit.check(), "dispersion", "response")
    assert found["statistic"] > 1.5
    assert "known residual_sd" in found["advice"]


@pytest.mark.parametrize("n_sim", [0, 3, "many", 2.5])
def test_n_sim_is_a_number_of_simulations(sleep_fit, n_sim):
    with pytest.raises(ArgumentError, match="n_sim"):
        sleep_fit.check(n_sim=n_sim)


def test_a_fit_without_rows_refuses(sleep_fit):
    with pytest.raises(RowsNotInMemory, match=r"fit\.check needs the rows"):
        sleep_fit.slim().check()
    with pytest.raises(RowsNotInMemory, match=r"fit\.plot\.check needs the rows"):
        sleep_fit.slim().plot.check()


# ---------------------------------------------------------------- advice


def followed(fit, data, advice):
    """The fit that the second line of an advice makes."""
    return eval(advice.split("\n")[1], *_names(data, fit))


@pytest.mark.full
def test_overdispersed_counts_are_mended_by_the_advice(wrong):
    fit, data = wrong
    before = row(fit.check(), "dispersion", "response")
    assert before["p_adjusted"] < 0.001
    after = followed(fit, data, before["advice"]).check()
    assert row(after, "dispersion", "response")["p_value"] > 0.05


@pytest.mark.full
def test_zeros_are_mended_by_a_zero_part():
    fit, data = zeros_left_out(np.random.default_rng(1))
    found = row(fit.check(), "zero-inflation", "response")
    assert found["statistic"] > 1.5
    assert 'zero_inflation="~ 1"' in found["advice"]
    mended = followed(fit, data, found["advice"])
    assert row(mended.check(), "zero-inflation", "response")["p_value"] > 0.05


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("poisson", {"zero_inflation": "~ x"}),
        ("nbinom2", {"zero_inflation": "~ 1 + (1 | g)"}),
        ("truncated_poisson", {"zero_inflation": "~ x"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_right_model_with_a_zero_part_passes(family, arguments):
    rng = np.random.default_rng(1)
    data, g, groups = frame(rng)
    counts = rng.poisson(np.exp(1.5 + predictor(data, g, groups, rng)))
    if "truncated" in family:
        counts = np.maximum(counts, 1)  # means are such that few are zero
    data["y"] = counts * (rng.random(len(g)) > 0.25)
    checks = mfx.glmer("y ~ x + f + w + (1 | g)", data, family, **arguments).check()
    assert not len(checks.failed), checks


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("thresholds", ["flexible", "equidistant"])
def test_a_curve_in_ordered_categories_is_found_and_mended(thresholds):
    rng = np.random.default_rng(1)
    data, g, groups = frame(rng, 40)
    latent = (
        predictor(data, g, groups, rng, sd=1.2) + 0.6 * data["x"] ** 2 + rng.logistic(size=len(g))
    )
    data["y"] = pd.Categorical(np.digitize(latent, [-1.0, 0.5, 2.0, 3.5]), ordered=True)
    formula = "y ~ x + f + w + (1 | g)"
    fit = mfx.glmer(formula, data, family="cumulative", thresholds=thresholds)
    found = row(fit.check(), "residuals", "x")
    assert found["p_adjusted"] < 0.05
    assert ("equidistant" in found["advice"]) == (thresholds == "equidistant")
    assert not len(followed(fit, data, found["advice"]).check().failed)


@pytest.mark.full
def test_counts_with_lognormal_means_lead_to_the_model_that_made_them():
    # The data's README: Poisson counts whose log means have effects of rows, beside the others.
    data = mfx.datasets.load("appcrash")
    formula = "crashes ~ version + offset(log(exposure)) + (1 | publisher/app) + (1 | device)"
    fit = mfx.glmer(formula, data, family="nbinom2")
    assert fit.check().failed["check"].tolist() == ["dispersion", "normality"]
    mended = followed(fit, data, fit.check().failed["advice"].iloc[0])
    assert "row" in mended.ngroups
    assert not len(mended.check().failed)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("model", list(WRONG), ids=lambda model: model.__name__)
def test_what_is_wrong_is_found_and_the_advice_can_be_followed(model):
    fit, data = model(np.random.default_rng(1))
    found = row(fit.check(), *WRONG[model])
    assert found["p_value"] < 0.05
    lines = found["advice"].split("\n")
    assert len(lines[0]) > 20
    for code in lines[1:]:
        plt.close("all")
        eval(code, *_names(data, fit))


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        ("y ~ x + f + w + (x | g)", {}),
        ("y ~ x + f + (1 | g)", {"dispersion": "~ f"}),
        ("y ~ x + f + (1 | g)", {"dispersion": "~ (1 | g)"}),
        ("y ~ x + f + (1 | h:f)", {"reml": False}),
        ("y ~ x * f", {"residual": "ar1(t | g)"}),
        ("y ~ x + `the time` + (1 | g)", {"weights": "size"}),
        ("y ~ x + t + (1 | g)", {"residual_sd": "size"}),
        ("y ~ x + t + offset(w) + (1 | g)", {}),
    ],
)
@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_all_advice_on_linear_models_can_be_followed(formula, arguments):
    rng = np.random.default_rng(5)
    data, g, groups = frame(rng)
    data["y"] = 9.0 + predictor(data, g, groups, rng) + rng.normal(size=len(g))
    data["size"], data["the time"] = rng.uniform(1, 2, len(g)), data["t"]
    data["h"] = (g // 3).astype(str)
    _follow_all(mfx.lmer(formula, data, **arguments), data)


@pytest.mark.parametrize("family", ["poisson", "nbinom2", "nbinom1", "binomial", "gamma"])
@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_all_advice_on_generalised_models_can_be_followed(family):
    rng = np.random.default_rng(6)
    data, g, groups = frame(rng)
    mu = np.exp(predictor(data, g, groups, rng))
    data["y"] = rng.poisson(mu * rng.gamma(2, 0.5, len(g)))
    response = "y"
    if family == "binomial":
        data["y"] = np.minimum(data["y"], 6)
        data["no"], response = 6 - data["y"], "cbind(y, no)"
    if family == "gamma":
        data["y"] = mu * rng.gamma(2, 0.5, len(g))
    link = "log" if family == "gamma" else None
    _follow_all(mfx.glmer(f"{response} ~ x + f + t + (1 | g)", data, family, link=link), data)


def _follow_all(fit, data):
    drawn = drawn_fit(fit.model, 0, 40)
    texts = {found.advice() for check in CHECKS for found in check(drawn)}
    codes = {code for text in texts for code in text.split("\n")[1:]}
    assert codes
    for code in codes:
        plt.close("all")
        eval(code, *_names(data, fit))


# ---------------------------------------------------------------- size and power

SIZES = 60


@pytest.mark.slow_beyond(3)
@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", RIGHT, ids=lambda model: model.__name__)
def test_checks_of_a_right_model_reject_no_more_than_they_say(model, monkeypatch):
    # P-values of the draws are kept apart, then combined: of one draw they are exact.
    combined = finding.combine
    monkeypatch.setattr(finding, "combine", lambda p: p)
    single, together = {}, {}
    for seed in range(SIZES):
        drawn = drawn_fit(model(np.random.default_rng(seed)).model, seed, 250)
        for found in (found for check in CHECKS for found in check(drawn)):
            # A variance that is estimated is as large as it is, by construction.
            if found.check != "dispersion":
                key = (found.check, found.what)
                single.setdefault(key, []).append(found.p_value[0])
                together.setdefault(key, []).append(combined(found.p_value))
    first = np.mean([np.mean(np.array(p) < 0.05) for p in single.values()])
    rates = {key: float(np.mean(np.array(p) < 0.05)) for key, p in together.items()}
    # 60 of about twelve checks: the standard error of a share of 0.05 is 0.008, of one 0.028.
    assert 0.02 < first < 0.08
    assert np.mean(list(rates.values())) < 0.07
    assert max(rates.values()) <= 0.15, rates


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", list(WRONG), ids=lambda model: model.__name__)
def test_checks_find_what_is_wrong(model):
    p_values = [
        row(model(np.random.default_rng(seed))[0].check(rng=seed), *WRONG[model])["p_value"]
        for seed in range(15)
    ]
    # Of 200 simulated tables each is found in at least 0.93.
    assert np.mean(np.array(p_values) < 0.05) >= 0.8


# ---------------------------------------------------------------- the page


@pytest.mark.full
def test_the_page_has_six_panels_and_colours_what_fails(wrong):
    axes = wrong[0].plot.check()
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles[:5] == [
        "Distribution of residuals",
        "Residuals against fitted values",
        "Dispersion",
        "Zeros",
        "Effects of g: Intercept",
    ]
    colours = [
        ax.title.get_color() if ax.get_title() else ax._left_title.get_color() for ax in axes
    ]
    assert colours[2] != colours[4]
    assert "times what the model says" in axes[2].texts[-1].get_text().replace("\n", " ")
    plt.close("all")


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "fit",
    [
        lambda: mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")),
        lambda: mfx.lmer("score ~ arm", mfx.datasets.load("trial"), residual="cs(visit | patient)"),
        lambda: mfx.lmer("Reaction ~ Days", mfx.datasets.load("sleepstudy")),
    ],
)
def test_every_model_has_a_page(fit):
    axes = fit().plot.check(n_sim=20)
    assert 3 <= len(axes) <= 6
    axes[0].figure.canvas.draw()
    plt.close("all")


@pytest.mark.filterwarnings("ignore:singular fit")
def test_a_variance_of_zero_has_no_effects_to_check():
    fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    assert "Batch: Intercept" not in set(fit.check().table["what"])
    assert len(fit.plot.check(n_sim=20)) >= 3
    plt.close("all")
