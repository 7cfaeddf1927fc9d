"""Text for a paper: the numbers are those of the tables, in APA style."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ArgumentError, ConvergenceWarning
from mixedfx.priors import Normal

SLEEP, HERDS = mfx.datasets.load("sleepstudy"), mfx.datasets.load("cbpp")
SLOPES = mfx.lmer("Reaction ~ Days + (Days | Subject)", SLEEP)
BINOMIAL = mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", HERDS)


def test_a_linear_model_is_told():
    assert SLOPES.report() == (
        "A linear mixed model was fitted by restricted maximum likelihood to 180 observations of "
        "18 levels of Subject: Reaction ~ Days + (Days | Subject). T tests have Satterthwaite's "
        "degrees of freedom. The intercept was b = 251.41, SE = 6.82, 95% CI [237.01, 265.80], "
        "t(17.0) = 36.84, p < .001. The coefficient of Days was b = 10.47, SE = 1.55, 95% CI "
        "[7.21, 13.73], t(17.0) = 6.77, p < .001. The random part had SD = 24.74 of intercepts by "
        "Subject, SD = 5.92 of slopes of Days by Subject, r = .07 between intercepts and Days and "
        "SD = 25.59 of the residuals. The fixed part accounts for R² = .28 of the variance, and "
        "with the random effects R² = .80."
    )


def test_a_generalised_model_has_z_tests_and_odds_ratios():
    text = BINOMIAL.report()
    assert "by maximum likelihood" in text
    assert "with the family binomial (logit)" in text
    ratio = np.exp(BINOMIAL.params["period[T.2]"])
    assert f"(odds ratio {ratio:.2f})" in text
    assert re.search(r"z = -\d\.\d\d, p (= \.\d{3}|< \.001)", text)


@pytest.mark.parametrize(("link", "ratio"), [("logit", "odds ratio"), ("cloglog", None)])
def test_ratios_of_ordered_categories_are_odds_alone(link, ratio):
    # P(y > j) = exp(-exp(alpha_j - eta)): a hazard is multiplied by exp(-coefficient).
    ratings = pd.DataFrame({"rating": [1, 2, 3, 1, 2, 3, 2, 3, 3, 1], "x": range(10)})
    text = mfx.glmer("rating ~ x", ratings, "cumulative", link=link).report()
    assert (ratio in text) if ratio else "ratio" not in text


def test_symbols_are_italic_in_markdown():
    text = SLOPES.report(style="markdown")
    assert "*b* = 251.41, *SE* = 6.82" in text
    assert "*t*(17.0) = 6.77, *p* < .001" in text
    assert text.replace("*", "") == SLOPES.report()


@pytest.mark.parametrize("method", ["kenward-roger", "normal", "residual"])
def test_the_tests_are_those_asked_for(method):
    text = SLOPES.report(df_method=method, conf_level=0.9)
    row = SLOPES.tidy(df_method=method, conf_level=0.9).iloc[1]
    assert f"90% CI [{row['conf_low']:.2f}, {row['conf_high']:.2f}]" in text
    assert ("z = " in text) == (method == "normal")


def test_other_models_are_told_without_what_they_have_not():
    trial = mfx.datasets.load("trial")
    correlated = mfx.lmer("score ~ arm", trial, residual="cs(visit | patient)")
    assert "residual" in correlated.report()
    plain = mfx.lmer("Reaction ~ Days", SLEEP)
    assert "levels of" not in plain.report()
    dropped = SLEEP.assign(twice=2 * SLEEP["Days"])
    with pytest.warns(mfx.errors.MixedfxWarning):
        fit = mfx.lmer("Reaction ~ Days + twice + (1 | Subject)", dropped)
    assert "twice was" not in fit.report()


def test_a_small_p_value_is_not_zero_and_a_large_one_has_no_leading_zero():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.standard_normal(60), "g": np.arange(60) % 10})
    data["y"] = 3 * rng.standard_normal(10)[data["g"]] + rng.standard_normal(60)
    fit = mfx.lmer("y ~ x + (1 | g)", data, engine="profiled")
    assert re.search(r"p = \.\d{3}\.", fit.report())


def test_wrong_arguments_and_priors_are_refused():
    with pytest.raises(ArgumentError, match="style"):
        SLOPES.report(style="latex")
    fit = mfx.lmer("Reaction ~ Days + (1 | Subject)", SLEEP, priors={"Days": Normal(0, 20)})
    with pytest.raises(ArgumentError, match="priors"):
        fit.report()


def test_the_citation_names_the_engine():
    assert "statsmodels (version" in SLOPES.citation()
    assert "statsmodels" not in BINOMIAL.citation()


def test_a_ratio_beyond_numbers_is_infinite():
    data = pd.DataFrame({"g": np.repeat(list("abcd"), 6), "x": np.tile([-3, -2, -1, 1, 2, 3], 4)})
    data["x"] *= 1e-3
    with pytest.warns(ConvergenceWarning):
        fit = mfx.glmer("y ~ x + (1 | g)", data.assign(y=(data["x"] > 0.0).astype(int)))
    assert fit.params["x"] > 709.0
    assert "odds ratio inf" in fit.report()
