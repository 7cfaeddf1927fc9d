"""Every reference model fitted by lme4, by every engine, number by number.

Source of truth: the files of tests/reference/models, which R's lme4 wrote at full precision; a
check reads the fields it is named after. Models of nlme, whose residual variances differ, are
compared with their files where dispersion is tested.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference_checks import (
    Checks,
    compare_conditional_modes,
    compare_conditional_standard_deviations,
    groups_of,
)
from reference_models import ENGINES, REFERENCES, fit_of, fit_or_refusal, group_key, in_turn
from tiers import but_for

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

# The default tier fits each model as a user does, by REML or ML in turn, and of two of 73,421 rows
# one.
CASES = [
    (name, engine)
    for name, reference in REFERENCES.items()
    for engine in ENGINES
    if engine != "statsmodels" or reference.beyond_mixedlm is None
]
DEFAULT = [*in_turn(REFERENCES), "insteval_age__ml"]
every_fit = pytest.mark.parametrize(
    ("name", "engine"), but_for(CASES, [(name, "auto") for name in DEFAULT])
)
check = Checks()


@every_fit
@pytest.mark.cases(None)
def test_fit_matches_lme4(name, engine, subtests):
    fit, reference = fit_of(name, engine), REFERENCES[name]
    check.run(fit, reference, subtests)


# ---------------------------------------------------------------- which engine fits what


REFUSED = {name: r.beyond_mixedlm for name, r in REFERENCES.items() if r.beyond_mixedlm}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", REFUSED)
def test_mixedlm_refuses_what_it_cannot_express_and_says_why(name):
    result = fit_or_refusal(name, "statsmodels")
    assert isinstance(result, EngineRefusal)
    assert REFUSED[name] in str(result)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in REFERENCES if name not in REFUSED])
def test_mixedlm_refuses_nothing_else(name):
    result = fit_or_refusal(name, "statsmodels")
    assert not isinstance(result, EngineRefusal), str(result)


@check
def every_fit_converges(fit, reference):
    assert fit.converged


@check
def every_optimum_is_certified(fit, reference):
    certificate = fit.certificate
    assert certificate.ok, str(certificate)


# ---------------------------------------------------------------- the data used


@check
def rows_used_match_lme4(fit, reference):
    assert fit.nobs == reference["nobs"]


@check
def rows_dropped_match_lme4(fit, reference):
    assert fit.model.rows.n_dropped == reference["na_rows_dropped"]


@check
def dropped_rows_are_noted(fit, reference):
    count = reference["na_rows_dropped"]
    assert any(note.startswith(f"{count} of ") for note in fit.notes) == (count > 0)


@check
def group_sizes_match_lme4(fit, reference):
    ours = {group_key(group): count for group, count in fit.ngroups.items()}
    assert ours == reference.level_counts


@check
def parameters_are_counted_as_by_lme4(fit, reference):
    assert fit.df_modelwc == reference["df_model"]


# ---------------------------------------------------------------- likelihood


@check
def deviance_matches_lme4(fit, reference):
    expected = reference["criterion"]
    assert fit.deviance == pytest.approx(expected, rel=0, abs=DEVIANCE)


@check
def likelihood_and_information_criteria_match_lme4(fit, reference):
    found = [fit.llf, fit.aic, fit.bic]
    expected = [reference[field] for field in ("loglik", "aic", "bic")]
    assert found == pytest.approx(expected, rel=0, abs=DEVIANCE)


@check
def criterion_matches_lme4_at_given_thetas(fit, reference):
    found = [
        solve_pls(
            fit.model.crossprod, reference.theta(check["theta"], fit), reml=reference["REML"]
        ).deviance
        for check in reference["devfun_check"]
    ]
    expected = [check["value"] for check in reference["devfun_check"]]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


# ---------------------------------------------------------------- fixed effects


@check
def fixed_effects_match_lme4(fit, reference):
    found = pd.DataFrame({"estimate": fit.params, "se": fit.bse, "t": fit.tvalues})
    expected = reference.fixed[["estimate", "se", "t"]]
    pd.testing.assert_frame_equal(
        found.sort_index(), expected.sort_index(), check_names=False, rtol=FIXED, atol=0
    )


@check
def covariance_of_the_fixed_effects_matches_lme4(fit, reference):
    expected = reference.vcov
    found = fit.cov_params().loc[expected.index, expected.columns]
    se = reference.fixed["se"].to_numpy()
    # As a correlation matrix would be compared: a covariance may be zero.
    np.testing.assert_allclose(
        found.to_numpy() / np.outer(se, se), expected / np.outer(se, se), rtol=0, atol=2 * FIXED
    )


# ---------------------------------------------------------------- variance components


@check
def sigma_matches_lme4(fit, reference):
    expected = reference["sigma"]
    assert fit.sigma == pytest.approx(expected, rel=COMPONENTS)


@check
def standard_deviations_match_lme4(fit, reference):
    table = fit.varcorr
    rows = table[table["effect"].notna() & table["effect2"].isna()]
    found = {(group_key(r.group), r.effect): r.sdcor for r in rows.itertuples()}
    # The zeros of lme4 must be zeros here.
    assert found == pytest.approx(reference.deviations, rel=COMPONENTS, abs=0)


@check
def correlations_match_lme4(fit, reference):
    table = fit.varcorr
    rows = table[table["effect2"].notna()]
    found = {
        (group_key(r.group), frozenset((r.effect, r.effect2))): r.sdcor for r in rows.itertuples()
    }
    assert found == pytest.approx(reference.correlations, rel=0, abs=COMPONENTS)


@check
def theta_matches_lme4(fit, reference):
    if reference["singular"]:  # Lambda is not unique: only the covariances can be compared
        return
    expected = reference.theta(reference["theta"], fit)
    np.testing.assert_allclose(fit.theta, expected, rtol=0, atol=COMPONENTS * max(1, *expected))


@check
def singular_fits_are_those_of_lme4(fit, reference):
    assert fit.is_singular == reference["lme4_isSingular"]


# ---------------------------------------------------------------- random effects


@check
def random_effects_match_lme4(fit, reference):
    compare_conditional_modes(fit, reference, COMPONENTS)


@check
def sums_of_squares_of_the_random_effects_match_lme4(fit, reference):
    # The reference lists 20 levels of a large factor, and this sum over all of them.
    for group, label in groups_of(fit, reference):
        listed = reference["ranef"][label]
        found = (fit.ranef(group) ** 2).sum()[listed["columns_py"]]
        np.testing.assert_allclose(found, listed["col_sumsq"], rtol=COMPONENTS, err_msg=group)


@check
def conditional_standard_deviations_match_lme4(fit, reference):
    compare_conditional_standard_deviations(fit, reference, COMPONENTS)


# ---------------------------------------------------------------- rows, old and new

# Sums of a few BLUPs, in residual standard deviations.
ROWS = 1e-4


def _head(series, reference):
    return series.loc[reference["head_rows"]].to_numpy()


@check
def fitted_values_match_lme4(fit, reference):
    found = _head(fit.fittedvalues, reference)
    np.testing.assert_allclose(
        found, reference["fitted_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@check
def fitted_values_without_random_effects_match_lme4(fit, reference):
    found = _head(fit.predict(random="none"), reference)
    np.testing.assert_allclose(
        found, reference["fitted_fixed_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@check
def residuals_match_lme4(fit, reference):
    found = _head(fit.resid, reference)
    np.testing.assert_allclose(
        found, reference["resid_head"], rtol=0, atol=ROWS * reference["sigma"]
    )


@check
def predictions_of_new_rows_match_lme4(fit, reference):
    for random, field in (("none", "population"), ("all", "conditional")):
        found = fit.predict(reference.new_data, random=random, new_levels="population")
        expected = reference["predict_new"][field]
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=ROWS * reference["sigma"], err_msg=field
        )
