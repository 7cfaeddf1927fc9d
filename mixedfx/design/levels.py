"""Levels of a grouping factor: enumeration on the rows of a fit, and look-up on new rows.

A level of ``a:b`` is an observed combination, coded in mixed radix: the position of the value of
``a``, times the number of values of ``b``, plus the position of the value of ``b``.
"""

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
    """The observed levels of a grouping factor."""

    factor_values: tuple[pd.Index, ...]  # the values of each factor that is combined
    combinations: npt.NDArray[np.int64]  # (levels,) mixed-radix codes, increasing

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.combinations)

    @cached_property
    def labels(self) -> pd.Index:
        """Each level's label: the value itself, or ``a:b`` for combinations."""
        if len(self.factor_values) == 1:
            return self.factor_values[0]
        texts = [
            values.astype(str).to_numpy(dtype=object)[positions]
            for values, positions in zip(self.factor_values, self.value_positions(), strict=True)
        ]
        labels = pd.Index([":".join(parts) for parts in zip(*texts, strict=True)])
        if labels.is_unique:
            return labels
        # Values that contain colons: quoted, labels of different levels differ.
        return pd.Index([":".join(map(repr, parts)) for parts in zip(*texts, strict=True)])

    def value_positions(self) -> list[npt.NDArray[np.int64]]:
        """Position of each level's value among the values of each factor."""
        positions, quotient = [], self.combinations
        for values in reversed(self.factor_values):
            quotient, remainder = np.divmod(quotient, len(values))
            positions.append(remainder)
        return positions[::-1]

    def take(self, kept: Codes) -> Levels:
        """Select levels by their numbers, in increasing order."""
        if len(self.factor_values) == 1:
            return Levels((self.factor_values[0][kept],), np.arange(len(kept), dtype=np.int64))
        return Levels(self.factor_values, self.combinations[kept])

    def union(self, other: Levels) -> tuple[Levels, Codes, Codes]:
        """Unite two sets of levels of one factor, with the new numbers of the levels of each."""
        united = tuple(
            a.union(b) for a, b in zip(self.factor_values, other.factor_values, strict=True)
        )
        recoded = []
        for levels in (self, other):
            combinations = np.zeros(len(levels), dtype=np.int64)
            for new, old, positions in zip(
                united, levels.factor_values, levels.value_positions(), strict=True
            ):
                combinations = combinations * len(new) + new.get_indexer(old)[positions]
            recoded.append(combinations)
        combinations = np.union1d(*recoded)
        codes_self, codes_other = (np.searchsorted(combinations, c) for c in recoded)
        return Levels(united, combinations), codes_self, codes_other

    def encode(self, values: list[Any]) -> Codes:
        """Look up the level of each row, -1 where it is unseen; one array of values a factor."""
        combinations = np.zeros(len(values[0]), dtype=np.int64)
        seen = np.ones(len(combinations), dtype=bool)
        for factor_values, column in zip(self.factor_values, values, strict=True):
            positions = factor_values.get_indexer(_as_index(column))
            seen &= positions >= 0
            combinations = combinations * len(factor_values) + positions
        at = np.searchsorted(self.combinations, combinations)
        at = at.clip(max=len(self.combinations) - 1)
        return np.where(seen & (self.combinations[at] == combinations), at, -1)


def _as_index(values: Any) -> pd.Index:
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        values = np.asarray(values.astype(object))
    index: pd.Index = pd.Index(np.asarray(values))
    return index


def factorize(values: pd.Series) -> tuple[pd.Index, Codes]:
    """Find the sorted values that occur (a categorical's in their order), and each row's code."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories, codes = values.cat.categories, values.cat.codes.to_numpy().astype(np.intp)
        if (np.bincount(codes, minlength=len(categories)) > 0).all():
            return categories, codes
        used = values.cat.remove_unused_categories().cat
        return used.categories, used.codes.to_numpy().astype(np.intp)
    array = values.to_numpy()
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if high - low < 4 * len(array) + 1024:  # a narrow range of integers needs no hashing
            shifted = (array - array.dtype.type(low)).astype(np.intp)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            rank = np.cumsum(present) - 1
            return pd.Index(np.flatnonzero(present).astype(array.dtype) + low), rank[shifted]
    codes, uniques = pd.factorize(array, sort=True)
    return pd.Index(uniques), codes.astype(np.intp)


def combine(factors: list[tuple[pd.Index, Codes]]) -> tuple[Levels, Codes]:
    """Number the observed combinations of several factors, each given as its values and codes."""
    factor_values = tuple(values for values, _ in factors)
    if len(factors) == 1:
        return Levels(factor_values, np.arange(len(factor_values[0]))), factors[0][1]
    combinations = np.zeros(len(factors[0][1]), dtype=np.int64)
    for values, codes in factors:
        combinations = combinations * len(values) + codes
    observed, codes = factorize(pd.Series(combinations))
    return Levels(factor_values, observed.to_numpy(dtype=np.int64)), codes
