"""Entries ``A_r`` of an eliminated factor in the later columns, and the products with them.

There are two ways to compute ``A_r' G A_r`` and its derivatives: pair by pair of the entries that
share a level, or by dense products over batches of levels where the entries fill the dense block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mixedfx.linalg.cholesky.batched import pack_lower, unpack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, Ints
from mixedfx.linalg.cholesky.dense import symmetrize
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    TransposePair,
)


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
            shape = (A_r.shape[0] * A_r.shape[1], -1)
            dense -= A_r.reshape(shape).T @ GA_r.reshape(shape)

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


def step_entries(step: EliminationStep, values: Array) -> Entries | None:
    """Entries with given values, (K, entries); None for a factor without later columns."""
    if isinstance(step.update, DenseUpdate):
        return DenseEntries(step, values, step.update)
    if isinstance(step.update, PairwiseUpdate):
        return PairwiseEntries(step, values, step.update)
    return None


@dataclass(frozen=True)
class NumericStep:
    """Values of one elimination step."""

    A: Array  # (K, K, L) diagonal block when the factor is eliminated
    G: Array  # (K, K, L)
    lam_M_inv: Array  # (K, K, L), Lambda M^-1
    entries: Entries | None  # None for a factor without entries
