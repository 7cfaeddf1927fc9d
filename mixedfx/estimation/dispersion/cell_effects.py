"""Random effects of the log residual standard deviation in compressed rows: sums and products.

``Z_v`` are the columns of the effects in the rows, at most J of Q different from zero in each.
Products ``Z_v'B Z_v`` and ``Z_v S Z_v'`` are of the effects that each block of rows has.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.estimation.dispersion.cells import CellRows
from mixedfx.estimation.dispersion.effects import ScaleDesign

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


# Of so many rows in one block the columns are multiplied as dense ones.
_DENSE_ROWS = 50


@dataclass(frozen=True)
class BlockColumns:
    """Columns of the effects that the blocks of a batch have, dense within each block."""

    columns: Array = field(repr=False)  # (blocks, r, m)
    effects: Codes = field(repr=False)  # (blocks, m) their numbers; Q where a block has fewer
    size: int  # Q

    @staticmethod
    def of(index: Codes, value: Matrix, size: int) -> BlockColumns:
        """From the effects of each row (blocks, r, J) and their columns."""
        blocks, r, J = index.shape
        keys = (np.arange(blocks)[:, None, None] * size + index).ravel()
        present, place = np.unique(keys, return_inverse=True)
        block, effect = np.divmod(present, size)
        count = np.bincount(block, minlength=blocks)
        first = np.cumsum(count) - count
        m = int(count.max())
        effects = np.full((blocks, m), size)
        effects[block, np.arange(len(present)) - first[block]] = effect
        columns = np.zeros((blocks, r, m))
        at = place.reshape(index.shape) - first[:, None, None]
        i, j, _ = np.ix_(np.arange(blocks), np.arange(r), np.arange(J))
        columns[i, j, at] = value
        return BlockColumns(columns, effects, size)

    @cached_property
    def _pairs(self) -> Codes:
        Q = self.size + 1
        return np.asarray(self.effects[:, :, None] * Q + self.effects[:, None], dtype=np.intp)

    @cached_property
    def _single(self) -> sparse.csr_array | None:
        """Columns of a single block, where they are mostly zeros."""
        sparsely = len(self.columns) == 1 and self.columns.shape[1] > _DENSE_ROWS
        return sparse.csr_array(self.columns[0]) if sparsely else None

    def sum(self, values: Array) -> Matrix:
        """``Z_v'B Z_v`` (Q, Q) of B within blocks, (blocks, r, r)."""
        if (Z := self._single) is not None:
            products = np.asarray(Z.T @ (Z.T @ values[0]).T)[None]
        else:
            products = self.columns.transpose(0, 2, 1) @ values @ self.columns
        Q = self.size + 1
        total = np.bincount(self._pairs.ravel(), products.ravel(), Q * Q)
        return total.reshape(Q, Q)[:-1, :-1].astype(float)

    def entries(self, S: Matrix) -> Array:
        """``Z_v S Z_v'`` within blocks, (blocks, r, r)."""
        of_blocks = np.pad(S, (0, 1))[self.effects[:, :, None], self.effects[:, None]]
        if (Z := self._single) is not None:
            return np.asarray(Z @ (Z @ of_blocks[0]).T)[None]
        return np.asarray(self.columns @ of_blocks @ self.columns.transpose(0, 2, 1))


@dataclass(frozen=True)
class CellEffects:
    """Columns of the scale's effects in compressed rows."""

    rows: CellRows
    scale: ScaleDesign

    @property
    def size(self) -> int:
        """Number Q of effects."""
        return self.scale.size

    @cached_property
    def _of_rows(self) -> tuple[Codes, Matrix]:
        of_rows = self.rows.stratum[self.rows.cell]
        return self.scale.index[of_rows], self.scale.value[of_rows]

    @cached_property
    def within_blocks(self) -> tuple[BlockColumns, ...]:
        """Columns of each batch."""
        index, value = self._of_rows
        return tuple(
            BlockColumns.of(batch.of(index), batch.of(value), self.size)
            for batch in self.rows.batches
        )

    @cached_property
    def of_cells(self) -> BlockColumns:
        """Columns of the cells, each a block of one row."""
        of_cells = self.rows.stratum
        index, value = self.scale.index[of_cells], self.scale.value[of_cells]
        return BlockColumns.of(index[:, None], value[:, None], self.size)

    def by_cell(self, by_effect: Vector) -> Vector:
        """``Z_v b`` of the cells."""
        return self.scale.log_sds(by_effect)[self.rows.stratum]

    def by_row(self, by_effect: Matrix) -> Matrix:
        """``Z_v x`` (R, m) of values (Q, m)."""
        index, value = self._of_rows
        if self.scale.is_indicator:
            return np.asarray(by_effect[index[:, 0]])
        return np.asarray(np.einsum("rj,rjm->rm", value, by_effect[index]))

    def sum_cells(self, by_cell: Vector) -> Vector:
        """``Z_v'x`` (Q,) of values of the cells."""
        of_strata = np.bincount(self.rows.stratum, by_cell, len(self.scale.index)).astype(float)
        return self.scale.sum(of_strata)

    def sum_rows(self, by_row: Matrix) -> Matrix:
        """``Z_v'x`` (Q, m) of values (R, m)."""
        columns = [self.sum_cells(self.rows.sum_by_cell(column)) for column in by_row.T]
        return np.array(columns).reshape(-1, self.size).T
