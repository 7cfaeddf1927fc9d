"""Formulas changed by others, in which a dot stands for what was there."""

import pytest

import mixedfx as mfx
from mixedfx.errors import FormulaError
from mixedfx.formula.updating import update_formula

FORMULA = "y ~ x*z + `odd name` + offset(log(e)) + (x | g) + (1 | a/b)"
REST = "+ offset(log(e)) + (x | g) + (1 | a/b)"
CHANGES = {
    "~ .": FORMULA,
    ". ~ .": FORMULA,
    "~ . + w": f"y ~ x*z + `odd name` + w {REST}",
    "~ w + .": f"y ~ w + x*z + `odd name` {REST}",
    "~ . - x:z": f"y ~ x + z + `odd name` {REST}",
    "~ . - `odd name` - z": f"y ~ x + x:z {REST}",
    "~ . - 1": f"y ~ 0 + x*z + `odd name` {REST}",
    "~ . * w": f"y ~ (x*z + `odd name`)*w {REST}",
    "~ . - (x | g)": "y ~ x*z + `odd name` + offset(log(e)) + (1 | a/b)",
    "~ . - (x|g) + (1|g)": "y ~ x*z + `odd name` + offset(log(e)) + (1 | a/b) + (1 | g)",
    "~ . - (1|a/b) + ar1(t | g)": ("y ~ x*z + `odd name` + offset(log(e)) + (x | g) + ar1(t | g)"),
    "~ . - (1 | a:b)": "y ~ x*z + `odd name` + offset(log(e)) + (x | g) + (1 | a)",
    "~ . - offset(log(e))": "y ~ x*z + `odd name` + (x | g) + (1 | a/b)",
    "~ . + offset(q)": f"y ~ x*z + `odd name` + offset(log(e) + q) {REST[16:]}",
    "log(.) ~ .": f"log(y) ~ x*z + `odd name` {REST}",
    "`a b` ~ . + I(x^2)": f"`a b` ~ x*z + `odd name` + I(x**2) {REST}",
    "~ w + (1 | q)": "y ~ w + (1 | q)",
    "~ C(f, levels=['.', 'b'])": "y ~ C(f, levels=['.', 'b'])",
    r"~ . + I(f == 'it\'s . it')": rf"y ~ x*z + `odd name` + I(f == 'it\'s . it') {REST}",
    "w ~ 1": "w ~ 1",
}


@pytest.mark.cases(len(CHANGES))
@pytest.mark.parametrize("change", CHANGES)
def test_a_dot_is_what_was_there(change):
    assert str(update_formula(mfx.parse(FORMULA), change)) == str(mfx.parse(CHANGES[change]))


def test_a_formula_takes_the_place_of_another():
    other = mfx.parse("y ~ w")
    assert update_formula(mfx.parse(FORMULA), other) is other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("~ . - (1 | q)", r"no random term \(1 \| q\)[\s\S]*are: \(x \| g\), \(1 \| a\)"),
        ("~ . - offset(q)", r"no such offset[\s\S]*offsets are: log\(e\)"),
        ("~ . + (x | g)", "stands twice"),
        ("~ . + (w", "never closed"),
        (3, "a formula is a string, not int"),
    ],
)
def test_what_cannot_be_changed_is_said(change, message):
    with pytest.raises(FormulaError, match=message):
        update_formula(mfx.parse(FORMULA), change)


def test_nothing_is_taken_away_from_a_model_without_random_terms():
    with pytest.raises(FormulaError, match="The random terms are: none"):
        update_formula(mfx.parse("y ~ x"), "~ . - (1 | g)")
