"""Which residual structures are special cases of which, and structures beside a dispersion formula.

Source of truth: the definitions of the structures, and `lmer` with both arguments.
"""

from __future__ import annotations

import pytest
from residuals.trials import trial

import mixedfx as mfx
from mixedfx.inference.nesting import is_nested

DATA = trial()


def fit(structure, **options):
    return mfx.lmer("y ~ x", DATA, residual=f"{structure}(visit | id)", **options)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("small", "large", "df"),
    [("ou", "ar1", 0), ("exp", "us", 8), ("gau", "toep", 2), ("cs", "toep", 2), ("ar1", "toep", 2)],
)
def test_a_structure_is_nested_in_a_more_general_one(small, large, df):
    table = mfx.compare([fit(small), fit(large)])
    assert table["nested"].iloc[1]
    assert table["df"].iloc[1] == df


def test_structures_that_are_no_case_of_each_other_have_no_test():
    table = mfx.compare([fit("gau"), fit("cs")])
    assert not table["nested"].iloc[1]
    assert table["p_value"].isna().all()


@pytest.mark.full
def test_structures_are_compared_beside_a_dispersion_formula():
    both = fit("us", dispersion="~ arm")
    table = mfx.compare_structures(both, ["us", "ar1", "toep"])
    for name in ("us", "ar1", "toep"):
        found = fit(name, dispersion="~ arm").deviance
        assert table.loc[name, "deviance"] == pytest.approx(found, abs=1e-6)
    assert table.loc["us", "nested"]


@pytest.mark.full
def test_no_dispersion_is_a_case_of_one():
    table = mfx.compare([fit("ar1"), fit("ar1", dispersion="~ arm")])
    assert table["nested"].iloc[1]
    assert table["df"].iloc[1] == 1


# Independent residuals beside a random intercept have the covariance r I + s J within a subject.
@pytest.mark.parametrize(("structure", "there"), [("cs", True), ("us", True), ("ar1", False)])
def test_a_random_intercept_is_a_case_of_residuals_that_can_be_equally_correlated(structure, there):
    intercept = mfx.lmer("y ~ x + (1 | id)", DATA)
    residual = fit(structure)
    assert is_nested(intercept.model, residual.model) == there
    assert not is_nested(residual.model, intercept.model)
    assert not there or residual.deviance < intercept.deviance + 1e-6


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_other_random_terms_are_no_case_of_correlated_residuals():
    slope = mfx.lmer("y ~ x + (x | id)", DATA)
    other = mfx.lmer("y ~ x + (1 | arm:visit)", DATA)
    assert not is_nested(slope.model, fit("cs").model)
    assert not is_nested(other.model, fit("cs").model)


def test_compare_tests_a_random_intercept_against_free_covariances():
    intercept, us = mfx.lmer("y ~ x + (1 | id)", DATA, reml=False), fit("us", reml=False)
    table = mfx.compare([intercept, us])
    assert table["nested"].iloc[1]
    assert table["chisq"].iloc[1] == pytest.approx(intercept.deviance - us.deviance, abs=1e-6)
