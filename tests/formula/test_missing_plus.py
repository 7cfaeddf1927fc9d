"""A random term after another term without ``+``."""

import pytest

import mixedfx as mfx
from mixedfx.errors import FormulaError


@pytest.mark.parametrize(
    ("right", "advised"),
    [
        ("Days (1|Subject)", "Days + (1 | Subject)"),
        ("Days(1|Subject)", "Days + (1 | Subject)"),
        ("Days (1 || Subject)", "Days + (1 || Subject)"),
        ("Days (Days | Subject)", "Days + (Days | Subject)"),
        ("x + Days (0 + Days | a/b)", "Days + (0 + Days | a/b)"),
        ("C(f) (1 | g)", "C(f) + (1 | g)"),
        ("np.log(x) (1 + x | g)", "np.log(x) + (1 + x | g)"),
        ("`the day` (1 | g)", None),
    ],
)
def test_it_is_named_with_the_right_formula(right, advised):
    with pytest.raises(FormulaError, match=r"'\+' is missing before the random term") as caught:
        mfx.parse(f"y ~ {right}")
    if advised is not None:
        assert f"Write '{advised}'." in caught.value.advice
        assert mfx.parse(f"y ~ {advised}").random


@pytest.mark.parametrize("right", ["(1|a)(1|b)", "(1|a) x", "x y"])
def test_terms_side_by_side_get_a_plus(right):
    with pytest.raises(FormulaError, match=r"'\+' between terms|not a Python expression"):
        mfx.parse(f"y ~ {right}")


@pytest.mark.parametrize(
    "right", ["I(a | b)", "C(a | b)", "I((x > 3) | (x < 1))", "f(a | b)", "np.where(a | b, 1, 0)"]
)
def test_or_in_a_call_is_python(right):
    assert mfx.parse(f"y ~ {right} + (1 | g)").random


def test_a_structure_is_no_call():
    assert mfx.parse("y ~ x + us (1 | g)").random[0].structure == "us"
