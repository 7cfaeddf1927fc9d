"""A symmetric block matrix over factors: what is eliminated."""

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
    """
    Cross-products between two factors, for the pairs of levels that occur together.

    Parameters
    ----------
    rows, cols : ndarray of shape (pairs,)
        Levels of the first and of the second factor, sorted by ``rows`` then ``cols``.
    values : ndarray of shape (K_first, K_second, pairs)
        The cross-products.
    """

    rows: Ints
    cols: Ints
    values: Array

    def transposed(self) -> OffDiagonalBlock:
        """Give the same cross-products, seen from the second factor."""
        by = np.lexsort((self.rows, self.cols))
        return OffDiagonalBlock(
            self.cols[by], self.rows[by], self.values.transpose(1, 0, 2)[:, :, by]
        )


@dataclass(frozen=True)
class BlockMatrix:
    """
    A symmetric block matrix over factors.

    Parameters
    ----------
    diagonal : tuple of ndarray of shape (K, K, L)
        Each factor's own block: ``K`` columns, ``L`` levels, nothing between levels.
    couplings : mapping of (int, int) to Coupling
        For every two factors ``i < j``.
    """

    diagonal: tuple[Array, ...]
    off_diagonal: Mapping[tuple[int, int], OffDiagonalBlock]

    @property
    def factors(self) -> range:
        """Indices of the factors."""
        return range(len(self.diagonal))

    def width(self, i: int) -> int:
        """Columns of factor ``i``."""
        return int(self.diagonal[i].shape[0])

    def levels(self, i: int) -> int:
        """Levels of factor ``i``."""
        return int(self.diagonal[i].shape[2])

    def size(self, i: int) -> int:
        """Scalar columns of factor ``i``."""
        return self.width(i) * self.levels(i)

    def is_nested(self, i: int, j: int) -> bool:
        """Whether each level of ``i`` occurs with a single level of ``j``."""
        return len(self.off_diagonal[min(i, j), max(i, j)].rows) == self.levels(i)

    def block(self, i: int, j: int) -> OffDiagonalBlock:
        """Cross-products of ``i`` with ``j``, sorted by the levels of ``i``."""
        return self.off_diagonal[i, j] if i < j else self.off_diagonal[j, i].transposed()
