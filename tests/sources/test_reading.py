"""Chunks are read ahead in a thread, which ends with the pass, however that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from streamed.streamed_cases import read_twice, table

import mixedfx as mfx
from mixedfx.sources.reading import read_chunks

DATA = table().dropna().reset_index(drop=True)


@dataclass
class Recorded:
    """A source of the user's own, which notes what it is asked for."""

    columns: tuple[str, ...] = tuple(DATA.columns)
    in_memory: bool = False
    asked: list[Sequence[str]] = field(default_factory=list)
    given: int = 0
    failing_at: int | None = None

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        self.asked.append(tuple(names))
        for start in range(0, len(DATA), 100):
            if self.given == self.failing_at:
                raise OSError("the network is gone")
            self.given += 1
            yield DATA.loc[start : start + 99, list(names)]


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("mixedfx")]


@pytest.mark.parametrize("n_passes", [1, 2])
def test_a_source_of_ones_own_is_asked_for_the_columns_used_alone(n_passes, monkeypatch):
    if n_passes == 2:
        read_twice(monkeypatch)
    source = Recorded()
    fit = mfx.lmer("y ~ x + (1 | g)", source, weights="w")
    assert source.asked == [("g", "x", "w", "y")] * n_passes
    whole = mfx.lmer("y ~ x + (1 | g)", DATA, weights="w", engine="profiled")
    np.testing.assert_allclose(fit.params, whole.params, rtol=1e-8)
    assert not readers()


def test_rows_are_numbered_over_all_chunks():
    numbers = [chunk.index for chunk in read_chunks(Recorded(), ["x"], "rows")]
    assert np.concatenate(numbers).tolist() == list(range(len(DATA)))


@pytest.mark.parametrize("failing_at", [2, 5])  # in the first pass, in the second
def test_an_error_of_the_reader_is_raised_where_the_rows_are_used(failing_at, monkeypatch):
    read_twice(monkeypatch)
    with pytest.raises(OSError, match="network"):
        mfx.lmer("y ~ x + (1 | g)", Recorded(failing_at=failing_at))
    assert not readers()


def test_the_reader_is_one_chunk_ahead_and_ends_when_the_pass_is_left():
    source = Recorded()
    chunks = read_chunks(source, ["x"], "rows")
    next(chunks)
    for _ in range(100):
        if source.given >= 3:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    # One in use, one that waits, one that is read.
    assert source.given == 3
    chunks.close()
    assert not readers()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_ends_the_reader(error, monkeypatch):
    import mixedfx.streamed.reduction as module

    def interrupted(*_):
        raise error

    monkeypatch.setattr(module, "reduce_rows", interrupted)
    with pytest.raises(error):
        mfx.lmer("y ~ x + (1 | g)", Recorded())
    assert not readers()
