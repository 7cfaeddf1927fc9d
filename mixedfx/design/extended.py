"""Rows of a planned study: those of a pilot, with other numbers of levels and of rows in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.levels import are_nested
from mixedfx.errors import ArgumentError, brief

Codes = npt.NDArray[np.intp]


def with_levels(
    frame: pd.DataFrame, group: str, count: int, factors: Sequence[str] = ()
) -> pd.DataFrame:
    """
    As many levels of a grouping factor: copies of those there are, in turn, evenly spread.

    A copy has all rows of its level, under a new label; so have the levels of those of the
    ``factors`` that are nested in it.
    """
    codes, labels = pd.factorize(frame[group])
    whole, rest = divmod(count, len(labels))
    spread = np.floor(np.arange(rest) * len(labels) / max(rest, 1)).astype(np.intp)
    taken = np.concatenate([np.tile(np.arange(len(labels)), whole), spread])
    members = _members(codes, len(labels))
    rows = np.concatenate([members[level] for level in taken])
    new = np.repeat(np.arange(count), [len(members[level]) for level in taken])
    found = frame.iloc[rows].reset_index(drop=True)
    for name in factors:
        if name != group and are_nested(pd.factorize(frame[name])[0], codes):
            copies = zip(found[name], new, strict=True)
            found[name] = pd.Categorical([f"{level}.{copy + 1}" for level, copy in copies])
    found[group] = pd.Categorical([f"{group}{code + 1}" for code in new])
    return found


def with_rows(frame: pd.DataFrame, group: str, count: int) -> pd.DataFrame:
    """As many rows in each level: its own in turn, the first ones once more than the others."""
    codes, labels = pd.factorize(frame[group])
    rows = np.concatenate([np.resize(own, count) for own in _members(codes, len(labels))])
    return frame.iloc[rows].reset_index(drop=True)


def _members(codes: Codes, count: int) -> list[Codes]:
    """Rows of each level, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1])


def checked_counts(name: str, counts: Any, *, least: int) -> list[int]:
    """Whole numbers as a list."""
    values = list(counts) if isinstance(counts, list | tuple | range | np.ndarray) else [counts]
    whole = [isinstance(v, int | np.integer) and not isinstance(v, bool) for v in values]
    if not values or not all(whole) or min(values) < least:
        raise ArgumentError(f"{name}={brief(counts)} must be whole numbers from {least} on.")
    return [int(v) for v in values]
