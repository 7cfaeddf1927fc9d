"""Truth values are truth values, whatever type of column holds them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import MixedfxWarning

N = 120
MISSING = [3, 50]


def _values() -> np.ndarray:
    return np.random.default_rng(1).random(N) < 0.5


def _with_missing(value):
    values = _values().astype(object)
    values[MISSING] = value
    return values


KINDS = {
    "objects": (lambda: _values().astype(object), False),
    "numpy's objects": (lambda: np.array([np.bool_(v) for v in _values()], dtype=object), False),
    "nullable": (lambda: pd.array(_values(), dtype="boolean"), False),
    "objects and None": (lambda: _with_missing(None), True),
    "objects and NaN": (lambda: _with_missing(np.nan), True),
    "nullable and NA": (lambda: pd.array(_with_missing(None), dtype="boolean"), True),
}
MODELS = {
    "fixed": "y ~ b * x + (1 | g)",
    "negated": "y ~ I(~b) + (1 | g)",
    "factor": "y ~ C(b) + (1 | g)",
    "slope": "y ~ x + (b || g)",
    "group": "y ~ x + (1 | g) + (1 | g:b)",
    "response": "b ~ x + (1 | g)",
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    g = np.repeat(list("abcdefghijkl"), 10)
    y = 0.5 * _values() + np.repeat(rng.normal(size=12), 10) + rng.normal(size=N)
    return pd.DataFrame({"y": y, "x": rng.normal(size=N), "g": g})


def _fit(text, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)
        return mfx.lmer(text, data)


@pytest.mark.covering(1)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_a_fit_is_that_of_a_column_of_bools(rows, kind, model):
    values, missing = KINDS[kind]
    kept = rows.index.difference(MISSING) if missing else rows.index
    expected = _fit(MODELS[model], rows.assign(b=_values()).loc[kept])
    found = _fit(MODELS[model], rows.assign(b=values()))
    pd.testing.assert_series_equal(found.params, expected.params, rtol=1e-10)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_of_any_type_are_predicted(rows, kind):
    values, missing = KINDS[kind]
    fit = _fit("y ~ b + (1 | g)", rows.assign(b=_values()))
    found = fit.predict(rows.assign(b=values())).to_numpy()
    at = np.setdiff1d(np.arange(N), MISSING) if missing else np.arange(N)
    np.testing.assert_allclose(found[at], fit.fittedvalues.to_numpy()[at], rtol=1e-12)
    assert np.isnan(found).sum() == (len(MISSING) if missing else 0)
