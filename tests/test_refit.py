"""Refits: the same as fitting anew, whatever of the design is shared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ColumnTypeError, InfiniteValueError, ResponseError

MODELS = {
    "slope": ("y ~ x + (x | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | g/h)", {"reml": False}),
    "weights": ("y ~ x + (1 | g)", {"weights": "w"}),
    "offset": ("y ~ x + (1 | g)", {"offset": "o"}),
    "ill-conditioned": ("y ~ year + I(year**2) + (1 | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g)", {}),
    "no random terms": ("y ~ x", {}),
}
# Two searches for one optimum end within the search's own tolerance.
SAME = 1e-8


# Some of the simulated responses leave a correlation at one: an optimum like any other.
pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    n = 120
    g, h = np.repeat(np.arange(12), 10), np.tile(np.arange(5), 24)
    frame = pd.DataFrame({"g": g, "h": h, "x": rng.normal(size=n), "w": rng.uniform(1, 2, n)})
    frame = frame.assign(o=rng.normal(size=n), year=rng.integers(1990, 2020, n))
    effects = rng.normal(size=12)[g] + rng.normal(size=5)[h]
    y = frame["x"] + effects + rng.normal(size=n)
    other = 3 - frame["x"] + rng.normal(size=12)[g] + rng.normal(size=5)[h] + rng.normal(size=n)
    return frame.assign(y=y, other=other)


@pytest.mark.parametrize("name", MODELS)
def test_a_refit_is_a_fit_of_the_other_response(data, name):
    formula, options = MODELS[name]
    engine = {} if name == "no random terms" else {"engine": "profiled"}
    found = mfx.lmer(formula, data, **options, **engine).refit(data["other"])
    expected = mfx.lmer(formula, data.assign(y=data["other"]), **options, **engine)
    assert found.deviance == pytest.approx(expected.deviance, abs=SAME)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-5)


def test_the_first_fit_is_not_changed(data):
    fit = mfx.lmer("y ~ x + (x | g)", data)
    before = str(fit.summary())
    fit.refit(data["other"])
    assert str(fit.summary()) == before


def test_the_order_of_elimination_is_shared(data):
    fit = mfx.lmer("y ~ x + (1 | g) + (1 | h)", data)
    assert fit.refit(data["other"]).model.crossprod.symbolic is fit.model.crossprod.symbolic


def test_a_series_is_matched_by_its_index(data):
    fit = mfx.lmer("y ~ x + (1 | g)", data)
    shuffled = data["other"].sample(frac=1, random_state=1)
    assert fit.refit(shuffled).deviance == fit.refit(data["other"]).deviance


def test_a_series_may_have_rows_that_the_fit_left_out(data):
    holed = data.assign(x=data["x"].where(data.index != 7))
    found = mfx.lmer("y ~ x + (1 | g)", holed).refit(data["other"])
    expected = mfx.lmer("other ~ x + (1 | g)", holed, engine="profiled")
    assert found.deviance == pytest.approx(expected.deviance, abs=SAME)


def test_the_engine_can_be_chosen(data):
    assert mfx.lmer("y ~ x + (1 | g)", data).refit(data["other"], engine="auto").engine == (
        "statsmodels"
    )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda y: y[:-1], ColumnTypeError, "119"),
        (lambda y: y.to_numpy()[:-1], ColumnTypeError, "120 rows"),
        (lambda y: y.where(y.index != 3), InfiniteValueError, "1 rows"),
        (lambda y: y * 0, ResponseError, "every row"),
        (lambda y: y.astype(str) + "a", ResponseError, "not numeric"),
        (lambda y: y.rename(index=lambda i: f"r{i}"), ColumnTypeError, "index"),
    ],
)
def test_a_wrong_response_has_its_own_error(data, change, error, words):
    fit = mfx.lmer("y ~ x + (1 | g)", data)
    with pytest.raises(error) as caught:
        fit.refit(change(data["other"]))
    assert words in str(caught.value) or error is ColumnTypeError
