"""The error of Laplace's approximation of fits whose rows are in a file.

Source of truth: the same of the rows in memory.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from streamed.generalized_cases import N, fitted, in_chunks, in_memory, with_small_blocks
from tiers import but_for

from mixedfx.errors import ArgumentError, RowsNotInMemory
from mixedfx.inference.approximation import Approximation
from mixedfx.likelihood.generalized import node_sums

CUTS = [1, 8, 230, 407]
# By quadrature, and by importance sampling.
ONE_FACTOR = ["trials", "counts", "weights", "overdispersed", "identity", "no columns", "binary"]
CROSSED = ["crossed", "nested", "successes", "ordered"]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with_small_blocks(monkeypatch)


def assert_same(found: Approximation, whole: Approximation) -> None:
    assert found.method == whole.method
    assert abs(found.loglik - whole.loglik) < 1e-9 * abs(whole.loglik)
    assert abs(found.monte_carlo_error - whole.monte_carlo_error) < 1e-8
    assert found.advice == whole.advice
    for name, expected in whole.table.items():
        atol = 1e-6 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found.table[name], expected, rtol=1e-5, atol=atol)


def approximated(name: str, cuts: Any = None) -> Approximation:
    fit = in_memory(name) if cuts is None else fitted(name, in_chunks(cuts), chunk_rows=N)
    return fit.approximation(draws=12, rng=3)


@pytest.mark.parametrize("name", but_for([*ONE_FACTOR, *CROSSED], ["no columns"]))
def test_the_error_is_that_of_the_rows_in_memory(name):
    assert_same(approximated(name, CUTS), approximated(name))


@pytest.mark.full
@pytest.mark.parametrize("name", ["binary", "crossed"])
def test_the_chunks_change_no_digit(name):
    found = [approximated(name, cuts) for cuts in ([], [37, 150], CUTS)]
    for other in found[1:]:
        assert other.loglik == found[0].loglik
        assert other.table.equals(found[0].table)


@pytest.mark.full
def test_nodes_are_taken_in_parts_where_the_levels_are_many(monkeypatch):
    monkeypatch.setattr(node_sums, "_MOST_NUMBERS", 100)  # of 15**2 nodes of 12 levels
    assert_same(approximated("binary", CUTS), approximated("binary"))


def test_without_random_effects_there_is_no_integral():
    assert approximated("no effects", CUTS).method == "no integral"


@pytest.mark.full
def test_without_its_file_a_fit_says_so():
    fit = pickle.loads(pickle.dumps(fitted("binary", in_chunks([]), chunk_rows=N)))
    with pytest.raises(RowsNotInMemory, match=r"fit\.approximation needs the rows"):
        fit.approximation()


def test_the_number_of_draws_is_checked():
    with pytest.raises(ArgumentError, match="draws"):
        fitted("no effects", in_chunks([]), chunk_rows=N).approximation(draws=1)
