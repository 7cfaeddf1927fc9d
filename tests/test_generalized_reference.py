"""Every reference model with a family, number by number.

Source of truth: the files of tests/reference/generalized/models. Laplace's approximation is that of
R's glmmTMB, searched on to a gradient of 1e-8 or less and recomputed by a plain likelihood;
quadrature and the inverse Gaussian models are of that plain likelihood.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from generalized_models import COSTLY, GENERALIZED, generalized_fit
from reference_checks import (
    Checks,
    by_text,
    compare_conditional_modes,
    compare_conditional_standard_deviations,
)
from reference_models import group_key
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import SingularFitWarning

# The search ends where another step would gain less than 1e-8 of a deviance; R's, 1e-12.
LOGLIK = 1e-6
# A gain of 1e-8 is a ten-thousandth of a standard error; the Hessian is of differences.
FIXED = 1e-4
COMPONENTS = 1e-3
# At given parameters nothing is searched but the modes.
ROUNDING = 1e-8

check = Checks()


# Quadrature is in the default tier by nine nodes.
DEFAULT = [n for n in GENERALIZED if not n.endswith(("agq5", "agq25")) and n not in COSTLY]


@pytest.mark.parametrize("name", but_for(GENERALIZED, DEFAULT))
@pytest.mark.cases(24)
def test_generalised_fit_matches_r(name, subtests):
    fit, reference = generalized_fit(name), GENERALIZED[name]
    check.run(fit, reference, subtests)


@check
def the_search_converges(fit, reference):
    assert fit.converged


@check
def rows_levels_and_parameters_are_counted_as_by_r(fit, reference):
    levels = {group_key(group): count for group, count in fit.ngroups.items()}
    assert (fit.nobs, levels) == (reference["nobs"], reference.level_counts)
    assert fit.df_modelwc == reference["df_model"]


@check
def log_likelihood_and_information_criteria_match_r(fit, reference):
    found = [fit.llf, fit.deviance / -2.0, fit.aic / -2.0, fit.bic / -2.0]
    expected = [reference["loglik"]] * 2 + [reference[k] / -2.0 for k in ("aic", "bic")]
    assert found == pytest.approx(expected, rel=0, abs=LOGLIK)


@check
def log_likelihood_matches_r_at_given_parameters(fit, reference):
    checks = reference.record.get("devfun_check") or []
    found = [reference.loglik_at(fit, at, max(reference.nagq, 1)) for at in checks]
    assert found == pytest.approx([at["loglik"] for at in checks], rel=ROUNDING)


@check
def quadrature_matches_r_at_the_estimates_of_laplace(fit, reference):
    # R's plain code gives none where a node is outside the range of the link.
    rows = reference.record.get("agq_at_laplace_estimates") or []
    nodes = [row for row in rows if row["loglik"] is not None]
    found = [reference.loglik_at(fit, reference["devfun_check"][0], row["nAGQ"]) for row in nodes]
    assert found == pytest.approx([row["loglik"] for row in nodes], rel=ROUNDING)


@check
def likelihood_without_a_term_matches_r(fit, reference):
    lrt = reference.record.get("lrt")
    if lrt:
        reduced = reference.fit(reference.reduced_formula)
        assert reduced.llf == pytest.approx(lrt["loglik_reduced"], rel=0, abs=LOGLIK)
        assert len(fit.params) - len(reduced.params) == lrt["df"]


@check
def fixed_effects_match_r(fit, reference):
    found = pd.DataFrame({"estimate": fit.params, "se": fit.bse}).sort_index()
    expected = reference.fixed[["estimate", "se"]].sort_index()
    np.testing.assert_allclose(found["se"], expected["se"], rtol=FIXED)
    # Coefficients near zero are measured by their standard error.
    share = (found["estimate"] - expected["estimate"]) / expected["se"]
    np.testing.assert_allclose(share, 0.0, atol=FIXED)


@check
def standard_errors_of_the_family_s_parameters_match_r(fit, reference):
    if "thresholds" in reference.record:
        found = [c.std_error for c in fit.model.residual.components]
        expected = [row["se"] for row in reference["thresholds"]]
        np.testing.assert_allclose(found, expected, rtol=FIXED)
        return
    dispersion = reference["dispersion"]
    if dispersion is None or reference.record.get("dispformula"):
        return
    error = dispersion["fixef"][0]["se"] if dispersion.get("fixef") else dispersion["log_se"]
    # Of the logarithm, which is the same for a parameter and its inverse.
    low, high = fit.conf_int(parm=fit.family_params.index[0]).iloc[0]
    assert np.log(high / low) == pytest.approx(2.0 * 1.959963984540054 * error, rel=FIXED)


@check
def z_values_of_the_fixed_effects_match_r(fit, reference):
    found, expected = fit.tvalues.sort_index(), reference.fixed["z"].sort_index()
    np.testing.assert_allclose(found, expected, rtol=FIXED, atol=FIXED)


@check
def covariance_of_the_fixed_effects_matches_r(fit, reference):
    expected = reference.vcov
    found = fit.cov_params().loc[expected.index, expected.columns]
    se = reference.fixed["se"].to_numpy()
    scale = np.outer(se, se)
    np.testing.assert_allclose(found.to_numpy() / scale, expected / scale, rtol=0, atol=2 * FIXED)


@check
def standard_deviations_match_r(fit, reference):
    rows = fit.varcorr[fit.varcorr["effect2"].isna() & fit.varcorr["effect"].notna()]
    found = {(group_key(r.group), r.effect): r.sdcor for r in rows.itertuples()}
    assert found == pytest.approx(reference.deviations, rel=COMPONENTS, abs=0)


@check
def correlations_match_r(fit, reference):
    rows = fit.varcorr[fit.varcorr["effect2"].notna()]
    found = {
        (group_key(r.group), frozenset((r.effect, r.effect2))): r.sdcor for r in rows.itertuples()
    }
    assert found == pytest.approx(reference.correlations, rel=0, abs=COMPONENTS)


@check
def theta_matches_r(fit, reference):
    expected = reference.theta(np.atleast_1d(reference["theta"]), fit)
    np.testing.assert_allclose(fit.theta, expected, rtol=0, atol=COMPONENTS * max(1, *expected))


@check
def parameters_of_the_family_match_r(fit, reference):
    np.testing.assert_allclose(fit.model.residual.params, reference.family_params, rtol=COMPONENTS)


def coefficients_match(found, errors, expected):
    np.testing.assert_allclose(errors, [row["se"] for row in expected], rtol=FIXED)
    share = (np.asarray(found) - [row["estimate"] for row in expected]) / np.asarray(errors)
    np.testing.assert_allclose(share, 0.0, atol=FIXED)


@check
def the_zero_part_matches_r(fit, reference):
    expected = reference.record.get("zi")
    if not expected:
        return
    part = fit.zero_inflation
    coefficients_match(part.params, part.bse, expected["fixef"])
    scale = np.outer(part.bse, part.bse)
    if expected.get("vcov"):  # not of the plain code
        covariance = part.cov_params().to_numpy() - np.array(expected["vcov"])
        np.testing.assert_allclose(covariance / scale, 0.0, atol=2 * FIXED)
    if expected.get("varcorr"):
        sds = [row["sdcor"] for row in expected["varcorr"]]
        np.testing.assert_allclose(part.varcorr["sdcor"], sds, rtol=COMPONENTS)


@check
def the_dispersion_formula_matches_r(fit, reference):
    if not reference.record.get("dispformula"):
        return
    sign = -1.0 if reference.family == "nbinom2" else 1.0  # of log alpha, not of log(1 / alpha)
    expected = [{**r, "estimate": sign * r["estimate"]} for r in reference["dispersion"]["fixef"]]
    coefficients_match(fit.dispersion["estimate"], fit.dispersion["std_error"], expected)


@check
def conditional_modes_match_r(fit, reference):
    compare_conditional_modes(fit, reference, COMPONENTS)


@check
def conditional_standard_deviations_match_r(fit, reference):
    if reference["ranef_cond_sd"] is None:  # of a zero part with random effects
        return
    compare_conditional_standard_deviations(fit, reference, COMPONENTS)


@check
def standard_deviations_with_the_uncertainty_of_the_parameters_match_r(fit, reference):
    # glmmTMB's condVar: J V J' + G; absent from the plain code of quadrature.
    for label, rows in (reference.record.get("ranef_cond_sd_joint") or {}).items():
        table = reference["ranef"][label]
        group = next(g for g in fit.formula.groups if group_key(g) == group_key(label))
        levels = [str(level) for level in reference.level_table("ranef", label, group).index]
        found = by_text(fit.ranef(group, cond_sd="joint")).loc[levels]
        expected = pd.DataFrame(rows, index=levels, columns=table["columns_py"])
        np.testing.assert_allclose(
            found[[f"{effect}_sd" for effect in expected]], expected, rtol=COMPONENTS, err_msg=group
        )


def with_random_zeros(reference) -> bool:
    """Whether the zero part has random effects.

    Without the effects of the mean (re.form = NA) glmmTMB 1.1.5 takes neither zero for those of the
    zero part nor their modes, but modes given effects of zero of the mean.
    """
    return bool((reference.record.get("zi") or {}).get("varcorr"))


@check
def fitted_values_match_r(fit, reference):
    rows = reference["head_rows"]
    linear = fit.predict(which="linear").loc[rows]
    np.testing.assert_allclose(linear, reference["linpred_head"], rtol=COMPONENTS, atol=COMPONENTS)
    if "fitted_head" in reference.record:  # not of the plain code
        found = fit.fittedvalues.loc[rows]
        np.testing.assert_allclose(found, reference["fitted_head"], rtol=COMPONENTS)
        fixed = fit.predict(random="none").loc[rows]
        if with_random_zeros(reference):
            fixed = reference["fitted_fixed_head"]
        np.testing.assert_allclose(fixed, reference["fitted_fixed_head"], rtol=COMPONENTS)
        resid = fit.resid.loc[rows]
        np.testing.assert_allclose(resid, reference["resid_head"], atol=COMPONENTS * found.max())


@check
def predictions_of_new_rows_match_r(fit, reference):
    new = reference["predict_new"]
    if "population_prob" in new:
        return
    if "population_conditional_mean" in new:  # as the plain code names them
        new = {
            **new,
            "population": new["population_conditional_mean"],
            "conditional": new["conditional_mean"],
        }
    rows = reference.new_data
    if (
        reference.record.get("ziformula") and reference.nagq > 1
    ):  # whose plain code has the conditional part
        mean = fit.predict(rows, random="none", which="conditional")
        np.testing.assert_allclose(mean, new["population"], rtol=COMPONENTS)
        return
    mean = fit.predict(rows, random="none", se=True)
    if not with_random_zeros(reference):
        np.testing.assert_allclose(mean["predicted"], new["population"], rtol=COMPONENTS)
    levels = fit.predict(rows, new_levels="population")
    np.testing.assert_allclose(levels, new["conditional"], rtol=COMPONENTS)
    if new.get("conditional_zprob"):
        of_zero = fit.predict(rows, new_levels="population", which="zero")
        np.testing.assert_allclose(of_zero, new["conditional_zprob"], rtol=COMPONENTS)
        found = fit.predict(rows, new_levels="population", which="conditional")
        np.testing.assert_allclose(found, new["conditional_type_conditional"], rtol=COMPONENTS)
    if "population_link_se" in new:
        linear = fit.predict(rows, random="none", which="linear", se=True)
        np.testing.assert_allclose(linear["std_error"], new["population_link_se"], rtol=FIXED)


@check
def probabilities_of_categories_match_r(fit, reference):
    new = reference["predict_new"]
    if "population_prob" not in new:
        return
    rows = reference.new_data
    fixed = fit.predict(rows, random="none", which="probabilities")
    np.testing.assert_allclose(fixed, new["population_prob"], rtol=COMPONENTS)
    levels = fit.predict(rows, new_levels="population", which="probabilities")
    np.testing.assert_allclose(levels, new["conditional_prob"], rtol=COMPONENTS)
    head = fit.predict(which="probabilities").loc[reference["head_rows"]]
    np.testing.assert_allclose(head, reference["fitted_prob_head"], rtol=COMPONENTS)
    linear = fit.predict(rows, random="none", which="linear")
    np.testing.assert_allclose(linear, new["population_link"], rtol=COMPONENTS, atol=COMPONENTS)


@pytest.mark.full
def test_herds_of_cbpp_do_not_differ_beside_beta_binomial_variation():
    # glmmTMB 1.1.5: log-likelihood and phi; its standard deviation of the herds stops at 8.3e-5.
    with pytest.warns(SingularFitWarning):
        fit = mfx.glmer(
            "cbind(incidence, size - incidence) ~ period + (1 | herd)",
            mfx.datasets.load("cbpp"),
            family="betabinomial",
        )
    assert fit.theta[0] == 0.0
    assert fit.llf == pytest.approx(-88.04164681520584, abs=LOGLIK)
    assert fit.family_params["phi"] == pytest.approx(10.842658963502531, rel=COMPONENTS)
