"""Entries ``A_r`` of an eliminated factor in the later columns, and the products with them.

There are three ways to compute ``A_r' G A_r`` and its derivatives: pair by pair of the entries that
share a level, by dense products over batches of levels where the entries fill the dense block, and
by sparse products over panels of the dense block where the pairs are too many to be stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.batched import pack_lower, unpack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.dense import symmetrize
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    SparseUpdate,
    TransposePair,
)

# Columns of a panel of dense products.
_PANEL = 512


@dataclass(frozen=True)
class Entries(ABC):
    """Entries of one elimination step, and the products that do not depend on the update."""

    step: EliminationStep = field(repr=False)
    values: Array  # (K, entries)

    @cached_property
    def _A_r(self) -> TransposePair:
        return self.step.entry_matrix(self.values)

    def multiply(self, x: Array) -> Array:
        """``A_r x``, (K L, ...), for ``x`` over all columns."""
        return np.asarray(self._A_r.matrix @ x)

    def multiply_transposed(self, x: Array) -> Array:
        """``A_r' x``, (all columns, m)."""
        return np.asarray(self._A_r.transpose @ x)

    def sum_by_level(self, Y: Array) -> Array:
        """``Y A_r'``, symmetric, level by level, for ``Y`` at the entries, (K, entries)."""
        return self.step.sum_by_level(Y, self.values)

    @abstractmethod
    def subtract_update(self, G: Array, trailing: Array) -> None:
        """Subtract ``A_r' G A_r`` from the trailing values."""

    @abstractmethod
    def multiply_trailing(self, trailing: Array) -> Array:
        """``A_r (T + T')`` at the entries, (K, entries); ``T`` is a triangle of trailing values."""

    def quadratic(self, trailing: Array) -> Array:
        """``A_r (T + T') A_r'`` level by level, (K, K, L)."""
        return self.sum_by_level(self.multiply_trailing(trailing))


@dataclass(frozen=True)
class PairwiseEntries(Entries):
    """Entries for a pairwise update."""

    update: PairwiseUpdate

    @cached_property
    def _jacobians(self) -> tuple[TransposePair, ...]:
        return self.update.jacobians(self.values)

    def subtract_update(self, G: Array, trailing: Array) -> None:
        """Add up the Jacobians' products."""
        for jacobian, g in zip(self._jacobians, pack_lower(G), strict=True):
            trailing -= jacobian.matrix @ g

    def multiply_trailing(self, trailing: Array) -> Array:
        """Add up all pairs."""
        return self.update.multiply(self.values, trailing)

    def quadratic(self, trailing: Array) -> Array:
        """Add up the Jacobians' transposed products."""
        Q = unpack_lower(np.stack([j.transpose @ trailing for j in self._jacobians]), self.step.K)
        # The Jacobian by an entry of G below the diagonal covers its two places.
        for a in range(self.step.K):
            Q[a, a] *= 2.0
        return Q


@dataclass(frozen=True)
class DenseEntries(Entries):
    """Entries for dense products over batches of levels."""

    update: DenseUpdate

    @property
    def _batches(self) -> Iterator[Array]:
        """Dense entries (K, levels, dense columns) of each batch."""
        for first, last in self.update.batches:
            yield self._rows(first, last) if self._array is None else self._array

    @cached_property
    def _array(self) -> Array | None:
        """Entries of all levels, where there is a single batch."""
        return self._rows(*self.update.batches[0]) if len(self.update.batches) == 1 else None

    def _rows(self, first: int, last: int) -> Array:
        K, shape = self.step.K, (self.step.K, last - first, self._size)
        batch = slice(*self.step.level_starts[[first, last]].tolist())
        positions = self._positions(batch, first, last)
        if positions is None:
            return self.values[:, batch].reshape(shape)
        rows = np.zeros((K, shape[1] * shape[2]))
        for a in range(K):
            rows[a, positions] = self.values[a, batch]
        return rows.reshape(shape)

    def _positions(self, batch: slice, first: int, last: int) -> Ints | None:
        """Positions of a batch's entries among all columns of its levels; None if these are all."""
        if batch.stop - batch.start == (last - first) * self._size:
            return None
        row_starts = (self.step.entry_levels[batch] - first) * self._size
        return np.asarray(row_starts + self.step.entry_columns[batch] - self._start)

    @property
    def _start(self) -> int:
        """First column of the dense block, which follows this only leading factor."""
        return self.step.start + self.step.K * self.step.L

    @property
    def _size(self) -> int:
        return self.step.n_columns - self._start

    def subtract_update(self, G: Array, trailing: Array) -> None:
        """Subtract the products of each batch."""
        dense = trailing.reshape(self._size, self._size)
        for (first, last), A_r in zip(self.update.batches, self._batches, strict=True):
            GA_r = np.zeros_like(A_r)
            for a in range(self.step.K):
                for b in range(self.step.K):
                    GA_r[a] += G[a, b, first:last, None] * A_r[b]
            left, right = A_r.reshape(-1, self._size), GA_r.reshape(-1, self._size)
            for j in range(0, self._size, _PANEL):  # the lower triangle of a symmetric product
                panel = slice(j, j + _PANEL)
                dense[panel, : j + _PANEL] -= left[:, panel].T @ right[:, : j + _PANEL]

    def multiply_trailing(self, trailing: Array) -> Array:
        """Multiply all columns, of which the entries are gathered."""
        P = trailing.reshape(self._size, self._size).copy()
        symmetrize(P)
        P.reshape(-1)[:: self._size + 1] *= 2.0
        Y = np.empty_like(self.values)
        for (first, last), A_r in zip(self.update.batches, self._batches, strict=True):
            A_r_P = (A_r.reshape(-1, self._size) @ P).reshape(self.step.K, -1)
            batch = slice(*self.step.level_starts[[first, last]].tolist())
            positions = self._positions(batch, first, last)
            Y[:, batch] = A_r_P if positions is None else A_r_P.take(positions, axis=1)
        return Y


@dataclass(frozen=True)
class SparseEntries(Entries):
    """Entries for sparse products over panels of the dense block's columns."""

    update: SparseUpdate

    @cached_property
    def _with_leading(self) -> PairwiseEntries | None:
        if self.update.with_leading is None:
            return None
        return PairwiseEntries(self.step, self.values, self.update.with_leading)

    @property
    def _in_block(self) -> Array:
        """Values in columns of the dense block, (K, entries)."""
        at = self.update.in_block
        return self.values if at is None else self.values.take(at, axis=1)

    def _by_level(self, values: Array) -> sparse.csr_array:
        """Entries as a matrix (L, t)."""
        shape = (self.step.L, self.update.size)
        return sparse.csr_array((values, self.update.columns, self.update.level_starts), shape)

    def subtract_update(self, G: Array, trailing: Array) -> None:
        """Subtract ``sum_a A_a' (G A)_a`` from the lower triangle, panel by panel."""
        update, values, t = self.update, self._in_block, self.update.size
        if self._with_leading is not None:
            self._with_leading.subtract_update(G, trailing)
        dense, counts = trailing[update.dense_offset :].reshape(t, t), np.diff(update.level_starts)
        for a in range(self.step.K):
            GA = sum(np.repeat(g, counts) * v for g, v in zip(G[a], values, strict=True))
            right, left = self._by_level(np.asarray(GA)), values[a].take(update.by_column)
            for first, last in update.panels:
                starts = update.column_starts[first : last + 1]
                part = slice(starts[0], starts[-1])
                columns = (left[part], update.levels[part], starts - starts[0])
                panel = sparse.csr_array(columns, (last - first, self.step.L))
                dense[first:last, :last] -= (panel @ right[:, :last]).toarray()

    def multiply_trailing(self, trailing: Array) -> Array:
        """Multiply the levels of each column by its row of ``T + T'``."""
        update, values, t = self.update, self._in_block, self.update.size
        dense = trailing[update.dense_offset :].reshape(t, t)
        symmetrize(dense)  # in place: of T the lower triangle alone is read elsewhere
        Y = np.diagonal(dense)[update.columns] * values  # of T + T' the diagonal counts twice
        by_level = [self._by_level(v) for v in values]
        for column in range(t):
            part = slice(*update.column_starts[column : column + 2].tolist())
            levels, entries = update.levels[part], update.by_column[part]
            for a, matrix in enumerate(by_level):
                Y[a, entries] += matrix[levels] @ dense[column]
        if self._with_leading is None:
            return np.asarray(Y)
        found = self._with_leading.multiply_trailing(trailing)
        found[:, update.in_block] += Y
        return found


def step_entries(step: EliminationStep, values: Array) -> Entries | None:
    """Entries with given values, (K, entries); None for a factor without later columns."""
    if isinstance(step.update, DenseUpdate):
        return DenseEntries(step, values, step.update)
    if isinstance(step.update, PairwiseUpdate):
        return PairwiseEntries(step, values, step.update)
    if isinstance(step.update, SparseUpdate):
        return SparseEntries(step, values, step.update)
    return None


@dataclass(frozen=True)
class NumericStep:
    """Values of one elimination step."""

    A: Array  # (K, K, L) diagonal block when the factor is eliminated
    G: Array  # (K, K, L)
    lam_M_inv: Array  # (K, K, L), Lambda M^-1
    entries: Entries | None  # None for a factor without entries
