"""Formulas of too many terms, refused before they are expanded."""

import string

import pytest

import mixedfx as mfx
from mixedfx.errors import DataError, FormulaError
from mixedfx.formula.size import MAX_TERMS

TWENTY = string.ascii_lowercase[:20]


@pytest.mark.parametrize(
    ("formula", "count"),
    [
        # 2^20 - 1 products of distinct variables; sum over d <= 9 of 20 over d.
        ("y ~ " + " * ".join(TWENTY), "1,048,575"),
        ("y ~ (" + " + ".join(TWENTY) + ")**9", "431,909"),
        ("y ~ (" + " * ".join(TWENTY) + " | g)", "1,048,575"),
        ("y ~ 1 + (1 | " + " * ".join(TWENTY) + ")", "1,048,575"),
        ("y ~ x - " + " * ".join(TWENTY), "1,048,575"),
    ],
)
def test_the_number_of_terms_is_named(formula, count):
    with pytest.raises(FormulaError, match=f"{count} terms") as caught:
        mfx.parse(formula)
    assert caught.value.end > caught.value.start


@pytest.mark.full
@pytest.mark.parametrize(
    ("fixed", "n_terms"),
    [
        ("*".join(TWENTY[:8]), 255),
        ("*".join(["a"] * 20), 1),  # duplicates are one term
        ("(" + "+".join(TWENTY) + ")**2", 210),
        ("(a + b)**9", 3),
        ("/".join(TWENTY), 20),
        (" + ".join(f"x{i}" for i in range(3000)), 3000),
    ],
)
def test_what_has_fewer_terms_is_expanded(fixed, n_terms):
    assert n_terms < MAX_TERMS
    parsed = mfx.parse(f"y ~ {fixed} + (1 | g)")
    assert len(parsed.fixed.split(" + ")) == n_terms


@pytest.mark.full
def test_a_sum_of_a_thousand_columns_is_fitted_as_far_as_data_go():
    data = {f"x{i}": [0.5 * i, 1.0] for i in range(1000)} | {"y": [1.0, 2.0], "g": ["a", "b"]}
    with pytest.raises(DataError, match="rows"):
        mfx.lmer("y ~ " + " + ".join(f"x{i}" for i in range(1000)) + " + (1 | g)", data)
