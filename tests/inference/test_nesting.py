"""Nested models: a likelihood-ratio test is given for these alone.

Source of truth: the models' covariances, written out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.inference.nesting import is_nested

pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.MixedfxWarning")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 360
    g, h, f = rng.integers(12, size=n), rng.integers(10, size=n), rng.integers(3, size=n)
    x, z = rng.normal(size=n), rng.normal(size=n)
    y = x + rng.normal(size=12)[g] + rng.normal(size=12)[g] * x + rng.normal(size=10)[h]
    y = y + rng.normal(size=(12, 3))[g, f] + rng.normal(size=n)
    return pd.DataFrame(
        {"y": y, "x": x, "z": z, "g": g, "h": h, "f": np.array(list("abc"))[f], "w": 1.0 + g % 3}
    )


# First model, second model, whether the first is nested in the second, and the second in the first.
PAIRS = [
    ("x + (1 | g)", "x + (x | g)", True, False),
    ("x + (x || g)", "x + (x | g)", True, False),
    ("x + (1 | g) + (0 + x | g)", "x + (x || g)", True, True),
    ("x + (1 | g)", "x + (1 | h)", False, False),
    ("x + (1 | g)", "x + (1 | g) + (1 | h)", True, False),
    ("x + (1 | g)", "z + (x | g)", False, False),
    ("x + (1 | g)", "x * z + (1 | g)", True, False),
    ("x + (0 + x | g)", "x + (1 | g)", False, False),
    ("x + (1 | g) + (1 | g:f)", "x + (f | g)", True, False),
    ("x + (f || g)", "x + (f | g)", True, False),
    ("x + (0 + f | g)", "x + (f | g)", True, True),
    ("x + (0 + f || g)", "x + (f | g)", True, False),
    ("x + (f || g)", "x + (0 + f || g)", False, False),
    ("f + (1 | g)", "C(f, Sum) + (1 | g)", True, True),
    ("I(x + z) + (1 | g)", "x + z + (1 | g)", True, False),
    ("x", "x + (1 | g)", True, False),
]


def _fit(data, formula, **options):
    return mfx.lmer(f"y ~ {formula}", data, reml=False, engine="profiled", **options)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("first", "second", "there", "back"), PAIRS)
def test_a_model_is_nested_where_its_columns_and_covariances_are(data, first, second, there, back):
    a, b = _fit(data, first).model, _fit(data, second).model
    assert (is_nested(a, b), is_nested(b, a)) == (there, back)


RESIDUALS = [
    ({}, {"dispersion": "~ f"}, True, False),
    ({"dispersion": "~ f"}, {"dispersion": "~ f + x"}, True, False),
    ({"dispersion": "~ f"}, {"dispersion": "~ C(f, Sum)"}, True, True),
    ({"dispersion": "~ f"}, {"dispersion": "~ x"}, False, False),
    ({}, {"weights": "w"}, False, False),
    ({"weights": "w"}, {"weights": "w"}, True, True),
]


@pytest.mark.full
@pytest.mark.parametrize(("first", "second", "there", "back"), RESIDUALS)
def test_residual_models_are_nested_too(data, first, second, there, back):
    a, b = _fit(data, "x + (1 | g)", **first).model, _fit(data, "x + (1 | g)", **second).model
    assert (is_nested(a, b), is_nested(b, a)) == (there, back)


def test_models_that_are_not_nested_have_no_p_value(data):
    fits = {f: _fit(data, f) for f in ("x + (1 | g)", "z + (x | g)", "z + x + (x | g)")}
    table = mfx.compare(fits)
    assert table["nested"].tolist() == [None, False, True]
    assert table["p_value"].isna().tolist() == [True, True, False]
    assert table["chisq"].isna().tolist() == [True, True, False]
    assert list(table.index) == list(fits)


def test_a_comparison_says_why_there_is_no_test(data):
    fits = {
        "g": _fit(data, "z + (1 | g)"),
        "h": _fit(data, "x + (1 | g) + (1 | h)"),
        "slope": _fit(data, "x + (x | g)"),
    }
    table = mfx.compare(fits)
    assert table["nested"].tolist() == [None, False, False]
    assert table.attrs["notes"] == [
        "no test of 'h' against 'g': z is no combination of the larger model's fixed columns.",
        "no test of 'slope' against 'h': the covariance of (1 | g) and (1 | h) is no special case "
        "of the larger model's random terms.",
    ]


def test_a_comparison_of_nested_models_has_no_notes(data):
    table = mfx.compare(_fit(data, "x + (1 | g)"), _fit(data, "x + (x | g)"))
    assert table.attrs["notes"] == []
