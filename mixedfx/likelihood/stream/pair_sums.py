"""Sums by pair of levels of two grouping factors, of some rows and added up over chunks.

A pair is the key ``row * width + col``, with the width being the second factor's number of levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.level_sums import multiply
from mixedfx.likelihood.stream.key_table import (
    Keys,
    KeyTable,
    SortedKeys,
)
from mixedfx.linalg.cholesky.block_matrix import LevelPairs, OffDiagonalBlock

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Ints = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairSums:
    """Sums by pair, each once, in increasing order."""

    shape: tuple[int, int]  # numbers of levels
    keys: Keys  # (m,)
    values: Matrix  # (products, m)

    def __add__(self, other: PairSums) -> PairSums:
        """Sums over the rows of both."""
        total = PairTable.of([self, other]).total()
        rows, cols = total.rows.astype(np.int64), total.cols
        return PairSums(self.shape, rows * self.shape[1] + cols, total.values)

    def total(self) -> PairTotals:
        """The sums by levels."""
        return PairTable.of([self]).total()


@dataclass(frozen=True)
class PairTotals:
    """Sums by pair of levels, sorted by the first."""

    rows: Ints  # (m,)
    cols: Ints  # (m,)
    values: Matrix  # (products, m)

    def total(self) -> PairTotals:
        """Themselves."""
        return self

    def of_levels(self, rows: Mask, cols: Mask) -> PairTotals:
        """Sums of some levels, among which are all of the pairs: renumbered."""
        of_rows, of_cols = (
            levels if kept.all() else (np.cumsum(kept) - 1).astype(levels.dtype)[levels]
            for levels, kept in ((self.rows, rows), (self.cols, cols))
        )
        return PairTotals(of_rows, of_cols, self.values)

    def as_block(self, n_first: int, n_second: int) -> tuple[LevelPairs, Matrix]:
        """Pairs of levels, and the block of ``Z'WZ`` over them; its memory is shared."""
        return LevelPairs(self.rows, self.cols), self.values.reshape(n_first, n_second, -1)


class PairTable:
    """Sums by pair to which those of chunks are added in place."""

    def __init__(self, shape: tuple[int, int], n_products: int) -> None:
        self.shape, self.n_products = shape, n_products
        self._table: KeyTable | None = KeyTable(shape[0] * shape[1], n_products)
        self._total: PairTotals | None = None

    @staticmethod
    def of(parts: Iterable[PairSums]) -> PairTable:
        """Table of the sums of one or more parts."""
        parts = list(parts)
        table = PairTable(parts[0].shape, len(parts[0].values))
        for part in parts:
            table.add(part)
        return table

    def add(self, sums: PairSums) -> PairTable:
        """Add those of further rows."""
        assert self._table is not None
        self._table.add(sums.keys, sums.values)
        return self

    def total(self) -> PairTotals:
        """The sums by levels; nothing can be added any more."""
        if self._table is not None:
            self._total, self._table = self._taken(self._table), None
        assert self._total is not None
        return self._total

    def _taken(self, table: KeyTable) -> PairTotals:
        most, width = table.places(), self.shape[1]
        rows, cols = (_levels(most, n_levels) for n_levels in self.shape)
        values = np.empty((self.n_products, most))

        def put(place: slice, keys: Keys, sums: Iterable[Vector]) -> None:
            of_rows = keys // width
            rows[place] = of_rows
            of_rows *= width
            cols[place] = np.subtract(keys, of_rows, out=keys)
            for own, into in zip(sums, values, strict=True):
                into[place] = own

        n = table.take(put)
        return PairTotals(rows[:n], cols[:n], values[:, :n])


def _levels(n: int, n_levels: int) -> Ints:
    """Array of n levels, in four bytes each where these are enough."""
    return np.empty(n, np.int32) if n_levels < 2**31 else np.empty(n, np.int64)


def pair_sums(
    rows: Codes,
    cols: Codes,
    shape: tuple[int, int],
    first: list[Vector | None],
    second: list[Vector | None],
    w: Vector | None,
) -> PairSums:
    """Sums of the products of the columns of two factors in some rows."""
    keys = rows.astype(np.int64)
    keys *= shape[1]
    keys += cols
    found = SortedKeys(keys)
    values = np.empty((len(first) * len(second), len(found.keys)))
    products = (multiply(multiply(a, b), w) for a in first for b in second)
    for product, into in zip(products, values, strict=True):
        into[:] = found.sums(product)
    return PairSums(shape, found.keys, values)


def add_blocks(*parts: tuple[OffDiagonalBlock, Codes, Codes]) -> tuple[LevelPairs, Matrix]:
    """Sum blocks over the union of their pairs, given the levels of rows and columns."""
    n_rows = 1 + max(int(in_rows.max(initial=0)) for _, in_rows, _ in parts)
    width = 1 + max(int(in_cols.max(initial=0)) for _, _, in_cols in parts)
    K, k, _ = parts[0][0].values.shape
    table = PairTable((n_rows, width), K * k)
    for block, in_rows, in_cols in parts:
        keys = in_rows[block.rows].astype(np.int64) * width + in_cols[block.cols]
        order = np.argsort(keys)
        values = block.values.reshape(K * k, -1)[:, order]
        table.add(PairSums(table.shape, keys[order], values))
    return table.total().as_block(K, k)
