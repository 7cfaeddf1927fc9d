"""Estimated marginal means: what they are of, how they are compared, and what they say.

Source of truth: R's emmeans (its numbers are below, with how they were made), predictions on a
grid, the definitions of the adjustments (statsmodels and scipy have them, too), and symmetry:
neither coding, nor order of levels or rows, nor counts of rows may matter.
"""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from reference_models import REFERENCES, fit_of
from scipy import integrate, stats
from statsmodels.stats.multitest import multipletests

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    DroppedColumnsWarning,
    DroppedRowsWarning,
    SingularFitWarning,
)
from mixedfx.inference.denominator_df import denominator_df
from mixedfx.inference.emmeans.contrasts import METHODS
from mixedfx.inference.emmeans.emmeans import emmeans
from mixedfx.inference.emmeans.p_adjust import ADJUSTMENTS

# The same number by two routes differs by rounding only.
ROUNDING = 1e-9


FITS = {}  # by formula, data and offset; the data stand beside the fit, so that ids stay theirs


def means_of(formula, data, specs, df="satterthwaite", offset=None, **how):
    """Fit, once for each formula, and take the means."""
    key = formula, id(data), offset
    if key not in FITS:
        FITS[key] = mfx.lmer(formula, data, offset=offset).model, data
    fit, _ = FITS[key]
    return emmeans(fit, denominator_df(fit, df), specs, **how)


@pytest.fixture(scope="module")
def uneven():
    """Two factors with very different counts, a covariate that goes with one of them, years."""
    rng = np.random.default_rng(11)
    n = 300
    a = rng.choice(["p", "q", "r"], size=n, p=[0.6, 0.3, 0.1])
    b = rng.choice(["lo", "hi"], size=n, p=[0.25, 0.75])
    x = rng.uniform(1.0, 5.0, size=n) + (a == "q")
    g = rng.integers(15, size=n)
    table = pd.DataFrame({"a": a, "b": b, "x": x, "g": [f"g{i:02}" for i in g]})
    table["year"] = rng.choice([2001, 2002, 2005], size=n)
    table["odd name"] = rng.normal(size=n)
    table["flag"] = rng.random(n) < 0.3
    table["off"] = rng.normal(2.0, 1.0, size=n)
    table["y"] = (
        (a == "q") - 0.5 * (a == "r") * (b == "hi") + 0.4 * x + rng.normal(size=15)[g]
    ) + rng.normal(size=n)
    return table


@pytest.fixture(scope="module")
def means(uneven):
    return means_of("y ~ a * b + x + (1 | g)", uneven, "a")


# ---------------------------------------------------------------- R's emmeans

# R 4.2.2, emmeans 1.8.4-1, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, on the files of
# tests/reference/data, with nloptwrap's xtol_abs = ftol_abs = 1e-12:
#     emm_options(lmer.df = DF); e <- emmeans(MODEL, ~ SPECS | BY, at = AT)
#     sprintf("%.9g", as.data.frame(summary(e))) of emmean SE df lower.CL upper.CL
#     summary(contrast(e, METHOD, adjust = ADJUST), infer = c(TRUE, TRUE)) of
#     estimate SE df p.value lower.CL upper.CL
RATPUP, SLOPES, GAPS, OFFSET = "ratpup__reml", "fac_f__reml", "na_rows__reml", "offset__reml"
SATTERTHWAITE, KENWARD_ROGER = "satterthwaite", "kenward-roger"

R_MEANS = {
    (RATPUP, SATTERTHWAITE, "Treatment", "sex", ()): [
        [6.6121103, 0.109532208, 26.4955972, 6.38716841, 6.83705219],
        [6.14507077, 0.114113793, 29.7287561, 5.91193012, 6.37821143],
        [5.70605352, 0.156933181, 31.5599458, 5.38621619, 6.02589084],
        [6.2004225, 0.113714043, 30.7542095, 5.96842603, 6.43241897],
        [5.8172487, 0.112069591, 28.1527392, 5.58774065, 6.04675675],
        [5.40138885, 0.157367431, 32.2144013, 5.08092553, 5.72185217],
    ],
    (RATPUP, KENWARD_ROGER, "Treatment", "sex", ()): [
        [6.6121103, 0.109562248, 25.882707, 6.38685219, 6.83736841],
        [6.14507077, 0.114221774, 29.0486074, 5.91147799, 6.37866355],
        [5.70605352, 0.157123703, 30.8424319, 5.38553124, 6.02657579],
        [6.2004225, 0.113740454, 30.0530716, 5.96815071, 6.4326943],
        [5.8172487, 0.112118849, 27.5051709, 5.58739736, 6.04710004],
        [5.40138885, 0.157509511, 31.4836611, 5.08034599, 5.72243171],
    ],
    (RATPUP, SATTERTHWAITE, "Treatment", None, ()): [
        [6.4062664, 0.105480868, 22.8372351, 6.18797651, 6.62455629],
        [5.98115974, 0.10647227, 22.8627298, 5.76083187, 6.20148761],
        [5.55372118, 0.147287671, 24.8800823, 5.25030239, 5.85713997],
    ],
    (RATPUP, KENWARD_ROGER, "Treatment", None, ()): [
        [6.4062664, 0.105504971, 22.3024275, 6.18763438, 6.62489842],
        [5.98115974, 0.106535502, 22.3273708, 5.7604063, 6.20191317],
        [5.55372118, 0.147410092, 24.3014141, 5.24968127, 5.85776109],
    ],
    (RATPUP, SATTERTHWAITE, ("sex", "Lsize"), None, (("Lsize", (8, 14)), ("Treatment", "High"))): [
        [6.39022644, 0.144237175, 35.7159026, 6.09761908, 6.68283381],
        [6.08556178, 0.142783457, 34.7404158, 5.79561851, 6.37550505],
        [5.61993385, 0.162864406, 31.2004301, 5.28785616, 5.95201153],
        [5.31526918, 0.163496179, 31.9639158, 4.98222362, 5.64831475],
    ],
    (GAPS, SATTERTHWAITE, "f", None, ()): [
        [1.1464685, 0.241584497, 18.1993226, 0.639316465, 1.65362054],
        [1.49930665, 0.241223276, 18.2119617, 0.992937812, 2.00567549],
    ],
    (GAPS, KENWARD_ROGER, "f", "x", (("x", (0, 2)),)): [
        [1.16999604, 0.241760311, 17.4290984, 0.660881295, 1.67911078],
        [1.53051788, 0.241349297, 17.451081, 1.02231617, 2.0387196],
        [2.78089055, 0.330242396, 54.0413216, 2.11880601, 3.4429751],
        [3.66750305, 0.352494157, 65.4638312, 2.96361815, 4.37138795],
    ],
    (OFFSET, SATTERTHWAITE, "x", None, (("x", (0, 1)),)): [
        [6.1626028, 0.197258483, 16.4867102, 5.74543456, 6.57977104],
        [6.88799654, 0.204291666, 18.958231, 6.4603454, 7.31564768],
    ],
    (OFFSET, KENWARD_ROGER, (), None, ()): [
        [6.21073195, 0.197234797, 16.9644867, 5.79453653, 6.62692736],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, ()): [
        [9.805785, 0.109615614, 29.442662, 9.58174222, 10.0298278],
        [10.8752032, 0.222411486, 25.860909, 10.4179102, 11.3324963],
        [12.3164122, 0.293549519, 29.118741, 11.7161423, 12.916682],
    ],
    (SLOPES, KENWARD_ROGER, "f", None, ()): [
        [9.805785, 0.109824721, 28.6468869, 9.5810479, 10.0305221],
        [10.8752032, 0.222625806, 28.8158248, 10.4197559, 11.3306506],
        [12.3164122, 0.29356039, 28.9941176, 11.7160085, 12.9168159],
    ],
}
R_CONTRASTS = {
    (RATPUP, SATTERTHWAITE, "Treatment", "sex", (), "pairwise", "tukey"): [
        [0.467039526, 0.158183291, 28.1545607, 0.0167920993, 0.0757572451, 0.858321806],
        [0.906056782, 0.191542384, 30.8111429, 0.000136122926, 0.434491168, 1.3776224],
        [0.439017257, 0.192984655, 32.9430208, 0.0736259627, -0.0345655963, 0.912600109],
        [0.383173802, 0.159673644, 29.5684184, 0.0578439052, -0.0107605726, 0.777108176],
        [0.799033651, 0.19429416, 32.8847425, 0.000700870196, 0.322197838, 1.27586946],
        [0.415859849, 0.190643932, 32.1165093, 0.0897834242, -0.0525414128, 0.884261111],
    ],
    (RATPUP, KENWARD_ROGER, "Treatment", None, (), "pairwise", "tukey"): [
        [0.425106664, 0.149980427, 22.3864084, 0.0248906747, 0.0488071286, 0.801406199],
        [0.852545217, 0.181448427, 24.4789674, 0.000243996758, 0.399990119, 1.30510031],
        [0.427438553, 0.180071426, 24.8119351, 0.0640327421, -0.0212999267, 0.876177032],
    ],
    (GAPS, SATTERTHWAITE, "f", "x", (("x", (0, 2)),), "pairwise", "tukey"): [
        [-0.360521842, 0.160308232, 158.364846, 0.0258960643, -0.677139731, -0.0439039528],
        [-0.886612499, 0.373804488, 156.605617, 0.0189137622, -1.62496152, -0.148263483],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "revpairwise", "tukey"): [
        [1.06941824, 0.212640523, 29.4219492, 6.53958797e-05, 0.544671802, 1.59416467],
        [2.51062716, 0.271165489, 29.3136925, 9.86901894e-10, 1.84132534, 3.17992898],
        [1.44120893, 0.27690729, 29.4133185, 4.01618964e-05, 0.75785682, 2.12456103],
    ],
    (SLOPES, KENWARD_ROGER, "f", None, (), "consec", "holm"): [
        [1.06941824, 0.212974454, 28.7424506, 2.9248309e-05, 0.565733642, 1.57310283],
        [1.44120893, 0.277091779, 28.9118323, 2.9248309e-05, 0.786097822, 2.09632003],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "trt.vs.ctrl", "holm"): [
        [1.06941824, 0.212640523, 29.4219492, 2.25384708e-05, 0.56716104, 1.57167543],
        [2.51062716, 0.271165489, 29.3136925, 6.64137054e-10, 1.87000702, 3.1512473],
    ],
    (SLOPES, KENWARD_ROGER, "f", None, (), "eff", "holm"): [
        [-1.19334847, 0.133792863, 28.9361306, 2.52910009e-09, -1.53334971, -0.853347226],
        [-0.123930229, 0.137716193, 28.7461101, 0.375652873, -0.4740434, 0.226182941],
        [1.3172787, 0.16844715, 28.9770462, 2.54524872e-08, 0.889249239, 1.74530815],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "poly", "none"): [
        [2.51062716, 0.271165489, 29.3136925, 3.32068527e-10, 1.95628914, 3.06496518],
        [0.371790688, 0.412621565, 29.7771671, 0.374794575, -0.471159487, 1.21474086],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "pairwise", "holm"): [
        [-1.06941824, 0.212640523, 29.4219492, 2.76107919e-05, -1.6092451, -0.52959137],
        [-2.51062716, 0.271165489, 29.3136925, 9.96205581e-10, -3.19918342, -1.8220709],
        [-1.44120893, 0.27690729, 29.4133185, 2.76107919e-05, -2.14420115, -0.738216699],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "pairwise", "bonferroni"): [
        [-1.06941824, 0.212640523, 29.4219492, 6.76154125e-05, -1.6092451, -0.52959137],
        [-2.51062716, 0.271165489, 29.3136925, 9.96205581e-10, -3.19918342, -1.8220709],
        [-1.44120893, 0.27690729, 29.4133185, 4.14161879e-05, -2.14420115, -0.738216699],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "pairwise", "sidak"): [
        [-1.06941824, 0.212640523, 29.4219492, 6.76138886e-05, -1.60769463, -0.531141841],
        [-2.51062716, 0.271165489, 29.3136925, 9.96205451e-10, -3.19720507, -1.82404925],
        [-1.44120893, 0.27690729, 29.4133185, 4.14156161e-05, -2.14218199, -0.740235865],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, (), "pairwise", "none"): [
        [-1.06941824, 0.212640523, 29.4219492, 2.25384708e-05, -1.50404618, -0.634790291],
        [-2.51062716, 0.271165489, 29.3136925, 3.32068527e-10, -3.06496518, -1.95628914],
        [-1.44120893, 0.27690729, 29.4133185, 1.3805396e-05, -2.00720244, -0.875215408],
    ],
    ("cake_cat__reml", SATTERTHWAITE, "temperature", None, (), "poly", "none"): [
        [55.3111111, 5.64301527, 210, 6.44055096e-19, 44.1868952, 66.435327],
        [-3.53333333, 6.18161352, 210, 0.568212699, -15.7193013, 8.65263465],
        [-7.35555556, 9.04895562, 210, 0.417217546, -25.1939861, 10.482875],
        [-6.86666667, 3.56895623, 210, 0.0557065897, -13.9022386, 0.16890523],
        [-14.5111111, 10.7068687, 210, 0.176775201, -35.6178268, 6.59560458],
    ],
}


@pytest.fixture(scope="module")
def like_r():
    """The means of a reference model, each made once."""
    made = {}

    def get(model, df, specs, by, at):
        key = model, df, specs, by, at
        if key not in made:
            fit = fit_of(model, "profiled").model
            made[key] = emmeans(fit, denominator_df(fit, df), specs, by=by, at=dict(at))
        return made[key]

    return get


def assert_like_r(ours, theirs, value):
    """Agree to what two optimisers, numerical derivatives (df) and R's qtukey (1e-5) leave."""
    theirs = pd.DataFrame(theirs, columns=[value, *(c for c in ours.columns if c != value)])
    np.testing.assert_allclose(ours[value], theirs[value], rtol=1e-5)
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=1e-5)
    np.testing.assert_allclose(ours["df"], theirs["df"], rtol=1e-3)
    if "p_value" in ours:
        np.testing.assert_allclose(ours["p_value"], theirs["p_value"], rtol=3e-3, atol=1e-11)
    for end in ("conf_low", "conf_high"):
        half, expected = ours[end] - ours[value], theirs[end] - theirs[value]
        np.testing.assert_allclose(half, expected, rtol=2e-4)


@pytest.mark.parametrize("case", R_MEANS, ids=lambda case: "-".join(map(str, case)))
def test_means_match_emmeans(like_r, case):
    columns = ["emmean", "std_error", "df", "conf_low", "conf_high"]
    assert_like_r(like_r(*case).table[columns], R_MEANS[case], "emmean")


@pytest.mark.cases(1)
@pytest.mark.parametrize("case", R_CONTRASTS, ids=lambda case: "-".join(map(str, case)))
def test_contrasts_match_emmeans(like_r, case):
    *which, method, adjust = case
    columns = ["estimate", "std_error", "df", "p_value", "conf_low", "conf_high"]
    found = like_r(*which).contrasts(method, adjust=adjust)
    assert_like_r(found[columns], R_CONTRASTS[case], "estimate")


def test_a_covariate_of_two_values_is_averaged_over_as_in_emmeans():
    # R as above: emmeans(lmer(y ~ dmid + dhi + (1 | g), facslope), ~ dmid)
    data = REFERENCES[SLOPES].data
    found = means_of("y ~ dmid + dhi + (1 | g)", data, "dmid").table
    np.testing.assert_allclose(found["emmean"], [11.0894989, 12.1602351], rtol=1e-6)


def test_a_false_discovery_rate_has_emmeans_p_values(like_r):
    # R as above: pairs(emmeans(MODEL, ~ f), adjust = "fdr")
    found = like_r(SLOPES, SATTERTHWAITE, "f", None, ()).contrasts(adjust="fdr")
    expected = [2.25384708e-05, 9.96205581e-10, 2.07080939e-05]
    np.testing.assert_allclose(found["p_value"], expected, rtol=3e-3)


@pytest.mark.full
def test_contrasts_of_combinations_are_in_emmeans_order():
    # R as above: pairs(emmeans(lmer(cake), ~ recipe * temperature,
    #     at = list(temperature = c("175", "225")))); each 'temperature' shortened here
    fit = fit_of("cake_cat__reml", "profiled").model
    specs, at = ["recipe", "temperature"], {"temperature": ["175", "225"]}
    found = emmeans(fit, denominator_df(fit, "satterthwaite"), specs, at=at).contrasts()
    labels = [label.replace("temperature", "t") for label in found["contrast"]]
    assert labels == [
        "A t175 - B t175",
        "A t175 - C t175",
        "A t175 - A t225",
        "A t175 - B t225",
        "A t175 - C t225",
        "B t175 - C t175",
        "B t175 - A t225",
        "B t175 - B t225",
        "B t175 - C t225",
        "C t175 - A t225",
        "C t175 - B t225",
        "C t175 - C t225",
        "A t225 - B t225",
        "A t225 - C t225",
        "B t225 - C t225",
    ]


@pytest.mark.full
@pytest.mark.parametrize(
    ("method", "labels"),
    {
        "pairwise": ["lo - mid", "lo - hi", "mid - hi"],
        "revpairwise": ["mid - lo", "hi - lo", "hi - mid"],
        "trt.vs.ctrl": ["mid - lo", "hi - lo"],
        "eff": ["lo effect", "mid effect", "hi effect"],
        "consec": ["mid - lo", "hi - mid"],
        "poly": ["linear", "quadratic"],
    }.items(),
)
def test_contrasts_are_named_as_by_emmeans(like_r, method, labels):
    found = like_r(SLOPES, SATTERTHWAITE, "f", None, ()).contrasts(method)
    assert found["contrast"].tolist() == labels


def test_levels_with_operators_are_named_in_brackets(uneven):
    # As emmeans prints "(x-1) - x".
    data = uneven.assign(a=uneven["a"].map({"p": "x-1", "q": "x", "r": "y"}))
    found = means_of("y ~ a + (1 | g)", data, "a", at={"a": ["x-1", "x"]}).contrasts()
    assert found["contrast"].tolist() == ["(x-1) - x"]


# ---------------------------------------------------------------- what the means are


def test_means_of_a_balanced_design_are_the_raw_means():
    cake = mfx.datasets.load("cake")
    found = means_of("angle ~ recipe * temperature + (1 | recipe:replicate)", cake, "recipe")
    raw = cake.groupby("recipe", observed=True)["angle"].mean()
    np.testing.assert_allclose(found.table["emmean"], raw, rtol=ROUNDING)


def test_means_are_predictions_averaged_over_the_grid(uneven, means):
    fit = mfx.lmer("y ~ a * b + x + (1 | g)", uneven)
    for row in means.table.itertuples():
        grid = pd.DataFrame({"a": row.a, "b": ["lo", "hi"], "x": uneven["x"].mean()})
        expected = fit.predict(grid, random="none").mean()
        np.testing.assert_allclose(row.emmean, expected, rtol=ROUNDING)


def test_rows_give_the_means(means):
    np.testing.assert_allclose(means.rows @ means._fit.solution.beta, means.table["emmean"])


def test_standard_errors_are_those_of_the_rows(uneven, means):
    cov = mfx.lmer("y ~ a * b + x + (1 | g)", uneven).cov_params().to_numpy()
    expected = np.sqrt(np.diag(means.rows @ cov @ means.rows.T))
    np.testing.assert_allclose(means.table["std_error"], expected, rtol=1e-7)


def test_the_mean_at_zero_has_the_degrees_of_freedom_of_the_intercept():
    # lmerTest: 17 for the intercept of this model.
    sleep = mfx.datasets.load("sleepstudy")
    found = means_of("Reaction ~ Days + (Days | Subject)", sleep, "Days", at={"Days": 0})
    np.testing.assert_allclose(found.table["df"], [17.0], rtol=1e-3)


def test_intervals_are_t_intervals(means):
    table = means.table
    half = stats.t.ppf(0.975, table["df"]) * table["std_error"]
    np.testing.assert_allclose(table["conf_high"], table["emmean"] + half, rtol=ROUNDING)


def test_a_wider_coverage_gives_wider_intervals(uneven, means):
    wide = means_of("y ~ a * b + x + (1 | g)", uneven, "a", conf_level=0.99).table
    assert (wide["conf_low"] < means.table["conf_low"]).all()


def test_a_covariate_is_held_at_its_mean(uneven, means):
    at_mean = means_of("y ~ a * b + x + (1 | g)", uneven, "a", at={"x": uneven["x"].mean()})
    pd.testing.assert_frame_equal(means.table, at_mean.table)


def test_a_function_of_a_covariate_is_evaluated_at_the_mean(uneven):
    found = means_of("y ~ a + np.log(x) + (1 | g)", uneven, "a")
    fit = mfx.lmer("y ~ a + np.log(x) + (1 | g)", uneven)
    grid = pd.DataFrame({"a": ["p", "q", "r"], "x": uneven["x"].mean()})
    expected = fit.predict(grid, random="none")
    np.testing.assert_allclose(found.table["emmean"], expected, rtol=ROUNDING)


@pytest.mark.kept("scale(x)", "bs(x, 4)")
@pytest.mark.parametrize("written", ["center(x)", "scale(x)", "bs(x, 4)", "poly(x, 2)"])
def test_functions_that_learn_from_the_data_are_not_learned_anew(uneven, written):
    formula = f"y ~ {written} + (1 | g)"
    found = means_of(formula, uneven, "x", at={"x": [2.0, 3.0]})
    grid = pd.DataFrame({"x": [2.0, 3.0]})
    expected = mfx.lmer(formula, uneven).predict(grid, random="none")
    np.testing.assert_allclose(found.table["emmean"], expected, rtol=ROUNDING)


def test_rows_with_missing_values_are_not_in_the_mean_of_a_covariate(uneven):
    gap = uneven.copy()
    gap.loc[gap["x"] > 4.0, "y"] = np.nan
    with pytest.warns(DroppedRowsWarning):
        found = means_of("y ~ a + x + (1 | g)", gap, "a")
    assert found.fixed_at["x"] == pytest.approx(gap.loc[gap["x"] <= 4.0, "x"].mean())


def test_no_variables_give_the_mean_of_the_means(uneven, means):
    overall = means_of("y ~ a * b + x + (1 | g)", uneven, [])
    np.testing.assert_allclose(overall.table["emmean"], [means.table["emmean"].mean()])


@pytest.mark.parametrize("nothing", [[], (), None, 1, "1"])
def test_nothing_can_be_written_in_many_ways(uneven, nothing):
    found = means_of("y ~ 1 + (1 | g)", uneven, nothing)
    assert list(found.table.columns) == ["emmean", "std_error", "df", "conf_low", "conf_high"]


def test_numbers_in_a_factor_have_a_mean_each(uneven):
    found = means_of("y ~ C(year) + (1 | g)", uneven, "year").table
    assert found["year"].tolist() == [2001, 2002, 2005]


def test_numbers_in_a_factor_and_out_of_it_are_levels(uneven):
    found = means_of("y ~ C(year, Sum) + (year > 2001) : x + (1 | g)", uneven, "year").table
    assert found["year"].tolist() == [2001, 2002, 2005]


def test_a_covariate_in_a_comparison_stays_a_covariate(uneven):
    found = means_of("y ~ (x > 3) + (1 | g)", uneven, "x").table
    assert found["x"].tolist() == [pytest.approx(uneven["x"].mean())]


def test_truth_values_are_levels(uneven):
    found = means_of("y ~ flag + x + (1 | g)", uneven, "flag").table
    assert found["flag"].tolist() == [False, True]


@pytest.mark.parametrize("kind", ["str", "string", "category", "object"])
def test_any_kind_of_text_is_levels(uneven, kind):
    data = uneven.assign(a=uneven["a"].astype(kind))
    assert means_of("y ~ a + (1 | g)", data, "a").table["a"].tolist() == ["p", "q", "r"]


def test_levels_keep_their_order(uneven):
    data = uneven.assign(b=pd.Categorical(uneven["b"], ["lo", "none", "hi"]))
    assert means_of("y ~ b + (1 | g)", data, "b").table["b"].tolist() == ["lo", "hi"]


def test_names_that_need_quotes_are_variables(uneven):
    found = means_of("y ~ Q('odd name') + (1 | g)", uneven, "odd name", at={"odd name": [0, 1]})
    assert found.table["odd name"].tolist() == [0.0, 1.0]


def test_the_mean_of_an_offset_is_part_of_the_means(uneven):
    found = means_of("y ~ a + (1 | g)", uneven, "a", offset="off").table
    shifted = uneven.assign(y=uneven["y"] - uneven["off"])
    without = means_of("y ~ a + (1 | g)", shifted, "a").table
    added = found["emmean"] - without["emmean"]
    np.testing.assert_allclose(added, uneven["off"].mean(), rtol=1e-6)


# ---------------------------------------------------------------- what must not matter


@pytest.mark.parametrize("coded", ["C(a, Sum)", "C(a, Treatment('q'))", "C(a, Helmert)"])
def test_coding_does_not_matter(uneven, means, coded):
    other = means_of(f"y ~ {coded} * C(b, Sum) + x + (1 | g)", uneven, "a")
    pd.testing.assert_frame_equal(other.table, means.table, rtol=1e-5)


def test_a_model_without_intercept_has_the_same_means(uneven, means):
    other = means_of("y ~ 0 + a : b + x + (1 | g)", uneven, "a")
    pd.testing.assert_frame_equal(other.table, means.table, rtol=1e-5)


def test_the_order_of_levels_does_not_matter(uneven, means):
    data = uneven.assign(a=pd.Categorical(uneven["a"], ["r", "p", "q"]))
    other = means_of("y ~ a * b + x + (1 | g)", data, "a").table.sort_values("a")
    expected = means.table.drop(columns="a").to_numpy()
    np.testing.assert_allclose(other.drop(columns="a").to_numpy(), expected, rtol=1e-5)


def test_the_order_of_rows_does_not_matter(uneven, means):
    other = means_of("y ~ a * b + x + (1 | g)", uneven.sample(frac=1.0, random_state=1), "a")
    pd.testing.assert_frame_equal(other.table, means.table, rtol=1e-5)


def test_the_place_of_zero_of_a_covariate_does_not_matter(uneven, means):
    other = means_of("y ~ a * b + x + (1 | g)", uneven.assign(x=uneven["x"] + 1000.0), "a")
    pd.testing.assert_frame_equal(other.table, means.table, rtol=1e-5)


# ---------------------------------------------------------------- by and at


def test_by_does_not_change_the_means(uneven):
    formula = "y ~ a * b + x + (1 | g)"
    split = means_of(formula, uneven, "a", by="b").table
    whole = means_of(formula, uneven, ["a", "b"]).table
    pd.testing.assert_frame_equal(split[whole.columns], whole)


def test_by_varies_slowest(uneven):
    table = means_of("y ~ a * b + (1 | g)", uneven, "a", by="b").table
    cells = ["hip", "hiq", "hir", "lop", "loq", "lor"]
    assert table[["b", "a"]].agg("".join, axis=1).tolist() == cells


def test_the_first_variable_varies_fastest(uneven):
    table = means_of("y ~ a * b + (1 | g)", uneven, ["b", "a"]).table
    cells = ["hip", "lop", "hiq", "loq", "hir", "lor"]
    assert table[["b", "a"]].agg("".join, axis=1).tolist() == cells


@pytest.mark.full
def test_a_variable_in_both_is_split_by(uneven):
    formula = "y ~ a * b + (1 | g)"
    both = means_of(formula, uneven, ["a", "b"], by="b").contrasts()
    pd.testing.assert_frame_equal(both, means_of(formula, uneven, "a", by="b").contrasts())


def test_contrasts_are_made_and_adjusted_within_by(uneven):
    formula = "y ~ a * b + x + (1 | g)"
    split = means_of(formula, uneven, "a", by="b").contrasts("consec")
    alone = means_of(formula, uneven, "a", at={"b": "lo"}).contrasts("consec")
    within = split[split["b"] == "lo"].drop(columns="b").reset_index(drop=True)
    pd.testing.assert_frame_equal(within, alone)


def test_at_takes_values_of_a_covariate_in_their_order(uneven):
    found = means_of("y ~ x + (1 | g)", uneven, "x", at={"x": np.array([3, 1])}).table
    assert found["x"].tolist() == [3.0, 1.0]


def test_at_takes_levels_in_their_order(uneven):
    found = means_of("y ~ a + (1 | g)", uneven, "a", at={"a": ("r", "p")}).table
    assert found["a"].tolist() == ["r", "p"]


def test_at_restricts_what_is_averaged_over(uneven):
    formula = "y ~ a * b + x + (1 | g)"
    low = means_of(formula, uneven, "a", at={"b": "lo"}).table
    split = means_of(formula, uneven, "a", by="b").table
    expected = split[split["b"] == "lo"].drop(columns="b").reset_index(drop=True)
    pd.testing.assert_frame_equal(low, expected)


def test_several_values_of_a_covariate_are_averaged_over(uneven):
    at_each = [means_of("y ~ a * x + (1 | g)", uneven, "a", at={"x": v}).table for v in (1, 4)]
    over = means_of("y ~ a * x + (1 | g)", uneven, "a", at={"x": [1, 4]}).table
    np.testing.assert_allclose(over["emmean"], (at_each[0] + at_each[1])["emmean"] / 2)


def test_at_overrides_the_two_values_of_a_covariate(uneven):
    data = uneven.assign(z=(uneven["a"] == "p").astype(int))
    found = means_of("y ~ z + (1 | g)", data, "z", at={"z": 0.5}).table
    assert found["z"].tolist() == [0.5]


def test_differences_change_with_a_covariate_by_the_difference_of_slopes(uneven):
    found = means_of("y ~ a * x + (1 | g)", uneven, "a", by="x", at={"x": [1, 3], "a": ["q", "p"]})
    low, high = found.contrasts()["estimate"]
    slope = mfx.lmer("y ~ a * x + (1 | g)", uneven).params["a[T.q]:x"]
    assert high - low == pytest.approx(2 * slope)


# ---------------------------------------------------------------- contrasts


def test_a_difference_has_the_t_test_of_its_row(uneven, means):
    row = means.rows[0] - means.rows[2]
    found = means.contrasts("pairwise", adjust="none").iloc[1]
    cov = mfx.lmer("y ~ a * b + x + (1 | g)", uneven).cov_params().to_numpy()
    t = row @ means._fit.solution.beta / np.sqrt(row @ cov @ row)
    df = denominator_df(means._fit, "satterthwaite").t_df(row)
    expected = [t, df, 2 * stats.t.sf(abs(t), df)]
    np.testing.assert_allclose(found[["statistic", "df", "p_value"]].astype(float), expected)


def test_reference_treatment_differences_are_the_coefficients(uneven):
    found = means_of("y ~ a + x + (1 | g)", uneven, "a").contrasts("trt.vs.ctrl")
    params = mfx.lmer("y ~ a + x + (1 | g)", uneven).params[["a[T.q]", "a[T.r]"]]
    np.testing.assert_allclose(found["estimate"], params, rtol=ROUNDING)


def test_effects_add_to_zero(means):
    assert abs(means.contrasts("eff")["estimate"].sum()) < ROUNDING


def test_polynomials_of_six_levels_are_those_of_the_tables():
    # Fisher and Yates, Statistical Tables, table XXIII, n' = 6; emmeans' poly.emmc(1:6).
    fit = fit_of("cake_cat__reml", "profiled").model
    found = emmeans(fit, denominator_df(fit, "normal"), "temperature")
    table = {
        "linear": [-5, -3, -1, 1, 3, 5],
        "quadratic": [5, -1, -4, -4, -1, 5],
        "cubic": [-5, 7, 4, -4, -7, 5],
        "quartic": [1, -3, 2, 2, -3, 1],
        "degree 5": [-1, 5, -10, 10, -5, 1],
    }
    pd.testing.assert_frame_equal(found.contrasts("poly"), found.contrasts(table))


@pytest.fixture(scope="module")
def weeks():
    """Ten levels, balanced."""
    rng = np.random.default_rng(3)
    return pd.DataFrame({"week": np.repeat(range(10), 4), "y": rng.normal(size=40)})


def test_polynomials_go_to_degree_six(weeks):
    found = means_of("y ~ C(week)", weeks, "week").contrasts("poly")
    assert found["contrast"].tolist()[3:] == ["quartic", "degree 5", "degree 6"]


def test_polynomials_are_those_of_a_regression(weeks):
    # In a balanced design the tests of orthogonal polynomials are those of the columns of
    # numpy's polynomials made orthogonal one after the other.
    found = means_of("y ~ C(week)", weeks, "week", df="residual").contrasts("poly")
    powers = np.vander(np.arange(10.0), 7, increasing=True)
    orthogonal, triangle = np.linalg.qr(powers)
    orthogonal = orthogonal * np.sign(np.diag(triangle))
    means = weeks.groupby("week")["y"].mean().to_numpy()
    within = (weeks["y"] - means[weeks["week"]]).pow(2).sum() / 30
    expected = (orthogonal.T @ means)[1:] / np.sqrt(within / 4)
    np.testing.assert_allclose(found["statistic"], expected, rtol=1e-8)


def test_given_coefficients_are_used(means):
    found = means.contrasts({"p against the rest": [1, -0.5, -0.5]})
    p, q, r = means.table["emmean"]
    assert found["estimate"].tolist() == pytest.approx([p - (q + r) / 2])


def test_given_coefficients_that_do_not_add_to_zero_count_the_offset(uneven):
    found = means_of("y ~ a + (1 | g)", uneven, "a", offset="off")
    alone = found.contrasts({"p": [1, 0, 0]})
    columns = ["std_error", "df", "conf_low", "conf_high"]
    expected = found.table.loc[0, ["emmean", *columns]].astype(float)
    np.testing.assert_allclose(alone.loc[0, ["estimate", *columns]].astype(float), expected)


def test_a_test_against_zero_counts_the_offset(uneven):
    found = means_of("y ~ a + (1 | g)", uneven, "a", offset="off").contrasts({"p": [1, 0, 0]})
    expected = found["estimate"] / found["std_error"]
    np.testing.assert_allclose(found["statistic"], expected)


def test_a_difference_that_no_coefficient_can_change_is_zero_and_has_no_test(uneven):
    # emmeans: estimate 0, SE 0, t and p NaN.
    found = means_of("y ~ x + a : x + (1 | g)", uneven, "a", at={"x": 0}).contrasts().iloc[0]
    assert found[["estimate", "std_error"]].tolist() == [0.0, 0.0]
    assert np.isnan(found["p_value"])


# ---------------------------------------------------------------- many comparisons


@pytest.fixture(scope="module")
def one_way():
    """A balanced one-way layout, where Tukey's method is exact, and its groups."""
    rng = np.random.default_rng(5)
    groups = [rng.normal(shift, 1.0, size=8) for shift in (0.0, 0.4, 1.1, 1.2)]
    table = pd.DataFrame({"f": np.repeat(list("ABCD"), 8), "y": np.concatenate(groups)})
    return means_of("y ~ f", table, "f", df="residual"), groups


PAIRS = tuple(itertools.combinations(range(4), 2))


@pytest.mark.full
def test_tukeys_p_values_are_those_of_scipy(one_way):
    found, groups = one_way
    theirs = stats.tukey_hsd(*groups).pvalue
    expected = [theirs[i, j] for i, j in PAIRS]
    np.testing.assert_allclose(found.contrasts()["p_value"], expected, rtol=1e-8)


@pytest.mark.full
def test_tukeys_intervals_are_those_of_scipy(one_way):
    found, groups = one_way
    theirs = stats.tukey_hsd(*groups).confidence_interval(0.9)
    expected = [[theirs.low[i, j], theirs.high[i, j]] for i, j in PAIRS]
    ours = found.contrasts(conf_level=0.9)[["conf_low", "conf_high"]]
    np.testing.assert_allclose(ours, expected, rtol=1e-7)


def test_tukeys_p_value_of_two_means_is_that_of_the_t_test(uneven):
    found = means_of("y ~ b + (1 | g)", uneven, "b")
    pd.testing.assert_frame_equal(found.contrasts(), found.contrasts(adjust="none"))


def range_tail(q, k):
    """Chance that the range of ``k`` standard normal variables exceeds ``q``, by its integral."""
    inside, _ = integrate.quad(
        lambda z: k * stats.norm.pdf(z) * (stats.norm.cdf(z) - stats.norm.cdf(z - q)) ** (k - 1),
        *(-10.0, 10.0 + q),
    )
    return 1.0 - inside


@pytest.mark.full
def test_tukeys_method_has_its_normal_limit(uneven):
    found = means_of("y ~ a * b + x + (1 | g)", uneven, "a", df="normal").contrasts()
    expected = [range_tail(np.sqrt(2.0) * abs(t), 3) for t in found["statistic"]]
    np.testing.assert_allclose(found["p_value"], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.full
def test_tukeys_intervals_have_their_normal_limit(uneven):
    found = means_of("y ~ a * b + x + (1 | g)", uneven, "a", df="normal").contrasts()
    critical = (found["conf_high"] - found["estimate"]) / found["std_error"]
    tails = [range_tail(np.sqrt(2.0) * c, 3) for c in critical]
    np.testing.assert_allclose(tails, 0.05, rtol=1e-7)


@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize(
    ("adjust", "theirs"),
    {"holm": "holm", "bonferroni": "bonferroni", "sidak": "sidak", "fdr": "fdr_bh"}.items(),
)
@pytest.mark.parametrize("method", METHODS)
def test_p_values_are_adjusted_as_by_statsmodels(one_way, adjust, theirs, method):
    plain = one_way[0].contrasts(method, adjust="none")["p_value"]
    adjusted = one_way[0].contrasts(method, adjust=adjust)["p_value"]
    expected = multipletests(plain, method=theirs)[1]
    np.testing.assert_allclose(adjusted, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("adjust", "share"),
    {
        "bonferroni": 0.05 / 6,
        "holm": 0.05 / 6,
        "sidak": 1 - 0.95 ** (1 / 6),
        "fdr": 0.05,
        "none": 0.05,
    }.items(),
)
def test_intervals_are_adjusted(one_way, adjust, share):
    found = one_way[0].contrasts(adjust=adjust)
    critical = (found["conf_high"] - found["estimate"]) / found["std_error"]
    np.testing.assert_allclose(critical, stats.t.ppf(1 - share / 2, 28), rtol=1e-9)


@pytest.mark.parametrize("adjust", ["tukey", "bonferroni", "sidak", "none"])
def test_intervals_leave_out_zero_where_the_test_rejects(one_way, adjust):
    found = one_way[0].contrasts(adjust=adjust)
    outside = (found["conf_low"] > 0) | (found["conf_high"] < 0)
    assert outside.tolist() == (found["p_value"] < 0.05).tolist()


@pytest.mark.parametrize(
    ("method", "adjust"),
    {
        "pairwise": "tukey",
        "revpairwise": "tukey",
        "trt.vs.ctrl": "holm",
        "consec": "holm",
        "eff": "holm",
        "poly": "none",
    }.items(),
)
def test_each_method_has_its_adjustment(one_way, method, adjust):
    explicit = one_way[0].contrasts(method, adjust=adjust)
    pd.testing.assert_frame_equal(one_way[0].contrasts(method), explicit)


def test_given_contrasts_are_not_adjusted(one_way):
    given = {"a": [1, -1, 0, 0], "b": [0, 0, 1, -1]}
    plain = one_way[0].contrasts(given, adjust="none")
    pd.testing.assert_frame_equal(one_way[0].contrasts(given), plain)


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_adjusted_p_values_are_probabilities_not_below_the_plain_ones(one_way, adjust):
    plain = one_way[0].contrasts(adjust="none")["p_value"]
    found = one_way[0].contrasts(adjust=adjust)["p_value"]
    assert ((plain <= found) & (found <= 1.0)).all()


@pytest.mark.parametrize("adjust", ADJUSTMENTS)
def test_differences_beyond_doubt_have_p_values_that_are_not_rounding(adjust):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"f": np.repeat(list("ABC"), 20), "y": rng.normal(size=60)})
    table["y"] += 100.0 * table["f"].map({"A": 0, "B": 1, "C": 3})
    found = means_of("y ~ f", table, "f").contrasts(adjust=adjust)
    assert ((found["p_value"] > 0.0) & (found["p_value"] < 1e-60)).all()


# ---------------------------------------------------------------- all means together


# R as above: contest(MODEL, rows[-1, ] - rows[1, ]), rows those of each level of BY; by
# Kenward and Roger with ddf = "Kenward-Roger". emmeans' own joint test takes the least of the
# degrees of freedom of the differences, and leaves the statistic of Kenward and Roger unscaled.
R_JOINT = {
    (RATPUP, SATTERTHWAITE, "Treatment", "sex", ()): [
        [11.83730088, 2, 30.26896909, 0.0001592653299],
        [8.690518715, 2, 31.27829014, 0.0009965218135],
    ],
    (RATPUP, KENWARD_ROGER, "Treatment", "sex", ()): [
        [11.81860115, 2, 29.56573992, 0.0001691206291],
        [8.680593101, 2, 30.55219343, 0.001034738398],
    ],
    (SLOPES, SATTERTHWAITE, "f", None, ()): [[44.43476043, 2, 29.57264122, 1.228919634e-09]],
}


@pytest.mark.parametrize("case", R_JOINT, ids=lambda case: "-".join(map(str, case)))
def test_joint_tests_match_lmertest(like_r, case):
    found = like_r(*case).joint()[["F", "num_df", "den_df", "p_value"]]
    np.testing.assert_allclose(found, R_JOINT[case], rtol=1e-3)


def test_the_joint_test_of_the_only_factor_is_its_analysis_of_variance(like_r):
    # pbkrtest's, in the reference.
    found = like_r(SLOPES, KENWARD_ROGER, "f", None, ()).joint().iloc[0]
    row = REFERENCES[SLOPES]["anova_kr"][0]
    expected = [row["F"], row["numdf"], row["dendf"], row["p"]]
    np.testing.assert_allclose(found.astype(float), expected, rtol=1e-4)


def test_joint_tests_are_made_within_by(like_r):
    found = like_r(RATPUP, SATTERTHWAITE, "Treatment", "sex", ()).joint()
    assert found["sex"].tolist() == ["Male", "Female"]


def test_the_joint_test_of_points_on_a_line_has_one_degree_of_freedom():
    # R as above: F(1, 17) = 45.853
    sleep = mfx.datasets.load("sleepstudy")
    formula, at = "Reaction ~ Days + (Days | Subject)", {"Days": [0, 5, 9]}
    found = means_of(formula, sleep, "Days", at=at).joint().iloc[0]
    assert found[["F", "num_df", "den_df"]].tolist() == pytest.approx([45.853, 1, 17], rel=1e-3)


def test_the_joint_test_of_points_of_a_line_far_from_zero_has_one_degree_of_freedom():
    sleep = mfx.datasets.load("sleepstudy").assign(year=lambda d: d["Days"] + 2000.1)
    formula, at = "Reaction ~ year + (1 | Subject)", {"year": [2000.1, 2004.3, 2008.7]}
    assert means_of(formula, sleep, "year", at=at).joint()["num_df"].tolist() == [1.0]


def test_the_joint_test_is_invariant_to_coding(uneven):
    one = means_of("y ~ a * b + x + (1 | g)", uneven, "a").joint()
    two = means_of("y ~ C(a, Sum) * C(b, Sum) + x + (1 | g)", uneven, "a").joint()
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)


# ---------------------------------------------------------------- cells without data


@pytest.fixture(scope="module")
def holed(uneven):
    """Means of a and b where the data have no cell (r, lo)."""
    data = uneven[~((uneven["a"] == "r") & (uneven["b"] == "lo"))]
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ a * b + x + (1 | g)", data).model
    cells = mfx.lmer("y ~ 0 + ab + x + (1 | g)", data.assign(ab=data["a"] + data["b"]))

    def means(specs, **how):
        return emmeans(fit, denominator_df(fit, "satterthwaite"), specs, **how)

    return means, cells


def test_an_empty_cell_has_no_mean(holed):
    table = holed[0](["a", "b"]).table.set_index(["a", "b"])
    assert np.isnan(table.loc[("r", "lo")].astype(float)).all()


def test_the_other_cells_have_the_means_of_a_model_of_cells(holed):
    means, cells = holed
    table = means(["a", "b"]).table.dropna()
    expected = [cells.params[f"ab[{row.a}{row.b}]"] for row in table.itertuples()]
    x_part = cells.params["x"] * means("a").fixed_at["x"]
    np.testing.assert_allclose(table["emmean"] - x_part, expected, rtol=1e-5)


def test_a_mean_over_an_empty_cell_is_none(holed):
    # As emmeans' nonEst.
    assert holed[0]("a").table["emmean"].isna().tolist() == [False, False, True]


def test_rows_of_means_that_cannot_be_told_are_nan(holed):
    assert np.isnan(holed[0]("a").rows).all(axis=1).tolist() == [False, False, True]


def test_contrasts_with_an_empty_cell_are_none(holed):
    found = holed[0]("a").contrasts()
    assert found["p_value"].isna().tolist() == [False, True, True]


@pytest.mark.full
def test_a_contrast_can_be_told_although_its_means_cannot(uneven):
    # z repeats a, so nothing is known of a level of the one beside another of the other; what
    # the levels of b differ by is the same there.
    data = uneven.assign(z=pd.Categorical(uneven["a"]))
    with pytest.warns(DroppedColumnsWarning):
        fit = mfx.lmer("y ~ a + z + b + (1 | g)", data).model
    found = emmeans(fit, denominator_df(fit, "satterthwaite"), "b", at={"a": "p", "z": "q"})
    assert found.table["emmean"].isna().all()
    expected = means_of("y ~ a + b + (1 | g)", uneven, "b").contrasts()
    pd.testing.assert_frame_equal(found.contrasts(), expected, rtol=1e-5)


def test_a_joint_test_is_of_what_can_be_told(holed):
    assert holed[0]("a", by="b").joint()["num_df"].tolist() == [2.0, 1.0]


def test_columns_that_repeat_others_do_not_matter(uneven, means):
    data = uneven.assign(again=2.0 * uneven["x"] - 3000.0)
    with pytest.warns(DroppedColumnsWarning):
        other = means_of("y ~ a * b + x + again + (1 | g)", data, "a")
    pd.testing.assert_frame_equal(other.table, means.table, rtol=1e-5)


# ---------------------------------------------------------------- what is shown


def test_the_text_says_what_the_means_are_of(means):
    words = " ".join(str(means).split())
    assert "Averaged over: b. Held at: x = 3." in words
    assert "Degrees of freedom: satterthwaite. Confidence level: 0.95." in words


def test_the_text_names_each_level(means):
    assert [line.split()[0] for line in str(means).splitlines()[:4]] == ["a", "p", "q", "r"]


def test_the_text_fits_80_columns(uneven):
    found = means_of("y ~ a * b + C(year) + flag + x + (1 | g)", uneven, "a", by="b")
    assert max(map(len, str(found).splitlines())) <= 80


def test_an_interaction_with_what_is_averaged_over_is_noted(means):
    assert any("interaction with b" in note for note in means.notes)


def test_an_interaction_among_the_variables_shown_is_no_reason_for_a_note(uneven):
    assert means_of("y ~ a * b + x + (1 | g)", uneven, ["a", "b"]).notes == ()


def test_means_that_cannot_be_told_are_noted(holed):
    assert any("NaN" in note for note in holed[0]("a").notes)


def test_what_is_to_be_known_of_the_degrees_of_freedom_is_noted():
    data = mfx.datasets.load("Dyestuff2")
    with pytest.warns(SingularFitWarning):
        found = means_of("Yield ~ 1 + (1 | Batch)", data, [])
    assert any("boundary" in note for note in found.notes)


def test_the_notebook_view_is_html_that_closes(holed):
    class Counter(HTMLParser):
        depth = 0

        def handle_starttag(self, tag, attrs):
            self.depth += 1

        def handle_endtag(self, tag):
            self.depth -= 1

    counter = Counter()
    counter.feed(holed[0]("a")._repr_html_())
    assert counter.depth == 0


def test_the_notebook_view_escapes_names(uneven):
    data = uneven.assign(a=uneven["a"].map({"p": "<b>", "q": "x&y", "r": "z"}))
    assert "<b>" not in means_of("y ~ a + (1 | g)", data, "a")._repr_html_()


def test_nothing_can_be_set(means):
    with pytest.raises(FrozenInstanceError):
        means.conf_level = 0.5


def test_rows_are_read_only(means):
    assert not means.rows.flags.writeable


def test_contrasts_leave_the_means_alone(means):
    before = means.table.copy()
    found = means.contrasts()
    found["estimate"] = 0.0
    pd.testing.assert_frame_equal(means.table, before)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"specs": "A"}, "specs: 'A' is in no term of the fixed part; .* a, b, x. .*mean 'a'"),
        ({"specs": "g"}, "specs: 'g' is in no term .*: a, b, x"),
        ({"specs": ["a", 3]}, "specs: 3 is in no term"),
        ({"specs": True}, "specs: True is in no term"),
        ({"specs": "a", "by": "bb"}, "by: 'bb' is in no term .*mean 'b'"),
        ({"specs": "a", "at": {"z": 1}}, "at: 'z' is in no term"),
        ({"specs": "a", "at": {"b": "low"}}, "at: 'b' has no level 'low'; it has 'hi', 'lo'.*'lo'"),
        ({"specs": "a", "at": {"b": [1]}}, "at: 'b' has no level 1"),
        ({"specs": "a", "at": {"b": []}}, "at: 'b' has no values"),
        ({"specs": "a", "at": {"x": "lo"}}, "at: 'x' is a number in the fit, not 'lo'"),
        ({"specs": "a", "at": {"x": True}}, "at: 'x' is a number in the fit, not True"),
        ({"specs": "a", "at": {"x": [1, np.nan]}}, "at: 'x' is a number in the fit, not nan"),
        ({"specs": "a", "at": {"x": [1, 1.0]}}, "at: 'x' repeats a value"),
        ({"specs": "a", "at": {"b": ["lo", "lo"]}}, "at: 'b' repeats a value"),
        ({"specs": "a", "at": ["x"]}, "must map variables to values"),
        ({"specs": "a", "conf_level": 95}, "conf_level=95 must be a number between 0 and 1"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_with_what_is_right(uneven, wrong, message):
    with pytest.raises(ArgumentError, match=message):
        means_of("y ~ a * b + x + (1 | g)", uneven, **wrong)


def test_a_value_where_the_fixed_part_is_not_defined_is_refused(uneven):
    with pytest.raises(ArgumentError, match=r"'np.log\(x\)' is not finite at a = p, x = -1"):
        means_of("y ~ a + np.log(x) + (1 | g)", uneven, "a", at={"x": -1})


def test_a_grid_beyond_reason_is_refused(uneven):
    with pytest.raises(ArgumentError, match=r"300,000 combinations of x \(100000\), a \(3\)"):
        means_of("y ~ a + x + (1 | g)", uneven, "a", by="x", at={"x": range(100_000)})


def test_a_model_without_fixed_effects_is_refused(uneven):
    with pytest.raises(ArgumentError, match="no fixed effects"):
        means_of("y ~ 0 + (1 | g)", uneven, [])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "pair"}, "method='pair' is not one of the choices 'pairwise'.*mean"),
        ({"method": 3}, "method=3 is not one of the choices"),
        ({"adjust": "tuckey"}, "adjust='tuckey' is not one of the choices.*mean 'tukey'"),
        ({"method": "eff", "adjust": "tukey"}, "take adjust='sidak'"),
        ({"method": {"d": [1, -1, 0]}, "adjust": "tukey"}, "take adjust='sidak'"),
        ({"method": {}}, "method has no contrasts"),
        ({"method": {"d": [1, -1]}}, "'d' must be 3 numbers, for p, q, r"),
        ({"method": {"d": [1, -1, np.nan]}}, "'d' must be 3 numbers"),
        ({"method": {"d": "1, -1, 0"}}, "'d' must be 3 numbers"),
        ({"method": {"d": 1}}, "'d' must be 3 numbers"),
        ({"conf_level": 1.0}, "conf_level=1.0 must be a number between 0 and 1"),
    ],
    ids=str,
)
def test_wrong_contrasts_are_refused_with_what_is_right(means, wrong, message):
    with pytest.raises(ArgumentError, match=message):
        means.contrasts(**wrong)


@pytest.mark.parametrize("method", METHODS)
def test_one_mean_has_nothing_to_be_compared_with(uneven, method):
    found = means_of("y ~ a + x + (1 | g)", uneven, "x")
    with pytest.raises(ArgumentError, match="there is one mean"):
        found.contrasts(method)


def test_one_mean_has_no_joint_test(uneven):
    with pytest.raises(ArgumentError, match="there is one mean"):
        means_of("y ~ a + x + (1 | g)", uneven, "x").joint()
