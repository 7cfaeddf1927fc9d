"""Generalised models of sources whose rows do not merge: a file of blocks, read for each sum.

Source of truth: the fit of the same rows in memory.
"""

from __future__ import annotations

import pickle
import warnings
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamed.generalized_cases import (
    MODELS,
    N,
    fitted,
    in_chunks,
    in_memory,
    table,
    with_small_blocks,
)
from tiers import but_for, examples

import mixedfx as mfx
from mixedfx.design.stream import sampling
from mixedfx.errors import (
    ArgumentError,
    ResponseError,
    RowsNotInMemory,
    SizeError,
    SourceChangedError,
)
from mixedfx.sources import array_blocks
from mixedfx.sources.array_blocks import ArrayBlocks
from mixedfx.streamed import generalized, loading

OTHERS = but_for(list(MODELS), ["no effects"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_blocks(monkeypatch)


def assert_same(whole: mfx.Results, parts: mfx.Results) -> None:
    """Deviance to 1e-9, estimates to 1e-6."""
    assert "passes, and what the model needs of them was kept in a file of" in parts.notes[-1]
    assert parts.nobs == whole.nobs
    assert parts.notes[:-1] == whole.notes
    assert abs(parts.deviance - whole.deviance) < 1e-9 * abs(whole.deviance)
    for name in ("params", "bse", "theta", "family_params", "aic", "family_deviance"):
        a, b = np.asarray(getattr(whole, name)), np.asarray(getattr(parts, name))
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6 * np.abs(a).max(initial=0.0))
    for group, effects in (whole.ranef() if whole.formula.random else {}).items():
        np.testing.assert_allclose(parts.ranef()[group], effects, rtol=1e-5, atol=1e-6)
    numbers = [f.glance().select_dtypes("number") for f in (whole, parts)]
    np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-5)


def test_a_fit_of_blocks_is_that_of_the_rows():
    assert_same(in_memory("no effects"), fitted("no effects", in_chunks([37, 150]), chunk_rows=N))


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
def test_every_family_and_term_is_that_of_the_rows(name):
    assert_same(in_memory(name), fitted(name, in_chunks([1, 2, 230, 407]), chunk_rows=N))


@cache
def in_one_chunk() -> mfx.Results:
    return fitted("binary", in_chunks([]), chunk_rows=N)


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, N - 1), max_size=9))
@examples(2)
def test_the_chunks_change_no_digit(cuts):
    whole, parts = in_one_chunk(), fitted("binary", in_chunks(cuts), chunk_rows=N)
    assert parts.deviance == whole.deviance
    assert (parts.params == whole.params).all()


@pytest.mark.full
@pytest.mark.parametrize("kind", ["parquet", "csv", "polars", "duckdb", "dask", "frame"])
def test_sources_give_the_fit_of_the_rows(kind, tmp_path):
    data: Any = table()[["yes", "x", "g"]]
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        for i, start in enumerate(range(0, N, 170)):
            data.iloc[start : start + 170].to_parquet(tmp_path / f"{i}.parquet")
        data = tmp_path
    elif kind == "csv":
        pytest.importorskip("pyarrow")
        data.to_csv(tmp_path / "rows.csv", index=False)
        data = tmp_path / "rows.csv"
    elif kind == "polars":
        data = pytest.importorskip("polars").from_pandas(data).lazy()
    elif kind == "duckdb":
        data = pytest.importorskip("duckdb").connect().from_df(data)
    elif kind == "dask":
        dask = pytest.importorskip("dask.dataframe")
        data = dask.from_pandas(data, npartitions=3)
    assert_same(in_memory("binary"), fitted("binary", data, chunk_rows=120))


@pytest.fixture(scope="module")
def fits() -> tuple[mfx.Results, mfx.Results]:
    with pytest.MonkeyPatch.context() as patch:
        with_small_blocks(patch)
        return in_memory("crossed"), fitted("crossed", in_chunks([100, 290]), chunk_rows=N)


@pytest.mark.full
def test_tests_means_and_predictions_are_those_of_the_rows(fits):
    whole, parts = fits
    for ask in (
        lambda f: f.anova(),
        lambda f: f.tidy(),
        lambda f: f.conf_int(),
        lambda f: f.emmeans("f").table,
        lambda f: f.varcorr,
        lambda f: f.predict(table().dropna().head(4), interval="prediction"),
    ):
        a, b = (ask(f).select_dtypes("number") for f in fits)
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-9)
    a, b = (str(f.summary()).split("Notes:")[0] for f in (whole, parts))
    assert a == b.rstrip() + "\n" or a.rstrip() == b.rstrip()


def written(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


def assert_same_rows(whole: mfx.Results, parts: mfx.Results, folder: Path) -> None:
    """Fitted values and predictions of all rows in files."""
    found = written(parts.augment(in_chunks([100, 290]), to=folder / "augmented"))
    expected = whole.augment(table())
    for name in ("fitted", "resid", "fixed", "hat"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-7)
    new = table().dropna()
    found = written(parts.predict(lambda: [new], to=folder / "predicted"))
    np.testing.assert_allclose(found["predicted"], whole.predict(new), rtol=1e-6)


@pytest.mark.full
def test_fitted_values_of_all_rows_are_written(fits, tmp_path):
    pytest.importorskip("pyarrow")
    assert_same_rows(*fits, tmp_path)
    again = pickle.loads(pickle.dumps(fits[1]))
    assert str(again.summary()) == str(fits[1].summary())
    fits[1].save(tmp_path / "fit.mfx")
    read = mfx.read(tmp_path / "fit.mfx")
    assert len(written(read.augment(in_chunks([]), to=tmp_path / "read"))) == N


ASKED = {
    "fit.resid": lambda f: f.resid,
    "fit.fittedvalues": lambda f: f.fittedvalues,
    "fit.augment": lambda f: f.augment(),
    "fit.influence": lambda f: f.influence(),
    "fit.simulate": lambda f: f.simulate(1, rng=1),
}


@pytest.mark.full
@pytest.mark.parametrize("name", ASKED)
def test_what_needs_rows_names_itself_and_the_way(name, fits):
    with pytest.raises(RowsNotInMemory) as caught:
        ASKED[name](fits[1])
    assert str(caught.value).startswith(f"{name} needs the rows, and this fit read them in chunks")
    assert "fit.augment(source, to='folder')" in str(caught.value)


@pytest.mark.full
def test_the_certificate_says_what_the_approximation_reads(fits):
    assert "not estimated: fit.approximation() reads the file" in str(fits[1].certificate)
    without = pickle.loads(pickle.dumps(fits[1]))
    assert "not estimated: that needs the rows in memory" in str(without.certificate)


@pytest.mark.full
def test_nested_models_are_compared(fits):
    def smaller(data: Any, **options: Any) -> mfx.Results:
        formula = "yes ~ x + (x | g) + (1 | h)"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mfx.glmer(formula, data, **options)

    whole = mfx.compare(fits[0], smaller(table()))
    parts = mfx.compare(fits[1], smaller(in_chunks([70]), chunk_rows=N))
    a, b = (found.select_dtypes("number") for found in (whole, parts))
    np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------- where the rows go


@pytest.mark.full
def test_rows_that_do_not_fit_in_memory_are_read_for_each_evaluation(monkeypatch):
    def small_memory(what: str, n_bytes: float, *, copies: int, advice: str) -> None:
        if copies * n_bytes > 20_000:
            raise SizeError(what)

    monkeypatch.setattr(loading, "check_memory", small_memory)
    rows = in_chunks([100, 300])
    assert_same(in_memory("binary"), fitted("binary", rows))
    with pytest.raises(SizeError, match="Without nagq=5 the rows need not be in memory"):
        fitted("binary", rows, nagq=5)
    with pytest.raises(SizeError, match="Without zero_inflation= the rows need not be in memory"):
        mfx.glmer("count ~ x + (1 | g)", rows, "poisson", zero_inflation="~ 1")


def test_rows_that_fit_in_memory_are_read_there():
    parts = fitted("no effects", in_chunks([200]))
    assert len(parts.resid) == parts.nobs
    assert not any("kept in a file" in note for note in parts.notes)


@pytest.mark.full
def test_the_file_is_gone_whatever_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(array_blocks.tempfile, "tempdir", str(tmp_path))
    fitted("no effects", in_chunks([200]), chunk_rows=N)
    assert not list(tmp_path.iterdir())

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generalized, "fit_generalized", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted("no effects", in_chunks([200]), chunk_rows=N)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_before_anything_is_written(monkeypatch):
    usage = array_blocks.shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(array_blocks.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SizeError, match=r"there is no room for them.*TMPDIR"):
        ArrayBlocks(1000.0)


def test_arrays_come_back_as_they_were():
    with closing(ArrayBlocks(0.0)) as store:
        for i in range(2):
            store.append({"a": np.arange(3.0) + i, "b": np.arange(6, dtype=np.int32).reshape(2, 3)})
        store.extend(0, {"none": np.zeros((0, 2))})
        first, second = store
        assert store.passes == 1
        assert store.n_bytes == 2 * (24 + 24)
    assert first["none"].shape == (0, 2)
    assert (second["a"] == [1.0, 2.0, 3.0]).all()
    assert (second["b"] == [[0, 1, 2], [3, 4, 5]]).all()


# ---------------------------------------------------------------- sources that are wrong


def changing(change: Any) -> Any:
    """Rows whose fourth reading differs: the first two are of what they are and of names."""
    calls = iter(range(100))

    def rows() -> list[pd.DataFrame]:
        return [change(table()) if next(calls) > 2 else table()]

    return rows


@pytest.mark.full
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[1:], "the first pass over the rows found 500"),
        (lambda t: t.assign(x=t["x"] + 1.0), "the values of 'x' in the second pass"),
        (lambda t: t.assign(g=t["g"] + 1), "level '12' of grouping factor 'g'"),
    ],
)
def test_rows_that_change_between_passes_are_an_error(change, message):
    with pytest.raises(SourceChangedError, match=message):
        mfx.glmer("amount ~ x + (1 | g)", changing(change), "gamma", chunk_rows=N)


@pytest.mark.full
def test_a_response_outside_the_support_names_its_row():
    frame = table().copy()
    frame.loc[300, "amount"] = -1.0
    with pytest.raises(ResponseError, match=r"'amount' is -1 in row 300.*gamma"):
        mfx.glmer("amount ~ x + (1 | g)", lambda: [frame[:250], frame[250:]], "gamma", chunk_rows=N)


@pytest.mark.full
def test_a_rare_level_of_a_response_is_found(monkeypatch):
    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (50,))
    frame = table().dropna().assign(text="lost").reset_index(drop=True)
    frame.loc[[200, 201, 350], "text"] = "won"
    whole, parts = (
        mfx.glmer("text ~ x", data, chunk_rows=rows)
        for data, rows in ((frame, None), (lambda: [frame[:190], frame[190:]], N))
    )
    assert abs(parts.deviance - whole.deviance) < 1e-9 * whole.deviance


def test_an_argument_that_is_an_array_is_refused():
    with pytest.raises(ArgumentError, match="offset= of rows that are read in chunks"):
        mfx.glmer("count ~ x", in_chunks([]), "poisson", offset=np.zeros(N), chunk_rows=N)


@pytest.mark.full
def test_separation_is_found_and_counted_in_all_rows():
    # As of the same rows in memory, which name the rows too.
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": rng.integers(0, 9, N), "f": rng.choice(list("abc"), N)})
    frame["x"], frame["yes"] = rng.normal(size=N), rng.integers(0, 2, N)
    frame.loc[frame["f"] == "b", "yes"] = 1
    n = int((frame["f"] == "b").sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = mfx.glmer("yes ~ x + f + (1 | g)", lambda: [frame[:300], frame[300:]], chunk_rows=N)
    said = next(note for note in parts.notes if "no maximum" in note)
    assert f"the coefficient of f[T.b] goes to +infinity, by {n} rows. A prior keeps it" in said
    assert not parts.converged


# What the model rises without end by, and the responses.
RUNAWAYS: dict[str, tuple[str, str]] = {
    "levels": ("yes ~ x + (1 | g)", "whole levels"),
    "combinations": ("yes ~ x + (1 | g) + (1 | h)", "sums of levels"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_standard_deviation_that_runs_off_is_found_as_in_memory(name):
    formula, kind = RUNAWAYS[name]
    frame = table().dropna().reset_index(drop=True)
    level = frame["g"] % 2 if kind == "whole levels" else frame["g"] + 1.5 * frame["h"] - 11.2
    frame["yes"] = (level > 0.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = mfx.glmer(formula, frame)
        parts = mfx.glmer(formula, lambda: [frame[:300], frame[300:]], chunk_rows=N)
    said = [note for note in whole.notes if "no maximum" in note]
    assert len(said) == 1
    assert said[0] in parts.notes
    assert not parts.converged
