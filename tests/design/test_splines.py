"""Bases of splines: R's bs(), ns() and poly(), and what must hold of any B-spline basis.

Sources of truth: ``tests/reference/splines.json``, made by R's package splines; partitions of
unity and polynomials, which any B-spline basis reproduces; lme4's criteria.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patsy import EvalEnvironment
from tiers import examples

import mixedfx as mfx
from mixedfx.design.evaluation import build_matrices, learn_design_infos
from mixedfx.design.functions import FORMULA_FUNCTIONS
from mixedfx.errors import DataError, ExtrapolationWarning
from mixedfx.formula.expansion import terms_of

R = json.loads((Path(__file__).parents[1] / "reference" / "splines.json").read_text())
ENV = EvalEnvironment([FORMULA_FUNCTIONS])


def basis(code: str, x, at=None) -> np.ndarray:
    """Columns of one term, learned from x, at other values."""
    rows = {"x": pd.Series(x, dtype=float)}
    infos = learn_design_infos([terms_of(f"0 + {code}")], rows, ENV)
    new = rows if at is None else {"x": pd.Series(at, dtype=float)}
    return build_matrices(infos, new, len(new["x"]))[0]


@pytest.mark.parametrize("code", R["bases"])
@pytest.mark.parametrize("rows", ["fitted", "new", "outside"])
@pytest.mark.filterwarnings("ignore::mixedfx.errors.ExtrapolationWarning")
def test_basis_is_that_of_r(code, rows):
    expected = np.array(R["bases"][code][rows])
    at = None if rows == "fitted" else R[rows]
    # At 9, far outside, R's columns reach 1e3.
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(basis(code, R["x"], at), expected, rtol=0, atol=1e-13 * scale)


def ceiling_data() -> pd.DataFrame:
    """Three fifths of the rows stand at the largest value."""
    rng = np.random.default_rng(1)
    x = np.r_[np.arange(20) / 4, np.full(30, 5.0)]
    y = 10 * np.sin(x) + rng.normal(size=50)
    return pd.DataFrame({"x": x, "g": np.tile(list("abcde"), 10), "y": y})


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")
def test_half_of_the_rows_may_be_at_a_boundary_knot(sign):
    # lme4 1.1-31: REMLcrit 140.8233; sigma 1.067; a mirrored x gives the same columns' span.
    data = ceiling_data()
    fit = mfx.lmer("y ~ bs(x, df=4) + (1 | g)", data.assign(x=sign * data["x"]))
    assert fit.deviance == pytest.approx(140.8233, abs=1e-4)
    assert fit.sigma == pytest.approx(1.067, abs=5e-4)


def test_natural_splines_of_sleepstudy_are_lme4s():
    # lme4 1.1-31: deviance(lmer(Reaction ~ ns(Days, 4) + (1 | Subject), REML = FALSE)).
    sleep = mfx.datasets.load("sleepstudy")
    fit = mfx.lmer("Reaction ~ ns(Days, 4) + (1 | Subject)", sleep, reml=False)
    assert fit.deviance == pytest.approx(1791.8542, abs=1e-4)


@examples(100)
@given(
    st.lists(st.integers(-5, 5), min_size=4, max_size=30).filter(lambda x: len(set(x)) > 1),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_bsplines_sum_to_one_whatever_the_ties(x, degree, n_knots):
    code = f"bs(x, df={degree + 1 + n_knots}, degree={degree}, intercept=True)"
    np.testing.assert_allclose(basis(code, x).sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::mixedfx.errors.ExtrapolationWarning")
def test_bsplines_reproduce_a_polynomial_beyond_the_boundary_knots():
    x, out = np.linspace(-1.0, 2.0, 30), np.array([-3.0, -1.1, 2.5, 4.0])
    code = "bs(x, df=7, intercept=True)"
    coef = np.linalg.lstsq(basis(code, x), x**3 - x, rcond=None)[0]
    np.testing.assert_allclose(basis(code, x, out) @ coef, out**3 - out, rtol=1e-10)


def test_beyond_the_boundary_knots_is_a_warning_that_names_them():
    with pytest.warns(ExtrapolationWarning, match="boundary knots 0 and 9, at 12") as caught:
        basis("ns(x, 3)", range(10), [5.0, 12.0])
    assert caught[0].filename == __file__


def test_inside_the_boundary_knots_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        basis("bs(x, 4)", range(10), [0.0, 9.0])


def test_prediction_beyond_the_data_is_that_of_lme4():
    # lme4 1.1-31: predict() at x = 3, with the warning of splines::bs.
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(12), 8), rng.normal(size=96)
    f = np.array([0, 0.5, 1, -1])[np.tile(np.arange(4), 24)]
    u, s = rng.normal(size=12), rng.normal(size=12) * 0.5
    y = 2 + x + f + u[g] + s[g] * x + rng.normal(size=96) * 0.7
    fit = mfx.lmer("y ~ bs(x, df=4) + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    with pytest.warns(ExtrapolationWarning):
        predicted = fit.predict(pd.DataFrame({"x": [3.0], "g": [0]}))
    assert predicted.iloc[0] == pytest.approx(9.709207, abs=1e-6)


@pytest.mark.parametrize("name", ["bs", "ns"])
def test_chunks_are_learned_as_the_whole(name):
    x = np.array(R["x"])
    transform = FORMULA_FUNCTIONS[name].__patsy_stateful_transform__()
    for part in (x[:7], x[7:8], x[8:]):
        transform.memorize_chunk(part, df=5)
    transform.memorize_finish()
    np.testing.assert_array_equal(transform.transform(x, df=5), basis(f"{name}(x, df=5)", x))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("bs(x, df=2)", "at least 3"),
        ("ns(x, df=0)", "at least 1"),
        ("bs(x, df=3.5)", "whole number"),
        ("bs(x, df=4, knots=[1, 2])", "contradicts its 2 knots"),
        ("bs(x, knots=[20])", "knot 20 of bs\\(\\) is beyond the boundary knots 0 and 9"),
        ("ns(x, 3, degree=2)", "ns\\(\\) is cubic"),
        ("bs(x, 4, degrees=2)", "no argument degrees"),
        ("bs(x * 0, 4)", "two different values"),
    ],
)
def test_wrong_arguments_are_told(code, message):
    with pytest.raises(DataError, match=message):
        basis(code, range(10))
