"""Notes on the data of a fit: rows left out, row numbers, responses of 0 and 1 and counts."""

import warnings

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.errors import ColumnWarning, DroppedRowsWarning

N = 120


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=N)
    y = x + rng.normal(size=12)[g] + rng.normal(size=N)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})


def notes_of(formula, data):
    """Notes of a fit that warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return " ".join(mfx.lmer(formula, data).notes)


# ---------------------------------------------------------------- rows left out


def test_more_than_a_tenth_of_the_rows_left_out_is_a_warning_with_counts(data):
    data.loc[:9, "x"] = np.nan
    data.loc[8:13, "y"] = np.nan
    text = r"14 of 120 rows have missing values and were left out: y \(6\), x \(10\)"
    with pytest.warns(DroppedRowsWarning, match=text):
        fit = mfx.lmer("y ~ x + (1 | g)", data)
    assert any("y (6), x (10)" in note for note in fit.notes)


def test_a_tenth_of_the_rows_left_out_is_a_note(data):
    data.loc[:11, "x"] = np.nan
    assert "12 of 120 rows have missing values and were left out: x (12)." in notes_of(
        "y ~ x + (1 | g)", data
    )


def test_missing_weights_and_terms_are_counted_by_name(data):
    w = np.where(np.arange(N) < 4, np.nan, 1.0)
    with np.errstate(all="ignore"):
        fit = mfx.lmer("y ~ x.shift(1) + (1 | g)", data.assign(w=w), weights="w")
    assert "4 of 120 rows have missing values and were left out: weights (4), x.shift(1) (1)." in (
        fit.notes
    )


# ---------------------------------------------------------------- row numbers


@pytest.mark.parametrize("name", ["id", "Unnamed: 0"])
@pytest.mark.parametrize("start", [0, 1])
def test_a_dot_that_takes_row_numbers_in_names_them(data, name, start):
    numbered = data.assign(**{name: np.random.default_rng(1).permutation(N) + start})
    with pytest.warns(ColumnWarning, match=f"'.' stands for '{name}'"):
        mfx.lmer("y ~ . + (1 | g)", numbered)


@pytest.mark.parametrize(("name", "advised"), [("id", "id"), ("Unnamed: 0", "`Unnamed: 0`")])
def test_the_advice_on_row_numbers_works(data, name, advised):
    numbered = data.assign(**{name: np.arange(N)})
    with pytest.warns(ColumnWarning) as caught:
        mfx.lmer("y ~ . + (1 | g)", numbered)
    assert f"'. - {advised}'" in str(caught[0].message)
    assert not notes_of(f"y ~ . - {advised} + (1 | g)", numbered)


def test_row_numbers_that_are_written_are_meant(data):
    assert not notes_of("y ~ id + x + (1 | g)", data.assign(id=np.arange(N)))
    assert not notes_of("y ~ . + (1 | g)", data.assign(z=np.arange(N) ** 2))


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize("kind", [float, int, bool, "boolean"])
def test_a_response_of_zero_and_one_is_noted_not_warned_of(data, kind):
    binary = data.assign(y=(data["y"] > 0).astype(kind))
    notes = notes_of("y ~ x + (1|g)", binary)
    assert "'y' is 0 or 1: this is a linear probability model" in notes
    assert 'mfx.glmer(formula, data, family="binomial")' in notes


def test_a_response_that_looks_like_a_count_is_noted(data):
    rng = np.random.default_rng(5)
    counts = data.assign(y=rng.poisson(np.exp(0.5 + 0.3 * data["x"])))
    notes = notes_of("y ~ x", counts)
    assert "'y' looks like a count" in notes
    assert 'family="poisson"' in notes
    assert 'family="nbinom2"' in notes


SCORES = {
    "one to five": lambda rng: rng.integers(1, 6, N),
    "zero to ten": lambda rng: rng.integers(0, 11, N),
    "bell-shaped": lambda rng: np.clip(np.rint(rng.normal(5.0, 2.0, N)), 0, 10),
    "percentages": lambda rng: np.rint(100.0 * rng.beta(2, 2, N)),
    "days": lambda rng: np.arange(N) % 10,
    "one and two": lambda rng: rng.integers(1, 3, N),
    "large counts": lambda rng: rng.poisson(50, N),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_no_counts(data, name):
    scores = data.assign(y=SCORES[name](np.random.default_rng(7)))
    assert "looks like" not in notes_of("y ~ x", scores)


RESPONSES = ("Reaction", "angle", "diameter", "strength", "rating", "Yield", "score", "y")


# Successes and answers are of glmer.
CONTINUOUS = [name for name in mfx.datasets.names() if name not in ("answers", "cbpp")]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_responses_of_the_example_data_are_not_remarked_on(name):
    data = mfx.datasets.load(name)
    response = next(c for c in data if c in RESPONSES)
    assert "the response" not in notes_of(f"{response} ~ 1", data)


def test_a_normal_response_with_the_identity_link_names_lmer():
    data = mfx.datasets.load("sleepstudy")
    fit = mfx.glmer("Reaction ~ Days + (1 | Subject)", data, family="gaussian")
    assert any("mfx.lmer" in note for note in fit.notes)
    linear = mfx.lmer("Reaction ~ Days + (1 | Subject)", data, reml=False)
    assert fit.llf == pytest.approx(linear.llf, rel=0, abs=1e-7)
    log = mfx.glmer("Reaction ~ Days + (1 | Subject)", data, family="gaussian", link="log")
    assert not any("lmer" in note for note in log.notes)
