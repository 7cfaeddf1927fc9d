"""Symmetric block matrix over grouping factors, ``Z'WZ``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class OffDiagonalBlock:
    """Cross-products between two factors, for the pairs of levels that occur together."""

    rows: Ints  # (pairs,) levels of the first factor; sorted by rows, then cols
    cols: Ints  # (pairs,) levels of the second factor
    values: Array  # (K_first, K_second, pairs)

    def transposed(self) -> OffDiagonalBlock:
        """Transposed block, sorted by the levels of the second factor."""
        by = np.lexsort((self.rows, self.cols))
        return OffDiagonalBlock(
            self.cols[by], self.rows[by], self.values.transpose(1, 0, 2)[:, :, by]
        )


@dataclass(frozen=True)
class BlockMatrix:
    """Symmetric matrix with block-diagonal blocks of each factor and sparse blocks between them."""

    diagonal: tuple[Array, ...]  # per factor (K, K, L): K columns, L levels
    off_diagonal: Mapping[tuple[int, int], OffDiagonalBlock]  # for every two factors i < j

    @property
    def factors(self) -> range:
        """Indices of the factors."""
        return range(len(self.diagonal))

    def width(self, i: int) -> int:
        """Columns of factor ``i`` per level, ``K``."""
        return int(self.diagonal[i].shape[0])

    def levels(self, i: int) -> int:
        """Levels of factor ``i``, ``L``."""
        return int(self.diagonal[i].shape[2])

    def size(self, i: int) -> int:
        """Scalar columns of factor ``i``, ``K L``."""
        return self.width(i) * self.levels(i)

    def is_nested(self, i: int, j: int) -> bool:
        """Whether each level of ``i`` occurs with a single level of ``j``."""
        return len(self.off_diagonal[min(i, j), max(i, j)].rows) == self.levels(i)

    def block(self, i: int, j: int) -> OffDiagonalBlock:
        """Off-diagonal block of ``i`` and ``j``, sorted by the levels of ``i``."""
        return self.off_diagonal[i, j] if i < j else self.off_diagonal[j, i].transposed()
