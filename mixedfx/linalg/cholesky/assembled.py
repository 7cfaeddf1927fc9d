"""Values of a block matrix in the elimination order, before elimination.

A block matrix is assembled once and factorised at many ``Lambda``: what its values alone determine
is stored here. The first update is linear in ``G`` with constant coefficients, so its sparse
Jacobians are among it. All positions are those of the symbolic factor: new values of a known
pattern are only copied to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.analysis import symbolic_factor
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, Ints
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.cholesky.entries import Entries, step_entries
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor


@dataclass(frozen=True)
class AssembledMatrix:
    """Values of a block matrix in the elimination order; returned by :func:`assemble`."""

    symbolic: SymbolicFactor
    diagonal: tuple[Array, ...] = field(repr=False)  # those of the block matrix
    off_diagonal: Mapping[tuple[int, int], Array] = field(repr=False)  # likewise
    within: Mapping[int, Array] = field(repr=False)  # likewise
    trailing_values: Array = field(repr=False)  # before elimination
    first_entries: Entries | None = field(repr=False)  # of the first step

    @cached_property
    def sparse_matrix(self) -> sparse.csr_array:
        """The block matrix as one sparse matrix, columns in the elimination order."""
        return sparse_of_blocks(self.symbolic, self)


def sparse_of_blocks(
    order: EliminationOrder, matrix: BlockMatrix | AssembledMatrix
) -> sparse.csr_array:
    """Blocks as one sparse matrix, columns in an order."""
    layout = order.layout
    rows: list[Ints] = []
    cols: list[Ints] = []
    values: list[Array] = []
    for f in layout.factors:
        level = np.arange(layout.levels(f))
        for a in range(layout.width(f)):
            for b in range(layout.width(f)):
                rows.append(order.starts[f] + a * len(level) + level)
                cols.append(order.starts[f] + b * len(level) + level)
                values.append(matrix.diagonal[f][a, b])
    blocks = {**order.pairs, **{(f, f): p for f, p in order.within.items()}}
    for (f, g), pairs in blocks.items():
        of_pairs = matrix.within[f] if f == g else matrix.off_diagonal[f, g]
        for a in range(layout.width(f)):
            for b in range(layout.width(g)):
                row = order.starts[f] + a * layout.levels(f) + pairs.rows
                col = order.starts[g] + b * layout.levels(g) + pairs.cols
                rows += [row, col]
                cols += [col, row]
                values += [of_pairs[a, b]] * 2
    shape = (order.size, order.size)
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
    diagonal, off_diagonal = block_matrix.diagonal, block_matrix.off_diagonal
    trailing = np.zeros(symbolic.trailing_size)
    for (f, g), positions in symbolic.trailing_positions.items():
        trailing[positions] = diagonal[f] if f == g else off_diagonal[f, g]
    for f, positions in symbolic.within_positions.items():
        trailing[positions] = block_matrix.within[f]
    first = _first_entries(symbolic, off_diagonal)
    return AssembledMatrix(symbolic, diagonal, off_diagonal, block_matrix.within, trailing, first)


def _first_entries(
    symbolic: SymbolicFactor, off_diagonal: Mapping[tuple[int, int], Array]
) -> Entries | None:
    """Entries of the first eliminated factor in the later columns."""
    if not symbolic.steps:
        return None
    step = symbolic.steps[0]
    f, later = step.factor, symbolic.order[1:]
    blocks = [off_diagonal[f, g] if f < g else off_diagonal[g, f].transpose(1, 0, 2) for g in later]
    rows = [np.zeros((step.K, 0)), *(block.reshape(step.K, -1) for block in blocks)]
    values = np.concatenate(rows, axis=1).take(symbolic.first_order, axis=1)
    return step_entries(step, values)
