"""Models side by side: likelihood ratios, information criteria, and tests of random terms.

Source of truth: lme4's criteria in tests/reference, whose differences are the statistics; fits of
the smaller models; the oracle where no random term is left; classical analysis of variance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model
from reference_models import REFERENCES, fit_of
from scipy import stats

import mixedfx as mfx
from mixedfx.design.build import Design
from mixedfx.errors import ArgumentError

# Each search ends within 1e-8 of a deviance of up to 1e4, and lme4 promises 1e-6.
DEVIANCE = 1e-6
# Two searches of one model by this package.
SEARCHES = 1e-7

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(21)
    n = 240
    site, plot, day = rng.integers(8, size=n), rng.integers(4, size=n), rng.integers(9, size=n)
    x, z, arm = rng.normal(size=n), rng.normal(size=n), rng.integers(3, size=n)
    b = rng.normal(size=(8, 6))
    effects = b[site, 0] + 0.8 * b[site, 1] * x + 0.6 * b[site, 2] * z + 0.7 * b[site, 3 + arm]
    effects += 0.7 * rng.normal(size=(8, 4))[site, plot] + 0.9 * rng.normal(size=9)[day]
    return pd.DataFrame(
        {
            "y": 2.0 + 0.5 * x + effects + 0.6 * rng.normal(size=n),
            "x": x,
            "z": z,
            "site": site,
            "plot": plot,
            "day": day,
            "arm": np.array(["new", "none", "old"])[arm],
            "new": (arm == 0).astype(float),
            "none": (arm == 1).astype(float),
            "old": (arm == 2).astype(float),
            "w": rng.uniform(0.5, 2.0, size=n),
            "off": 5 * rng.normal(size=n),
        }
    )


# ---------------------------------------------------------------- compare: against lme4

# Nested models of one data set, in lme4's files by REML and by maximum likelihood.
CHAINS = {
    "sleepstudy": ["sleep_ri", "sleep_zc", "sleep_rs"],
    "cake": ["cake_temp", "cake_tempint", "cake_cat"],
    "psych": ["psych_ri", "psych_max"],
    "facslope": ["fac_cs", "fac_f"],
    "weights": ["wt_ri", "wt_rs"],
}
every_chain = pytest.mark.parametrize("chain", CHAINS)
every_method = pytest.mark.parametrize("method", ["reml", "ml"])


def compared(chain, method="reml", **options):
    fits = [fit_of(f"{name}__{method}", "profiled") for name in CHAINS[chain]]
    return mfx.compare(*fits, names=CHAINS[chain], **options)


def by_lme4(chain, field, method="ml"):
    return [REFERENCES[f"{name}__{method}"][field] for name in CHAINS[chain]]


@pytest.mark.covering(2)
@every_chain
@every_method
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("deviance", "criterion"), ("llf", "loglik"), ("aic", "aic"), ("bic", "bic")],
)
def test_models_are_compared_by_maximum_likelihood_as_lme4_fits_it(chain, method, ours, theirs):
    # Whatever the fits were by: R's anova() fits REML models again.
    found = compared(chain, method)[ours]
    np.testing.assert_allclose(found, by_lme4(chain, theirs), rtol=0, atol=DEVIANCE)


@every_chain
def test_parameters_are_counted_as_by_lme4(chain):
    assert compared(chain)["npar"].tolist() == by_lme4(chain, "df_model")


@pytest.mark.covering(1)
@every_chain
@every_method
def test_the_statistic_is_the_difference_of_lme4s_deviances(chain, method):
    expected = -np.diff(by_lme4(chain, "criterion"))
    found = compared(chain, method)["chisq"]
    np.testing.assert_allclose(found, [np.nan, *expected], rtol=0, atol=2 * DEVIANCE)


@every_chain
def test_the_p_value_is_chi_squared(chain):
    expected = stats.chi2.sf(
        -np.diff(by_lme4(chain, "criterion")), np.diff(by_lme4(chain, "df_model"))
    )
    # In the tail a difference e of the statistic is one of e / 2, relative, in the p-value.
    np.testing.assert_allclose(compared(chain)["p_value"], [np.nan, *expected], rtol=2 * DEVIANCE)


@pytest.mark.parametrize(
    ("chain", "method"),
    # REML criteria of cake's models, whose fixed columns differ, do not compare.
    [(c, m) for c in CHAINS for m in ("reml", "ml") if (c, m) != ("cake", "reml")],
)
def test_without_refitting_the_criteria_are_the_fits_own(chain, method):
    found = compared(chain, method, refit=False)
    expected = by_lme4(chain, "criterion", method)
    np.testing.assert_allclose(found["deviance"], expected, rtol=0, atol=DEVIANCE)
    assert not found["refitted"].any()


def test_the_comparison_of_sleepstudy_is_that_of_lme4s_manual():
    # The example of ?lme4::lmer: anova(fm1, fm2), as R prints it.
    printed = compared("sleepstudy").loc[["sleep_zc", "sleep_rs"]]
    assert printed["aic"].round(1).tolist() == [1762.0, 1763.9]
    assert printed["bic"].round(1).tolist() == [1778.0, 1783.1]
    assert printed["llf"].round(2).tolist() == [-876.0, -875.97]
    last = printed.iloc[-1]
    assert (round(last["chisq"], 4), last["df"], round(last["p_value"], 4)) == (0.0639, 1, 0.8004)


# ---------------------------------------------------------------- compare: its rules


def test_a_comparison_has_its_columns(sleep):
    expected = ["npar", "aic", "bic", "llf", "deviance", "chisq", "df", "p_value"]
    expected += ["refitted", "nested"]
    assert list(compared("sleepstudy")) == expected


def test_models_are_called_by_their_formulas(sleep):
    one = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    two = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    assert list(mfx.compare(one, two).index) == [str(one.formula), str(two.formula)]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_models_are_ordered_by_their_parameters(order):
    names = [CHAINS["sleepstudy"][i] for i in order]
    fits = [fit_of(f"{name}__ml", "profiled") for name in names]
    pd.testing.assert_frame_equal(mfx.compare(*fits, names=names), compared("sleepstudy", "ml"))


def test_only_reml_fits_are_fitted_again():
    fits = [fit_of(name, "profiled") for name in ("sleep_rs__reml", "sleep_ri__ml", "sleep_zc__ml")]
    found = mfx.compare(*fits, names=["rs", "ri", "zc"])
    assert found["refitted"].to_dict() == {"ri": False, "zc": False, "rs": True}
    np.testing.assert_allclose(found["deviance"], by_lme4("sleepstudy", "criterion"), rtol=1e-9)


def test_models_of_as_many_parameters_are_not_tested():
    fits = [fit_of(f"sleep_{name}__ml", "profiled") for name in ("ri", "so")]
    found = mfx.compare(*fits, names=["ri", "so"]).loc["so"]
    assert (found["df"], np.isnan(found["p_value"])) == (0, True)
    assert found["aic"] == pytest.approx(REFERENCES["sleep_so__ml"]["aic"], abs=DEVIANCE)


def test_a_model_without_random_terms_compares_by_its_likelihood(sleep):
    plain, mixed = mfx.lmer("Reaction ~ Days", sleep), fit_of("sleep_ri__reml", "profiled")
    found = mfx.compare(plain, mixed, names=["plain", "mixed"])
    expected = dense_model(plain.model.design, [], reml=False).deviance
    assert found.loc["plain", "deviance"] == pytest.approx(expected, rel=1e-12)
    assert found["npar"].tolist() == [3, 4]
    assert found["refitted"].tolist() == [True, True]


def test_a_model_without_random_terms_compares_by_its_reml_criterion(sleep):
    plain, mixed = mfx.lmer("Reaction ~ Days", sleep), fit_of("sleep_ri__reml", "profiled")
    found = mfx.compare(plain, mixed, names=["plain", "mixed"], refit=False)
    expected = dense_model(plain.model.design, [], reml=True).deviance
    assert found.loc["plain", "deviance"] == pytest.approx(expected, rel=1e-12)
    ranova = mixed.ranova()  # leaves the only random term out
    assert found.loc["mixed", "chisq"] == pytest.approx(ranova["chisq"].iloc[1], rel=1e-9)


def test_a_larger_model_is_not_worse_by_rounding(data):
    # A second term whose variance is zero: the ratio is zero, and not a little less.
    more = data.assign(h=np.arange(len(data)) % 40)
    one = mfx.lmer("y ~ x + (1 | site)", more, reml=False)
    two = mfx.lmer("y ~ x + (1 | site) + (0 + x | h)", more, reml=False)
    assert two.is_singular
    found = mfx.compare(one, two).iloc[1]
    assert 0.0 <= found["chisq"] < 1e-9
    assert found["p_value"] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("gap", [1.0, 1e6])
def test_models_with_different_offsets_of_one_response_compare(data, gap):
    # The offset is a part of the model; the response is what was observed.
    moved = data.assign(off=gap + data["off"])
    one = mfx.lmer("y ~ x + (1 | site)", moved, offset="off")
    two = mfx.lmer("y ~ x + (x | site)", moved)
    found = mfx.compare(one, two, names=["one", "two"])
    plain = mfx.lmer("y ~ x + (1 | site)", data.assign(y=data["y"] - moved["off"]), reml=False)
    assert found.loc["one", "deviance"] == pytest.approx(plain.deviance, abs=1e-5)


def test_comparing_leaves_the_fits(sleep):
    fits = [mfx.lmer(f"Reaction ~ Days + ({t} | Subject)", sleep) for t in ("1", "Days")]
    before = [fit.deviance for fit in fits]
    mfx.compare(*fits)
    assert [(fit.reml, fit.deviance) for fit in fits] == [(True, d) for d in before]


# ---------------------------------------------------------------- compare: what does not compare


def test_fits_of_different_rows_are_refused(sleep):
    one = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    two = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep[sleep["Days"] > 0])
    with pytest.raises(ArgumentError, match=r"different rows \(180 and 162\)"):
        mfx.compare(one, two)


def test_fits_of_as_many_other_rows_are_refused(sleep):
    one = mfx.lmer("Reaction ~ Days + (1 | Subject)", sleep[sleep["Days"] > 0])
    two = mfx.lmer("Reaction ~ Days + (Days | Subject)", sleep[sleep["Days"] < 9])
    with pytest.raises(ArgumentError, match="different rows"):
        mfx.compare(one, two)


def test_fits_that_dropped_different_rows_are_refused(data):
    holed = data.assign(z=data["z"].where(data.index != 7))
    one = mfx.lmer("y ~ x + (1 | site)", holed)
    two = mfx.lmer("y ~ x + z + (1 | site)", holed)
    with pytest.raises(ArgumentError, match="complete for both"):
        mfx.compare(one, two)


@pytest.mark.parametrize("other", ["np.log(Reaction)", "I(2 * Reaction)", "Days"])
def test_fits_of_different_responses_are_refused(sleep, other):
    one = mfx.lmer("Reaction ~ 1 + (1 | Subject)", sleep)
    two = mfx.lmer(f"{other} ~ 1 + (1 | Subject)", sleep.assign(Days=sleep["Days"] + 0.1))
    with pytest.raises(ArgumentError, match="different responses") as refused:
        mfx.compare(one, two)
    assert other in str(refused.value)


def test_one_fit_has_nothing_to_compare_with():
    with pytest.raises(ArgumentError, match="two fits or more"):
        mfx.compare(fit_of("sleep_ri__ml", "profiled"))


def test_no_fit_at_all_is_refused():
    with pytest.raises(ArgumentError, match=r"compare\(\)"):
        mfx.compare()


@pytest.mark.parametrize("other", ["fit", None, [1, 2]])
def test_what_is_no_fit_is_refused(other):
    with pytest.raises(ArgumentError, match=f"not a {type(other).__name__}"):
        mfx.compare(fit_of("sleep_ri__ml", "profiled"), other)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], "ab", []])
def test_names_are_one_for_each_fit(names):
    fits = [fit_of("sleep_ri__ml", "profiled"), fit_of("sleep_rs__ml", "profiled")]
    with pytest.raises(ArgumentError, match="2 names, one for each"):
        mfx.compare(*fits, names=names)


def test_reml_criteria_of_different_fixed_columns_are_refused(data):
    one, two = (mfx.lmer(f"y ~ {fixed} + (1 | site)", data) for fixed in ("x", "x + z"))
    with pytest.raises(ArgumentError, match="different fixed columns"):
        mfx.compare(one, two, refit=False)


def test_reml_criteria_of_as_many_other_fixed_columns_are_refused(data):
    one, two = (mfx.lmer(f"y ~ {fixed} + (1 | site)", data) for fixed in ("x", "z"))
    with pytest.raises(ArgumentError, match="different fixed columns"):
        mfx.compare(one, two, refit=False)


@pytest.mark.full
def test_reml_criteria_of_other_columns_in_small_units_are_refused(data):
    small = data.assign(x=1e-12 * data["x"], z=1e-12 * data["z"])
    one, two = (mfx.lmer(f"y ~ 0 + {fixed} + (1 | site)", small) for fixed in ("x", "z"))
    with pytest.raises(ArgumentError, match="different fixed columns"):
        mfx.compare(one, two, refit=False)


def test_reml_criteria_of_columns_that_differ_by_rounding_compare(data):
    # 0.1 + 0.2 is not 0.3: the same columns, computed in two ways.
    again = data.assign(x=(data["x"] + 0.7) - 0.7)
    assert (again["x"] != data["x"]).any()
    one, two = (mfx.lmer("y ~ x + (1 | site)", rows) for rows in (data, again))
    assert mfx.compare(one, two, refit=False)["deviance"].to_list() == pytest.approx(
        [one.deviance, one.deviance], rel=1e-12
    )


def test_reml_criteria_of_columns_that_differ_by_more_than_rounding_are_refused(data):
    # A column in a unit larger by one part in 10^9 changes the criterion by 2e-9.
    again = data.assign(x=(1.0 + 1e-9) * data["x"])
    one, two = (mfx.lmer("y ~ x + (1 | site)", rows) for rows in (data, again))
    with pytest.raises(ArgumentError, match="different fixed columns"):
        mfx.compare(one, two, refit=False)


def test_criteria_of_different_kinds_are_refused():
    fits = [fit_of("sleep_ri__ml", "profiled"), fit_of("sleep_rs__reml", "profiled")]
    with pytest.raises(ArgumentError, match="different criteria"):
        mfx.compare(*fits, refit=False)


def test_likelihoods_of_different_fixed_columns_compare_without_refitting(data):
    fits = [mfx.lmer(f"y ~ {f} + (1 | site)", data, reml=False) for f in ("x", "x + z")]
    found = mfx.compare(*fits, refit=False)
    assert found["deviance"].tolist() == [fit.deviance for fit in fits]


# ---------------------------------------------------------------- ranova: against lme4

# The model, what is left out, the model that is left.
REDUCTIONS = [
    ("sleep_rs", "Days in (Days | Subject)", "sleep_ri"),
    ("sleep_zc", "Days in (Days || Subject)", "sleep_ri"),
    ("sleep_zc", "Intercept in (Days || Subject)", "sleep_so"),
    ("wt_rs", "x in (x | g)", "wt_ri"),
]


@pytest.mark.covering(1)
@pytest.mark.parametrize(("model", "left_out", "rest"), REDUCTIONS)
@every_method
def test_the_worth_of_a_random_effect_is_the_difference_of_lme4s_criteria(
    model, left_out, rest, method
):
    larger, smaller = (REFERENCES[f"{name}__{method}"] for name in (model, rest))
    found = fit_of(f"{model}__{method}", "profiled").ranova().loc[left_out]
    expected = smaller["criterion"] - larger["criterion"]
    assert found["chisq"] == pytest.approx(expected, rel=0, abs=2 * DEVIANCE)
    assert found["df"] == larger["df_model"] - smaller["df_model"]
    for ours, theirs in [("llf", "loglik"), ("aic", "aic"), ("npar", "df_model")]:
        assert found[ours] == pytest.approx(smaller[theirs], rel=0, abs=DEVIANCE)


def test_the_test_of_sleepstudys_slopes_is_lmertests():
    # lmerTest::ranova(fm1), as R prints it: LRT 42.837 on 2 degrees of freedom, 4.99e-10.
    found = fit_of("sleep_rs__reml", "profiled").ranova().iloc[1]
    assert (round(found["chisq"], 3), found["df"], f"{found['p_value']:.2e}") == (
        42.837,
        2,
        "4.99e-10",
    )


# ---------------------------------------------------------------- ranova: against the smaller fit

# From each model, by what is left out, to the random part that is left.
SMALLER = {
    "y ~ x + (x + z | site)": {
        "x in (x + z | site)": "(z | site)",
        "z in (x + z | site)": "(x | site)",
    },
    "y ~ x + (0 + x + z | site)": {
        "x in (0 + x + z | site)": "(0 + z | site)",
        "z in (0 + x + z | site)": "(0 + x | site)",
    },
    "y ~ x + (x || site)": {
        "Intercept in (x || site)": "(0 + x | site)",
        "x in (x || site)": "(1 | site)",
    },
    "y ~ x + (arm | site)": {"arm in (arm | site)": "(1 | site)"},
    "y ~ x + (0 + arm | site)": {"arm in (0 + arm | site)": "(1 | site)"},
    # One deviation for all arms is no special case of independent ones.
    "y ~ x + (0 + arm || site)": {"(0 + arm || site)": ""},
    "y ~ x + (arm || site)": {
        "Intercept in (arm || site)": "(0 + none + old || site)",
        "arm in (arm || site)": "(1 | site)",
    },
    "y ~ x + (x | site) + (1 | site:plot) + (1 | day)": {
        "x in (x | site)": "(1 | site) + (1 | site:plot) + (1 | day)",
        "(1 | site:plot)": "(x | site) + (1 | day)",
        "(1 | day)": "(x | site) + (1 | site:plot)",
    },
    "y ~ x + (1 | site) + (0 + x | site)": {
        "(1 | site)": "(0 + x | site)",
        "(0 + x | site)": "(1 | site)",
    },
}
LEFT = [
    (model, out, rest)
    for model, parts in SMALLER.items()
    for out, rest in parts.items()
    if rest  # a regression has no REML criterion to compare with
]


@pytest.mark.full
@pytest.mark.parametrize("model", SMALLER)
def test_each_term_is_made_smaller_in_each_way(data, model):
    found = mfx.lmer(model, data, engine="profiled").ranova()
    assert list(found.index) == ["<none>", *SMALLER[model]]


@pytest.mark.full
@pytest.mark.covering(1)
@pytest.mark.parametrize(("model", "left_out", "rest"), LEFT)
@pytest.mark.parametrize("options", [{}, {"reml": False, "weights": "w", "offset": "off"}])
def test_what_is_left_is_the_fit_of_the_smaller_model(data, model, left_out, rest, options):
    options = {"engine": "profiled", **options}
    found = mfx.lmer(model, data, **options).ranova().loc[left_out]
    smaller = mfx.lmer(f"y ~ x + {rest}", data, **options)
    assert found["npar"] == smaller.df_modelwc
    assert found["llf"] == pytest.approx(smaller.llf, rel=0, abs=SEARCHES)
    assert found["aic"] == pytest.approx(smaller.aic, rel=0, abs=2 * SEARCHES)


@pytest.mark.covering(2)
@pytest.mark.parametrize("term", ["(1 | site)", "(0 + x | site)"])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weights", [None, "w"])
def test_without_its_only_random_term_a_model_is_a_regression(data, term, reml, weights):
    # By the criterion of the fit: lme4 itself has no REML criterion of a regression.
    fit = mfx.lmer(f"y ~ x + z + {term}", data, reml=reml, weights=weights)
    spec, rows = (replace(part, random_terms=()) for part in (fit.model.spec, fit.model.rows))
    expected = dense_model(Design(spec, rows), [], reml=reml).deviance
    found = fit.ranova().loc[term]
    assert -2 * found["llf"] == pytest.approx(expected, rel=1e-12)
    assert found["chisq"] == pytest.approx(expected - fit.deviance, abs=1e-9)


@pytest.mark.full
def test_the_coding_of_a_factor_does_not_matter(data):
    # Of effects that an interaction contains, what is left would depend on it.
    codings = ["C(old)", "C(old, Treatment(1))"]
    fits = [mfx.lmer(f"y ~ x + (x*{old} | site)", data, engine="profiled") for old in codings]
    one, two = (fit.ranova().reset_index(drop=True) for fit in fits)
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("reml", [True, False])
def test_the_first_row_is_the_model_itself(data, reml):
    fit = mfx.lmer("y ~ x + (x | site)", data, reml=reml)
    first = fit.ranova().loc["<none>"]
    assert (first["npar"], first["llf"], first["aic"]) == (fit.df_modelwc, fit.llf, fit.aic)
    assert first[["chisq", "df", "p_value", "p_mixture"]].isna().all()


@pytest.mark.full
@pytest.mark.parametrize("model", SMALLER)
def test_statistics_are_twice_the_likelihoods_differences(data, model):
    found = mfx.lmer(model, data).ranova()
    expected = 2 * (found["llf"].iloc[0] - found["llf"].iloc[1:])
    np.testing.assert_allclose(found["chisq"].iloc[1:], expected, rtol=1e-10)
    gone = found["npar"].iloc[0] - found["npar"].iloc[1:]
    assert found["df"].iloc[1:].tolist() == gone.tolist()


# ---------------------------------------------------------------- ranova: p-values


@pytest.mark.full
@pytest.mark.parametrize("model", SMALLER)
def test_plain_p_values_are_chi_squared(data, model):
    found = mfx.lmer(model, data).ranova().iloc[1:]
    np.testing.assert_allclose(
        found["p_value"], stats.chi2.sf(found["chisq"], found["df"]), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("model", "df"),
    [
        ("y ~ x + (1 | day)", 1),
        ("y ~ x + (0 + z | day)", 1),
        ("y ~ x + (x | site)", 2),
        ("y ~ x + (x + z | site)", 3),
    ],
)
def test_one_effect_left_out_has_an_even_mixture(data, model, df):
    # Stram and Lee (1994), cases 1 to 3: of df - 1 and df degrees of freedom, none being zero.
    found = mfx.lmer(model, data).ranova().iloc[1]
    chisq = found["chisq"]
    lower = stats.chi2.sf(chisq, df - 1) if df > 1 else 0.0
    expected = 0.5 * lower + 0.5 * stats.chi2.sf(chisq, df)
    assert found["df"] == df
    assert found["p_mixture"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("model", ["y ~ x + (arm | site)", "y ~ x + (0 + arm | site)"])
def test_several_effects_left_out_have_no_known_mixture(data, model):
    assert np.isnan(mfx.lmer(model, data).ranova()["p_mixture"].iloc[1])


def test_a_variance_of_zero_has_a_p_value_of_one():
    # lme4's singular example: nothing is lost by leaving the term out.
    found = fit_of("dyestuff2__reml", "profiled").ranova().loc["(1 | Batch)"]
    assert found["chisq"] == pytest.approx(0.0, abs=1e-9)
    assert (found["p_value"], found["p_mixture"]) == (1.0, 1.0)


GROUPS, EACH, DRAWS = 10, 6, 300


@pytest.fixture(scope="module")
def nulls():
    """Classical F of a balanced one-way layout without an effect, and the p-values of ranova."""
    rng = np.random.default_rng(14)
    g = np.repeat(np.arange(GROUPS), EACH)
    rows = []
    for y in rng.normal(size=(DRAWS, len(g))):
        fit = mfx.lmer("y ~ 1 + (1 | g)", {"y": y, "g": g}, engine="profiled")
        F = stats.f_oneway(*y.reshape(GROUPS, EACH)).statistic
        rows.append({"F": F, **fit.ranova().loc["(1 | g)"]})
    return pd.DataFrame(rows)


@pytest.mark.full
def test_a_mixture_p_value_is_one_just_where_the_classical_estimate_is_negative(nulls):
    # In a balanced layout the REML variance is zero if and only if F is below one.
    assert ((nulls["p_mixture"] == 1.0) == (nulls["F"] <= 1.0)).all()


@pytest.mark.full
@pytest.mark.parametrize("size", [0.05, 0.1, 0.2])
def test_a_true_null_is_rejected_as_often_as_it_should(nulls, size):
    # Ten groups are not infinitely many: the mixture holds to a percent or so.
    error = np.sqrt(size * (1 - size) / DRAWS)
    share = (nulls["p_mixture"] <= size).mean()
    assert abs(share - size) < 3 * error + 0.01


@pytest.mark.full
def test_plain_p_values_are_larger_than_the_mixtures(nulls):
    some = nulls[nulls["F"] > 1]
    np.testing.assert_allclose(some["p_value"], 2 * some["p_mixture"], rtol=1e-12)


# ---------------------------------------------------------------- ranova: its rules


def test_a_model_without_random_terms_has_none_to_test(sleep):
    with pytest.raises(ArgumentError, match="no random term"):
        mfx.lmer("Reaction ~ Days", sleep).ranova()


def test_testing_random_terms_leaves_the_fit(data):
    fit = mfx.lmer("y ~ x + (x | site)", data)
    before = fit.deviance, fit.theta.tolist(), fit.model.rows.random_terms
    fit.ranova()
    assert (fit.deviance, fit.theta.tolist(), fit.model.rows.random_terms) == before
