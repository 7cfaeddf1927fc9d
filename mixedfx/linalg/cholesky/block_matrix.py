"""Symmetric block matrix over grouping factors, ``Z'WZ``: a pattern, and values in it.

Matrices of the same rows at different weights have one pattern. What depends on the pattern alone
(the symbolic factor), and what depends on the values alone, is computed once and stored with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

# Pairs of levels that are looked at together.
_BATCH = 4_000_000


@dataclass(frozen=True)
class BlockLayout:
    """Columns of each grouping factor."""

    widths: tuple[int, ...]  # columns per level, K
    n_levels: tuple[int, ...]  # L

    @property
    def factors(self) -> range:
        """Indices of the factors."""
        return range(len(self.widths))

    def width(self, i: int) -> int:
        """Columns of factor ``i`` per level, ``K``."""
        return self.widths[i]

    def levels(self, i: int) -> int:
        """Levels of factor ``i``, ``L``."""
        return self.n_levels[i]

    def size(self, i: int) -> int:
        """Scalar columns of factor ``i``, ``K L``."""
        return self.widths[i] * self.n_levels[i]


@dataclass(frozen=True, eq=False)
class LevelPairs:
    """Pairs of levels of two factors that occur together."""

    rows: Ints  # (pairs,) levels of the first factor; sorted by rows, then cols
    cols: Ints  # (pairs,) levels of the second factor

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.rows, self.cols)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.rows)

    def row_starts(self, n_levels: int) -> Ints:
        """Where the pairs of each level of the first factor start, and the end, (n_levels + 1,)."""
        levels = np.arange(n_levels + 1, dtype=self.rows.dtype)
        return np.searchsorted(self.rows, levels)

    def batches(self) -> Iterator[slice]:
        """Slices of a bounded number of pairs: temporary arrays of all would be large."""
        for first in range(0, len(self), _BATCH):
            yield slice(first, first + _BATCH)

    def counts(self, n_rows: int, n_cols: int) -> tuple[Ints, Ints]:
        """Pairs of each level of both factors."""
        of_cols = np.zeros(n_cols, dtype=np.intp)
        for batch in self.batches():
            of_cols += np.bincount(self.cols[batch], minlength=n_cols)
        return np.diff(self.row_starts(n_rows)), of_cols

    def positions(self, rows: Ints, cols: Ints, width: int) -> npt.NDArray[np.intp]:
        """Position of pairs that are among these; levels of the second factor are below width."""
        keys = self.rows.astype(np.int64, copy=False) * width + self.cols
        return np.searchsorted(keys, rows.astype(np.int64, copy=False) * width + cols)

    def transposed(self) -> tuple[LevelPairs, Ints]:
        """Pairs sorted by the levels of the second factor, and the order that sorts them."""
        order = np.lexsort((self.rows, self.cols))
        return LevelPairs(self.cols[order], self.rows[order]), order

    def same(self, other: LevelPairs) -> bool:
        """Whether the pairs are the same."""
        return self is other or (
            np.array_equal(self.rows, other.rows) and np.array_equal(self.cols, other.cols)
        )


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Positions of the values of a :class:`BlockMatrix`; equal and hashed by identity."""

    layout: BlockLayout
    pairs: Mapping[tuple[int, int], LevelPairs]  # for every two factors i < j
    # Of factors whose own block is not block-diagonal: pairs of levels, the later one first.
    within: Mapping[int, LevelPairs] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)  # not pickled

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "cache": {}}

    def is_nested(self, i: int, j: int) -> bool:
        """Whether each level of ``i`` occurs with a single level of ``j``."""
        return len(self.pairs[min(i, j), max(i, j)]) == self.layout.levels(i)

    def same(self, other: BlockPattern) -> bool:
        """Whether the positions are the same."""
        if self is other:
            return True
        if self.layout != other.layout or self.pairs.keys() != other.pairs.keys():
            return False
        if self.within.keys() != other.within.keys():
            return False
        own = all(pairs.same(other.within[i]) for i, pairs in self.within.items())
        return own and all(pairs.same(other.pairs[ij]) for ij, pairs in self.pairs.items())


@dataclass(frozen=True)
class OffDiagonalBlock:
    """Cross-products between two factors, for the pairs of levels that occur together."""

    rows: Ints  # (pairs,) levels of the first factor; sorted by rows, then cols
    cols: Ints  # (pairs,) levels of the second factor
    values: Array  # (K_first, K_second, pairs)


@dataclass(frozen=True, eq=False)
class BlockMatrix:
    """Symmetric matrix with block-diagonal blocks of each factor and sparse blocks between them."""

    pattern: BlockPattern
    diagonal: tuple[Array, ...]  # per factor (K, K, L)
    off_diagonal: Mapping[tuple[int, int], Array]  # for i < j, (K_i, K_j, pairs)
    within: Mapping[int, Array] = field(default_factory=dict)  # (K_i, K_i, pairs)
    cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)  # not pickled

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*self.diagonal, *self.off_diagonal.values(), *self.within.values())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "cache": {}}

    @property
    def layout(self) -> BlockLayout:
        """Columns of each factor."""
        return self.pattern.layout

    def block(self, i: int, j: int) -> OffDiagonalBlock:
        """Off-diagonal block of ``i`` and ``j``, sorted by the levels of ``i``."""
        if i < j:
            pairs, values = self.pattern.pairs[i, j], self.off_diagonal[i, j]
        else:
            pairs, order = self.pattern.pairs[j, i].transposed()
            values = self.off_diagonal[j, i].transpose(1, 0, 2)[:, :, order]
        return OffDiagonalBlock(pairs.rows, pairs.cols, values)

    def blocks(self) -> Iterator[tuple[tuple[int, int], OffDiagonalBlock]]:
        """Off-diagonal blocks of every two factors ``i < j``."""
        for i, j in self.pattern.pairs:
            yield (i, j), self.block(i, j)
