"""The tiers together have every case, and the default tier shows every pair of values."""

from __future__ import annotations

import itertools
from math import prod
from types import SimpleNamespace

import pytest
import tiers
from tiers import (
    CASES,
    beyond_the_cases,
    beyond_the_full_tier,
    but_for,
    covering,
    leaves_out_full,
    leaves_out_slow,
)

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


def test_the_default_tier_has_the_kept_values_alone(monkeypatch):
    monkeypatch.setattr(tiers, "in_default_tier", lambda: True)
    assert but_for(["a", "b", "c"], ["c", "a"]) == ["a", "c"]


def test_the_full_tier_has_the_others(monkeypatch):
    monkeypatch.setattr(tiers, "in_default_tier", lambda: False)
    kept, other = but_for([("a", 1), ("b", 2)], [("a", 1)])
    assert kept == ("a", 1)
    assert (other.values, [mark.name for mark in other.marks]) == (("b", 2), ["full"])


@pytest.mark.parametrize("expression", ["not full and not slow", "not full", "slow or not full"])
def test_expressions_that_leave_out_full(expression):
    assert leaves_out_full(expression)


@pytest.mark.parametrize("expression", ["", "full", "slow", "full or not full", "not slow"])
def test_expressions_that_do_not(expression):
    assert not leaves_out_full(expression)


@pytest.mark.parametrize(
    ("expression", "without"),
    [
        ("full", True),
        ("full and not slow", True),
        ("slow", False),
        ("full or slow", False),
        ("", False),
    ],
)
def test_expressions_with_and_without_slow(expression, without):
    assert leaves_out_slow(expression) is without


@pytest.mark.kept("one")
@pytest.mark.parametrize("case", ["one", "two"])
def test_the_default_tier_has_the_cases_that_are_kept(case):
    assert case == "one" or not tiers.in_default_tier()


def _cases(count, *marks):
    item = SimpleNamespace(
        originalname="test_something", get_closest_marker=lambda name: dict(marks).get(name)
    )
    return [SimpleNamespace(**vars(item)) for _ in range(count)]


def test_of_many_cases_the_default_tier_has_a_few_and_the_same_each_time():
    cases = _cases(30)
    left_out = beyond_the_cases(cases)
    assert len(left_out) == 30 - CASES
    assert [id(case) for case in left_out] == [id(case) for case in beyond_the_cases(cases)]


@pytest.mark.parametrize(("number", "kept"), [(1, 1), (20, 20), (None, 30)])
def test_a_mark_says_how_many_cases(number, kept):
    cases = _cases(30, ("cases", SimpleNamespace(args=(number,))))
    assert len(cases) - len(beyond_the_cases(cases)) == kept


def test_few_cases_are_all_in_the_default_tier():
    assert beyond_the_cases(_cases(CASES)) == []


def test_the_full_tier_has_so_many_cases_as_the_mark_says():
    assert beyond_the_full_tier(_cases(30)) == []
    marked = _cases(30, ("slow_beyond", SimpleNamespace(args=(8,))))
    assert len(beyond_the_full_tier(marked)) == 22
