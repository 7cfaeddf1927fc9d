"""Bad rows of a source: each its own error, with the file and the row group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamed.streamed_cases import read_twice, table

import mixedfx as mfx
from mixedfx.errors import (
    ArgumentError,
    DataError,
    EmptyDataError,
    GroupingError,
    InfiniteValueError,
    MissingColumnError,
    SourceChangedError,
    SourceError,
    WeightsError,
)

pytest.importorskip("pyarrow")
DATA = table().dropna().reset_index(drop=True)
FORMULA = "y ~ x + f + (1 | g)"


def parts(folder: Any, **changed: pd.DataFrame) -> str:
    """Three files, some of them changed."""
    for i in range(3):
        frame = changed.get(f"part{i}", DATA.iloc[100 * i : 100 * (i + 1)])
        frame.to_parquet(folder / f"part{i}.parquet", index=False, row_group_size=50)
    return str(folder)


def refused(data: Any, error: type[Exception], *texts: str, formula: str = FORMULA, **options: Any):
    with pytest.raises(error) as caught:
        mfx.lmer(formula, data, **options)
    for text in texts:
        assert text in str(caught.value)


def test_a_missing_column_of_one_file(tmp_path):
    folder = parts(tmp_path, part1=DATA.iloc[100:200].drop(columns="f"))
    refused(folder, MissingColumnError, "part1.parquet has no column 'f'")


def test_a_missing_column_of_all_files(tmp_path):
    refused(parts(tmp_path), MissingColumnError, "'xx'", "Did you mean", formula="y ~ xx + (1 | g)")


def test_types_that_do_not_go_together(tmp_path):
    folder = parts(tmp_path, part2=DATA.iloc[200:300].assign(x="text"))
    refused(folder, SourceError, "column 'x'", "part2.parquet", "part0.parquet", "double")


def test_numbers_of_different_types_go_together(tmp_path):
    folder = parts(tmp_path, part2=DATA.iloc[200:300].assign(g=lambda d: d["g"].astype("int32")))
    fit = mfx.lmer(FORMULA, folder)
    assert fit.nobs == 300


def test_a_file_without_rows(tmp_path):
    refused(parts(tmp_path, part1=DATA.head(0)), SourceError, "part1.parquet", "has no rows")


def test_a_chunk_without_rows():
    refused(lambda: [DATA, DATA.head(0)], SourceError, "chunk 2 of <lambda>()", "no rows")


def test_a_source_without_rows():
    def nothing() -> Any:
        return iter(())

    refused(nothing, SourceError, "nothing() yields no DataFrame")


def test_a_broken_file(tmp_path):
    folder = parts(tmp_path)
    (tmp_path / "part1.parquet").write_bytes(b"PAR1" + bytes(200))
    refused(folder, SourceError, "part1.parquet cannot be read")


def test_a_broken_row_group(tmp_path):
    folder = parts(tmp_path)
    file = tmp_path / "part2.parquet"
    content = bytearray(file.read_bytes())
    import pyarrow.parquet as pq

    column = pq.ParquetFile(file).metadata.row_group(1).column(3)
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 40] = b"\xff" * 40
    file.write_bytes(content)
    refused(folder, SourceError, "part2.parquet, row group 1 cannot be read")


def test_no_file(tmp_path):
    refused(str(tmp_path / "nothing*.parquet"), SourceError, "there is no file")
    (tmp_path / "rows.xyz").write_text("a")
    refused(str(tmp_path / "rows.xyz"), SourceError, "rows.xyz", "Parquet, Arrow and CSV")


def changing(first: pd.DataFrame, later: pd.DataFrame) -> Any:
    """A function that gives other rows from its third call on (columns, pass 1, pass 2)."""
    calls = []

    def rows() -> Any:
        calls.append(1)
        return iter([first if len(calls) <= 3 else later])

    return rows


@pytest.mark.parametrize(
    ("later", "texts"),
    [
        (DATA.head(300), ["first pass", "second"]),
        (DATA.assign(g=DATA["g"] + 1), ["level '25' of grouping factor 'g'", "first pass"]),
        (DATA.assign(x=DATA["x"] + 0.01), ["'x'", "second pass"]),
        (DATA.assign(f=DATA["f"].where(DATA.index != 5, "new")), ["'f'", "'new'"]),
        (DATA.assign(x=DATA["x"].where(DATA.index > 3)), ["complete"]),
    ],
    ids=["rows", "level", "values", "category", "missing"],
)
def test_a_second_pass_that_differs(later, texts, monkeypatch):
    read_twice(monkeypatch)
    refused(changing(DATA, later), DataError, *texts)


def test_errors_of_changed_rows_are_of_the_source(monkeypatch):
    read_twice(monkeypatch)
    refused(changing(DATA, DATA.head(50)), SourceChangedError, "same rows at each pass")


def test_values_are_named_with_the_file_and_the_row_group(tmp_path):
    bad = DATA.iloc[100:200].copy()
    bad.iloc[70, bad.columns.get_loc("x")] = np.inf
    origin = "part1.parquet, row group 1"
    refused(parts(tmp_path, part1=bad), InfiniteValueError, "'x'", origin, chunk_rows=50)
    bad = DATA.iloc[100:200].copy()
    bad.iloc[10, bad.columns.get_loc("w")] = -1.0
    origin = "part1.parquet, row group 0"
    refused(parts(tmp_path, part1=bad), WeightsError, origin, weights="w", chunk_rows=50)


@pytest.mark.parametrize(
    ("formula", "texts"),
    [
        ("y ~ poly(x, 2) + (1 | g)", ["poly(x, 2)", "all rows at once", "center(x)"]),
        ("y ~ bs(x, 4) + (1 | g)", ["bs(x, 4)", "knots="]),
        ("y ~ cr(x, 4) + (1 | g)", ["cr(x, 4)", "columns"]),
        ("y ~ I(x - x.mean()) + (1 | g)", ["x.mean()", "center(x)"]),
        ("y ~ x.rank() + (1 | g)", ["x.rank()", "other rows"]),
        ("y ~ x + (1 | x.rank() // 20)", ["x.rank()", "other rows"]),
    ],
)
def test_terms_of_all_rows_are_refused_by_name(formula, texts):
    refused(DATA, DataError, *texts, formula=formula, chunk_rows=50)


def test_arguments_that_do_not_go_with_a_source():
    refused(DATA, ArgumentError, "name of a column", weights=DATA["w"], chunk_rows=50)
    refused(DATA, MissingColumnError, "'ww'", "Did you mean 'w'", weights="ww", chunk_rows=50)
    refused(DATA, ArgumentError, "chunk_rows=0", chunk_rows=0)
    refused(DATA, ArgumentError, "connection=", connection=object())
    refused(lambda: 5, SourceError, "yields DataFrames")
    refused(lambda: [5], SourceError, "no DataFrame")


def test_a_factor_that_is_none():
    refused(DATA.assign(k=1), GroupingError, "one level", formula="y ~ x + (1 | k)", chunk_rows=50)
    frame = DATA.assign(k=np.arange(len(DATA)))
    refused(frame, GroupingError, "one row per level", formula="y ~ x + (1 | k)", chunk_rows=50)
    empty = DATA.assign(x=np.nan)
    refused(empty, EmptyDataError, "no row is complete", f"x ({len(DATA)})", chunk_rows=50)
    text = DATA.assign(y="a")
    refused(text, DataError, "in every row used", chunk_rows=50)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("argument", ["dispersion", "residual", "priors"])
def test_models_of_all_rows_read_them_into_memory(argument, tmp_path):
    options = {
        "dispersion": "~ center(x)",
        "residual": "ar1(year | g)",
        "priors": {"fixed": mfx.priors.Normal(0, 1000)},
    }
    frame = DATA.drop_duplicates(["g", "year"])
    frame.to_parquet(tmp_path / "rows.parquet")
    given = {argument: options[argument]}
    fit = mfx.lmer(FORMULA, tmp_path / "rows.parquet", **given)
    whole = mfx.lmer(FORMULA, frame, **given)
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-10)
    assert len(fit.resid) == len(frame)


def test_a_reader_that_lacks_a_column_at_its_second_pass(monkeypatch):
    read_twice(monkeypatch)
    import pyarrow as pa

    names = iter(["f", "f", "f"])  # asked what it is, for its columns, and by the first pass

    def make() -> Any:
        table = pa.Table.from_pandas(DATA.drop(columns=[] if next(names, None) else ["f"]))
        return pa.RecordBatchReader.from_batches(table.schema, table.to_batches())

    refused(make, MissingColumnError, "the reader has no column 'f'")
