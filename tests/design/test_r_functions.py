"""Functions of R's formulas, and R's scale: coefficients of lme4 and rows of NumPy."""

import numpy as np
import pandas as pd
import patsy
import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import DataError, FormulaError
from mixedfx.formula.parser import parse

# R 4.2.2, lme4 1.1-31: d <- transform(sleepstudy, w = Days^2 + 1);
# fixef(lmer(Reaction ~ <terms> + (1 | Subject), d))
LME4 = {
    "scale(Days)": [298.5078917, 30.14885342],
    "scale(Days, center=FALSE)": [251.4051048, 56.03588767],
    "scale(w, scale=FALSE)": [298.5078917, 1.102545956],
    "scale(Days, 2, 3)": [272.3396768, 31.40185788],
    "sin(2*pi*Days/10) + floor(Days/2) + ceiling(Days/3)": [
        *(256.3792794, -3.315743746, 15.38406664, 6.311377187)
    ],
    "ifelse(Days > 4, Days, 0)": [270.7763554, 7.92329608],
    "pmin(Days, 5) + pmax(Days, 3)": [228.2240645, 5.647371044, 9.905495791],
    "plogis(Days - 4)": [256.9792046, 75.59869841],
    "qlogis((Days + 1)/11)": [298.5078917, 22.4127344],
    "atan(Days) + tanh(Days/5)": [260.0061458, -45.57145483, 148.9719117],
}


@pytest.fixture(scope="module")
def sleep():
    return mfx.datasets.load("sleepstudy").assign(w=lambda d: d["Days"] ** 2 + 1)


@pytest.mark.cases(len(LME4))
@pytest.mark.parametrize("terms", LME4)
def test_coefficients_are_those_of_lme4(terms, sleep):
    fit = mfx.lmer(f"Reaction ~ {terms} + (1 | Subject)", sleep)
    assert fit.params.tolist() == pytest.approx(LME4[terms], rel=1e-8)
    one_row = fit.predict(sleep.iloc[[17]]).iloc[0]
    assert one_row == pytest.approx(fit.fittedvalues.iloc[17], rel=1e-12)


def test_a_column_goes_before_a_function_of_its_name(sleep):
    data = sleep.assign(floor=sleep["w"], pi=sleep["Days"] % 3, sin=sleep["Days"] % 2)
    named = mfx.lmer("Reaction ~ bs(floor, 4) + pi + sin + (1 | Subject)", data)
    other = data.rename(columns={"floor": "a", "pi": "b", "sin": "c"})
    same = mfx.lmer("Reaction ~ bs(a, 4) + b + c + (1 | Subject)", other)
    np.testing.assert_array_equal(named.params, same.params)


def test_a_variable_of_the_caller_goes_before_a_constant(sleep):
    pi = 4
    fit = mfx.lmer("Reaction ~ I(Days > pi) + (1 | Subject)", sleep)
    assert fit.deviance == mfx.lmer(f"Reaction ~ I(Days > {pi}) + (1 | Subject)", sleep).deviance


@pytest.mark.parametrize(
    "call",
    [
        "standardize(x)",
        "standardize(x, center=False)",
        "standardize(x, rescale=False)",
        "standardize(x, ddof=1)",
        "standardize(np.column_stack([x, x**2]))",
    ],
)
def test_standardize_is_that_of_patsy(call):
    x = np.random.default_rng(3).gamma(2.0, size=40) + 100.0
    ours = build(parse(f"x ~ 0 + {call}"), pd.DataFrame({"x": x})).rows.X
    theirs = np.asarray(patsy.dmatrix(f"0 + {call}", {"x": x}))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("patsy_names", ["ddof=0", "rescale=False"])
def test_scale_takes_arguments_by_names_of_patsy(patsy_names, sleep):
    formula = f"Reaction ~ scale(w, {patsy_names}) + (1 | Subject)"
    same = f"Reaction ~ standardize(w, {patsy_names}) + (1 | Subject)"
    np.testing.assert_allclose(
        mfx.lmer(formula, sleep).params, mfx.lmer(same, sleep).params, rtol=1e-12
    )


def test_scale_names_an_argument_that_it_does_not_have(sleep):
    with pytest.raises(DataError, match="no argument 'centre'; it has center, scale"):
        mfx.lmer("Reaction ~ scale(w, centre=False) + (1 | Subject)", sleep)


def test_scale_learns_the_same_from_chunks_of_any_sizes(sleep):
    formula = "Reaction ~ scale(w + 1e6) + (1 | Subject)"
    whole = mfx.lmer(formula, sleep).params
    for size in (7, 50):
        parts = [sleep.iloc[at : at + size] for at in range(0, len(sleep), size)]
        streamed = mfx.lmer(formula, lambda parts=parts: iter(parts)).params
        np.testing.assert_allclose(streamed, whole, rtol=1e-8)


@pytest.mark.parametrize(
    ("term", "advice"),
    [
        ("I(Days > 2 & Days < 6)", r"\(a > 0\) & \(b < 1\)"),
        ("I(Days == 2 | w > 6)", r"\(a > 0\) & \(b < 1\)"),
        ("log(w, base=2)", r"I\(log\(w\) / log\(2\)\)"),
        ("log(w, 10)", r"I\(log\(w\) / log\(10\)\)"),
    ],
)
def test_what_python_reads_otherwise_than_r_is_refused(term, advice, sleep):
    with pytest.raises(FormulaError, match=advice):
        mfx.lmer(f"Reaction ~ {term} + (1 | Subject)", sleep)


def test_the_advice_is_followed(sleep):
    for term in (
        "I((Days > 2) & (Days < 6))",
        "I((Days == 2) | (w > 6))",
        "I((w.astype(int) & 1) == 1)",
        "I(log(w) / log(2))",
    ):
        assert mfx.lmer(f"Reaction ~ {term} + (1 | Subject)", sleep).converged
