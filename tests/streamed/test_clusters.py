"""Dask DataFrames: partitions are reduced where they are, with the same result.

Source of truth: the fit of the rows in memory, and that of the same rows read in chunks.
"""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamed.streamed_cases import MODELS, table
from tiers import but_for

import mixedfx as mfx
from mixedfx.errors import EmptyDataError, InfiniteValueError, MixedfxWarning, SourceError

pytest.importorskip("dask")
import dask
import dask.dataframe as dd
from dask.callbacks import Callback

FORMULA = "y ~ x * f + (x | g) + (1 | h)"
LIKE_CHUNKS = 1e-8


def close(one: mfx.Results, other: mfx.Results) -> None:
    assert one.deviance == pytest.approx(other.deviance, rel=LIKE_CHUNKS)
    np.testing.assert_allclose(one.params, other.params, rtol=LIKE_CHUNKS, atol=LIKE_CHUNKS)
    np.testing.assert_allclose(one.bse, other.bse, rtol=LIKE_CHUNKS)


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", but_for(MODELS, ["crossed", "interaction group", "transforms"]))
def test_partitions_give_the_fit_of_the_rows_in_memory(name):
    formula, arguments = MODELS[name]
    data = table()
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedfxWarning)  # of models on their boundary
        close(
            mfx.lmer(formula, dd.from_pandas(data, npartitions=5), **arguments),
            mfx.lmer(formula, data, **arguments),
        )


@pytest.mark.full
def test_partitions_keep_the_rows_that_chunks_keep():
    data = table(25_000)
    with dask.config.set(scheduler="synchronous"):
        of_partitions = mfx.lmer("y ~ x + (1 | g)", dd.from_pandas(data, npartitions=3))
    of_chunks = mfx.lmer("y ~ x + (1 | g)", data, chunk_rows=4_000)
    one, other = (fit.model.rows.random_sample for fit in (of_partitions, of_chunks))
    assert one.n == 10_000
    np.testing.assert_array_equal(one.y, other.y)


@pytest.mark.full
def test_rows_do_not_leave_their_partitions():
    # What each task gives is far smaller than its rows.
    largest = 0

    def after(key, result, *_):
        nonlocal largest
        if isinstance(result, pd.DataFrame):
            return
        largest = max(largest, len(getattr(result, "further", [])))

    with dask.config.set(scheduler="synchronous"), Callback(posttask=after):
        mfx.lmer("y ~ x + (1 | g)", dd.from_pandas(table(2_000), npartitions=4))
    assert largest < 20


@pytest.mark.full
def test_partitions_without_rows_are_left_out():
    frame = dd.from_pandas(table(), npartitions=8)
    with dask.config.set(scheduler="synchronous"):
        some = mfx.lmer("y ~ year + (1 | g)", frame[frame["year"] > 2004])
        close(some, mfx.lmer("y ~ year + (1 | g)", table().query("year > 2004")))
        with pytest.raises(EmptyDataError, match="no rows"):
            mfx.lmer("y ~ year + (1 | g)", frame[frame["year"] > 3000])


def test_an_error_names_the_partition():
    data = table()
    data["year"] = data["year"].astype(float)
    data.loc[250, "year"] = np.inf
    frame = dd.from_pandas(data, npartitions=4)
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(InfiniteValueError, match="partition 2 of the Dask DataFrame"),
    ):
        mfx.lmer("y ~ year + (1 | g)", frame)


@pytest.mark.full
def test_a_cluster_of_processes_gives_the_fit_of_the_rows_in_memory(client):
    data = table()
    close(mfx.lmer(FORMULA, dd.from_pandas(data, npartitions=6)), mfx.lmer(FORMULA, data))


def _killing_once(frame: pd.DataFrame, marker: str) -> pd.DataFrame:
    """End the worker that first reads the rows of the third partition."""
    path = Path(marker)
    if len(frame) and 140 in frame.index and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return frame


def _killing(frame: pd.DataFrame) -> pd.DataFrame:
    if len(frame) and 140 in frame.index:
        os.kill(os.getpid(), signal.SIGKILL)
    return frame


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_a_worker_that_is_killed_is_replaced(client, tmp_path):
    data, marker = table(), str(tmp_path / "killed")
    frame = dd.from_pandas(data, npartitions=6).map_partitions(
        _killing_once, marker, meta=data.head(0)
    )
    close(mfx.lmer(FORMULA, frame), mfx.lmer(FORMULA, data))
    assert Path(marker).exists()


@pytest.mark.full
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal of POSIX")
def test_a_partition_that_kills_its_workers_is_an_error(client):
    data = table()
    frame = dd.from_pandas(data, npartitions=6).map_partitions(_killing, meta=data.head(0))
    with pytest.raises(SourceError, match="the Dask DataFrame cannot be read"):
        mfx.lmer(FORMULA, frame)
