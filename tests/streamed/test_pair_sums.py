"""Sums by pair of levels, merged in runs.

Source of truth: pandas' groupby of all rows.
"""

from __future__ import annotations

import tracemalloc
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiers import examples

from mixedfx.errors import SizeError
from mixedfx.likelihood.stream import key_table
from mixedfx.likelihood.stream.pair_sums import PairTable, pair_sums


@pytest.mark.full
@given(
    n_chunks=st.integers(1, 40), rows=st.integers(0, 30), n=st.integers(1, 12), big=st.booleans()
)
@examples(40)
def test_merged_sums_are_those_of_all_rows(n_chunks, rows, n, big):
    rng = np.random.default_rng(n_chunks * 1000 + rows)
    # Keys that leave no room for positions are sorted otherwise.
    shape = (12, 2**60 // 13 if big else 9)
    chunks = []
    for _ in range(n_chunks):
        size = rng.integers(0, rows + 1)
        chunks.append((rng.integers(0, n, size), rng.integers(0, 9, size), rng.normal(size=size)))
    parts = [pair_sums(i, j, shape, [None, x], [None, 2 * x], None) for i, j, x in chunks]
    tree = reduce(add, parts)
    pairs, values = tree.total().as_block(2, 2)
    table = PairTable.of(parts).total()
    for name in ("rows", "cols"):
        np.testing.assert_array_equal(getattr(table, name), getattr(pairs, name))
    np.testing.assert_allclose(table.values.reshape(values.shape), values, atol=1e-12)
    i, j, x = (np.concatenate(c) for c in zip(*chunks, strict=True))
    frame = pd.DataFrame({"i": i, "j": j, "n": 1.0, "x": x, "xx": 2 * x**2})
    expected = frame.groupby(["i", "j"])[["n", "x", "xx"]].sum()
    assert list(zip(pairs.rows, pairs.cols, strict=True)) == list(expected.index)
    np.testing.assert_allclose(values[0, 0], expected["n"])
    np.testing.assert_allclose(values[1, 0], expected["x"], atol=1e-12)
    np.testing.assert_allclose(values[0, 1], 2 * expected["x"], atol=1e-12)
    np.testing.assert_allclose(values[1, 1], expected["xx"], atol=1e-12)


def test_pairs_beyond_memory_are_refused_while_they_are_collected(monkeypatch):
    rows = np.arange(50_000)
    shape = (50_000, 60_000)
    parts = [pair_sums(rows, rows + i, shape, [None], [None], None) for i in range(8)]
    monkeypatch.setattr("mixedfx.linalg.available_memory.available_memory", lambda: 4e5)
    with pytest.raises(SizeError, match=r"50,000 pairs of levels.*: 1 MB"):
        PairTable.of(parts)


@pytest.mark.full
def test_sums_are_put_together_in_little_more_than_their_own_memory(monkeypatch):
    # Pages of their own are not traced by Python.
    monkeypatch.setattr(key_table, "_OWN_PAGES", 1 << 60)
    rng, shape = np.random.default_rng(5), (2000, 1000)
    table = PairTable(shape, 2)
    for _ in range(20):
        i, j, x = (
            rng.integers(0, 2000, 20_000),
            rng.integers(0, 1000, 20_000),
            rng.normal(size=20_000),
        )
        table.add(pair_sums(i, j, shape, [None, x], [None], None))
    tracemalloc.start()
    try:
        total = table.total()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(total.rows) > 300_000
    # In 4 bytes each two levels, and in 8 each two sums.
    assert peak < 1.25 * 24 * len(total.rows)


def test_a_table_holds_about_as_many_sums_as_there_are_pairs():
    rng, shape = np.random.default_rng(7), (300, 200)
    table = key_table.KeyTable(shape[0] * shape[1], 1)
    most = 0
    for _ in range(60):
        keys = np.sort(rng.integers(0, 60_000, 20_000))
        table.add(keys, np.ones((1, len(keys))))
        most = max(most, len(table))
    # Without a merge of full buckets there would be 1,200,000.
    assert most < 10 * 60_000
    sums = np.zeros(60_000)

    def use(place, keys, values):
        assert place.stop - place.start == len(keys)
        sums[keys] = next(iter(values))

    assert table.take(use) == 60_000
    assert sums.sum() == 60 * 20_000
