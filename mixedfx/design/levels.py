"""Values of a grouping factor to numbered levels, and back again for new rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Levels:
    """
    The observed levels of a grouping factor, and how to recognise them again.

    Parameters
    ----------
    keys : tuple of pandas.Index
        The values of each of the factors that are combined.
    cells : ndarray of shape (levels,)
        For each level the mixed-radix code of its combination, increasing.
    """

    keys: tuple[pd.Index, ...]
    cells: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.cells)

    @cached_property
    def labels(self) -> pd.Index:
        """Each level's label: the value itself, or ``a:b`` for combinations."""
        if len(self.keys) == 1:
            return self.keys[0]
        named = [
            key.astype(str).to_numpy(dtype=object)[part]
            for key, part in zip(self.keys, self.parts(), strict=True)
        ]
        labels = pd.Index([":".join(p) for p in zip(*named, strict=True)])
        if labels.is_unique:
            return labels
        # Values that hold colons themselves: quote them, so that the levels stay apart.
        return pd.Index([":".join(map(repr, p)) for p in zip(*named, strict=True)])

    def parts(self) -> list[npt.NDArray[np.int64]]:
        """Position of each level's value in each of the keys."""
        found, rest = [], self.cells
        for key in reversed(self.keys):
            rest, part = np.divmod(rest, len(key))
            found.append(part)
        return found[::-1]

    def take(self, kept: Codes) -> Levels:
        """Give some of the levels, by their numbers in increasing order."""
        if len(self.keys) == 1:
            return Levels((self.keys[0][kept],), np.arange(len(kept), dtype=np.int64))
        return Levels(self.keys, self.cells[kept])

    def union(self, other: Levels) -> tuple[Levels, Codes, Codes]:
        """Join two sets of levels of one factor."""
        keys = tuple(a.union(b) for a, b in zip(self.keys, other.keys, strict=True))
        recoded = []
        for levels in (self, other):
            cells = np.zeros(len(levels), dtype=np.int64)
            for new, old, part in zip(keys, levels.keys, levels.parts(), strict=True):
                cells = cells * len(new) + new.get_indexer(old)[part]
            recoded.append(cells)
        cells = np.union1d(*recoded)
        mine, theirs = (np.searchsorted(cells, c) for c in recoded)
        return Levels(keys, cells), mine, theirs

    def encode(self, values: list[Any]) -> Codes:
        """Give the level of each row, -1 where it was never seen."""
        cells = np.zeros(len(values[0]), dtype=np.int64)
        known = np.ones(len(cells), dtype=bool)
        for key, value in zip(self.keys, values, strict=True):
            part = key.get_indexer(_index(value))
            known &= part >= 0
            cells = cells * len(key) + part
        at = np.searchsorted(self.cells, cells).clip(max=len(self.cells) - 1)
        return np.where(known & (self.cells[at] == cells), at, -1)


def factorize(values: pd.Series) -> tuple[pd.Index, Codes]:
    """Find the levels that occur, and each row's."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories, codes = values.cat.categories, values.cat.codes.to_numpy().astype(np.intp)
        if (np.bincount(codes, minlength=len(categories)) > 0).all():
            return categories, codes
        used = values.cat.remove_unused_categories().cat
        return used.categories, used.codes.to_numpy().astype(np.intp)
    array = values.to_numpy()
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if high - low < 4 * len(array) + 1024:  # dense numbers need no hashing
            shifted = (array - array.dtype.type(low)).astype(np.intp)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            rank = np.cumsum(present) - 1
            return pd.Index(np.flatnonzero(present).astype(array.dtype) + low), rank[shifted]
    codes, uniques = pd.factorize(array, sort=True)
    return pd.Index(uniques), codes.astype(np.intp)


def _index(values: Any) -> pd.Index:
    """Values of new rows, to look up among known levels."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        values = np.asarray(values.astype(object))
    found: pd.Index = pd.Index(np.asarray(values))
    return found


def combine(parts: list[tuple[pd.Index, Codes]]) -> tuple[Levels, Codes]:
    """Number the combinations of several factors that occur, by arithmetic on their codes."""
    keys = tuple(key for key, _ in parts)
    if len(parts) == 1:
        return Levels(keys, np.arange(len(keys[0]))), parts[0][1]
    cells = np.zeros(len(parts[0][1]), dtype=np.int64)
    for key, codes in parts:
        cells = cells * len(key) + codes
    observed, codes = factorize(pd.Series(cells))
    return Levels(keys, observed.to_numpy(dtype=np.int64)), codes
