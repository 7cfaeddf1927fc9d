"""Other responses of generalised fits whose rows are in a file.

Source of truth: the refit of the same rows in memory.
"""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed.generalized_cases import N, fitted, in_chunks, in_memory, table, with_small_blocks
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    ColumnTypeError,
    InfiniteValueError,
    MissingColumnError,
    ResponseError,
    RowsNotInMemory,
    SourceChangedError,
)

CUTS = [1, 8, 230, 407]
ROWS = table()
USED = ROWS.dropna()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_blocks(monkeypatch)


def other_rows() -> pd.DataFrame:
    """The table with other responses of each kind."""
    rng, rows = np.random.default_rng(8), table().copy()
    rows["no"] = rng.integers(0, 2, N)
    rows["word"] = np.where(rows["no"] == 1, "won", "lost")
    rows["k2"] = rng.binomial(5, rng.beta(1.0, 1.5, N))
    rows["m2"] = 5 - rows["k2"]
    rows.loc[7, ["k2", "m2"]] = 0
    rows["share2"] = rng.integers(0, 7, N) / 6
    rows["count2"] = rng.poisson(rng.gamma(1.0, 2.0, N))
    rows["amount2"] = rng.gamma(2.0, 1.0, N)
    rows["part2"] = rng.beta(2.0, 2.0, N)
    rows["grade2"] = rows["grade"].cat.codes[rng.permutation(N)].map(dict(enumerate("abcd")))
    return rows


OTHER = other_rows()
# Model, and the columns of another response.
RESPONSES: dict[str, tuple[str, Any]] = {
    "binary": ("binary", "no"),
    "two levels": ("nested", "word"),
    "successes": ("successes", ["k2", "m2"]),
    "proportions of trials": ("trials", "share2"),
    "offset": ("counts", "count2"),
    "weights": ("weights", "amount2"),
    "shares": ("shares", "part2"),
    "categories": ("ordered", "grade2"),
    "a parameter": ("dispersed", "count2"),
    "trials of a parameter": ("overdispersed", ["k2", "m2"]),
    "no effects": ("no effects", "count2"),
}


def refitted(fit: mfx.Results, y: Any, **options: Any) -> mfx.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a variance is zero
        return fit.refit(y, **options)


def other_chunks(cuts: list[int]) -> Any:
    return lambda: (OTHER.iloc[i:j] for i, j in zip([0, *cuts], [*cuts, N], strict=True))


def assert_same(whole: mfx.Results, found: mfx.Results) -> None:
    """Deviance to 1e-9, estimates to 1e-6."""
    assert found.nobs == whole.nobs
    assert found.notes[:-1] == whole.notes
    assert "its response is in a file of its own" in found.notes[-1]
    assert str(found.formula) == str(whole.formula)
    assert abs(found.deviance - whole.deviance) < 1e-9 * abs(whole.deviance)
    for name in ("params", "bse", "family_params", "aic", "family_deviance"):
        a, b = np.asarray(getattr(whole, name)), np.asarray(getattr(found, name))
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6 * np.abs(a).max(initial=0.0))
    numbers = [f.glance().select_dtypes("number") for f in (whole, found)]
    np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", but_for(RESPONSES, ["no effects"]))
def test_a_column_of_the_source_is_the_response(name):
    model, columns = RESPONSES[name]
    whole = refitted(in_memory(model), columns, data=OTHER)
    parts = fitted(model, in_chunks(CUTS), chunk_rows=N)
    assert_same(whole, refitted(parts, columns, data=other_chunks([37, 150])))


@pytest.mark.full
def test_the_chunks_change_no_digit():
    fits = [fitted("binary", in_chunks(cuts), chunk_rows=N) for cuts in ([], CUTS)]
    again = [
        refitted(fit, "no", data=other_chunks(cuts)) for fit in fits for cuts in ([], [3, 200, 260])
    ]
    assert len({fit.deviance for fit in again}) == 1
    assert len({tuple(fit.params) for fit in again}) == 1


@pytest.mark.parametrize("name", but_for(RESPONSES, ["no effects"]))
def test_values_in_the_order_of_the_rows_need_no_source(name):
    model, columns = RESPONSES[name]
    y = OTHER.loc[USED.index, columns]
    whole = refitted(in_memory(model), y)
    values = y if isinstance(y, list) else y.to_numpy()
    assert_same(whole, refitted(fitted(model, in_chunks(CUTS), chunk_rows=N), values))


def test_a_series_has_the_labels_of_the_data():
    labels = np.random.default_rng(1).permutation(N) + 1000
    rows = OTHER.set_axis(labels)
    parts = fitted("no effects", rows, chunk_rows=120)
    y = rows["count2"].sample(frac=1.0, random_state=1)
    whole = refitted(fitted("no effects", rows), y)
    assert_same(whole, refitted(parts, y, data=rows))
    numbered = OTHER["count2"].sample(frac=1.0, random_state=1)
    assert_same(whole, refitted(parts, numbered, data=other_chunks([50])))
    with pytest.raises(RowsNotInMemory, match=r"fit\.refit\(\.\.\., data=source\)"):
        parts.refit(y)


def test_a_column_of_a_table_is_the_response_of_rows_in_memory():
    found = refitted(in_memory("no effects"), "count2", data=OTHER)
    expected = refitted(in_memory("no effects"), OTHER["count2"])
    assert found.deviance == expected.deviance


def test_the_rows_that_are_kept_have_the_response():
    found = refitted(fitted("no effects", in_chunks(CUTS), chunk_rows=N), "count2", data=OTHER)
    drawn = found.model.rows.random_sample
    np.testing.assert_array_equal(drawn.y, OTHER["count2"].loc[drawn.index])


@pytest.mark.full
def test_a_refit_is_a_fit_that_goes_on():
    parts = refitted(fitted("crossed", in_chunks(CUTS), chunk_rows=N), "no", data=OTHER)
    whole = refitted(in_memory("crossed"), "no", data=OTHER)
    for ask in (
        lambda f: f.anova(),
        lambda f: f.drop1(),
        lambda f: f.emmeans("f").table,
        lambda f: f.influence("g"),
    ):
        a, b = (ask(fit).select_dtypes("number") for fit in (whole, parts))
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    again = refitted(parts, ROWS.loc[USED.index, "yes"].to_numpy())
    assert_same(in_memory("crossed"), again)


@pytest.mark.full
def test_a_smaller_model_has_its_own_refit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            fit.step().fit
            for fit in (in_memory("crossed"), fitted("crossed", in_chunks(CUTS), chunk_rows=N))
        ]
    whole, found = (refitted(fit, "no", data=OTHER) for fit in fits)
    assert_same(whole, found)


GAPS = OTHER.assign(count2=OTHER["count2"].where(OTHER.index != 20), one=3, minus=-1, text="a")


@pytest.mark.parametrize(
    ("y", "data", "error", "message"),
    [
        ("nothing", OTHER, MissingColumnError, "'nothing' is not a column of data="),
        ("count2", OTHER.head(300), SourceChangedError, "not the 499 rows"),
        ("count2", pd.concat([OTHER, OTHER]), SourceChangedError, "not the 499 rows"),
        ("count2", lambda: [OTHER, OTHER.head(3)], SourceChangedError, "not the 499 rows"),
        ("count2", lambda: [OTHER, OTHER.loc[[11]]], SourceChangedError, "not the 499 rows"),
        ("count2", GAPS, InfiniteValueError, "missing or infinite in 1 rows"),
        ("one", GAPS, ResponseError, "is 3 in every row"),
        ("minus", GAPS, ResponseError, "is -1 in row 0"),
        ("text", GAPS, ResponseError, "is not numeric"),
        ("count2", 3, ArgumentError, "neither a DataFrame nor a source"),
        ("count2", None, RowsNotInMemory, r"fit\.refit\(\.\.\., data=source\)"),
        (np.ones(4), None, ColumnTypeError, "the fit used 499 rows"),
        (OTHER["count2"].head(30), OTHER, ColumnTypeError, "does not hold each row"),
        (["k2", "m2"], OTHER, ResponseError, "has 2 columns"),
    ],
)
def test_what_is_no_response_of_the_rows_says_why(y, data, error, message):
    parts = fitted("no effects", in_chunks([100]), chunk_rows=N)
    with pytest.raises(error, match=message):
        parts.refit(y, data=data)


@pytest.mark.full
def test_a_category_without_rows_is_refused():
    parts = fitted("ordered", in_chunks([100]), chunk_rows=N)
    with pytest.raises(ResponseError, match="no row of the response 'grade' is in the category"):
        parts.refit("three", data=OTHER.assign(three=OTHER["grade2"].replace("d", "c")))


def test_without_its_file_a_fit_says_so():
    parts = pickle.loads(pickle.dumps(fitted("no effects", in_chunks([100]), chunk_rows=N)))
    with pytest.raises(RowsNotInMemory, match="the file that it wrote of them"):
        parts.refit("count2", data=OTHER)
