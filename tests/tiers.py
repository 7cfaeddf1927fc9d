"""Tiers of tests: what a change can break, everything else, and the longest simulations.

The default tier leaves out the cases marked ``full``; ``python -m pytest -m full`` runs those, and
the Hypothesis tests with more of their examples. ``python -m pytest -m slow`` runs simulated
coverage, all examples, and the cases that ``slow_beyond`` leaves out of the full tier.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import settings

DEFAULT, FULL, SLOW = "default", "full", "slow"
FEW, MORE = 10, 30  # examples of a Hypothesis test in the default tier and in the full one
CASES = 5  # of a parametrised test in the default tier, unless the mark ``cases`` says otherwise


def leaves_out_full(expression: str) -> bool:
    """Whether an expression of markers, the argument of ``-m``, is one of the default tier."""
    rest, excluded = re.subn(r"\bnot full\b", "", expression)
    return excluded > 0 and re.search(r"\bfull\b", rest) is None


def leaves_out_slow(expression: str) -> bool:
    """Whether an expression of markers has no tests marked ``slow``."""
    asked = re.search(r"\bslow\b", re.sub(r"\bnot slow\b", "", expression))
    return expression != "" and asked is None


def in_default_tier() -> bool:
    """Whether the run is of the default tier, which conftest.py has told Hypothesis."""
    return settings.get_current_profile_name() == DEFAULT


def examples(count: int) -> settings:
    """At most 10 examples in the default tier, 30 in the full one, ``count`` in any other."""
    limit = {DEFAULT: FEW, FULL: MORE}.get(settings.get_current_profile_name(), count)
    return settings(max_examples=min(count, limit))


def but_for(values: Iterable, kept: Iterable) -> list:
    """
    Values to parametrise by: those that are not ``kept`` are cases of the full tier.

    The default tier does not collect them, which would cost each worker a second a thousand.
    """
    kept, values = list(kept), list(values)
    if in_default_tier():
        return [v for v in values if v in kept]
    cases = [(v, v if isinstance(v, tuple) else (v,)) for v in values]
    return [v if v in kept else pytest.param(*case, marks=pytest.mark.full) for v, case in cases]


def covering(sizes: Sequence[int], strength: int = 2) -> list[tuple[int, ...]]:
    """
    Rows of a product such that any ``strength`` columns show all of their combinations.

    Greedy: each row begins with a combination that no row has yet, and each of its other entries
    is the one that adds the most of those (Cohen, Dalal, Fredman and Patton 1997, section 4).
    """
    strength = min(strength, len(sizes))
    missing = {
        tuple(zip(columns, values, strict=True)): None  # a dict is a set with an order
        for columns in itertools.combinations(range(len(sizes)), strength)
        for values in itertools.product(*(range(sizes[c]) for c in columns))
    }

    def covered(row: dict[int, int]) -> list:
        return [m for m in itertools.combinations(sorted(row.items()), strength) if m in missing]

    rows = []
    while missing:
        row = dict(next(iter(missing)))
        for column, size in enumerate(sizes):
            if column not in row:
                turn = [(len(rows) + i) % size for i in range(size)]  # ties: in turn
                row[column] = max(turn, key=lambda v: len(covered(row | {column: v})))
        for found in covered(row):
            del missing[found]
        rows.append(tuple(row[column] for column in range(len(sizes))))
    return rows


def other_than_kept(items: Sequence[pytest.Item]) -> Iterable[pytest.Item]:
    """Cases of one test, marked ``kept``, that are not those whose ids the mark has."""
    kept = items[0].get_closest_marker("kept").args
    return [item for item in items if item.callspec.id not in kept]


def unknown_ids(items: Sequence[pytest.Item]) -> set[str]:
    """Ids of the mark ``kept`` that no case of the test has."""
    return set(items[0].get_closest_marker("kept").args) - {item.callspec.id for item in items}


def beyond_the_cases(items: Sequence[pytest.Item]) -> Iterable[pytest.Item]:
    """Cases of one test but for so many as the default tier has, drawn by the test's name."""
    marker = items[0].get_closest_marker("cases")
    return _not_drawn(items, CASES if marker is None else marker.args[0])


def beyond_the_full_tier(items: Sequence[pytest.Item]) -> Iterable[pytest.Item]:
    """Cases of one test that ``slow_beyond`` leaves to the slow tier, drawn by the test's name."""
    marker = items[0].get_closest_marker("slow_beyond")
    return [] if marker is None else _not_drawn(items, marker.args[0])


def _not_drawn(items: Sequence[pytest.Item], count: int | None) -> Iterable[pytest.Item]:
    """All cases but so many, which are drawn by the test's name."""
    if count is None or len(items) <= count:
        return []
    drawn = random.Random(items[0].originalname).sample(range(len(items)), count)
    return [item for i, item in enumerate(items) if i not in drawn]


def outside_the_cover(items: Sequence[pytest.Item]) -> Iterable[pytest.Item]:
    """Cases of one test, marked ``covering``, that its covering array of parameters leaves out."""
    marker = items[0].get_closest_marker("covering")
    places = list(zip(*(_positions(items, axis) for axis in _axes(items[0])), strict=True))
    sizes = [1 + max(column) for column in zip(*places, strict=True)]
    kept = set(covering(sizes, *marker.args))
    return [item for item, place in zip(items, places, strict=True) if place not in kept]


def _positions(items: Sequence[pytest.Item], axis: str) -> list[int]:
    """Position of each case's value among the values of one parameter, which need not hash."""
    values = [id(item.callspec.params[axis]) for item in items]
    order = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return [order[value] for value in values]


def _axes(item: pytest.Item) -> list[str]:
    """One name of each stacked ``parametrize``."""
    names = (mark.args[0] for mark in item.iter_markers("parametrize"))
    return [(n.split(",")[0].strip() if isinstance(n, str) else n[0]) for n in names]
