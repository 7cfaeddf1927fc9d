"""Rows whose levels are categories, or integers in known bounds, are read once.

Source of truth: the fit of the rows in memory.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamed.streamed_cases import MODELS, table
from tiers import examples

import mixedfx as mfx
from mixedfx.sources import arrow
from mixedfx.streamed import one_pass, reduction

pytestmark = [
    pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::mixedfx.errors.DroppedColumnsWarning"),
]


def categorical(frame: pd.DataFrame) -> pd.DataFrame:
    """Complete rows whose factors are categories, some of them without rows."""
    complete = frame.dropna().reset_index(drop=True)
    for name, unused in (("g", [-5, 99]), ("h", [7]), ("f", []), ("school", ["none"])):
        values = sorted(complete[name].unique())
        complete[name] = pd.Categorical(complete[name], categories=[*unused, *values])
    return complete


DATA = categorical(table())
CROSSED = MODELS["crossed"][0]
ONE_PASS = ["slope", "crossed", "uncorrelated", "factor slopes", "weights", "offset", "dependent"]


@pytest.fixture(autouse=True)
def small_portion(monkeypatch):
    monkeypatch.setattr(one_pass, "PORTION", 60)


@cache
def in_memory(name: str) -> mfx.Results:
    formula, arguments = MODELS[name]
    return mfx.lmer(formula, DATA, engine="profiled", **arguments)


def chunks_of(frame: pd.DataFrame, cuts: Any) -> Any:
    ends = [0, *sorted(set(cuts)), len(frame)]
    return lambda: (frame.iloc[a:b] for a, b in pairwise(ends) if a < b)


def passes(fit: mfx.Results) -> int:
    return int(fit.notes[-1].split(", in ")[1].split(" pass")[0])


def assert_same(whole: mfx.Results, parts: mfx.Results) -> None:
    assert list(whole.params.index) == list(parts.params.index)
    np.testing.assert_allclose(parts.deviance, whole.deviance, rtol=1e-8)
    np.testing.assert_allclose(parts.params, whole.params, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(parts.bse, whole.bse, rtol=1e-6)
    for group in whole.formula.groups:
        pd.testing.assert_frame_equal(
            whole.ranef(group), parts.ranef(group), rtol=1e-5, atol=1e-6, check_index_type=False
        )


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ONE_PASS)
def test_a_fit_of_one_pass_is_that_of_the_rows(name):
    formula, arguments = MODELS[name]
    fit = mfx.lmer(formula, DATA, chunk_rows=37, **arguments)
    assert passes(fit) == 1
    assert_same(in_memory(name), fit)


def test_fewer_rows_than_a_portion_are_read_once(monkeypatch):
    monkeypatch.setattr(one_pass, "PORTION", len(DATA) + 1)
    fit = mfx.lmer(MODELS["crossed"][0], chunks_of(DATA, [37, 200]))
    assert passes(fit) == 1
    assert_same(in_memory("crossed"), fit)


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, len(DATA) - 1), max_size=12))
@examples(4)
def test_the_chunks_do_not_matter(cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "PORTION", 60)
        fit = mfx.lmer(MODELS["crossed"][0], chunks_of(DATA, cuts))
    assert passes(fit) == 1
    assert_same(in_memory("crossed"), fit)


class Contested(list):
    """Arrays that are there when they are looked at, and that another thread takes then."""

    def __bool__(self):
        return True


def test_spare_arrays_may_be_taken_by_another_thread(monkeypatch):
    class Summation(reduction.Summation):
        def __init__(self, plan):
            super().__init__(plan)
            self._spare = Contested()

    monkeypatch.setattr(one_pass, "Summation", Summation)
    fit = mfx.lmer(MODELS["crossed"][0], DATA, chunk_rows=37)
    assert passes(fit) == 1
    assert_same(in_memory("crossed"), fit)


@pytest.mark.full
def test_no_digits_are_lost_to_a_large_mean():
    far = DATA.assign(y=DATA["y"] + 1e4 * DATA["y"].std(), x=DATA["x"] + 1e4)
    fit = mfx.lmer("y ~ x + (x | g)", far, chunk_rows=50)
    assert passes(fit) == 1
    np.testing.assert_allclose(
        fit.deviance, mfx.lmer("y ~ x + (x | g)", far, engine="profiled").deviance, rtol=1e-8
    )


SORTED = DATA.assign(x=np.repeat([0.0, 1e6], [200, len(DATA) - 200]) + DATA["x"])
NARROW = DATA.assign(x=DATA["x"] * np.where(DATA.index < 100, 1e-6, 1.0))
AGAIN = {
    "a transform": ("y ~ center(x) + (1 | g)", DATA, 3),
    "levels of several factors": ("y ~ x + (1 | f:h)", DATA, 2),
    "levels that are numbers": ("y ~ x + (1 | g)", DATA.astype({"g": int}), 2),
    "a portion of other values": ("y ~ x + (x | g)", SORTED, 2),
    "a portion with little of a slope": ("y ~ x + (1 | g)", NARROW, 2),
}


@pytest.mark.full
@pytest.mark.parametrize("why", AGAIN)
def test_rows_are_read_again_after(why):
    formula, frame, n = AGAIN[why]
    fit = mfx.lmer(formula, frame, chunk_rows=70)
    assert passes(fit) == n
    whole = mfx.lmer(formula, frame, engine="profiled")
    np.testing.assert_allclose(fit.deviance, whole.deviance, rtol=1e-8)


@pytest.mark.full
def test_later_chunks_may_lack_categories():
    other = DATA.iloc[250:].assign(g=lambda d: d["g"].cat.remove_unused_categories())
    fit = mfx.lmer(MODELS["slope"][0], lambda: iter([DATA.iloc[:250], other]))
    assert passes(fit) == 1
    assert_same(in_memory("slope"), fit)


@pytest.mark.full
def test_rows_are_read_again_after_other_categories():
    other = DATA["g"].cat.rename_categories({99: 100})
    other = DATA.iloc[250:].assign(g=other[250:].where(DATA.index[250:] > 260, 100))
    fit = mfx.lmer(MODELS["slope"][0], lambda: iter([DATA.iloc[:250], other]))
    assert passes(fit) == 2
    rows = pd.concat([DATA.iloc[:250], other]).astype({"g": int})
    whole = mfx.lmer(MODELS["slope"][0], rows, engine="profiled")
    np.testing.assert_allclose(fit.deviance, whole.deviance, rtol=1e-8)


# Levels that nothing knows before: texts, numbers, combinations, an expression; and gaps.
SEEN = {
    "y ~ x + f + (x | school)": DATA.astype({"school": str, "f": str}),
    "y ~ x + (1 | g)": DATA.astype({"g": int}).assign(x=DATA["x"].mask(DATA.index % 50 == 7)),
    "y ~ x + (1 | school:f) + (1 | h)": DATA.astype({"school": str, "h": float}),
    "y ~ x + (1 | g % 7)": DATA.astype({"g": int}),
}


@pytest.mark.full
@pytest.mark.parametrize("formula", SEEN)
@pytest.mark.parametrize("portion", [200, 1000])
def test_levels_that_were_seen_twice_are_taken_to_be_all(formula, portion, monkeypatch):
    monkeypatch.setattr(one_pass, "PORTION", portion)
    frame = SEEN[formula]
    fit, whole = mfx.lmer(formula, frame, chunk_rows=90), mfx.lmer(formula, frame)
    assert passes(fit) == 1
    assert fit.nobs == whole.nobs
    assert_same(whole, fit)


@pytest.mark.full
@pytest.mark.parametrize("value", [-3, 50])
def test_rows_are_read_again_after_a_level_that_was_not_seen(value, monkeypatch):
    monkeypatch.setattr(one_pass, "PORTION", 250)
    frame = DATA.astype({"g": int, "h": int})
    frame.loc[frame.index[-4:], "g"] = value
    fit = mfx.lmer(CROSSED, frame, chunk_rows=90)
    assert passes(fit) == 2
    assert_same(mfx.lmer(CROSSED, frame, engine="profiled"), fit)


@pytest.mark.full
def test_levels_seen_once_are_read_again(monkeypatch):
    monkeypatch.setattr(one_pass, "PORTION", 250)
    frame = DATA.astype({"g": int})
    frame.loc[3, "g"] = 50
    assert passes(mfx.lmer("y ~ x + (1 | g)", frame, chunk_rows=90)) == 2
    monkeypatch.setattr(one_pass, "PORTION", 1000)
    assert passes(mfx.lmer("y ~ x + (1 | g)", frame, chunk_rows=90)) == 1


def arrow_file(folder: Any) -> Any:
    pytest.importorskip("pyarrow")
    DATA.to_feather(folder / "rows.feather", chunksize=70)
    return str(folder)


def enums_of_polars(folder: Any) -> Any:
    polars = pytest.importorskip("polars")
    types = {n: polars.Enum([str(c) for c in DATA[n].cat.categories]) for n in ("g", "h", "f")}
    text = DATA.astype(dict.fromkeys(types, str))
    return (
        polars.from_pandas(text)
        .lazy()
        .with_columns(polars.col(name).cast(dtype) for name, dtype in types.items())
    )


def enums_of_duckdb(folder: Any) -> Any:
    connection = pytest.importorskip("duckdb").connect()
    text = DATA.astype({"g": str, "h": str, "f": str})
    connection.register("rows", text)
    casts = []
    for name in ("g", "h", "f"):
        values = ", ".join(f"'{c}'" for c in DATA[name].cat.categories)
        connection.execute(f"CREATE TYPE of_{name} AS ENUM ({values})")
        casts.append(f"{name}::of_{name} AS {name}")
    return connection.sql(f"SELECT {', '.join(casts)}, x, y FROM rows")


def partitions(folder: Any) -> Any:
    dask = pytest.importorskip("dask.dataframe")
    return dask.from_pandas(DATA, npartitions=4)


@pytest.mark.full
@pytest.mark.parametrize("source", [arrow_file, enums_of_polars, enums_of_duckdb, partitions])
def test_sources_with_known_levels_are_read_once(source, tmp_path):
    fit = mfx.lmer(MODELS["crossed"][0], source(tmp_path))
    assert passes(fit) == 1
    whole = in_memory("crossed")
    np.testing.assert_allclose(fit.deviance, whole.deviance, rtol=1e-8)
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-7, atol=1e-8)
    assert fit.ngroups == whole.ngroups


INTEGERS = DATA.astype({"g": int, "h": "int32"})


@pytest.mark.full
@pytest.mark.parametrize("kind", ["integers", "texts"])
def test_partitions_are_read_once_where_their_levels_seem_to_be_seen(kind, monkeypatch):
    dask = pytest.importorskip("dask.dataframe")
    monkeypatch.setattr(one_pass, "PORTION", 200)
    rows = INTEGERS if kind == "integers" else INTEGERS.astype({"g": str, "h": str})
    whole = mfx.lmer(CROSSED, rows, engine="profiled")
    fit = mfx.lmer(CROSSED, dask.from_pandas(rows, npartitions=7))
    assert passes(fit) == 1
    assert_same(whole, fit)
    late = pd.concat([rows, rows.tail(9).assign(g=rows["g"].max() + type(rows["g"].iloc[0])(1))])
    late = late.reset_index(drop=True)
    fit = mfx.lmer(CROSSED, dask.from_pandas(late, npartitions=7))
    assert passes(fit) == 2
    assert_same(mfx.lmer(CROSSED, late, engine="profiled"), fit)


def written(folder: Any, frame: pd.DataFrame) -> str:
    pytest.importorskip("pyarrow")
    frame.to_parquet(folder / "rows.parquet", row_group_size=90, index=False)
    return str(folder)


def test_integers_in_the_bounds_of_a_parquet_file_are_read_once(tmp_path):
    fit = mfx.lmer(CROSSED, written(tmp_path, INTEGERS), chunk_rows=70)
    assert passes(fit) == 1
    assert_same(mfx.lmer(CROSSED, INTEGERS, engine="profiled"), fit)


@pytest.mark.full
@pytest.mark.parametrize("chunk_rows", [61, 150])
def test_integers_without_rows_are_no_levels(chunk_rows, tmp_path):
    few = INTEGERS[INTEGERS["g"] % 3 > 0].assign(g=lambda d: 7 * d["g"] - 30)
    fit = mfx.lmer(CROSSED, written(tmp_path, few), chunk_rows=chunk_rows)
    assert passes(fit) == 1
    assert list(fit.model.spec.levels_of("g").labels) == sorted(few["g"].unique())
    assert_same(mfx.lmer(CROSSED, few, engine="profiled"), fit)


@pytest.mark.full
def test_rows_are_read_again_where_sums_of_levels_without_rows_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(one_pass, "_MOST_WASTED", 1000)
    few = INTEGERS.assign(g=lambda d: 7 * d["g"])
    fit = mfx.lmer(CROSSED, written(tmp_path, few), chunk_rows=70)
    assert passes(fit) == 2
    assert_same(mfx.lmer(CROSSED, few, engine="profiled"), fit)


FAR = INTEGERS.assign(g=np.where(INTEGERS["g"] == 3, 2**40, INTEGERS["g"]))
GAPS = INTEGERS.astype({"g": "Int64"}).assign(g=lambda d: d["g"].mask(d.index == 300))


@pytest.mark.full
@pytest.mark.parametrize("frame", [FAR, GAPS], ids=["far apart", "missing"])
def test_rows_are_read_again_where_integers_are(frame, tmp_path):
    fit = mfx.lmer(CROSSED, written(tmp_path, frame), chunk_rows=70)
    assert passes(fit) == 2
    whole = mfx.lmer(CROSSED, frame.dropna().astype({"g": int}), engine="profiled")
    np.testing.assert_allclose(fit.deviance, whole.deviance, rtol=1e-8)


@pytest.mark.full
def test_rows_are_read_again_where_a_file_has_false_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow.FilesSource, "bounds", lambda *_: (0, 120))
    last = INTEGERS.assign(g=np.where(INTEGERS.index < 375, INTEGERS["g"], 121))
    fit = mfx.lmer(CROSSED, written(tmp_path, last), chunk_rows=70)
    assert passes(fit) == 2
    assert_same(mfx.lmer(CROSSED, last, engine="profiled"), fit)
