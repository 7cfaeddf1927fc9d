"""Changed formulas of fits whose rows were read in chunks: their source is read again.

Source of truth: the fit of the changed formula to the same rows in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed import generalized_cases, streamed_cases, test_merged_rows
from streamed.streamed_cases import source
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    MissingColumnError,
    RowsNotInMemory,
    SizeError,
    SourceChangedError,
)
from mixedfx.streamed import loading

pytestmark = pytest.mark.usefixtures("quiet")

ROWS = streamed_cases.table()


CHANGES = {
    "a term less": ("crossed", "~ . - f"),
    "a further term": ("slope", "~ . + year + f"),
    "other random terms": ("slope", "~ . - (x | g) + (1 | school/g)"),
    "another response": ("crossed", "np.exp(. / 1000) ~ ."),
    "weights": ("weights", "~ . - year"),
    "offset": ("offset", "~ . + f"),
    "strata": ("strata of crossed", "~ . + year"),
    "transforms": ("transforms", "~ . + f"),
}


def assert_same(found: mfx.Results, expected: mfx.Results) -> None:
    assert str(found.formula) == str(expected.formula)
    assert found.reml == expected.reml
    assert abs(found.deviance - expected.deviance) < 1e-7 * (1.0 + abs(expected.deviance))
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-4)


@pytest.mark.parametrize("name", but_for(CHANGES, ["a further term"]))
def test_an_update_of_a_source_is_that_of_the_rows_in_memory(name):
    model, change = CHANGES[name]
    whole = streamed_cases.fit(model, ROWS).update(change, data=ROWS)
    found = streamed_cases.fit(model, source).update(change, data=source)
    assert_same(found, whole)
    assert "were read in chunks" in found.notes[-1]


def test_reml_is_that_of_the_fit_or_as_asked():
    parts = streamed_cases.fit("slope", source)
    for reml in (None, False):
        whole = streamed_cases.fit("slope", ROWS).update("~ . + f", data=ROWS, reml=reml)
        assert_same(parts.update("~ . + f", data=source, reml=reml), whole)


def test_a_table_is_a_source():
    parts = streamed_cases.fit("slope", ROWS, chunk_rows=100)
    whole = streamed_cases.fit("slope", ROWS).update("~ . + f", data=ROWS)
    assert_same(parts.update("~ . + f", data=ROWS), whole)


@pytest.mark.full
@pytest.mark.parametrize("name", ["weights", "binary"])
def test_generalised_models_write_their_rows_anew(name, monkeypatch):
    generalized_cases.with_small_blocks(monkeypatch)
    whole = generalized_cases.in_memory(name)
    rows = generalized_cases.table()
    parts = generalized_cases.fitted(name, rows, chunk_rows=100)
    found, expected = (f.update("~ . - x", data=rows) for f in (parts, whole))
    assert_same(found, expected)
    assert any("a file" in note for note in found.notes)


def test_without_the_source_the_way_is_said():
    with pytest.raises(RowsNotInMemory, match=r"fit\.update\(\.\.\., data=source\)"):
        streamed_cases.fit("slope", source).update("~ . + f")


def test_another_response_is_a_column_of_the_source():
    parts = streamed_cases.fit("slope", source)
    with pytest.raises(RowsNotInMemory, match=r"fit\.update\('column ~ \.', data=source\)"):
        parts.refit(ROWS["o"])
    whole = mfx.lmer("o ~ x + (x | g)", ROWS.dropna(subset=["x", "y"]))
    assert_same(parts.update("o ~ .", data=source), whole)


@pytest.mark.parametrize(
    ("change", "data", "error", "message"),
    [
        ("~ . + nothing", ROWS, MissingColumnError, "nothing"),
        ("~ . + f", ROWS.head(300), SourceChangedError, "this fit is of 38. rows"),
        ("~ . + f", 3, ArgumentError, "neither a DataFrame nor a source"),
        ("~ . + (1 | mm(school, g))", ROWS, ArgumentError, "needs all rows at once"),
    ],
)
def test_what_cannot_be_read_again_says_why(change, data, error, message):
    with pytest.raises(error, match=message):
        streamed_cases.fit("slope", source).update(change, data=data)


MERGED = {
    "poisson": ("few ~ x + (1 | g)", "poisson", {}, "~ . + z"),
    "continuous": ("few ~ x + (1 | g)", "poisson", {}, "~ . + own"),
    "offset": ("more ~ x + (1 | g)", "nbinom1", {"offset": "exposure"}, "~ . + z"),
    "ordered": ("answer ~ x + (1 | g)", "cumulative", {}, "~ . - (1 | g) + (1 | z:g)"),
    "zeros": ("zeros ~ x + (1 | g)", "nbinom2", {"zero_inflation": "~ x"}, "~ . + z"),
    "dispersion": ("more ~ x + (1 | g)", "nbinom2", {"dispersion": "~ x"}, "~ . + z"),
    "quadrature": ("yes ~ x + (1 | g)", "binomial", {"nagq": 5}, "~ . + z"),
    "successes": ("cbind(won, lost) ~ x + (1 | g)", "binomial", {}, "~ . + z"),
    "response": ("few ~ x + (1 | g)", "poisson", {}, "some ~ . + z"),
    "not merged": ("size ~ x + (1 | g)", "gamma", {"link": "log", "weights": "w"}, "~ . + z"),
}


def merged_table() -> pd.DataFrame:
    rng, rows = np.random.default_rng(2), test_merged_rows.counts().copy()
    rows["z"] = rng.choice(["a", "b"], len(rows))
    rows["own"] = rng.normal(size=len(rows))
    rows["size"] = rng.gamma(3.0, 1.0, len(rows))
    rows["w"] = rng.integers(1, 4, len(rows))
    rows["x"] = rows["x"].astype(float)
    rows.loc[[3, 400], "x"] = np.nan
    return rows


def cut(rows: pd.DataFrame, length: int) -> Any:
    return lambda: (rows.iloc[i : i + length] for i in range(0, len(rows), length))


@pytest.mark.parametrize("length", [70, 400])
@pytest.mark.parametrize("name", but_for(MERGED, ["poisson"]))
def test_an_update_of_merged_rows_reads_their_source_again(name, length):
    formula, family, options, change = MERGED[name]
    rows = merged_table()
    whole = mfx.glmer(formula, rows, family, **options)
    merged = mfx.glmer(formula, cut(rows, 350), family, **options)
    assert (merged.model.rows.n_merged > 0) == (name != "not merged")
    found, expected = merged.update(change, data=cut(rows, length)), whole.update(change, data=rows)
    assert_same(found, expected)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-4)
    assert found.nobs == expected.nobs == whole.nobs
    assert str(found.formula) == str(expected.formula)


def test_a_table_has_the_columns_of_all_rows_and_not_of_the_merged_ones():
    # The labels of merged rows are numbers, which a table of all rows has too.
    rows = merged_table()
    merged = mfx.glmer("few ~ x + (1 | g)", cut(rows, 300), "poisson")
    whole = mfx.glmer("few ~ x + (1 | g)", rows, "poisson")
    assert_same(merged.update("~ . + z", data=rows), whole.update("~ . + z", data=rows))


@pytest.mark.full
def test_rows_without_a_value_of_a_new_term_are_left_out():
    rows = merged_table()
    rows.loc[[8, 9, 400], "z"] = None
    fits = [mfx.glmer("few ~ x + (1 | g)", d, "poisson") for d in (cut(rows, 300), rows)]
    found, expected = (f.update("~ . + z", data=rows) for f in fits)
    assert found.nobs == expected.nobs == len(rows) - 4
    assert_same(found, expected)


@pytest.mark.full
def test_what_is_not_the_source_of_merged_rows_says_why():
    rows = merged_table()
    merged = mfx.glmer("few ~ x + (1 | g)", cut(rows, 300), "poisson")
    for data, error, message in (
        (cut(rows.head(500), 300), SourceChangedError, "this fit is of 898 rows"),
        (3, ArgumentError, "neither a DataFrame nor a source"),
        (rows.drop(columns="g"), MissingColumnError, "'g'"),
    ):
        with pytest.raises(error, match=message):
            merged.update("~ . + z", data=data)
    with pytest.raises(MissingColumnError, match="nothing"):
        merged.update("~ . + nothing", data=rows)
    slim = merged.slim().update("~ . + z", data=rows)
    assert_same(slim, merged.update("~ . + z", data=rows))
    given = mfx.glmer("size ~ x + (1 | g)", rows, "gamma", link="log", weights=rows["w"].to_numpy())
    with pytest.raises(ArgumentError, match="weights of this fit are values"):
        given.update("~ . + z", data=cut(rows, 300))


@pytest.mark.full
def test_an_update_that_does_not_fit_in_memory_is_of_rows_in_a_file(monkeypatch):
    rows = merged_table()
    fits = [mfx.glmer("few ~ x + (1 | g)", d, "poisson") for d in (rows, cut(rows, 300))]

    def small_memory(what: str, n_bytes: float, *, copies: int, advice: str) -> None:
        if copies * n_bytes > 200_000:
            raise SizeError(what)

    monkeypatch.setattr(loading, "check_memory", small_memory)
    expected, found = (f.update("~ . + own", data=rows) for f in fits)
    assert found.model.rows.has_file
    assert_same(found, expected)
