"""Changed formulas of fits whose rows were read in chunks: their source is read again.

Source of truth: the fit of the changed formula to the same rows in memory.
"""

from __future__ import annotations

import numpy as np
import pytest
from streamed import generalized_cases, streamed_cases
from streamed.streamed_cases import source
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, MissingColumnError, RowsNotInMemory, SourceChangedError

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
