"""Posterior means with everything known, against the formula of a weighted mean.

Source of truth: ``lambda_i m_i + (1 - lambda_i) R`` with ``lambda_i = s^2 / (s^2 + s_i^2 / n_i)``
(Gelman and Hill 2007, equation 12.1), computed level by level with numpy.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import examples

import mixedfx as mfx
from mixedfx.errors import ArgumentError, DataError, MissingColumnError, WeightsError

LEVELS = tuple("abcdef")
KNOWN = {"response": "y", "group": "g", "mean": 5.0, "sd": 1.5}


def table(seed: int, rows: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = rng.choice(LEVELS, size=rows)
    return pd.DataFrame({"g": g, "y": rng.normal(6.0, 3.0, rows)}, index=np.arange(rows) + 7)


def formula(frame, mean, sd, residual):
    """Level by level; ``residual`` is by level."""
    out = {}
    for level, rows in frame.groupby("g"):
        seen = rows["y"].dropna()
        if seen.empty:
            out[level] = mean
            continue
        weight = sd**2 / (sd**2 + residual[level] ** 2 / len(seen))
        out[level] = weight * seen.mean() + (1.0 - weight) * mean
    return pd.Series(out)


@pytest.mark.full
@examples(1000)
@given(
    seed=st.integers(0, 2**20),
    rows=st.integers(1, 30),
    mean=st.floats(-10.0, 10.0),
    variance=st.floats(0.0, 25.0),
    log_sds=st.lists(st.floats(-2.0, 2.0), min_size=6, max_size=6),
    share=st.floats(0.2, 1.0),
)
def test_it_is_the_formula_for_any_setting_and_subset(seed, rows, mean, variance, log_sds, share):
    frame = table(seed, rows)
    frame = frame.sample(n=max(1, round(share * rows)), random_state=seed)
    sd, residual = float(np.sqrt(variance)), dict(zip(LEVELS, np.exp(log_sds), strict=True))
    found = mfx.posterior_means(
        frame, response="y", group="g", mean=mean, sd=sd, residual_sd=residual
    )
    expected = formula(frame, mean, sd, residual)
    assert list(found.index) == sorted(set(frame["g"]))
    np.testing.assert_allclose(found, expected[found.index], rtol=1e-12, atol=1e-12)


FORMS = {
    "a number": lambda frame: 2.0,
    "a column": lambda frame: "s",
    "an array": lambda frame: np.full(len(frame), 2.0),
    "a series": lambda frame: pd.Series(2.0, index=frame.index),
    "a dict": lambda frame: dict.fromkeys(LEVELS, 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_residual_may_be_given_in_any_form(form):
    frame = table(3).assign(s=2.0)
    found = mfx.posterior_means(frame, **KNOWN, residual_sd=FORMS[form](frame))
    expected = formula(frame, 5.0, 1.5, dict.fromkeys(LEVELS, 2.0))
    np.testing.assert_allclose(found, expected[found.index], rtol=1e-12)


def test_rows_of_one_level_may_differ_in_precision():
    frame = pd.DataFrame({"g": ["a", "a"], "y": [1.0, 4.0], "s": [0.5, 2.0]})
    found = mfx.posterior_means(frame, **KNOWN, residual_sd="s")
    precisions = np.array([1 / 1.5**2, 1 / 0.25, 1 / 4.0])
    expected = precisions @ [5.0, 1.0, 4.0] / precisions.sum()
    assert found["a"] == pytest.approx(expected, rel=1e-13)


def test_it_is_a_series_by_level():
    found = mfx.posterior_means(table(1), **KNOWN, residual_sd=1.0)
    assert isinstance(found, pd.Series)
    assert (found.name, found.index.name) == ("posterior_mean", "g")


def test_the_data_may_be_a_mapping():
    frame = table(1)
    found = mfx.posterior_means(frame.to_dict("list"), **KNOWN, residual_sd=1.0)
    pd.testing.assert_series_equal(found, mfx.posterior_means(frame, **KNOWN, residual_sd=1.0))


def test_the_data_are_not_changed():
    frame = table(1)
    before = frame.copy(deep=True)
    mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)
    pd.testing.assert_frame_equal(frame, before)


def test_missing_responses_tell_nothing():
    frame = table(4)
    frame.loc[frame.index[:5], "y"] = np.nan
    found = mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)
    expected = formula(frame, 5.0, 1.5, dict.fromkeys(LEVELS, 1.0))
    np.testing.assert_allclose(found, expected[found.index], rtol=1e-12)


def test_a_level_without_responses_has_the_mean():
    frame = pd.DataFrame({"g": ["a", "b", "b"], "y": [np.nan, 1.0, 2.0]})
    assert mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)["a"] == 5.0


def test_no_responses_at_all_leave_the_mean():
    frame = pd.DataFrame({"g": ["a", "b"], "y": [np.nan, np.nan]})
    assert list(mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)) == [5.0, 5.0]


def test_rows_without_a_level_are_left_out():
    frame = pd.DataFrame({"g": ["a", None, "b"], "y": [1.0, 99.0, 2.0]})
    found = mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)
    pd.testing.assert_series_equal(
        found, mfx.posterior_means(frame.dropna(), **KNOWN, residual_sd=1.0)
    )


def test_levels_that_do_not_differ_are_all_the_mean():
    found = mfx.posterior_means(table(1), **{**KNOWN, "sd": 0.0}, residual_sd=1.0)
    assert (found == 5.0).all()


def test_one_row_is_enough():
    found = mfx.posterior_means({"g": ["a"], "y": [8.0]}, **KNOWN, residual_sd=1.5)
    assert found["a"] == pytest.approx(6.5, rel=1e-14)


def test_it_agrees_with_a_fit_in_which_the_same_is_held():
    frame = table(5, 30)
    held = {"Intercept": mfx.priors.Normal(5.0, 0.0), "sd": mfx.priors.Constant(1.5)}
    fit = mfx.lmer("y ~ 1 + (1 | g)", frame, priors={**held, "sigma": mfx.priors.Constant(2.0)})
    found = mfx.posterior_means(frame, **KNOWN, residual_sd=2.0)
    np.testing.assert_allclose(fit.coef("g")["Intercept"], found, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"response": "Y"}, MissingColumnError, "columns are: g, y, s.*Did you mean 'y'"),
        ({"group": "gg"}, MissingColumnError, "column 'gg' is not in the data"),
        ({"group": 3}, MissingColumnError, "column 3 is not in the data"),
        ({"response": "g"}, DataError, "response 'g'"),
        ({"mean": "a"}, ArgumentError, "mean='a' must be a finite number"),
        ({"mean": np.nan}, ArgumentError, "must be a finite number"),
        ({"sd": -1.0}, ArgumentError, "sd=-1.0 must not be negative"),
        ({"sd": np.inf}, ArgumentError, "sd=inf must be a finite number"),
        ({"residual_sd": None}, ArgumentError, "must be a number, a column, an array or a dict"),
        ({"residual_sd": np.inf}, ArgumentError, "residual_sd=inf must be a finite number"),
        ({"residual_sd": 0.0}, WeightsError, "residual_sd"),
        ({"residual_sd": -1.0}, WeightsError, "residual_sd"),
        ({"residual_sd": {"a": 1.0}}, ArgumentError, "no value for level 'b'; name every level"),
        ({"residual_sd": {"a": 1.0, "b": "x"}}, DataError, "residual_sd"),
        ({"residual_sd": "t"}, MissingColumnError, "'t'"),
        ({"residual_sd": [1.0]}, DataError, "residual_sd"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error, message):
    frame = pd.DataFrame({"g": ["a", "b"], "y": [1.0, 2.0], "s": [1.0, 1.0]})
    with pytest.raises(error, match=message):
        mfx.posterior_means(frame, **{**KNOWN, "residual_sd": 1.0, **options})


def test_a_group_without_levels_is_refused():
    frame = pd.DataFrame({"g": [None, None], "y": [1.0, 2.0]})
    with pytest.raises(DataError, match="missing in every row"):
        mfx.posterior_means(frame, **KNOWN, residual_sd=1.0)
