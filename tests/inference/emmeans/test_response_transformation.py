"""Inverse of a transformed response, read from the formula.

Source of truth: the transformation itself applied to the inverse, and derivatives by differences.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.inference.emmeans.response_transformation import response_transformation
from mixedfx.linalg.differences import jacobian

WRITTEN = {
    "np.log(y)": np.log,
    "log(y)": np.log,
    "np.log10(y)": np.log10,
    "np.log2(y)": np.log2,
    "np.log1p(y)": np.log1p,
    "np.log(y + 1)": lambda y: np.log(y + 1),
    "np.log(2 * y + 0.5)": lambda y: np.log(2 * y + 0.5),
    "100 * np.log(y)": lambda y: 100 * np.log(y),
    "-np.log(y)": lambda y: -np.log(y),
    "np.sqrt(y)": np.sqrt,
    "np.cbrt(y)": np.cbrt,
    "I(y ** 0.5)": np.sqrt,
    "I(y**(1/3))": np.cbrt,
    "I(y ** -2)": lambda y: y**-2.0,
    "I(1 / y)": lambda y: 1 / y,
    "1 - 3 / y": lambda y: 1 - 3 / y,
    "np.square(y)": np.square,
    "np.exp(-y)": lambda y: np.exp(-y),
    "np.expm1(y)": np.expm1,
    "np.arcsinh(y / 5)": lambda y: np.arcsinh(y / 5),
    "np.log(np.sqrt(y) + 1)": lambda y: np.log(np.sqrt(y) + 1),
}
Y = np.array([0.3, 1.0, 2.5, 7.0])


@pytest.mark.parametrize("code", WRITTEN)
def test_the_inverse_undoes_the_transformation(code):
    t = WRITTEN[code](Y)
    found = response_transformation(code)
    np.testing.assert_allclose(found.mean(t), Y, rtol=1e-12)
    steps = np.full(len(t), 1e-4) * np.maximum(np.abs(t), 1e-2)
    expected = [
        np.diag(jacobian(found.mean, t, steps)),
        np.diag(jacobian(lambda x: found.mean_derivatives(x)[0], t, steps)),
        np.diag(jacobian(lambda x: found.mean_derivatives(x)[1], t, steps)),
    ]
    np.testing.assert_allclose(found.mean_derivatives(t), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "code", ["y", "I(y)", "y - x", "np.sin(y)", "scale(y)", "cbind(k, n - k)", "f(y)", "2 ** y"]
)
def test_what_cannot_be_read_is_no_transformation(code):
    assert response_transformation(code) is None


@pytest.mark.parametrize(
    ("code", "unit"),
    [("np.log(y)", 1.0), ("np.log10(y)", np.log(10)), ("-2 * np.log(y)", -0.5)],
)
def test_differences_of_logarithms_are_ratios(code, unit):
    found = response_transformation(code)
    assert found.ratio == "ratio"
    assert found.ratio_unit == pytest.approx(unit)


def test_a_logarithm_of_a_sum_has_no_ratios():
    assert response_transformation("np.log(y + 1)").ratio is None
    assert response_transformation("np.sqrt(y)").ratio is None


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    table = pd.DataFrame({"a": rng.choice(["p", "q"], 120), "g": rng.integers(12, size=120)})
    effect = rng.normal(size=12)[table["g"]]
    table["y"] = np.exp(1 + (table["a"] == "q") + 0.3 * effect + 0.5 * rng.normal(size=120))
    return table


@pytest.mark.cases(1)
@pytest.mark.parametrize("log", ["np.log", "np.log10", "np.log2"])
def test_the_base_of_the_logarithm_does_not_matter(data, log):
    means = mfx.lmer(f"{log}(y) ~ a + (1 | g)", data).emmeans("a", which="mean")
    natural = mfx.lmer("np.log(y) ~ a + (1 | g)", data).emmeans("a", which="mean")
    pd.testing.assert_frame_equal(means.table, natural.table, rtol=1e-6)
    pd.testing.assert_frame_equal(means.contrasts(), natural.contrasts(), rtol=1e-6)


def test_limits_that_a_root_cannot_have_end_at_zero(data):
    small = data.assign(y=data["y"] * np.where(data["a"] == "q", 1.0, 1e-3))
    small.loc[small["a"] == "p", "y"] -= small.loc[small["a"] == "p", "y"].min()
    table = mfx.lmer("np.sqrt(y) ~ a + (1 | g)", small).emmeans("a", which="mean").table
    assert (table["conf_low"] >= 0.0).all()
    assert (table["conf_low"] <= table["emmean"]).all()


def test_the_text_says_what_the_means_are_of(data):
    means = mfx.lmer("np.log(y) ~ a + (1 | g)", data).emmeans("a")
    assert "Means are of the transformed response np.log(y)." in str(means)
    assert "ratio" in means.contrasts(which="mean")
    back = mfx.lmer("np.log(y) ~ a + (1 | g)", data).emmeans("a", which="mean", bias_adjust=True)
    text = " ".join(str(back).split())
    assert "response y, transformed back, adjusted for random effects and residuals" in text
