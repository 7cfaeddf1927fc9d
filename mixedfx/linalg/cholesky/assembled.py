"""Values of a block matrix in the elimination order, before elimination.

A block matrix is assembled once and factorised at many ``Lambda``: what its values alone determine
is stored here. The first update is linear in ``G`` with constant coefficients, so its sparse
Jacobians are among it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from mixedfx.linalg.cholesky.analysis import symbolic_factor
from mixedfx.linalg.cholesky.batched import pack_lower
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    SymbolicFactor,
)


@dataclass(frozen=True)
class TransposePair:
    """A sparse matrix and its transpose, stored as building one costs more than a product."""

    matrix: Any
    transpose: Any

    @classmethod
    def of(cls, matrix: Any) -> TransposePair:
        """Pair a matrix with its transpose, which shares its memory."""
        return cls(matrix, matrix.T)


@dataclass(frozen=True)
class PairwiseEntries:
    """Entries ``A_r`` of an eliminated factor, for a pairwise update."""

    values: Array  # (K, entries)
    A_r: TransposePair  # (K L, all columns)
    jacobians: tuple[TransposePair, ...]  # (trailing values, L), per distinct entry of G

    @classmethod
    def of(cls, step: EliminationStep, update: PairwiseUpdate, values: Array) -> PairwiseEntries:
        """Build the sparse matrices of the values."""
        A_r = TransposePair.of(step.entry_matrix(values))
        return cls(values, A_r, tuple(map(TransposePair.of, update.jacobians(values))))


@dataclass(frozen=True)
class DenseEntries:
    """Entries ``A_r`` of an eliminated factor, for dense products over batches of levels."""

    A_r: sparse.csr_array  # (K L, dense columns)
    K: int
    array: Array | None  # (K, L, dense columns), where there is a single batch

    @classmethod
    def of(
        cls, step: EliminationStep, update: DenseUpdate, values: Array, dense_start: int
    ) -> DenseEntries:
        """Build the matrices of the values."""
        A_r = step.entry_matrix(values, dense_start)
        single = len(update.batches) == 1
        return cls(A_r, step.K, A_r.toarray().reshape(step.K, step.L, -1) if single else None)

    def rows(self, first: int, last: int) -> Array:
        """Entries of a batch of levels as a dense array, (K, last - first, dense columns)."""
        if self.array is not None:
            return self.array
        L = self.A_r.shape[0] // self.K
        rows = [self.A_r[a * L + first : a * L + last].toarray() for a in range(self.K)]
        return np.stack(rows)


@dataclass(frozen=True)
class AssembledMatrix:
    """Values of a block matrix in the elimination order; returned by :func:`assemble`."""

    symbolic: SymbolicFactor
    diagonal: tuple[Array, ...] = field(repr=False)  # those of the block matrix
    off_diagonal: Mapping[tuple[int, int], Array] = field(repr=False)  # likewise
    trailing_values: Array = field(repr=False)  # before elimination
    first_entries: PairwiseEntries | DenseEntries | None = field(repr=False)  # of the first step

    @cached_property
    def sparse_matrix(self) -> sparse.csr_array:
        """The block matrix as one sparse matrix, columns in the elimination order."""
        symbolic, layout = self.symbolic, self.symbolic.layout
        rows: list[Ints] = []
        cols: list[Ints] = []
        values: list[Array] = []
        for f in layout.factors:
            level = np.arange(layout.levels(f))
            for a in range(layout.width(f)):
                for b in range(layout.width(f)):
                    rows.append(symbolic.starts[f] + a * len(level) + level)
                    cols.append(symbolic.starts[f] + b * len(level) + level)
                    values.append(self.diagonal[f][a, b])
        for (f, g), pairs in symbolic.pairs.items():
            for a in range(layout.width(f)):
                for b in range(layout.width(g)):
                    row = symbolic.starts[f] + a * layout.levels(f) + pairs.rows
                    col = symbolic.starts[g] + b * layout.levels(g) + pairs.cols
                    rows += [row, col]
                    cols += [col, row]
                    values += [self.off_diagonal[f, g][a, b]] * 2
        shape = (symbolic.size, symbolic.size)
        if not rows:
            return sparse.csr_array(shape)
        indices = (np.concatenate(rows), np.concatenate(cols))
        return sparse.coo_array((np.concatenate(values), indices), shape=shape).tocsr()


def assemble(block_matrix: BlockMatrix) -> AssembledMatrix:
    """Assemble a block matrix, at the first call: the result is stored with it.

    Its pattern is analysed if it has not been.
    """
    if "assembled" not in block_matrix.cache:
        symbolic = symbolic_factor(block_matrix.pattern)
        block_matrix.cache["assembled"] = _assemble(symbolic, block_matrix)
    assembled: AssembledMatrix = block_matrix.cache["assembled"]
    return assembled


def _assemble(symbolic: SymbolicFactor, block_matrix: BlockMatrix) -> AssembledMatrix:
    leading: dict[tuple[int, int], Array] = {}
    for (f, g), order in symbolic.pair_order.items():
        leading[f, g] = block_matrix.off_diagonal[min(f, g), max(f, g)]
        if order is not None:
            leading[f, g] = leading[f, g].transpose(1, 0, 2)[:, :, order]
    return AssembledMatrix(
        symbolic,
        block_matrix.diagonal,
        block_matrix.off_diagonal,
        _trailing_values(symbolic, block_matrix, leading),
        _first_entries(symbolic, leading),
    )


def _trailing_values(
    symbolic: SymbolicFactor, block_matrix: BlockMatrix, leading: Mapping[tuple[int, int], Array]
) -> Array:
    """Values of all blocks that elimination changes, before it."""
    values = []
    for i, f in enumerate(symbolic.leading_factors[1:], start=1):
        values += pack_lower(block_matrix.diagonal[f])
        values += [leading[f, g].ravel() for g in symbolic.order[i + 1 :]]
    dense = np.zeros((symbolic.dense_size, symbolic.dense_size))
    _fill_dense_block(symbolic, block_matrix, dense)
    return np.concatenate([*values, dense.ravel()]) if values else dense.ravel()


def _fill_dense_block(symbolic: SymbolicFactor, block_matrix: BlockMatrix, dense: Array) -> None:
    """Fill the lower triangle of the dense block."""
    layout = symbolic.layout
    for i, f in enumerate(symbolic.dense_factors):
        L, level = layout.levels(f), np.arange(layout.levels(f))
        start = symbolic.starts[f] - symbolic.dense_start
        for a in range(layout.width(f)):
            for b in range(a + 1):
                dense[start + a * L + level, start + b * L + level] = block_matrix.diagonal[f][a, b]
        for g in symbolic.dense_factors[i + 1 :]:
            later = symbolic.starts[g] - symbolic.dense_start
            pairs = symbolic.pairs[min(f, g), max(f, g)]
            values = block_matrix.off_diagonal[min(f, g), max(f, g)]
            of_f, of_g = (pairs.rows, pairs.cols) if f < g else (pairs.cols, pairs.rows)
            for a in range(layout.width(f)):
                for b in range(layout.width(g)):
                    rows, cols = later + b * layout.levels(g) + of_g, start + a * L + of_f
                    dense[rows, cols] = values[a, b] if f < g else values[b, a]


def _first_entries(
    symbolic: SymbolicFactor, leading: Mapping[tuple[int, int], Array]
) -> PairwiseEntries | DenseEntries | None:
    """Entries of the first eliminated factor in the later columns."""
    if not symbolic.steps or symbolic.steps[0].update is None:
        return None
    step, update = symbolic.steps[0], symbolic.steps[0].update
    blocks = [leading[step.factor, g] for g in symbolic.order[1:]]
    columns = [block[:, b] for block in blocks for b in range(block.shape[1])]
    if step.entry_order is None:
        values = columns[0]
    else:
        values = np.concatenate(columns, axis=1)[:, step.entry_order]
    if isinstance(update, DenseUpdate):
        return DenseEntries.of(step, update, values, symbolic.dense_start)
    return PairwiseEntries.of(step, update, values)
