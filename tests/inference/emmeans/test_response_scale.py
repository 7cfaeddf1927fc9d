"""Marginal means of generalised models: on the link's scale, the response's, and as ratios.

Source of truth: R's emmeans on glmmTMB's fits, in tests/reference/generalized (its t quantiles are
not ours, which are normal); its bias adjustment, in means_and_shares.json; the delta method by
differences; and the identities of logarithms.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from generalized_models import COSTLY, GENERALIZED, generalized_fit
from reference_models import FOLDER
from scipy import special, stats
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError

# Coefficients are within 1e-4 of a standard error, and these within 1e-4 of themselves.
ESTIMATE, ERROR = 1e-4, 2e-4
ROUNDING = 1e-9
MADE_BY_R = json.loads((FOLDER / "generalized" / "means_and_shares.json").read_text("utf-8"))

WITH_MEANS = [name for name, r in GENERALIZED.items() if r.record.get("emmeans")]
Z = special.ndtri(0.975)


def r_table(rows):
    """Estimate and standard error of R's table, and its labels."""
    table = pd.DataFrame(rows)
    position = list(table.columns).index("SE")
    return (
        table.iloc[:, position - 1].to_numpy(),
        table["SE"].to_numpy(),
        table.iloc[:, 0].astype(str),
    )


def assert_near(found, se, expected, expected_se):
    np.testing.assert_allclose((found - expected) / expected_se, 0.0, atol=ESTIMATE)
    np.testing.assert_allclose(se, expected_se, rtol=ERROR)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(WITH_MEANS, [n for n in WITH_MEANS if n not in COSTLY]))
def test_means_and_contrasts_match_emmeans(name, subtests):
    fit = generalized_fit(name)
    for reference in GENERALIZED[name]["emmeans"]:
        specs = reference["specs"]
        with subtests.test(specs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                linear, response = (fit.emmeans(f"~ {specs}", which=w) for w in ("linear", "mean"))
            # Means of ordered categories are of the latent response; R's response of a model with
            # a zero part is that of its conditional part, and ours the mean, zeros included.
            scale = "latent" if "latent" in reference else "link"
            of_response = scale == "link" and not GENERALIZED[name].record.get("ziformula")
            for means, kind in ((linear, scale), (response, "response"))[: 1 + of_response]:
                if "SE" in reference[kind][0]:
                    expected, se, labels = r_table(reference[kind])
                    assert means.table[means.specs[0]].astype(str).tolist() == labels.tolist()
                    assert_near(means.table["emmean"], means.table["std_error"], expected, se)
            if f"pairs_{scale}" in reference:
                expected, se, labels = r_table(reference[f"pairs_{scale}"])
                pairs = linear.contrasts()
                assert pairs["contrast"].tolist() == labels.tolist()
                assert_near(pairs["estimate"], pairs["std_error"], expected, se)
            cloglog = GENERALIZED[name]["link"] == "cloglog"
            if "pairs_response" in reference and of_response and not cloglog:
                assert_pairs_of_the_response(response, reference["pairs_response"])


def assert_pairs_of_the_response(means, rows):
    expected, se, labels = r_table(rows)
    pairs, columns = means.contrasts(), list(rows[0])
    ratio = columns[columns.index("SE") - 1]  # odds_ratio, ratio or estimate
    assert pairs["contrast"].tolist() == labels.tolist()
    assert_near(pairs[ratio], pairs["std_error"], expected, se)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", MADE_BY_R)
def test_bias_adjustment_matches_emmeans(name):
    made = MADE_BY_R[name]
    fit = generalized_fit(name)
    means = fit.emmeans(made["specs"], which="mean", bias_adjust=True)
    expected, se, _ = r_table(made["bias_adjusted"])
    assert_near(means.table["emmean"], means.table["std_error"], expected, se)
    assert "adjusted for random effects of variance" in str(means).replace("\n", " ")


@pytest.fixture(scope="module")
def logit():
    return generalized_fit("cbpp_prop__laplace")


@pytest.fixture(scope="module")
def cloglog():
    return generalized_fit("cbpp_cloglog__laplace")


def test_tests_are_normal_and_the_same_on_both_scales(logit):
    linear = logit.emmeans("period").contrasts()
    ratios = logit.emmeans("period").contrasts(which="mean")
    assert np.isinf(linear["df"]).all()
    for column in ("df", "statistic", "p_value"):
        assert linear[column].tolist() == ratios[column].tolist()
    for ratio, link in (("odds_ratio", "estimate"), ("conf_low",) * 2, ("conf_high",) * 2):
        np.testing.assert_allclose(np.log(ratios[ratio]), linear[link], rtol=ROUNDING)
    raw = logit.emmeans("period").contrasts(adjust="none")
    p = 2.0 * stats.norm.sf(np.abs(raw["estimate"] / raw["std_error"]))
    np.testing.assert_allclose(raw["p_value"], p, rtol=1e-7)


def test_limits_are_transformed(logit):
    linear, mean = logit.emmeans("period").table, logit.emmeans("period", which="mean").table
    for end in ("conf_low", "conf_high"):
        np.testing.assert_allclose(mean[end], special.expit(linear[end]), rtol=ROUNDING)
    np.testing.assert_allclose(
        linear["conf_high"], linear["emmean"] + Z * linear["std_error"], rtol=ROUNDING
    )


def test_differences_of_a_complementary_log_log_are_logs_of_hazard_ratios(cloglog):
    expected, se, _ = r_table(GENERALIZED["cbpp_cloglog__laplace"]["emmeans"][0]["pairs_link"])
    pairs = cloglog.emmeans("period", which="mean").contrasts()
    assert_near(pairs["hazard_ratio"], pairs["std_error"], np.exp(expected), np.exp(expected) * se)


def test_contrasts_that_do_not_sum_to_zero_stay_on_the_scale_of_the_link(logit):
    means = logit.emmeans("period", which="mean")
    table = means.contrasts({"one": [1, 0, 0, 0], "difference": [1, -1, 0, 0]})
    assert "odds_ratio" not in table
    assert table["estimate"][0] == pytest.approx(logit.params["Intercept"])
    assert "odds_ratio" in means.contrasts("eff")


def test_a_formula_of_means_shows_ratios(logit):
    text = str(logit.emmeans("pairwise ~ period", which="mean"))
    assert "period1 / period2" in text
    assert "The null value of the odds ratios is 1." in text
    assert "Means are of the probability, at random effects of zero." in text
    assert "Contrasts are differences of the log odds." in str(logit.emmeans("pairwise ~ period"))


def test_links_that_decrease_keep_low_limits_low():
    fit = generalized_fit("gamma_inverse__laplace")
    linear = fit.emmeans("f").table
    table = fit.emmeans("f", which="mean").table
    np.testing.assert_allclose(table["emmean"], 1.0 / linear["emmean"], rtol=ROUNDING)
    np.testing.assert_allclose(table["conf_low"], 1.0 / linear["conf_high"], rtol=ROUNDING)
    assert (table["conf_low"] < table["emmean"]).all()


@pytest.mark.full
def test_linear_models_have_one_scale():
    cake = mfx.datasets.load("cake")
    fit = mfx.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
    linear, mean = fit.emmeans("recipe"), fit.emmeans("recipe", which="mean", bias_adjust=True)
    pd.testing.assert_frame_equal(linear.table, mean.table)
    pd.testing.assert_frame_equal(linear.contrasts(), mean.contrasts())
    assert str(linear) == str(mean)


def test_an_offset_is_at_its_mean():
    fit = generalized_fit("owls_pois__laplace")
    means = fit.emmeans("FoodTreatment", at={"SexParent": "Female"}, which="mean").table
    offset = GENERALIZED["owls_pois__laplace"].data["logBroodSize"].mean()
    assert means["emmean"][0] == pytest.approx(np.exp(fit.params["Intercept"] + offset))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"which": "response"}, "which='response' is not one of the choices 'linear', 'mean'"),
        ({"bias_adjust": True}, "add which='mean'"),
        ({"bias_adjust": "yes", "which": "mean"}, "bias_adjust"),
        ({"type": "response"}, "which='mean'"),
    ],
)
def test_wrong_arguments_say_what_is_right(logit, arguments, message):
    with pytest.raises((ArgumentError, TypeError), match=message):
        logit.emmeans("period", **arguments)
