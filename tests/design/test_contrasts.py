"""Recoding the factors of the fixed part: the same columns as if patsy had been asked for them.

Source of truth: patsy, building the formula with the contrasts written out in it.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import patsy
import pytest
from reference_models import REFERENCES

import mixedfx as mfx
from mixedfx.design.build import build, fixed_matrix
from mixedfx.design.contrasts import fixed_terms, recoding

# Solved by least squares from well-conditioned made-up columns; entries are of order one.
ROUNDING = 1e-12

CAKE = REFERENCES["cake_cat__reml"].data  # recipe (3 levels) and temperature (6), balanced
PUPS = REFERENCES["ratpup__reml"].data.rename(
    columns={"Treatment": "dose"}
)  # sex, dose: unbalanced
QUAD = REFERENCES["quad_noint__reml"].data  # f (3), x, and a positive z

CASES = [
    (CAKE, "angle", "recipe"),
    (CAKE, "angle", "recipe + temperature"),
    (CAKE, "angle", "recipe * temperature"),
    (CAKE, "angle", "recipe:temperature"),
    (CAKE, "angle", "recipe + recipe:temperature"),
    (CAKE, "angle", "0 + recipe"),
    (CAKE, "angle", "0 + recipe + temperature"),
    (CAKE, "angle", "0 + temperature:recipe"),
    (CAKE, "angle", "recipe * temp"),
    (CAKE, "angle", "recipe:temp"),
    (CAKE, "angle", "0 + recipe:temp"),
    (CAKE, "angle", "temp + recipe:temp"),
    (CAKE, "angle", "recipe + bs(temp, 4)"),
    (CAKE, "angle", "recipe * bs(temp, 4)"),
    (CAKE, "angle", "temperature * recipe * temp"),
    (PUPS, "weight", "sex * dose + Lsize"),
    (PUPS, "weight", "sex * dose * Lsize"),
    (PUPS, "weight", "(sex + dose + Lsize)**2"),
    (PUPS, "weight", "sex:dose:Lsize + Lsize"),
    (PUPS, "weight", "Lsize"),
    (PUPS, "weight", "1"),
    (PUPS, "weight", "0 + Lsize + sex"),
    (QUAD, "y", "0 + f + x + I(x**2)"),
    (QUAD, "y", "f * x + f:I(x**2) + np.log(z)"),
    (QUAD, "y", "f * x * z"),
    (QUAD, "y", "x * z - 1"),
]
FACTORS = ["recipe", "temperature", "sex", "dose", "f"]
every_formula = pytest.mark.parametrize(
    ("data", "response", "fixed"), CASES, ids=[fixed for _, _, fixed in CASES]
)


def written_in(coding, fixed):
    """The formula with every factor's contrast written out."""
    return re.sub(rf"\b({'|'.join(FACTORS)})\b", rf"C(\1, {coding})", fixed)


def designed(data, response, fixed):
    return build(mfx.parse(f"{response} ~ {fixed}"), data)


def by_patsy(fixed, data):
    return np.asarray(patsy.dmatrix(fixed, data, eval_env=1))


# ---------------------------------------------------------------- the columns


@pytest.mark.full
@pytest.mark.covering(1)
@every_formula
@pytest.mark.parametrize("coding", ["sum", "treatment"])
def test_recoding_gives_the_columns_that_patsy_builds_in_that_coding(data, response, fixed, coding):
    design = designed(data, response, fixed)
    found = fixed_matrix(design) @ recoding(design.spec.fixed_info, coding)
    expected = by_patsy(written_in(coding.title(), fixed), data)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=100 * ROUNDING * size)


@every_formula
def test_treatment_coding_is_what_is_there_unless_asked_otherwise(data, response, fixed):
    T = recoding(designed(data, response, fixed).spec.fixed_info, "treatment")
    np.testing.assert_allclose(T, np.eye(len(T)), rtol=0, atol=ROUNDING)


@pytest.mark.covering(1)
@pytest.mark.parametrize("coding", ["sum", "treatment"])
@pytest.mark.parametrize("own", ["Sum", "Treatment(reference=1)", "Helmert", "Diff", "Poly"])
def test_recoding_starts_from_any_coding(own, coding):
    design = designed(CAKE, "angle", written_in(own, "recipe * temperature + recipe:temp"))
    found = fixed_matrix(design) @ recoding(design.spec.fixed_info, coding)
    expected = by_patsy(written_in(coding.title(), "recipe * temperature + recipe:temp"), CAKE)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=100 * ROUNDING * size)


def test_recoding_knows_combinations_without_data():
    # It depends on the recipe: a table with a cell left out has the same as one without.
    fixed, full = "sex * dose", PUPS
    some = PUPS[~((PUPS["sex"] == "Female") & (PUPS["dose"] == "High"))]
    found = recoding(designed(some, "weight", fixed).spec.fixed_info, "sum")
    expected = recoding(designed(full, "weight", fixed).spec.fixed_info, "sum")
    np.testing.assert_array_equal(found, expected)


def test_without_fixed_columns_there_is_nothing_to_recode():
    design = designed(CAKE, "angle", "0 + (1 | replicate)")
    assert recoding(design.spec.fixed_info, "sum").shape == (0, 0)


# ---------------------------------------------------------------- the terms


def terms_of(data, response, fixed):
    info = designed(data, response, fixed).spec.fixed_info
    return {term.name: term for term in fixed_terms(info)}


@every_formula
def test_terms_divide_the_columns_among_them(data, response, fixed):
    design = designed(data, response, fixed)
    terms = fixed_terms(design.spec.fixed_info)
    columns = range(len(design.spec.column_names))
    assert [j for term in terms for j in columns[term.columns]] == list(columns)


@pytest.mark.parametrize(
    ("larger", "smaller", "contained"),
    [
        ("sex:dose", "sex", True),
        ("sex:dose", "dose", True),
        ("sex:dose:Lsize", "sex:Lsize", True),
        ("sex:Lsize", "Lsize", True),
        ("sex:dose", "Intercept", True),
        ("sex", "Intercept", True),
        # A slope by group says nothing of the groups' intercepts: SAS and lmerTest agree.
        ("sex:Lsize", "sex", False),
        ("sex:dose:Lsize", "sex:dose", False),
        ("Lsize", "Intercept", False),
        ("sex:dose", "sex:Lsize", False),
        ("sex", "sex", False),
        ("sex", "sex:dose", False),
    ],
)
def test_a_term_contains_those_it_crosses_with_further_factors(larger, smaller, contained):
    terms = terms_of(PUPS, "weight", "sex * dose * Lsize")
    assert terms[larger].contains(terms[smaller]) == contained


def test_functions_of_numbers_are_numeric_and_marked_factors_are_not():
    data = pd.DataFrame({"y": [1.0, 2, 3, 5, 4, 7], "n": [1, 2, 3, 1, 2, 3], "x": range(6)})
    terms = terms_of(data, "y", "C(n) + np.exp(x)")
    assert [terms[name].numeric for name in ("C(n)", "np.exp(x)")] == [set(), {"np.exp(x)"}]
