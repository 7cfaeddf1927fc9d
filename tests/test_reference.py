"""Every reference model fitted by lme4, by every engine, number by number.

Source of truth: the files of tests/reference/models, which R's lme4 wrote at full precision; a
test reads the fields it is named after. Models of nlme, whose residuals differ in spread, are
held against their files where dispersion is tested.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_models import ENGINES, REFERENCES, fit_of, fit_or_refusal, group_key

from mixedfx.errors import EngineRefusal
from mixedfx.likelihood.pls import solve_pls

# Both searches end within 1e-8 of a deviance whose own size is up to 2.4e5; lme4 promises less.
DEVIANCE = 1e-6
# A deviance within 1e-8 of the optimum leaves a parameter of ordinary curvature within 1e-5 of it.
# Fixed effects and their standard errors move less than theta does. Coefficients are measured in
# their own size: none of the models has one that is nearly zero.
FIXED = 1e-5
# Standard deviations, and what is made of them, inherit the error of theta.
COMPONENTS = 1e-4
# At a given theta nothing is searched: what is left is rounding.
ROUNDING = 1e-9

CASES = [
    pytest.param(name, engine, id=f"{name}-{engine}")
    for name, reference in REFERENCES.items()
    for engine in ENGINES
    if engine != "statsmodels" or reference.beyond_mixedlm is None
]
every_model = pytest.mark.parametrize("name", REFERENCES)
every_fit = pytest.mark.parametrize(("name", "engine"), CASES)


# ---------------------------------------------------------------- which engine fits what


@every_model
def test_mixedlm_refuses_exactly_what_it_cannot_express(name):
    result = fit_or_refusal(name, "statsmodels")
    reason = REFERENCES[name].beyond_mixedlm
    refused = isinstance(result, EngineRefusal)
    assert refused == (reason is not None), f"expected a refusal for: {reason}; got: {result}"


@pytest.mark.parametrize("name", [n for n, r in REFERENCES.items() if r.beyond_mixedlm])
def test_mixedlm_says_why_it_refuses(name):
    assert REFERENCES[name].beyond_mixedlm in str(fit_or_refusal(name, "statsmodels"))


@every_model
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_no_model_is_refused_by_the_other_engines(name, engine):
    assert not isinstance(fit_or_refusal(name, engine), EngineRefusal)


@every_fit
def test_every_fit_converges(name, engine):
    assert fit_of(name, engine).converged


@every_fit
def test_every_optimum_is_certified(name, engine):
    certificate = fit_of(name, engine).certificate
    assert certificate.ok, str(certificate)


# ---------------------------------------------------------------- the data used


@every_fit
def test_rows_used_match_lme4(name, engine):
    assert fit_of(name, engine).nobs == REFERENCES[name]["nobs"]


@every_fit
def test_rows_dropped_match_lme4(name, engine):
    assert fit_of(name, engine).model.design.dropped_rows == REFERENCES[name]["na_rows_dropped"]


@pytest.mark.parametrize("name", [n for n, r in REFERENCES.items() if r["na_rows_dropped"]])
def test_dropped_rows_are_noted(name):
    count = REFERENCES[name]["na_rows_dropped"]
    assert any(note.startswith(f"{count} of ") for note in fit_of(name, "auto").notes)


@every_fit
def test_group_sizes_match_lme4(name, engine):
    ours = {group_key(group): count for group, count in fit_of(name, engine).ngroups.items()}
    assert ours == REFERENCES[name].level_counts


@every_fit
def test_parameters_are_counted_as_by_lme4(name, engine):
    assert fit_of(name, engine).df_modelwc == REFERENCES[name]["df_model"]


# ---------------------------------------------------------------- likelihood


@every_fit
def test_deviance_matches_lme4(name, engine):
    expected = REFERENCES[name]["criterion"]
    assert fit_of(name, engine).deviance == pytest.approx(expected, rel=0, abs=DEVIANCE)


@every_fit
@pytest.mark.parametrize(("ours", "theirs"), [("llf", "loglik"), ("aic", "aic"), ("bic", "bic")])
def test_likelihood_and_information_criteria_match_lme4(name, engine, ours, theirs):
    found = getattr(fit_of(name, engine), ours)
    assert found == pytest.approx(REFERENCES[name][theirs], rel=0, abs=DEVIANCE)


@every_model
def test_criterion_matches_lme4_at_given_thetas(name):
    reference, fit = REFERENCES[name], fit_of(name, "profiled")
    found = [
        solve_pls(
            fit.model.crossprod, reference.theta(check["theta"], fit), reml=reference["REML"]
        ).deviance
        for check in reference["devfun_check"]
    ]
    expected = [check["value"] for check in reference["devfun_check"]]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


# ---------------------------------------------------------------- fixed effects


@every_fit
@pytest.mark.parametrize(
    ("ours", "theirs"), [("params", "estimate"), ("bse", "se"), ("tvalues", "t")]
)
def test_fixed_effects_match_lme4(name, engine, ours, theirs):
    expected = REFERENCES[name].fixed[theirs]
    found = getattr(fit_of(name, engine), ours)
    pd.testing.assert_series_equal(
        found.sort_index(), expected.sort_index(), check_names=False, rtol=FIXED, atol=0
    )


@every_fit
def test_covariance_of_the_fixed_effects_matches_lme4(name, engine):
    expected = REFERENCES[name].vcov
    found = fit_of(name, engine).cov_params().loc[expected.index, expected.columns]
    se = REFERENCES[name].fixed["se"].to_numpy()
    # As a correlation matrix would be compared: a covariance may be zero.
    np.testing.assert_allclose(
        found.to_numpy() / np.outer(se, se), expected / np.outer(se, se), rtol=0, atol=2 * FIXED
    )


# ---------------------------------------------------------------- variance components


@every_fit
def test_sigma_matches_lme4(name, engine):
    expected = REFERENCES[name]["sigma"]
    assert fit_of(name, engine).sigma == pytest.approx(expected, rel=COMPONENTS)


@every_fit
def test_standard_deviations_match_lme4(name, engine):
    table = fit_of(name, engine).varcorr
    rows = table[table["effect"].notna() & table["effect2"].isna()]
    found = {(group_key(r.group), r.effect): r.sdcor for r in rows.itertuples()}
    # The zeros of lme4 must be zeros here.
    assert found == pytest.approx(REFERENCES[name].deviations, rel=COMPONENTS, abs=0)


@every_fit
def test_correlations_match_lme4(name, engine):
    table = fit_of(name, engine).varcorr
    rows = table[table["effect2"].notna()]
    found = {
        (group_key(r.group), frozenset((r.effect, r.effect2))): r.sdcor for r in rows.itertuples()
    }
    assert found == pytest.approx(REFERENCES[name].correlations, rel=0, abs=COMPONENTS)


@pytest.mark.parametrize(
    ("name", "engine"), [case for case in CASES if not REFERENCES[case.values[0]]["singular"]]
)
def test_theta_matches_lme4(name, engine):
    # A singular Lambda is not unique, nor its theta: there only the covariances can be compared.
    fit = fit_of(name, engine)
    expected = REFERENCES[name].theta(REFERENCES[name]["theta"], fit)
    np.testing.assert_allclose(fit.theta, expected, rtol=0, atol=COMPONENTS * max(1, *expected))


@every_fit
def test_singular_fits_are_those_of_lme4(name, engine):
    assert fit_of(name, engine).is_singular == REFERENCES[name]["lme4_isSingular"]


# ---------------------------------------------------------------- random effects


def _groups(fit, reference):
    """Pair each of our grouping factors with lme4's label for it."""
    labels = {group_key(label): label for label in reference["ranef"]}
    return [(group, labels[group_key(group)]) for group in fit.formula.groups]


def _by_text(table):
    return table.set_axis(table.index.astype(str))


@every_fit
def test_random_effects_match_lme4(name, engine):
    fit, reference = fit_of(name, engine), REFERENCES[name]
    for group, label in _groups(fit, reference):
        expected = reference.level_table("ranef", label, group)
        found = _by_text(fit.ranef(group)).loc[expected.index]
        for effect in expected:
            sd = reference.deviations[group_key(group), effect]
            np.testing.assert_allclose(
                found[effect], expected[effect], rtol=0, atol=COMPONENTS * sd, err_msg=group
            )


@every_fit
def test_sums_of_squares_of_the_random_effects_match_lme4(name, engine):
    # The reference lists 20 levels of a large factor, and this sum over all of them.
    fit, reference = fit_of(name, engine), REFERENCES[name]
    for group, label in _groups(fit, reference):
        listed = reference["ranef"][label]
        found = (fit.ranef(group) ** 2).sum()[listed["columns_py"]]
        np.testing.assert_allclose(found, listed["col_sumsq"], rtol=COMPONENTS, err_msg=group)


@every_fit
def test_conditional_standard_deviations_match_lme4(name, engine):
    fit, reference = fit_of(name, engine), REFERENCES[name]
    for group, label in _groups(fit, reference):
        expected = reference.level_table("ranef_cond_sd", label, group)
        found = _by_text(fit.ranef(group, cond_sd=True)).loc[expected.index]
        np.testing.assert_allclose(
            found[[f"{effect}_sd" for effect in expected]],
            expected,
            rtol=COMPONENTS,
            err_msg=group,
        )


# ---------------------------------------------------------------- rows, old and new

# Sums of a few BLUPs, in residual standard deviations.
ROWS = 1e-4


def _head(series, reference):
    return series.loc[reference["head_rows"]].to_numpy()


@every_fit
def test_fitted_values_match_lme4(name, engine):
    reference = REFERENCES[name]
    found = _head(fit_of(name, engine).fittedvalues, reference)
    np.testing.assert_allclose(
        found, reference["fitted_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@every_fit
def test_fitted_values_without_random_effects_match_lme4(name, engine):
    reference = REFERENCES[name]
    found = _head(fit_of(name, engine).predict(random="none"), reference)
    np.testing.assert_allclose(
        found, reference["fitted_fixed_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@every_fit
def test_residuals_match_lme4(name, engine):
    reference = REFERENCES[name]
    found = _head(fit_of(name, engine).resid, reference)
    np.testing.assert_allclose(
        found, reference["resid_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@every_fit
@pytest.mark.parametrize(
    ("random", "field"), [("none", "population"), ("all", "conditional")], ids=lambda x: x
)
def test_predictions_of_new_rows_match_lme4(name, engine, random, field):
    reference = REFERENCES[name]
    found = fit_of(name, engine).predict(reference.new_data, random=random, new_levels="population")
    np.testing.assert_allclose(
        found, reference["predict_new"][field], rtol=0, atol=ROWS * reference["sigma"]
    )
