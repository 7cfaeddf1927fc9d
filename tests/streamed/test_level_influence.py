"""Influence of levels on fits whose rows were read in chunks.

Source of truth: that on the fit of the same rows in memory.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from streamed import generalized_cases as generalized
from streamed import streamed_cases
from streamed.streamed_cases import source
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, RowsNotInMemory, SourceChangedError

pytestmark = pytest.mark.usefixtures("quiet")

ROWS = streamed_cases.table()
CASES = {
    "slope": "g",
    "crossed": "h",
    "nested": "school",
    "uncorrelated": "g",
    "weights": "g",
    "offset": "g",
    "transforms": "g",
    "means": "g",
    "interaction group": "f:h",
    "strata": "g",
    "strata of crossed": "h",
}


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, bse: float) -> None:
    assert list(found) == list(expected)
    pd.testing.assert_index_equal(found.index, expected.index)
    pd.testing.assert_series_equal(found["nobs"], expected["nobs"])
    # Changes of the estimates, of which the searches of both fits leave 1e-5 of an error.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * bse)


@pytest.mark.parametrize("name", but_for(CASES, ["crossed", "strata"]))
def test_steps_without_each_level_are_those_of_rows_in_memory(name):
    whole, parts = (streamed_cases.fit(name, data) for data in (ROWS, source))
    group = CASES[name]
    found = parts.influence(group, data=source)
    assert_same(found, whole.influence(group), float(whole.bse.min()))


@pytest.mark.full
@pytest.mark.parametrize("name", ["slope", "crossed", "weights"])
def test_fits_without_each_level_are_those_of_rows_in_memory(name):
    whole, parts = (streamed_cases.fit(name, data) for data in (ROWS, source))
    found = parts.influence(CASES[name], method="refit", data=source)
    expected = whole.influence(CASES[name], method="refit")
    assert_same(found, expected, 10.0 * float(whole.bse.min()))


@pytest.mark.full
def test_a_level_that_a_coefficient_rests_on_has_no_change():
    data = pd.DataFrame({"g": np.arange(60) % 12, "y": np.random.default_rng(1).normal(size=60)})
    data["x"] = (data["g"] == 3).astype(float)
    whole = mfx.lmer("y ~ x + (1 | g)", data)
    parts = mfx.lmer("y ~ x + (1 | g)", data, chunk_rows=25)
    found, expected = parts.influence("g", data=data), whole.influence("g")
    assert found.loc[3, "x":].isna().all()
    pd.testing.assert_frame_equal(found.isna(), expected.isna())


def test_without_the_source_the_way_is_said():
    parts = streamed_cases.fit("slope", source)
    with pytest.raises(RowsNotInMemory, match=r"fit\.influence\(\.\.\., data=source\)"):
        parts.influence("g")
    with pytest.raises(RowsNotInMemory, match=r"fit\.augment\(source, to='folder'\)"):
        parts.influence()


def test_other_rows_are_refused():
    parts = streamed_cases.fit("slope", source)
    for other in (ROWS.head(300), ROWS.assign(y=ROWS["y"] + ROWS["w"])):
        with pytest.raises(SourceChangedError, match="are not the 387 rows"):
            parts.influence("g", data=other)


def test_rows_in_memory_are_not_given():
    with pytest.raises(ArgumentError, match="leave it out"):
        streamed_cases.fit("slope", ROWS).influence("g", data=ROWS)


# ---------------------------------------------------------------- generalised models in a file


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("name", "group"),
    [("counts", "g"), ("crossed", "h"), ("nested", "h"), ("successes", "g"), ("dispersed", "g")],
)
def test_steps_of_rows_in_a_file_are_those_of_rows_in_memory(name, group, monkeypatch):
    generalized.with_small_blocks(monkeypatch)
    whole = generalized.in_memory(name)
    parts = generalized.fitted(name, generalized.in_chunks([120, 300]), chunk_rows=90)
    found, expected = parts.influence(group), whole.influence(group)
    assert list(found) == list(expected)
    pd.testing.assert_index_equal(found.index, expected.index)
    assert found["nobs"].tolist() == expected["nobs"].tolist()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * float(whole.bse.min()))


@pytest.mark.full
@pytest.mark.parametrize("name", ["counts", "binary"])
def test_fits_of_rows_in_a_file_are_those_of_rows_in_memory(name, monkeypatch):
    generalized.with_small_blocks(monkeypatch)
    whole = generalized.in_memory(name)
    parts = generalized.fitted(name, generalized.in_chunks([120, 300]), chunk_rows=90)
    found, expected = (fit.influence("g", method="refit") for fit in (parts, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(whole.bse.min()))


@pytest.mark.full
def test_a_level_in_a_file_that_a_coefficient_rests_on_has_no_change(monkeypatch):
    generalized.with_small_blocks(monkeypatch)
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.arange(300) % 12, "z": rng.normal(size=300)})
    data["x"] = (data["g"] == 3).astype(float)
    data["y"] = rng.poisson(np.exp(0.2 * data["z"]))
    whole = mfx.glmer("y ~ x + z + (1 | g)", data, "poisson").influence("g")
    found = mfx.glmer("y ~ x + z + (1 | g)", data, "poisson", chunk_rows=80).influence("g")
    assert found.loc[3, "x":].isna().all()
    pd.testing.assert_frame_equal(found.isna(), whole.isna())


def test_a_fit_without_its_file_says_so(monkeypatch):
    generalized.with_small_blocks(monkeypatch)
    parts = generalized.fitted("counts", generalized.in_chunks([120]), chunk_rows=90)
    with pytest.raises(RowsNotInMemory, match=r"fit\.influence needs .*Fit the model again"):
        pickle.loads(pickle.dumps(parts)).influence("g")
