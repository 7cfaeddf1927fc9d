"""Choice of the engine, agreement of two engines, refusals, and the statsmodels result.

Source of truth: design rules written as constants, statsmodels itself, and the numbers of the
reference fits in tests/reference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reference_models import REFERENCES, fit_of, tiered
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.regression.mixed_linear_model import MixedLMResults

import mixedfx as mfx
import mixedfx.estimation.statsmodels as statsmodels_engine
from mixedfx.design.build import build
from mixedfx.errors import (
    ArgumentError,
    EngineDisagreement,
    EngineRefusal,
    SearchError,
    SingularFitWarning,
)
from mixedfx.estimation import dispatch
from mixedfx.estimation.dispatch import suits_mixedlm
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import Profiled
from mixedfx.estimation.statsmodels import StatsModels
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood

SLEEP = "Reaction ~ Days + (Days | Subject)"
# MixedLM stops a search within about 1e-6 of a parameter's optimum.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy")


def table(rows, seed=0, **levels):
    """Rows with a covariate, and grouping factors whose levels take turns."""
    rng = np.random.default_rng(seed)
    data = {"x": rng.normal(size=rows)}
    for name, count in levels.items():
        data[name] = rng.permutation(np.resize(np.arange(count), rows))
    effects = sum(np.sin(1.0 + data[name]) for name in levels)
    return pd.DataFrame({"y": effects + data["x"] + rng.normal(size=rows), **data})


def design_of(formula, data, **kwargs):
    return build(mfx.parse(formula), data, **kwargs)


# ---------------------------------------------------------------- the rule of engine="auto"

# At most 5,000 rows and 100 top-level groups, and 1,000 rows and 100
# random-effect columns in any one of them.
AT_THE_LIMIT = {
    "rows": ("y ~ x + (1 | g)", {"rows": 5000, "g": 100}),
    "groups": ("y ~ x + (1 | g)", {"rows": 400, "g": 100}),
    "rows of a group": ("y ~ x + (1 | g) + (1 | h)", {"rows": 1000, "g": 7, "h": 5}),
    "columns of a group": ("y ~ x + (1 | g) + (1 | h)", {"rows": 300, "g": 60, "h": 40}),
    "columns of a group, two a level": (
        "y ~ x + (x || g) + (1 | h)",
        {"rows": 300, "g": 30, "h": 40},
    ),
}
BEYOND_IT = {
    "rows": {"rows": 5001, "g": 100},
    "groups": {"rows": 404, "g": 101},
    "rows of a group": {"rows": 1001, "g": 7, "h": 5},
    "columns of a group": {"rows": 300, "g": 61, "h": 40},
    "columns of a group, two a level": {"rows": 300, "g": 30, "h": 41},
}


@pytest.mark.parametrize("limit", AT_THE_LIMIT)
def test_auto_lets_mixedlm_fit_up_to_the_limit(limit):
    formula, sizes = AT_THE_LIMIT[limit]
    assert suits_mixedlm(design_of(formula, table(**sizes)))


@pytest.mark.parametrize("limit", BEYOND_IT)
def test_auto_keeps_the_profiled_engine_beyond_the_limit(limit):
    formula, _ = AT_THE_LIMIT[limit]
    assert not suits_mixedlm(design_of(formula, table(**BEYOND_IT[limit])))


def test_auto_reports_mixedlms_fit_where_it_suits(sleep):
    assert mfx.lmer(SLEEP, sleep).engine == "statsmodels"


def test_auto_is_confirmed_by_the_profiled_engine(sleep):
    assert mfx.lmer(SLEEP, sleep).certificate.confirmed_by == "profiled"


def test_auto_reports_the_profiled_fit_of_a_large_model():
    data = table(rows=1200, g=30, h=20)
    assert mfx.lmer("y ~ x + (1 | g) + (1 | h)", data).engine == "profiled"


def test_auto_reports_the_profiled_fit_of_a_singular_model():
    with pytest.warns(SingularFitWarning):
        fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"))
    assert fit.engine == "profiled"


@pytest.mark.parametrize("name", tiered(REFERENCES))
def test_auto_is_mixedlm_exactly_where_it_suits_and_the_optimum_is_interior(name):
    fit = fit_of(name, "auto")
    suits = suits_mixedlm(fit.model.design) and not fit.is_singular
    assert fit.engine == ("statsmodels" if suits else "profiled")


# ---------------------------------------------------------------- engines by name


@pytest.mark.parametrize("engine", ["profiled", "statsmodels"])
def test_an_engine_asked_for_is_the_engine_used(sleep, engine):
    assert mfx.lmer(SLEEP, sleep, engine=engine).engine == engine


def test_the_profiled_engine_alone_is_not_confirmed(sleep):
    assert mfx.lmer(SLEEP, sleep, engine="profiled").certificate.confirmed_by is None


def test_an_unknown_engine_lists_the_choices(sleep):
    with pytest.raises(ArgumentError, match=r"'auto', 'statsmodels', 'profiled'"):
        mfx.lmer(SLEEP, sleep, engine="lme4")


def test_a_misspelt_engine_gets_the_nearest(sleep):
    with pytest.raises(ArgumentError, match="Did you mean 'profiled'"):
        mfx.lmer(SLEEP, sleep, engine="profile")


# ---------------------------------------------------------------- refusals


@pytest.fixture(scope="module")
def rich():
    data = table(rows=120, g=12, h=8)
    return data.assign(z=np.random.default_rng(9).normal(size=120), w=np.linspace(0.5, 2.0, 120))


REFUSALS = {
    "y ~ x + (x | g) + (1 | h)": "correlated term (x | g) is not on a grouping factor",
    "y ~ x + (x | g) + (x | h)": "correlated term (x | g) is not on a grouping factor",
    "y ~ x + (x | g) + (0 + z + x:z | g)": "one correlated term, and the formula has 2",
    "y ~ 0 + (1 | g)": "at least one fixed effect",
}


@pytest.mark.parametrize("formula", REFUSALS)
def test_a_refusal_says_what_mixedlm_cannot_express(rich, formula):
    with pytest.raises(EngineRefusal) as refusal:
        mfx.lmer(formula, rich, engine="statsmodels")
    assert REFUSALS[formula] in str(refusal.value)


def test_weights_are_refused(rich):
    with pytest.raises(EngineRefusal, match="MixedLM has no prior weights"):
        mfx.lmer("y ~ x + (1 | g)", rich, weights="w", engine="statsmodels")


def test_a_singular_optimum_is_refused_by_name():
    with pytest.raises(EngineRefusal, match=r"singular \(sd\(Intercept \| Batch\)\)"):
        mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff2"), engine="statsmodels")


def test_a_group_too_large_for_dense_matrices_is_refused_with_its_size():
    design = design_of("y ~ x + (1 | g) + (1 | h)", table(rows=30_000, g=500, h=300))
    # 30,000 rows by 30,000 rows and 800 columns, of 8 bytes each.
    expected = 30_000 * 30_800 * 8e-9
    assert f"{expected:.1f} GB" in StatsModels().refusal(design)


def test_a_refusal_names_the_formula_and_the_way_out(rich):
    with pytest.raises(EngineRefusal) as refusal:
        mfx.lmer("y ~ x + (x | g) + (1 | h)", rich, engine="statsmodels")
    assert "y ~ x + (x | g) + (1 | h)" in str(refusal.value)
    assert "engine='profiled'" in str(refusal.value)


@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.parametrize("formula", REFUSALS)
def test_auto_fits_what_mixedlm_refuses(rich, formula):
    assert mfx.lmer(formula, rich).engine == "profiled"


def test_the_profiled_engine_refuses_nothing(rich):
    formulas = [*REFUSALS, "y ~ x"]
    assert not any(Profiled().refusal(design_of(f, rich)) for f in formulas)


# ---------------------------------------------------------------- two engines, one answer


class WrongDeviance(Profiled):
    """Reports a deviance that is off by one."""

    def estimate(self, *args, **kwargs):
        result = super().estimate(*args, **kwargs)
        return replace(result, deviance=result.deviance - 1.0)


def test_a_wrong_deviance_is_an_error_with_both_log_likelihoods(sleep, monkeypatch):
    expected = mfx.lmer(SLEEP, sleep, engine="profiled").llf
    monkeypatch.setattr(dispatch, "Profiled", WrongDeviance)
    with pytest.raises(EngineDisagreement) as error:
        mfx.lmer(SLEEP, sleep, engine="profiled")
    assert (error.value.claimed, error.value.recomputed) == pytest.approx(
        (expected + 0.5, expected)
    )


def test_a_wrong_deviance_is_reported_with_both_numbers_and_the_engine(sleep, monkeypatch):
    expected = mfx.lmer(SLEEP, sleep, engine="profiled").llf
    monkeypatch.setattr(dispatch, "Profiled", WrongDeviance)
    with pytest.raises(EngineDisagreement) as error:
        mfx.lmer(SLEEP, sleep, engine="profiled")
    words = ("'profiled'", f"{expected + 0.5:.10g}", f"{expected:.10g}")
    assert all(word in str(error.value) for word in words)


def test_a_deviance_that_is_no_number_is_an_error(sleep, monkeypatch):
    estimate = Profiled.estimate

    def with_nan(*args, **kwargs):
        return replace(estimate(*args, **kwargs), deviance=np.nan)

    monkeypatch.setattr(Profiled, "estimate", with_nan)
    with pytest.raises(EngineDisagreement):
        mfx.lmer(SLEEP, sleep, engine="profiled")


def mixedlm_off_by(monkeypatch, amount):
    """Let MixedLM report a deviance that is so much too high."""
    estimate = StatsModels.estimate

    def shifted(*args, **kwargs):
        result = estimate(*args, **kwargs)
        return replace(result, deviance=result.deviance + amount)

    monkeypatch.setattr(StatsModels, "estimate", shifted)


@pytest.mark.parametrize("engine", ["auto", "statsmodels"])
def test_a_likelihood_of_mixedlm_that_the_criterion_cannot_confirm_is_an_error(
    sleep, monkeypatch, engine
):
    mixedlm_off_by(monkeypatch, -0.01)
    with pytest.raises(EngineDisagreement, match="'statsmodels'"):
        mfx.lmer(SLEEP, sleep, engine=engine)


def test_auto_keeps_the_better_optimum(sleep, monkeypatch):
    mixedlm_off_by(monkeypatch, 0.01)
    fit = mfx.lmer(SLEEP, sleep)
    assert (fit.engine, fit.certificate.confirmed_by) == ("profiled", None)


def test_auto_notes_that_mixedlm_ended_above_the_optimum(sleep, monkeypatch):
    mixedlm_off_by(monkeypatch, 0.01)
    assert any("MixedLM ended 0.01 above" in note for note in mfx.lmer(SLEEP, sleep).notes)


def test_mixedlm_asked_for_must_reach_the_optimum(sleep, monkeypatch):
    mixedlm_off_by(monkeypatch, 0.01)
    with pytest.raises(SearchError, match=r"0\.01 above"):
        mfx.lmer(SLEEP, sleep, engine="statsmodels")


def failing(*args, **kwargs):
    raise np.linalg.LinAlgError("Singular matrix")


def test_auto_survives_a_failure_of_mixedlm(sleep, monkeypatch):
    monkeypatch.setattr(statsmodels_engine, "mixedlm_results", failing)
    fit = mfx.lmer(SLEEP, sleep)
    assert fit.engine == "profiled"
    assert any("not checked by statsmodels" in note for note in fit.notes)


def test_a_failure_of_mixedlm_asked_for_is_an_error_with_its_message(sleep, monkeypatch):
    monkeypatch.setattr(statsmodels_engine, "mixedlm_results", failing)
    with pytest.raises(SearchError, match="Singular matrix"):
        mfx.lmer(SLEEP, sleep, engine="statsmodels")


@pytest.mark.parametrize("engine", ["auto", "statsmodels"])
def test_mixedlm_starts_at_the_profiled_optimum(sleep, monkeypatch, engine):
    optimum = mfx.lmer(SLEEP, sleep, engine="profiled")
    results, starts = statsmodels_engine.mixedlm_results, []

    def recorded(lm, model, start, **kwargs):
        starts.append(start)
        return results(lm, model, start, **kwargs)

    monkeypatch.setattr(statsmodels_engine, "mixedlm_results", recorded)
    mfx.lmer(SLEEP, sleep, engine=engine)
    relative = optimum.cov_re.to_numpy() / optimum.scale
    assert len(starts) == 1
    np.testing.assert_allclose(starts[0].cov_re, relative, rtol=1e-12)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name",
    ["sleep_rs__reml", "sleep_zc__ml", "pastes_nested__reml", "penicillin__ml", "fac_cs__reml"],
)
def test_mixedlm_from_its_own_start_finds_the_same_optimum(name):
    # Independence: nothing of the profiled engine's answer goes in.
    fit = fit_of(name, "profiled")
    alone = StatsModels().estimate(fit.model.design, fit.model.likelihood, control=Control())
    assert alone.deviance == pytest.approx(fit.deviance, abs=1e-4)


# ---------------------------------------------------------------- fit.statsmodels

GENUINE = ["sleep_rs__reml", "sleep_rs__ml", "sleep_ri__reml", "fac_0f__ml", "quad_noint__reml"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("engine", ["auto", "profiled", "statsmodels"])
def test_the_statsmodels_result_is_genuine(name, engine):
    # From the profiled engine it is made on demand.
    assert isinstance(fit_of(name, engine).statsmodels._results, MixedLMResults)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_the_statsmodels_result_has_the_same_likelihood(name, engine):
    fit = fit_of(name, engine)
    assert fit.statsmodels.llf == pytest.approx(fit.llf, abs=1e-7)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_the_statsmodels_result_has_the_same_fixed_effects(name, engine):
    fit = fit_of(name, engine)
    pd.testing.assert_series_equal(
        fit.statsmodels.fe_params, fit.params, rtol=CLOSE, check_names=False
    )


@pytest.mark.parametrize("engine", ["auto", "profiled"])
@pytest.mark.parametrize("name", ["sleep_rs__reml", "sleep_rs__ml", "sleep_ri__reml"])
def test_the_statsmodels_result_has_the_same_standard_errors_in_a_balanced_design(name, engine):
    fit = fit_of(name, engine)
    pd.testing.assert_series_equal(fit.statsmodels.bse_fe, fit.bse, rtol=CLOSE, check_names=False)


@pytest.mark.covering(1)
@pytest.mark.parametrize("engine", ["auto", "profiled"])
@pytest.mark.parametrize("name", GENUINE)
def test_the_statsmodels_result_has_the_same_information_on_the_fixed_effects(name, engine):
    # MixedLM inverts the observed information of all parameters together; lme4 and we take the
    # variance components as known. The block of the fixed effects is what both have.
    fit = fit_of(name, engine)
    raw = fit.statsmodels
    information = -raw.model.hessian(raw.params_object)[0][: len(fit.params), : len(fit.params)]
    se = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(se, fit.bse, rtol=CLOSE)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_the_statsmodels_result_has_the_same_components(name, engine):
    fit = fit_of(name, engine)
    np.testing.assert_allclose(fit.statsmodels.cov_re, fit.cov_re, rtol=10 * CLOSE, atol=CLOSE)
    assert fit.statsmodels.scale == pytest.approx(fit.scale, rel=CLOSE)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_the_statsmodels_result_has_the_same_random_effects(name, engine):
    fit = fit_of(name, engine)
    theirs = pd.DataFrame(fit.statsmodels.random_effects).T
    ours = pd.DataFrame(fit.random_effects).T
    spread = float(np.sqrt(np.diag(fit.cov_re)).max())
    np.testing.assert_allclose(
        theirs.loc[ours.index].to_numpy(), ours.to_numpy(), rtol=0, atol=10 * CLOSE * spread
    )


def test_nested_effects_of_the_statsmodels_result_are_ours():
    fit = fit_of("pastes_nested__reml", "auto")
    batch, cask = fit.formula.groups
    found = fit.statsmodels.random_effects["A"]
    ours = [fit.ranef(batch).loc["A", "Intercept"]]
    ours += [fit.ranef(cask).loc[f"A:{c}", "Intercept"] for c in "abc"]
    np.testing.assert_allclose(found.to_numpy(), ours, atol=1e-3)


def test_crossed_effects_of_the_statsmodels_result_are_ours():
    fit = fit_of("penicillin__reml", "auto")
    found = fit.statsmodels.random_effects["all"]
    ours = np.concatenate([fit.ranef(g)["Intercept"].to_numpy() for g in fit.formula.groups])
    np.testing.assert_allclose(np.sort(found), np.sort(ours), atol=1e-3)


def test_the_statsmodels_result_is_made_once(sleep):
    fit = mfx.lmer(SLEEP, sleep, engine="profiled")
    assert fit.statsmodels is fit.statsmodels


def test_auto_has_the_statsmodels_result_at_hand(sleep, monkeypatch):
    fit = mfx.lmer(SLEEP, sleep)
    monkeypatch.setattr(statsmodels_engine, "mixedlm_results", failing)
    assert isinstance(fit.statsmodels._results, MixedLMResults)


def test_a_statsmodels_result_on_demand_is_refused_with_the_reason(rich):
    fit = mfx.lmer("y ~ x + (1 | g)", rich, weights="w")
    with pytest.raises(EngineRefusal, match="no prior weights"):
        _ = fit.statsmodels


def test_a_statsmodels_result_of_a_singular_fit_is_refused_with_the_reason():
    with pytest.raises(EngineRefusal, match="the optimum is singular"):
        _ = fit_of("dyestuff2__reml", "profiled").statsmodels


# ---------------------------------------------------------------- no random terms


def by_least_squares(data, weighted):
    X = pd.DataFrame({"Intercept": 1.0, "x": data["x"], "z": data["z"]})
    model = WLS(data["y"], X, weights=data["w"]) if weighted else OLS(data["y"], X)
    return model.fit()


@pytest.fixture(scope="module", params=[False, True], ids=["ordinary", "weighted"])
def regressions(request, rich):
    weights = "w" if request.param else None
    fit = mfx.lmer("y ~ x + z", rich, weights=weights, reml=False)
    return fit, by_least_squares(rich, request.param)


@pytest.mark.parametrize("quantity", ["params", "bse", "tvalues", "fittedvalues", "resid"])
def test_without_random_terms_series_are_those_of_least_squares(regressions, quantity):
    ours, theirs = (getattr(fit, quantity) for fit in regressions)
    pd.testing.assert_series_equal(ours, theirs, rtol=1e-9, check_names=False)


@pytest.mark.parametrize("quantity", ["llf", "scale", "nobs", "df_resid"])
def test_without_random_terms_numbers_are_those_of_least_squares(regressions, quantity):
    ours, theirs = (getattr(fit, quantity) for fit in regressions)
    assert ours == pytest.approx(theirs, rel=1e-10)


def test_without_random_terms_the_covariance_is_that_of_least_squares(regressions):
    ours, theirs = (fit.cov_params() for fit in regressions)
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9)


def test_without_random_terms_the_statsmodels_result_is_at_hand(regressions):
    ours, theirs = regressions
    assert type(ours.statsmodels) is type(theirs)
    assert type(ours.statsmodels.model) is type(theirs.model)


@pytest.mark.parametrize("engine", ["auto", "profiled", "statsmodels"])
def test_without_random_terms_every_engine_is_least_squares(rich, engine):
    fit = mfx.lmer("y ~ x + z", rich, engine=engine, reml=False)
    assert fit.llf == pytest.approx(by_least_squares(rich, weighted=False).llf, rel=1e-12)


def test_without_random_terms_it_is_said(regressions):
    assert any("no random terms" in note for note in regressions[0].notes)


# R 4: as.numeric(logLik(lm(...), REML = TRUE)), logLik(lm(...)), sigma(lm(...)) on sleepstudy with
# i = 1:180, w = 1 + i %% 5, o = 3 * sin(i); nlme::gls gives the first two of "plain", "weights".
LM = {
    "plain": (-946.83183173605, -950.14652817818, 47.714719743779),
    "weights": (-956.0145836388, -959.33236112312, 81.046374848526),
    "both": (-814.84156464336, -872.26019598201, 52.534855400948),
    "offset": (-978.6790919097, -981.03419492412, 56.488493419565),
}
LM_CALLS = {
    "plain": ("Reaction ~ Days", {}),
    "weights": ("Reaction ~ Days", {"weights": "w"}),
    "both": ("Reaction ~ Days + C(Subject)", {"weights": "w", "offset": "o"}),
    "offset": ("Reaction ~ 1", {"offset": "o"}),
}


@pytest.mark.parametrize("case", LM)
def test_without_random_terms_both_criteria_are_those_of_lm(sleep, case):
    i = np.arange(1, len(sleep) + 1)
    formula, options = LM_CALLS[case]
    data = sleep.assign(w=1.0 + i % 5, o=3.0 * np.sin(i))
    by_reml = mfx.lmer(formula, data, **options)
    by_ml = mfx.lmer(formula, data, reml=False, **options)
    assert (by_reml.reml, by_ml.reml) == (True, False)
    found = (by_reml.llf, by_ml.llf, by_reml.sigma)
    assert found == pytest.approx(LM[case], rel=1e-12)
    assert by_ml.sigma == pytest.approx(by_reml.sigma, rel=1e-12)
    npar = len(by_reml.params) + 1
    assert by_reml.aic == pytest.approx(2 * npar - 2 * LM[case][0], rel=1e-12)


def test_without_random_terms_the_criterion_is_named(sleep):
    fit = mfx.lmer("Reaction ~ Days", sleep)
    assert "least squares (REML)" in str(fit.summary())
    assert "REML criterion 1893.6637" in str(fit.summary())
    assert "least squares (REML)" in str(mfx.table(fit))


def test_without_random_terms_an_offset_is_taken_off_the_response(rich):
    fit = mfx.lmer("y ~ x", rich, offset="z")
    plain = mfx.lmer("I(y - z) ~ x", rich)
    pd.testing.assert_series_equal(fit.params, plain.params)


# ---------------------------------------------------------------- starts


def test_a_start_of_the_wrong_length_is_refused_with_the_right_one(sleep):
    with pytest.raises(ArgumentError, match="3"):
        mfx.lmer(SLEEP, sleep, start=np.array([1.0, 1.0]))


def test_a_start_that_is_no_number_is_refused(sleep):
    with pytest.raises(ArgumentError, match="start"):
        mfx.lmer(SLEEP, sleep, start=np.array([1.0, np.nan, 1.0]))


def test_a_start_may_be_a_list(sleep):
    assert mfx.lmer(SLEEP, sleep, start=[1.0, 0.0, 1.0]).converged


def test_a_design_is_not_changed_by_a_search(sleep):
    design = design_of(SLEEP, sleep)
    before = [
        a.copy()
        for a in (
            design.rows.response_less_offset,
            design.rows.X,
            *(b.model_matrix for b in design.rows.random_terms),
        )
    ]
    likelihood = GaussianLikelihood(compute_crossproducts(design), reml=True)
    dispatch.estimate("auto", design, likelihood, control=Control())
    after = [
        design.rows.response_less_offset,
        design.rows.X,
        *(b.model_matrix for b in design.rows.random_terms),
    ]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
