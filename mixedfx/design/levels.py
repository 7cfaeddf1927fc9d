"""Levels of a grouping factor: enumeration on the rows of a fit, and look-up on new rows.

A level of ``a:b:c`` is an observed combination, numbered pair by pair: the number of the value of
``a``, times the number of values of ``b``, plus the number of the value of ``b``, is renumbered
among those observed before ``c`` is joined. No product exceeds levels times values, so that any
number of factors fits into 64 bits.

Keys are looked up as they are, and where that fails as text, as in R: ``308`` finds ``"308"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx._keys import key_text, positions_of_keys

Codes = npt.NDArray[np.intp]
Values = pd.Index | npt.NDArray[Any]


def are_nested(inner: Codes, outer: Codes) -> bool:
    """Whether each level of one factor occurs with a single level of another; both (n,)."""
    outer_of = np.empty(int(inner.max(initial=-1)) + 1, dtype=np.intp)
    outer_of[inner] = outer
    return bool((outer_of[inner] == outer).all())


def outermost(factors: Mapping[str, Codes]) -> str | None:
    """Name of the first factor that all others are nested in, if there is one."""
    for name, outer in factors.items():
        if all(are_nested(inner, outer) for inner in factors.values()):
            return name
    return None


@dataclass(frozen=True)
class Levels:
    """The observed levels of a grouping factor."""

    factor_values: tuple[pd.Index, ...]  # the values of each factor that is combined
    value_positions: tuple[Codes, ...]  # of each factor, (levels,) positions of the levels' values

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*self.value_positions)

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.value_positions[0])

    @cached_property
    def labels(self) -> pd.Index:
        """Each level's label: the value itself, or ``a:b`` for combinations."""
        if len(self.factor_values) == 1:
            return self.factor_values[0]
        texts = [
            values.astype(str).to_numpy(dtype=object)[positions]
            for values, positions in zip(self.factor_values, self.value_positions, strict=True)
        ]
        labels = pd.Index([":".join(parts) for parts in zip(*texts, strict=True)])
        if labels.is_unique:
            return labels
        # Values that contain colons: quoted, labels of different levels differ.
        return pd.Index([":".join(map(repr, parts)) for parts in zip(*texts, strict=True)])

    def take(self, kept: Codes) -> Levels:
        """Select levels by their numbers, in increasing order."""
        if len(self.factor_values) == 1:
            return Levels((self.factor_values[0][kept],), (np.arange(len(kept)),))
        return Levels(self.factor_values, tuple(p[kept] for p in self.value_positions))

    def union(self, other: Levels) -> tuple[Levels, Codes, Codes]:
        """Unite two sets of levels of one factor, with the new numbers of the levels of each."""
        united, positions = [], []
        for a, b, in_a, in_b in zip(
            self.factor_values,
            other.factor_values,
            self.value_positions,
            other.value_positions,
            strict=True,
        ):
            united.append(_union_of_values(a, b))
            new_a, new_b = (positions_of_keys(values, united[-1]) for values in (a, b))
            positions.append(np.concatenate([new_a[in_a], new_b[in_b]]))
        levels, codes = combine(list(zip(united, positions, strict=True)))
        return levels, codes[: len(self)], codes[len(self) :]

    def encode(self, values: list[Any]) -> Codes:
        """Look up the level of each row, -1 where it is unseen; one array of values a factor."""
        columns = [
            _positions(column, factor_values)
            for factor_values, column in zip(self.factor_values, values, strict=True)
        ]
        of_rows, of_levels = columns[0], self.value_positions[0]
        for size, column, positions in zip(
            map(len, self.factor_values[1:]), columns[1:], self.value_positions[1:], strict=True
        ):
            pairs, of_levels = np.unique(of_levels * size + positions, return_inverse=True)
            wanted = np.where((of_rows >= 0) & (column >= 0), of_rows * size + column, -1)
            at = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
            of_rows = np.where(pairs[at] == wanted, at, -1)
        return of_rows


class FoundLevels(Levels):
    """Levels in the rows of a fit, whose values are pandas' when they are asked for."""

    def __init__(self, values: tuple[Values, ...], value_positions: tuple[Codes, ...]) -> None:
        vars(self).update(values=values, value_positions=value_positions)
        self.__post_init__()

    @cached_property
    def factor_values(self) -> tuple[pd.Index, ...]:
        """The values of each factor that is combined."""
        return tuple(map(pd.Index, vars(self)["values"]))


def _union_of_values(a: pd.Index, b: pd.Index) -> pd.Index:
    """Values of either, sorted where they compare; keys of one text are one value."""
    further = b[positions_of_keys(b, a) < 0]
    comparable = len(further) == 0 or a.inferred_type == further.inferred_type
    united: pd.Index = a.union(further) if comparable else a.append(further)
    return united


def _positions(column: Any, values: pd.Index) -> Codes:
    """Position of the value of each row among distinct ones, -1 where it is none of them."""
    if not isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        return positions_of_keys(pd.Index(np.asarray(column)), values)
    categorical: Any = column.array if isinstance(column, pd.Series) else column
    categories = np.asarray(categorical.categories, dtype=object)
    found = positions_of_keys(pd.Index(categories, dtype=object), values)
    return np.asarray(np.append(found, -1)[categorical.codes])  # the code of no value is -1


def factorize(values: pd.Series) -> tuple[pd.Index, Codes]:
    """Find the sorted values that occur (a categorical's in their order), and each row's code."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        categorical: Any = values.array
        return used_categories(categorical.categories, categorical.codes.astype(np.intp))
    distinct, codes = distinct_values(values.to_numpy())
    return pd.Index(distinct), codes


def used_categories(categories: pd.Index, codes: Codes) -> tuple[pd.Index, Codes]:
    """Categories that occur, those of one text as one, and each row's code."""
    if categories.dtype == object and categories.inferred_type.startswith("mixed"):
        categories, codes = _merge_same_text(categories, codes)
    occurs = np.bincount(codes, minlength=len(categories)) > 0
    if occurs.all():
        return categories, codes
    rank = np.add.accumulate(occurs, dtype=np.intp) - 1
    return categories[occurs], rank[codes]


def distinct_values(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Codes]:
    """Sorted values of an array, and each entry's number."""
    if array.dtype.kind in "iu":
        low, high = int(np.minimum.reduce(array)), int(np.maximum.reduce(array))
        if high - low < 4 * len(array) + 1024:  # a narrow range of integers needs no hashing
            shifted = (array - array.dtype.type(low)).astype(np.intp, copy=False)
            present = np.bincount(shifted, minlength=high - low + 1) > 0
            rank = np.add.accumulate(present, dtype=np.intp) - 1
            return present.nonzero()[0].astype(array.dtype, copy=False) + low, rank[shifted]
    codes, distinct = pd.factorize(array, sort=True)
    return distinct, codes.astype(np.intp)


def _merge_same_text(categories: pd.Index, codes: Codes) -> tuple[pd.Index, Codes]:
    """Merge values of several types that have one text, ``5`` and ``"5"``: all become text."""
    merged, texts = pd.factorize(np.array([key_text(c) for c in categories], dtype=object))
    if len(texts) == len(categories):
        return categories, codes
    order = np.argsort(texts)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return pd.Index(texts[order]), rank[merged][codes]


def combine(factors: Sequence[tuple[Values, Codes]]) -> tuple[Levels, Codes]:
    """Number the observed combinations of several factors, each given as its values and codes."""
    factor_values = tuple(values for values, _ in factors)
    codes = factors[0][1]
    if len(factors) == 1:
        return FoundLevels(factor_values, (np.arange(len(factor_values[0])),)), codes
    positions: tuple[Codes, ...] = (np.arange(len(factor_values[0])),)
    for values, of_factor in factors[1:]:
        pairs, codes = distinct_values(codes.astype(np.int64) * len(values) + of_factor)
        before, last = np.divmod(pairs.astype(np.intp), len(values))
        positions = (*(p[before] for p in positions), last)
    return FoundLevels(factor_values, positions), codes
