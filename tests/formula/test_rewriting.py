"""R's spellings of one meaning are the formula that Python writes otherwise."""

import pytest

import mixedfx as mfx
from mixedfx.errors import FormulaError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("splines::ns(x, 4)", "ns(x, 4)"),
        ("splines::bs(x, df = 5)", "bs(x, df=5)"),
        ("base::log(x) + stats::poly(x, 2)", "log(x) + poly(x, 2)"),
        ("poly(x, 2, raw = TRUE)", "poly(x, 2, raw=True)"),
        ("scale(x, TRUE, FALSE)", "scale(x, True, False)"),
        ("bs(x, df=4, knots=NULL)", "bs(x, df=4, knots=None)"),
        ("C(f, contr.sum)", "C(f, Sum)"),
        ("C(f, contr.helmert) + C(h, contr.poly)", "C(f, Helmert) + C(h, Poly)"),
    ],
)
def test_spellings_of_r_are_read(written, meant):
    tail = " + (1 | g)"
    assert str(mfx.parse(f"y ~ {written}{tail}")) == str(mfx.parse(f"y ~ {meant}{tail}"))


@pytest.mark.parametrize(
    "formula",
    ["y ~ TRUE + (1 | g)", "y ~ I(x == TRUE) + (1 | g)", "y ~ f(x, 'a, TRUE') + (1 | g)"],
)
def test_a_name_that_is_no_value_of_an_argument_stays(formula):
    assert "TRUE" in str(mfx.parse(formula))


def test_errors_after_a_removed_package_are_marked_in_the_source():
    with pytest.raises(FormulaError) as caught:
        mfx.parse("y ~ splines::ns(x, 4) + as.numeric(z) + (1 | g)")
    error = caught.value
    assert error.text[error.start : error.end] == "as.numeric(z)"


def test_scale_without_scaling_is_center():
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ scale(Days, scale=FALSE) + (1 | Subject)", sleep)
    # R 4.2.2, lme4 1.1-31: fixef(lmer(Reaction ~ scale(Days, scale = FALSE) + (1 | Subject)))
    assert fit.params.tolist() == pytest.approx([298.50789, 10.467286], rel=1e-7)
    same = mfx.lmer("Reaction ~ center(Days) + (1 | Subject)", sleep)
    assert fit.params.tolist() == pytest.approx(same.params.tolist(), rel=1e-12)
