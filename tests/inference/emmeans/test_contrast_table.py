"""What a table of contrasts says of its adjustment."""

import pickle

import pandas as pd
import pytest

import mixedfx as mfx


@pytest.fixture(scope="module")
def fit():
    cake = mfx.datasets.load("cake")
    return mfx.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)


@pytest.mark.parametrize(
    ("method", "adjust", "caption"),
    [
        ("pairwise", None, "Adjustment: tukey, for 3 contrasts, all pairs of 3 means."),
        ("consec", None, "Adjustment: holm (intervals: bonferroni), for 2 contrasts."),
        ("eff", "fdr", "Adjustment: fdr (intervals: none), for 3 contrasts."),
        ("pairwise", "bonferroni", "Adjustment: bonferroni, for 3 contrasts."),
        ("poly", None, "Adjustment: none, of 2 contrasts."),
        ({"A - C": [1, 0, -1]}, "sidak", "Adjustment: sidak, for 1 contrast."),
    ],
)
def test_the_adjustment_and_the_number_are_printed(fit, method, adjust, caption):
    contrasts = fit.emmeans("recipe").contrasts(method, adjust=adjust)
    assert str(contrasts).endswith(caption)
    assert f"<p>{caption}</p>" in contrasts._repr_html_()
    assert contrasts.attrs["caption"] == caption


@pytest.mark.full
def test_families_are_counted(fit):
    contrasts = fit.emmeans("recipe", by="temperature").contrasts()
    assert contrasts.attrs["n_contrasts"] == [3] * 6
    assert contrasts.attrs["n_means"] == [3] * 6
    expected = "Adjustment: tukey, for 3 contrasts, all pairs of 3 means, in each of 6 families."
    assert str(contrasts).endswith(expected)


def test_what_is_computed_from_it_is_a_plain_table(fit):
    contrasts = fit.emmeans("recipe").contrasts()
    assert type(contrasts.round(3)) is type(contrasts[["estimate"]]) is pd.DataFrame
    assert contrasts.round(3).attrs["adjust"] == "tukey"


def test_it_is_pickled(fit):
    contrasts = fit.emmeans("recipe").contrasts()
    again = pickle.loads(pickle.dumps(contrasts))
    assert str(again) == str(contrasts)


def test_all_columns_are_printed(fit):
    contrasts = fit.emmeans("recipe").contrasts("pairwise")
    heading, first, *_ = str(contrasts).splitlines()
    assert heading.split() == list(contrasts.columns)
    assert first.split()[:3] == ["A", "-", "B"]
    assert float(first.split()[3]) == pytest.approx(contrasts["estimate"][0], rel=1e-4)
    assert all(f"<th>{name}" in contrasts._repr_html_() for name in contrasts.columns)
