"""Fits of rows that are read in chunks.

Source of truth: the fit of the same rows in memory, to 1e-8.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from functools import cache, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamed.streamed_cases import MODELS, STRATA, fit, read_twice, table
from tiers import but_for, examples

import mixedfx as mfx
from mixedfx.errors import ArgumentError, SourceChangedError
from mixedfx.likelihood.stream.sums import combine, reduce_chunk

DATA = table()
NEW = DATA.dropna().head(7)


@cache
def in_memory(name: str) -> mfx.Results:
    options = {} if name == "least squares" else {"engine": "profiled"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(name, DATA, **options)


def streamed(name: str, data: Any, **options: Any) -> mfx.Results:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(name, data, **options)


def chunks_of(frame: pd.DataFrame, cuts: list[int]) -> Any:
    edges = [0, *sorted(set(cuts)), len(frame)]

    def rows() -> Iterator[pd.DataFrame]:
        for start, stop in pairwise(edges):
            yield frame.iloc[start:stop]

    return rows


def close(a: Any, b: Any) -> None:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    np.testing.assert_allclose(y, x, rtol=1e-8, atol=1e-8 * np.nanmax(np.abs(x), initial=1e-300))


def assert_same_fit(a: mfx.Results, b: mfx.Results) -> None:
    """Estimates, tests, effects and what is printed."""
    assert b.nobs == a.nobs
    for name in ("deviance", "params", "bse", "theta", "sigma", "tvalues", "llf"):
        close(getattr(a, name), getattr(b, name))
    assert b.notes[:-1] == a.notes
    assert "rows were read in chunks" in b.notes[-1]
    if a.formula.random:
        for group, effects in a.ranef().items():
            close(effects, b.ranef()[group])
            assert b.ranef()[group].index.equals(effects.index)
        close(a.varcorr.select_dtypes("number"), b.varcorr.select_dtypes("number"))
    close(a.r2, b.r2)
    if "dispersion" in str(a.model.formula_text):
        close(a.dispersion.select_dtypes("number"), b.dispersion.select_dtypes("number"))


OTHERS = but_for(list(MODELS), ["crossed", "transforms", "weights", "dependent"])


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["crossed", "transforms", "weights", "dependent"])
def test_a_fit_of_chunks_is_that_of_the_rows(name):
    assert_same_fit(in_memory(name), streamed(name, DATA, chunk_rows=37))


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_a_fit_of_two_passes_is_that_of_the_rows(name, monkeypatch):
    read_twice(monkeypatch)
    fit = streamed(name, DATA, chunk_rows=37)
    assert " in 1 pass" not in fit.notes[-1]
    assert_same_fit(in_memory(name), fit)


@pytest.mark.full
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("rows", [1, 37, 1000])
def test_every_model_is_that_of_the_rows(name, rows):
    assert_same_fit(in_memory(name), streamed(name, DATA, chunk_rows=rows))


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, len(DATA) - 1), max_size=12), twice=st.booleans())
@examples(5)
def test_the_chunks_do_not_matter(cuts, twice):
    with pytest.MonkeyPatch.context() as patch:
        if twice:
            read_twice(patch)
        assert_same_fit(in_memory("crossed"), streamed("crossed", chunks_of(DATA, cuts)))


@pytest.mark.full
@pytest.mark.parametrize("name", ["crossed", "weights", "uncorrelated", "offset"])
def test_inference_is_that_of_the_rows(name):
    a, b = in_memory(name), streamed(name, DATA, chunk_rows=90)
    for method in ("satterthwaite", "kenward-roger"):
        close(a.anova(df_method=method), b.anova(df_method=method))
    close(a.tidy().select_dtypes("number"), b.tidy().select_dtypes("number"))
    for type_ in (1, 2, 3):
        close(a.anova(type=type_), b.anova(type=type_))
    close(a.predict(NEW), b.predict(NEW))
    close(a.predict(NEW, se=True), b.predict(NEW, se=True))
    close(a.conf_int(method="profile"), b.conf_int(method="profile"))
    if "f" in a.formula.fixed:
        x, y = a.emmeans("f").table, b.emmeans("f").table
        close(x.select_dtypes("number"), y.select_dtypes("number"))


@pytest.mark.full
@pytest.mark.parametrize("name", STRATA)
def test_strata_of_chunks_are_those_of_the_rows(name):
    assert_same_fit(in_memory(name), streamed(name, DATA, chunk_rows=90))


@pytest.mark.full
@given(cuts=st.lists(st.integers(1, len(DATA) - 1), max_size=5))
@examples(3)
def test_the_chunks_of_strata_do_not_matter(cuts):
    assert_same_fit(in_memory("strata"), streamed("strata", chunks_of(DATA, cuts)))


@pytest.mark.full
def test_inference_with_strata_is_that_of_the_rows(tmp_path):
    a, b = in_memory("strata"), streamed("strata", DATA, chunk_rows=90)
    for type_ in (1, 2, 3):
        close(a.anova(type=type_), b.anova(type=type_))
    close(a.predict(NEW, interval="prediction"), b.predict(NEW, interval="prediction"))
    assert str(a.equation()) == str(b.equation())
    b.save(tmp_path / "fit.mfx")
    for again in (mfx.read(tmp_path / "fit.mfx"), pickle.loads(pickle.dumps(b)), b.slim()):
        assert str(again.summary()) == str(b.summary())


@pytest.mark.full
def test_strata_are_profiled_and_compared():
    frame, profiles, tables = DATA.dropna(), [], []
    for options in ({"engine": "profiled"}, {"chunk_rows": 70}):
        plain = mfx.lmer("y ~ x + (1 | g)", frame, **options)
        strata = mfx.lmer("y ~ x + (1 | g)", frame, dispersion="~ c", **options)
        profiles.append(strata.conf_int(method="profile"))
        tables.append(mfx.compare(plain, strata).drop(columns="nested"))
    close(*profiles)
    close(*tables)


@pytest.mark.full
def test_rows_of_strata_are_written(tmp_path):
    pytest.importorskip("pyarrow")
    a, b = in_memory("strata of crossed"), streamed("strata of crossed", DATA, chunk_rows=90)
    folder = b.augment(chunks_of(DATA, [130, 260]), to=tmp_path / "rows")
    found = pd.concat([pd.read_parquet(f) for f in sorted(folder.glob("*.parquet"))])
    expected = a.augment(DATA)
    for name in ("fitted", "resid", "fixed", "hat"):
        close(expected[name].fillna(0.0), found[name].fillna(0.0))
    new = DATA.assign(f=DATA["f"].replace({"low": "none"}))
    with pytest.raises(SourceChangedError, match=r"f = none, .* residual variance"):
        b.augment(new, to=tmp_path / "new")


@pytest.mark.full
def test_too_many_strata_are_read_into_memory(monkeypatch):
    import mixedfx.design.stream.sampling as sampling

    monkeypatch.setattr(sampling, "_MOST_COMBINATIONS", 100)
    models = [
        mfx.lmer("y ~ year + (1 | g)", DATA.dropna(), dispersion="~ x", **options)
        for options in ({"engine": "profiled"}, {"chunk_rows": 90})
    ]
    close(models[0].deviance, models[1].deviance)
    assert models[1].model.rows.in_memory


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["crossed", "slope"])
def test_pooling_is_that_of_the_rows(name):
    a, b = in_memory(name), streamed(name, DATA, chunk_rows=90)
    close(a.pooling("g"), b.pooling("g"))


@pytest.mark.full
def test_fits_of_chunks_are_compared():
    small, large = "y ~ x + (1 | g)", "y ~ x + f + (x | g) + (1 | h)"
    frame = DATA.dropna()
    tables = [
        mfx.compare(*(mfx.lmer(f, frame, reml=False, **options) for f in (small, large)))
        for options in ({"engine": "profiled"}, {"chunk_rows": 100})
    ]
    close(tables[0].drop(columns="nested"), tables[1].drop(columns="nested"))
    assert tables[1]["nested"].iloc[1]
    other = mfx.lmer("y ~ x + (1 | g)", frame.iloc[:-1], chunk_rows=100)
    with pytest.raises(ArgumentError, match="different rows"):
        mfx.compare(other, mfx.lmer(small, frame, chunk_rows=100))


def test_a_generalised_model_reads_its_columns(tmp_path):
    herds = mfx.datasets.load("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    whole = mfx.glmer(formula, herds)
    parts = mfx.glmer(formula, lambda: (herds.iloc[i : i + 20] for i in range(0, 56, 20)))
    close(whole.params, parts.params)
    close(whole.deviance, parts.deviance)


@pytest.mark.full
def test_equal_answers_are_merged_while_they_are_read():
    rng = np.random.default_rng(2)
    n = 3000
    frame = pd.DataFrame({"g": rng.integers(0, 12, n), "x": rng.integers(0, 3, n)})
    chance = 1.0 / (1.0 + np.exp(-(0.4 * frame["x"] + rng.normal(size=12)[frame["g"]])))
    frame["y"] = (rng.random(n) < chance).astype(int)
    frame.loc[7, "x"] = np.nan
    whole = mfx.glmer("y ~ x + (1 | g)", frame)
    parts = mfx.glmer("y ~ x + (1 | g)", chunks_of(frame, [400, 1100, 2000]))
    # Where the search ends it is within its tolerance, in whatever order the rows are.
    assert (np.abs(whole.params - parts.params) < 1e-5 * whole.bse).all()
    np.testing.assert_allclose(parts.bse, whole.bse, rtol=1e-5)
    close(whole.deviance, parts.deviance)
    assert "3,000 rows were read in chunks, in 1 pass; 73 of them are distinct" in parts.notes[-1]
    for found in (parts, parts.slim(), pickle.loads(pickle.dumps(parts))):
        assert (found.nobs, found.df_resid) == (whole.nobs, whole.df_resid) == (n - 1, n - 3)
        np.testing.assert_allclose(found.glance(), whole.glance(), rtol=1e-5)
        np.testing.assert_allclose([found.aic, found.bic], [whole.aic, whole.bic], rtol=1e-8)
        assert "Number of observations: 2999;" in str(found.summary())
        np.testing.assert_allclose(
            found.emmeans("1").table["emmean"], whole.emmeans("1").table["emmean"], rtol=1e-5
        )


@pytest.mark.full
def test_missing_values_of_merged_answers_are_counted_by_rows():
    frame = pd.DataFrame({"g": np.repeat(range(12), 10), "x": np.arange(120) % 3})
    frame["y"] = (np.arange(120) * 7 % 11 < frame["g"]).astype(int)
    frame["x"] = frame["x"].mask(frame["x"].eq(2) & frame["g"].lt(3))
    whole = mfx.glmer("y ~ x + (1 | g)", frame)
    parts = mfx.glmer("y ~ x + (1 | g)", chunks_of(frame, [50]))
    assert len(parts.model.rows.y) < parts.nobs == whole.nobs == 110
    assert "10 of 120 rows have missing values and were left out: x (10)." in parts.notes
    assert set(whole.notes) < set(parts.notes)
    null = mfx.glmer("y ~ 1 + (1 | g)", chunks_of(frame.dropna(), [50]))
    with pytest.raises(ArgumentError, match="merged by the columns of each"):
        mfx.compare(null, parts)
    complete = frame.dropna()
    in_memory_fits = [mfx.glmer(f"y ~ {x} + (1 | g)", complete) for x in ("1", "x")]
    table = mfx.compare(*in_memory_fits)
    np.testing.assert_allclose([null.bic, parts.bic], table["bic"], rtol=1e-8)


@pytest.mark.full
def test_a_plan_and_sums_can_be_pickled_and_added_in_any_order(monkeypatch):
    import mixedfx.streamed.fit as module

    seen = []

    def reduced(source: Any, plan: Any) -> Any:
        frames = list(source.chunks(plan.design.request.names))
        plan = pickle.loads(pickle.dumps(plan))
        sums = [pickle.loads(pickle.dumps(reduce_chunk(f, plan))) for f in frames]
        seen.append(len(sums))
        return reduce(combine, reversed(sums))

    monkeypatch.setattr(module, "reduce_source", reduced)
    assert_same_fit(in_memory("transforms"), streamed("transforms", DATA, chunk_rows=50))
    assert seen == [8]


@pytest.mark.full
def test_a_sample_of_rows_has_all_values_and_does_not_depend_on_chunks(monkeypatch):
    # A category in a single row, and a number that is constant but for one row.
    import mixedfx.design.stream.sampling as sampling

    monkeypatch.setattr(sampling.Reservoir.__init__, "__defaults__", (20,))
    frame = table().dropna()
    frame["rare"] = "usual"
    frame.iloc[200, frame.columns.get_loc("rare")] = "rare"
    frame["spike"] = 0.0
    frame.iloc[100, frame.columns.get_loc("spike")] = 1.0
    formula = "y ~ rare + spike + x * f + (x | g)"
    fits = [mfx.lmer(formula, frame, chunk_rows=rows) for rows in (11, 50, 300)]
    whole = mfx.lmer(formula, frame, engine="profiled")
    for one in fits:
        close(whole.params, one.params)
        close(whole.deviance, one.deviance)
        assert list(one.params.index) == list(whole.params.index)
        assert one.model.rows.random_sample.n == 20


def test_residuals_far_from_the_samples_are_summed_without_loss():
    # y'y alone loses seven digits at a mean of 1e4 standard deviations.
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": rng.integers(0, 8, 300), "x": rng.normal(1e5, 1.0, 300)})
    frame["y"] = 1e7 + 3.0 * frame["x"] + rng.normal(size=8)[frame["g"]] + rng.normal(size=300)
    whole = mfx.lmer("y ~ x + (1 | g)", frame, engine="profiled")
    parts = mfx.lmer("y ~ x + (1 | g)", frame, chunk_rows=40)
    close(whole.deviance, parts.deviance)
    close(whole.params["x"], parts.params["x"])
