"""Every reference model with a structured random effect, number by number.

Source of truth: tests/reference/structured, a plain R likelihood (V written out) searched by Newton
steps from several starts; glmmTMB's estimates agree.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from reference_checks import Checks
from reference_models import FOLDER, records
from tiers import but_for

import mixedfx as mfx

STRUCTURED = records("structured/models")
# R writes these models as residuals with a nugget; the field is a random term here.
FIELDS = {
    name: f"y ~ x + {name.split('__')[0].removeprefix('field_')}(px + py | 1)"
    for name in STRUCTURED
    if name.startswith("field")
}
DEFAULT = [
    n for n in STRUCTURED if n.endswith("__reml") and not n.startswith(("field_mat", "field_gau"))
]
# A search ends where another step would gain less than 1e-8 of a deviance: a ten-thousandth
# of a standard error.
ERRORS, PARAMETERS = 1e-4, 1e-3
check = Checks()


@lru_cache
def fit_of(name):
    reference = STRUCTURED[name]
    data = pd.read_csv(FOLDER / "structured" / "data" / reference["data"])
    formula = FIELDS.get(name, reference["formula"])
    return mfx.lmer(formula, data, reml=reference["REML"])


@pytest.mark.parametrize("name", but_for(STRUCTURED, DEFAULT))
@pytest.mark.cases(None)
def test_structured_fit_matches_r(name, subtests):
    fit, reference = fit_of(name), STRUCTURED[name]
    check.run(fit, reference, subtests)


def fixed(reference, key):
    return pd.Series({row["name_py"]: row[key] for row in reference["fixef"]})


@check
def deviance_is_no_higher(fit, reference):
    assert fit.deviance == pytest.approx(reference["criterion"], abs=1e-5)
    assert fit.deviance < reference["criterion"] + 1e-8
    assert fit.converged
    assert fit.certificate.ok
    assert fit.certificate.boundary == ()


@check
def fixed_effects(fit, reference):
    expected, se = fixed(reference, "estimate"), fixed(reference, "se")
    assert ((fit.params[expected.index] - expected).abs() / se).max() < ERRORS
    np.testing.assert_allclose(fit.bse[se.index], se, rtol=ERRORS)


@check
def degrees_of_freedom(fit, reference):
    if "df_satterthwaite" in reference["fixef"][0]:
        expected = fixed(reference, "df_satterthwaite").dropna().astype(float)
        found = fit.tidy().set_index("term")["df"]
        np.testing.assert_allclose(found[expected.index], expected, rtol=1e-3)


@check
def covariance_of_the_effects(fit, reference):
    if reference["id"].startswith("field"):
        field = reference["residual_structure"]
        nugget = field["nugget"]["fraction"]
        sds = reference["sigma"] * np.sqrt([1.0 - nugget, nugget])
        shape = [field[key] for key in ("range", "nu") if key in field]
        expected = [sds[0], *shape, sds[1]]
        np.testing.assert_allclose(fit.varcorr["sdcor"], expected, rtol=PARAMETERS)
        return
    (structure,) = reference["random_structure"]
    sds = np.array(structure["sd"])
    expected = np.array(structure["corr"]) * np.outer(sds, sds)
    scale = PARAMETERS * expected.max()
    np.testing.assert_allclose(fit.cov_re, expected, rtol=PARAMETERS, atol=scale)
    assert fit.sigma == pytest.approx(reference["sigma"], rel=PARAMETERS)


@check
def conditional_modes(fit, reference):
    if not reference["ranef"]:
        return
    modes, cond = reference["ranef"]["g"], reference["ranef_cond_sd"]["g"]
    sds = np.array(cond["values"], dtype=float)
    found = fit.ranef("g", cond_sd=True).loc[modes["levels"]]
    distance = np.abs(found[modes["columns_py"]] - np.array(modes["values"], dtype=float)) / sds
    assert distance.max(axis=None) < 1e-3
    own = [f"{name}_sd" for name in modes["columns_py"]]
    np.testing.assert_allclose(found[own], sds, rtol=PARAMETERS)


@check
def predictions_of_known_and_new_levels(fit, reference):
    if reference["ranef"] and reference["predict_new"]:
        expected = reference["predict_new"]
        new = pd.DataFrame(expected["rows"])
        new["phase"] = new.get("phase", "p1")
        scale = 1e-4 * fit.sigma
        found = fit.predict(new, new_levels="population")
        np.testing.assert_allclose(found, expected["conditional"], atol=scale)
