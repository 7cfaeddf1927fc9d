"""Every reference model with a relationship matrix or multiple memberships, number by number.

Source of truth: tests/reference/relationships, a plain R likelihood with V written out, searched by
Newton steps from several starts; Kenward-Roger with the expected information, as pbkrtest.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from reference_models import FOLDER, records
from scipy import sparse

import mixedfx as mfx

HERE = FOLDER / "relationships"
REFERENCE = records("relationships/models")
TEACHERS = "(1 | mm(t1, t2, t3, weights=[w1, w2, w3]))"
FORMULAS = {
    "animal_A": "y ~ sex + herd + (1 | animal)",
    "animal_A_pe": "y ~ sex + (1 | animal) + (1 | animal_pe)",
    "pupils_mm": f"y ~ x + {TEACHERS}",
    "pupils_mm_school": f"y ~ x + {TEACHERS} + (1 | school)",
}
REML = [name for name in REFERENCE if name.endswith("reml")]


def table(name, **options):
    return pd.read_csv(HERE / "data" / f"{name}.csv", **options)


@lru_cache
def fit_of(name):
    formula, data = FORMULAS[name.split("__")[0]], table(REFERENCE[name]["data"][:-4])
    relmat = {"animal": table("animals_A", index_col=0)} if name.startswith("animal") else None
    return mfx.lmer(formula, data, reml=REFERENCE[name]["REML"], relmat=relmat)


def fixed(name, key):
    return pd.Series({row["name_py"]: row[key] for row in REFERENCE[name]["fixef"]})


@pytest.mark.parametrize("name", REFERENCE)
def test_likelihood_is_that_of_r(name):
    fit = fit_of(name)
    assert fit.deviance == pytest.approx(REFERENCE[name]["criterion"], abs=1e-7)
    assert fit.converged
    assert fit.certificate.ok


@pytest.mark.parametrize("name", REFERENCE)
def test_estimates_are_those_of_r(name):
    fit, reference = fit_of(name), REFERENCE[name]
    np.testing.assert_allclose(fit.params, fixed(name, "estimate")[fit.params.index], rtol=1e-5)
    np.testing.assert_allclose(fit.bse, fixed(name, "se")[fit.bse.index], rtol=1e-5)
    sds = [row["sdcor"] for row in reference["varcorr"]]
    np.testing.assert_allclose(fit.varcorr["sdcor"], [*sds, reference["sigma"]], rtol=1e-5)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", REFERENCE)
def test_effects_of_all_levels_are_those_of_r(name):
    fit = fit_of(name)
    for group, expected in REFERENCE[name]["ranef"].items():
        found = fit.ranef("mm(t1, t2, t3)" if group == "teacher" else group, cond_sd=True)
        assert sorted(found.index) == sorted(expected["levels"])  # 20 animals have no record
        found = found.loc[expected["levels"]]
        sd = np.array(REFERENCE[name]["ranef_cond_sd"][group]["values"])[:, 0]
        modes = np.array(expected["values"])[:, 0]
        np.testing.assert_allclose(found["Intercept"] / sd, modes / sd, atol=1e-4)
        np.testing.assert_allclose(found["Intercept_sd"], sd, rtol=1e-5)


@pytest.mark.parametrize("name", REML)
@pytest.mark.parametrize(
    ("method", "key"),
    [("satterthwaite", "df_satterthwaite"), ("kenward-roger", "df_kr_expected")],
)
def test_degrees_of_freedom_are_those_of_r(name, method, key):
    fit = fit_of(name)
    found = fit.tidy(df_method=method).set_index("term")["df"]
    expected = fixed(name, key)
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-4)


@pytest.mark.parametrize("name", REML)
def test_kenward_roger_errors_are_those_of_r(name):
    found = fit_of(name).tidy(df_method="kenward-roger").set_index("term")["std_error"]
    expected = fixed(name, "se_kr_expected")
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-5)


def test_pedigree_gives_the_matrix_of_r():
    pedigree, A = table("animals_pedigree"), table("animals_A", index_col=0)
    found = mfx.Relationship.from_pedigree(pedigree["id"], pedigree["sire"], pedigree["dam"])
    np.testing.assert_allclose(found.covariance(A.index), A, atol=1e-12)


@pytest.mark.parametrize("form", ["pedigree", "inverse", "sparse"])
def test_forms_of_one_matrix_give_one_fit(form):
    pedigree, A = table("animals_pedigree"), table("animals_A", index_col=0)
    relationship = mfx.Relationship.from_pedigree(*(pedigree[c] for c in ("id", "sire", "dam")))
    if form == "inverse":
        labels = relationship.labels
        relationship = mfx.Relationship.from_inverse(relationship.inverse(), labels)
    if form == "sparse":
        relationship = mfx.Relationship.from_covariance(sparse.csr_array(A.to_numpy()), A.index)
    dense = fit_of("animal_A__reml")
    fit = mfx.lmer(FORMULAS["animal_A"], table("animals"), relmat={"animal": relationship})
    assert fit.deviance == pytest.approx(dense.deviance, abs=1e-8)
    found, expected = fit.ranef("animal", cond_sd=True), dense.ranef("animal", cond_sd=True)
    pd.testing.assert_frame_equal(found.loc[expected.index], expected, rtol=1e-6)
