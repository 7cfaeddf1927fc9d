"""Every adapter gives the rows that were written, in their order, and the columns asked for.

Source of truth: the DataFrame that was written, and the fit of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed.streamed_cases import table
from tiers import but_for

import mixedfx as mfx
from mixedfx.sources.registry import as_source
from mixedfx.sources.source import TEXTS

pa = pytest.importorskip("pyarrow")
feather = pytest.importorskip("pyarrow.feather")
arrow_datasets = pytest.importorskip("pyarrow.dataset")

DATA = table()
FORMULA = "y ~ x * f + (x | g) + (1 | h)"
# Texts as grouping factors, by themselves and combined, and as a factor of slopes.
TEXT_FORMULA = "y ~ f + x + (0 + f || school) + (1 | school:g)"


def parquet_file(folder: Any) -> Any:
    DATA.to_parquet(folder / "rows.parquet", row_group_size=90, index=False)
    return folder / "rows.parquet"


def parquet_folder(folder: Any) -> Any:
    for i in range(4):
        DATA.iloc[100 * i : 100 * (i + 1)].to_parquet(folder / f"part{i}.parquet", index=False)
    (folder / "_SUCCESS").write_text("")
    return str(folder)


def parquet_glob(folder: Any) -> Any:
    parquet_folder(folder)
    return str(folder / "part*.parquet")


def list_of_files(folder: Any) -> Any:
    parquet_folder(folder)
    return [folder / f"part{i}.parquet" for i in range(4)]


def csv_file(folder: Any) -> Any:
    DATA.to_csv(folder / "rows.csv", index=False)
    return str(folder / "rows.csv")


def feather_file(folder: Any) -> Any:
    feather.write_feather(DATA, str(folder / "rows.feather"), chunksize=70)
    return folder / "rows.feather"


def dataset(folder: Any) -> Any:
    return arrow_datasets.dataset(parquet_folder(folder), exclude_invalid_files=True)


def reader(folder: Any) -> Any:
    batches = pa.Table.from_pandas(DATA).to_batches(max_chunksize=60)
    return lambda: pa.RecordBatchReader.from_batches(batches[0].schema, batches)


def lazy_frame(folder: Any) -> Any:
    polars = pytest.importorskip("polars")
    return polars.scan_parquet(parquet_file(folder))


def relation(folder: Any) -> Any:
    duckdb = pytest.importorskip("duckdb")
    return duckdb.connect().read_parquet(str(parquet_file(folder)))


def dask_frame(folder: Any) -> Any:
    pytest.importorskip("dask")
    import dask.dataframe as dd

    return dd.from_pandas(DATA, npartitions=5)


def function(folder: Any) -> Any:
    def rows() -> Any:
        for start in range(0, 400, 130):
            yield DATA.iloc[start : start + 130]

    return rows


@pytest.mark.parametrize("make", [parquet_folder, dataset, csv_file])
def test_bounds_of_integers_are_those_of_parquet_files(make, tmp_path):
    source = as_source(make(tmp_path))
    ends = (int(DATA["g"].min()), int(DATA["g"].max()))
    assert source.bounds("g") == (None if make is csv_file else ends)
    assert source.bounds("x") is source.bounds("f") is None


SOURCES = [
    *(parquet_file, parquet_folder, parquet_glob, list_of_files, csv_file, feather_file),
    *(dataset, reader, lazy_frame, relation, dask_frame, function),
]


@pytest.mark.cases(1)
@pytest.mark.parametrize("make", SOURCES)
def test_a_source_gives_the_columns_asked_for_at_each_pass(make, tmp_path):
    source = as_source(make(tmp_path), chunk_rows=64)
    assert set(DATA.columns) <= set(source.columns)
    assert not source.in_memory
    for _ in range(2):
        chunks = list(source.chunks(["y", "g", "f"]))
        assert all(list(chunk.columns) == ["y", "g", "f"] for chunk in chunks)
        assert max(map(len, chunks)) <= 64
        rows = pd.concat(chunks)
        np.testing.assert_array_equal(rows["y"], DATA["y"])
        np.testing.assert_array_equal(rows["g"], DATA["g"])
        assert rows["f"].isna().sum() == 1


CODED = [parquet_folder, csv_file, feather_file, dataset, reader, relation]


@pytest.mark.cases(1)
@pytest.mark.parametrize("make", CODED)
def test_texts_are_read_as_codes_of_the_columns_asked_for(make, tmp_path):
    source = as_source(make(tmp_path), chunk_rows=64)
    chunks = list(source.coded_chunks(["y", "f", "school", "g"], {"f", "g"}))
    assert all(list(chunk.columns) == ["y", "f", "school", "g"] for chunk in chunks)
    assert all(chunk.attrs[TEXTS] == ("f",) for chunk in chunks)
    for chunk in chunks:
        coded = chunk["f"]
        assert isinstance(coded.dtype, pd.CategoricalDtype)
        assert coded.cat.categories.is_unique
        assert not any(isinstance(chunk[n].dtype, pd.CategoricalDtype) for n in ("school", "g"))
    rows = pd.concat([chunk.astype({"f": object}) for chunk in chunks], ignore_index=True)
    assert list(rows["f"].dropna()) == list(DATA["f"].dropna())
    assert list(np.flatnonzero(rows["f"].isna())) == [5]
    assert list(rows["school"]) == list(DATA["school"])


def test_texts_of_files_of_several_formats_are_read_as_codes(tmp_path):
    DATA.iloc[:200].to_parquet(tmp_path / "a.parquet", index=False)
    DATA.iloc[200:].to_csv(tmp_path / "b.csv", index=False)
    chunks = list(as_source(str(tmp_path)).coded_chunks(["f", "y"], {"f"}))
    texts = pd.concat([chunk["f"].astype(object) for chunk in chunks], ignore_index=True)
    assert list(texts.dropna()) == list(DATA["f"].dropna())


def test_row_groups_of_about_a_chunk_are_chunks_without_a_copy(tmp_path, monkeypatch):
    path, n = tmp_path / "rows.parquet", len(DATA)
    DATA[["x", "y"]].to_parquet(path, row_group_size=n // 4 + 1)
    monkeypatch.setattr("mixedfx.sources.arrow.chunk_length", lambda *_: n // 3)
    chunks = list(as_source(path).chunks(["x", "y"]))
    assert [len(chunk) for chunk in chunks][:3] == [n // 4 + 1] * 3
    pd.testing.assert_frame_equal(pd.concat(chunks, ignore_index=True), DATA[["x", "y"]])
    monkeypatch.setattr("mixedfx.sources.arrow.chunk_length", lambda *_: n)
    assert next(len(c) for c in as_source(path).chunks(["x", "y"])) > n // 2


@pytest.fixture(scope="module")
def whole() -> mfx.Results:
    return mfx.lmer(FORMULA, DATA, engine="profiled")


@pytest.fixture(scope="module")
def whole_with_strata() -> mfx.Results:
    return mfx.lmer("y ~ x + (1 | g)", DATA, dispersion="~ f", engine="profiled")


def assert_same_effects(fit: mfx.Results, whole: mfx.Results, rtol: float, atol: float) -> None:
    """Effects of each level, in the same order."""
    for group, effects in whole.ranef().items():
        found = fit.ranef()[group]
        assert list(map(str, found.index)) == list(map(str, effects.index))
        np.testing.assert_allclose(found, effects, rtol=rtol, atol=atol)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("make", but_for(SOURCES, [parquet_folder, function]))
def test_the_fit_is_that_of_the_rows(make, tmp_path, whole):
    fit = mfx.lmer(FORMULA, make(tmp_path), chunk_rows=64)
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, whole.bse, rtol=1e-8)
    assert abs(fit.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)
    assert_same_effects(fit, whole, rtol=1e-7, atol=1e-9)


@pytest.fixture(scope="module")
def whole_of_texts() -> mfx.Results:
    return mfx.lmer(TEXT_FORMULA, DATA, engine="profiled")


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
@pytest.mark.parametrize("make", SOURCES)
def test_the_fit_of_texts_is_that_of_the_rows(make, tmp_path, whole_of_texts):
    fit, whole = mfx.lmer(TEXT_FORMULA, make(tmp_path), chunk_rows=64), whole_of_texts
    assert list(fit.params.index) == list(whole.params.index)
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-7)
    assert abs(fit.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)
    assert_same_effects(fit, whole, rtol=1e-5, atol=1e-6)
    drawn = fit.model.rows.random_sample.variables["school"]
    assert sorted(set(drawn)) == sorted(DATA["school"].unique())


@pytest.mark.full
def test_row_groups_may_have_dictionaries_of_their_own(tmp_path):
    parts = [DATA.iloc[a : a + 90] for a in range(0, 400, 90)]
    for i, part in enumerate(parts):
        values = part["school"].unique()
        own = part.assign(school=pd.Categorical(part["school"], categories=values[::-1]))
        own.to_parquet(tmp_path / f"{i}.parquet", index=False)
    formula = "y ~ x + (1 | school)"
    fit, whole = mfx.lmer(formula, str(tmp_path)), mfx.lmer(formula, DATA, engine="profiled")
    assert abs(fit.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)


@pytest.mark.full
@pytest.mark.parametrize("make", [csv_file, feather_file, lazy_frame, relation, dask_frame])
def test_strata_are_those_of_the_rows(make, tmp_path, whole_with_strata):
    whole = whole_with_strata
    fit = mfx.lmer("y ~ x + (1 | g)", make(tmp_path), dispersion="~ f", chunk_rows=64)
    assert not fit.model.rows.in_memory
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-8)
    np.testing.assert_allclose(fit.dispersion["estimate"], whole.dispersion["estimate"], rtol=1e-8)
    assert abs(fit.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)


@pytest.mark.full
def test_a_table_of_a_database_is_named(tmp_path, whole):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.read_parquet(str(parquet_file(tmp_path))).create("ratings")
    fit = mfx.lmer(FORMULA, "ratings", connection=connection)
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-8)


@pytest.mark.full
def test_categories_of_a_file_keep_their_order(tmp_path):
    frame = DATA.dropna().assign(c=lambda d: d["c"].astype(str))
    frame["c"] = pd.Categorical(frame["c"], categories=["b", "a"])
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    formula = "y ~ c + (1 | g)"
    fit = mfx.lmer(formula, tmp_path / "rows.parquet", chunk_rows=40)
    whole = mfx.lmer(formula, frame, engine="profiled")
    assert list(fit.params.index) == list(whole.params.index) == ["Intercept", "c[T.a]"]
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-8)
