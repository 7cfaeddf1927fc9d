"""Covering arrays: the default tier's part of a product of cases shows every pair of values."""

from __future__ import annotations

import itertools
from math import prod

import pytest
from tiers import covering

SIZES = [(), (3,), (2, 5), (4, 6, 3, 4), (2, 2, 2, 2, 2, 2)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("strength", [1, 2, 3])
def test_any_columns_show_all_combinations(sizes, strength):
    rows = covering(sizes, strength)
    for columns in itertools.combinations(range(len(sizes)), min(strength, len(sizes))):
        shown = {tuple(row[c] for c in columns) for row in rows}
        assert shown == set(itertools.product(*(range(sizes[c]) for c in columns)))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rows_are_few(sizes):
    # Pairs need at least the product of the two largest sizes.
    assert len(covering(sizes)) <= 2 * prod(sorted(sizes)[-2:])


def test_rows_are_the_same_each_time():
    assert covering((4, 6, 3, 4)) == covering((4, 6, 3, 4))
