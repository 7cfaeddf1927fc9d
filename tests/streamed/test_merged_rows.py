"""Generalised models of sources whose equal rows are merged while they are read.

Source of truth: the fit of the same rows in memory; of the search the tolerance is that of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import ArgumentError, ColumnTypeError, RowsNotInMemory
from mixedfx.inference import merged_responses
from mixedfx.inference.merged_responses import MergedResponses
from mixedfx.storage.summaries import residual_quantiles

N = 900


@cache
def counts() -> pd.DataFrame:
    """Counts, counts with further zeros, positive counts, ordered answers, answers of 0 and 1."""
    rng = np.random.default_rng(5)
    g, x = rng.integers(0, 10, N), rng.integers(0, 3, N)
    mean = np.exp(0.3 * x - 0.2 + 0.4 * rng.normal(size=10)[g])
    frame = pd.DataFrame({"g": g, "x": x, "few": rng.poisson(mean)})
    frame["more"] = rng.negative_binomial(2, 2.0 / (2.0 + mean))
    frame["zeros"] = frame["more"].where(rng.random(N) < 0.7, 0)
    frame["some"] = frame["few"] + 1
    answer = 0.5 * x + rng.normal(size=N) + 0.5 * rng.normal(size=10)[g]
    frame["answer"] = pd.cut(answer, [-9.0, -0.5, 0.5, 1.5, 19.0], labels=list("abcd"))
    frame["yes"] = (answer > 0.3).astype(int)
    frame["word"] = np.where(frame["yes"] == 1, "won", "lost")
    frame["won"] = frame["yes"] * rng.integers(0, 3, N)
    frame["lost"] = 2 - frame["won"]
    frame["exposure"] = np.log(rng.choice([1.0, 2.0], N))
    return frame


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "poisson": ("few ~ x + (1 | g)", "poisson", {}),
    "quadrature": ("few ~ x + (1 | g)", "poisson", {"nagq": 5}),
    "fixed effects": ("few ~ x", "poisson", {}),
    "offset": ("more ~ x + (1 | g)", "nbinom1", {"offset": "exposure"}),
    "truncated": ("some ~ x + (1 | g)", "truncated_poisson", {}),
    "ordered": ("answer ~ x + (1 | g)", "cumulative", {}),
    "zeros": ("zeros ~ x + (1 | g)", "nbinom2", {"zero_inflation": "~ x"}),
    "dispersion": ("more ~ x + (1 | g)", "nbinom2", {"dispersion": "~ x"}),
    "binary": ("yes ~ x + (1 | g)", "binomial", {}),
    "text": ("word ~ x + (1 | g)", "binomial", {}),
    "successes": ("cbind(won, lost) ~ x + (1 | g)", "binomial", {}),
    "of trials": ("prop(won, won + lost) ~ x + (1 | g)", "binomial", {"nagq": 3}),
}


def in_chunks() -> Iterator[pd.DataFrame]:
    frame = counts()
    for start in range(0, N, 350):
        yield frame.iloc[start : start + 350]


def assert_same(whole: mfx.Results, merged: mfx.Results) -> None:
    assert len(merged.model.rows.y) < 0.5 * N
    assert merged.nobs == whole.nobs == N
    assert merged.df_resid == whole.df_resid
    assert abs(merged.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)
    assert (np.abs(whole.params - merged.params) < 1e-5 * whole.bse).all()
    np.testing.assert_allclose(merged.bse, whole.bse, rtol=1e-5)
    np.testing.assert_allclose(merged.family_params, whole.family_params, rtol=1e-5)
    np.testing.assert_allclose(merged.glance(), whole.glance(), rtol=1e-5)
    new = counts().head(5)
    np.testing.assert_allclose(
        merged.predict(new, interval="prediction"),
        whole.predict(new, interval="prediction"),
        rtol=1e-4,
    )
    means = [f.emmeans("1").table.select_dtypes("number") for f in (merged, whole)]
    np.testing.assert_allclose(*means, rtol=1e-5, atol=1e-5)
    assert str(merged.equation()) == str(whole.equation())
    assert "equal" not in str(merged.summary())
    quantiles = [residual_quantiles(f.model) for f in (merged, whole)]
    np.testing.assert_allclose(*quantiles, rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_merged_rows_give_the_fit_of_all_rows(name):
    formula, family, options = CASES[name]
    whole = mfx.glmer(formula, counts(), family, **options)
    merged = mfx.glmer(formula, in_chunks, family, **options)
    counted = "trials" if family == "binomial" else "weights"
    counted = "multiples of their trials" if "(" in formula.partition("~")[0] else counted
    text = f"900 rows were read in chunks, in 1 pass; {len(merged.model.rows.y)} of them are"
    assert merged.notes[-1] == f"{text} distinct, and were fitted with their numbers as {counted}."
    assert_same(whole, merged)


@pytest.mark.full
@pytest.mark.parametrize("name", ["poisson", "text", "successes", "ordered", "offset"])
def test_fitted_values_of_all_rows_are_written(name, tmp_path):
    pytest.importorskip("pyarrow")
    formula, family, options = CASES[name]
    whole = mfx.glmer(formula, counts(), family, **options).augment(counts())
    folder = mfx.glmer(formula, in_chunks, family, **options).augment(in_chunks, to=tmp_path / "a")
    found = pd.concat([pd.read_parquet(file) for file in sorted(folder.iterdir())])
    assert len(found) == N
    for column in ("fitted", "resid", "fixed", "hat"):
        np.testing.assert_allclose(found[column], whole[column], rtol=1e-5, atol=1e-6)


@pytest.mark.full
def test_what_is_not_written_says_what_is(tmp_path):
    fit = mfx.glmer("zeros ~ x + (1 | g)", in_chunks, "nbinom2", zero_inflation="~ x")
    with pytest.raises(ArgumentError, match="with zero_inflation writes predictions"):
        fit.augment(in_chunks, to=tmp_path / "a")
    assert fit.predict(in_chunks, to=tmp_path / "p").exists()


@pytest.mark.full
def test_partitions_are_merged_where_they_are():
    dask = pytest.importorskip("dask")
    import dask.dataframe as dd

    with dask.config.set(scheduler="synchronous"):
        merged = mfx.glmer("few ~ x + (1 | g)", dd.from_pandas(counts(), npartitions=5), "poisson")
    assert_same(mfx.glmer("few ~ x + (1 | g)", counts(), "poisson"), merged)


@pytest.mark.full
@pytest.mark.parametrize("options", [{"weights": "some"}, {"offset": "own"}])
def test_rows_that_are_not_merged_are_read(options):
    # Weights of the data multiply the log density too; rows with a number of their own all differ.
    frame = counts().assign(own=np.linspace(-0.1, 0.1, N))
    whole = mfx.glmer("few ~ x + (1 | g)", frame, "poisson", **options)
    parts = mfx.glmer("few ~ x + (1 | g)", lambda: [frame[:300], frame[300:]], "poisson", **options)
    assert abs(parts.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)
    assert len(parts.resid) == N


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["poisson", "zeros", "binary", "successes", "of trials"])
def test_an_update_is_that_of_all_rows(name):
    formula, family, options = CASES[name]
    fits = [mfx.glmer(formula, data, family, **options) for data in (counts(), in_chunks)]
    whole, merged = (f.update("~ . - x") for f in fits)
    assert merged.nobs == whole.nobs == N
    assert abs(merged.deviance - whole.deviance) < 1e-8 * abs(whole.deviance)
    np.testing.assert_allclose(merged.bic, whole.bic, rtol=1e-8)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["poisson", "successes"])
def test_influence_counts_all_rows_of_a_level(name):
    formula, family, options = CASES[name]
    whole, merged = (
        mfx.glmer(formula, data, family, **options).influence("g") for data in (counts(), in_chunks)
    )
    assert merged["nobs"].tolist() == whole["nobs"].tolist()
    np.testing.assert_allclose(merged, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:1 of 60 draws failed")  # at a zero part that is not there
@pytest.mark.parametrize("name", but_for(["poisson", "ordered", "zeros"], ["poisson"]))
def test_equal_rows_are_simulated_one_by_one(name):
    # Equal responses of equal rows would double the standard deviations of the draws.
    formula, family, options = CASES[name]
    merged = mfx.glmer(formula, in_chunks, family, **options)
    draws = merged.bootstrap(60, rng=1, progress=False)
    ratio = draws.draws[list(merged.params.index)].std() / merged.bse
    assert ((ratio > 0.6) & (ratio < 1.4)).all()


def test_draws_of_merged_rows_are_as_many_as_the_rows(monkeypatch):
    merged = mfx.glmer("few ~ x + (1 | g)", in_chunks, "poisson").model
    whole = MergedResponses.of(merged, random="new").draw(np.random.default_rng(3)).rows
    assert whole.weights.sum() == N
    assert whole.weights_are_counts
    monkeypatch.setattr(merged_responses, "_AT_A_TIME", 100)
    drawn = MergedResponses.of(merged, random="new").draw(np.random.default_rng(3)).rows
    np.testing.assert_array_equal(drawn.y, whole.y)  # of which equal ones are one row again
    np.testing.assert_array_equal(drawn.weights, whole.weights)
    with pytest.raises(RowsNotInMemory, match=r"fit\.simulate\(data=rows\)"):
        mfx.glmer("few ~ x + (1 | g)", in_chunks, "poisson").simulate(1, rng=1)


def test_a_response_of_all_rows_is_not_one_of_the_merged_ones():
    # Their labels are numbers that rows of the data have too.
    merged = mfx.glmer("few ~ x + (1 | g)", in_chunks, "poisson")
    with pytest.raises(ColumnTypeError, match=r"fit\.update\('column ~ \.', data=source\)"):
        merged.refit(counts()["some"])
    with pytest.raises(ColumnTypeError, match="equal rows were merged"):
        merged.refit("some", data=counts())
    again = merged.refit(merged.model.rows.y)
    assert abs(again.deviance - merged.deviance) < 1e-8 * merged.deviance
