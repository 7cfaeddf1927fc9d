"""A sparse matrix as read-only arrays, which can be kept in a file and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def unit_inverse_rows(N: sparse.csr_array, rows: Codes) -> sparse.csr_array:
    """Rows of ``(I - N)^-1 = I + N + N^2 + ...``, for N of which a power is zero."""
    at = (np.arange(len(rows)), rows)
    step = sparse.csr_array((np.ones(len(rows)), at), shape=(len(rows), N.shape[0]))
    found = step
    while step.nnz:
        step = step @ N
        found = found + step
    return found


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """Entries of a sparse matrix, sorted by rows, then columns."""

    n_rows: int
    n_columns: int
    rows: Codes
    columns: Codes
    values: Vector

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.rows, self.columns, self.values)

    @staticmethod
    def of(matrix: Any) -> SparseMatrix:
        """Entries of a matrix of SciPy, repeated ones added up."""
        entries = sparse.csr_array(matrix).tocoo()
        return SparseMatrix(
            int(entries.shape[0]),
            int(entries.shape[1]),
            np.asarray(entries.row, dtype=np.intp),
            np.asarray(entries.col, dtype=np.intp),
            np.asarray(entries.data, dtype=np.float64),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached matrices out of copies and pickles."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def csr(self) -> sparse.csr_array:
        """The matrix, by rows."""
        shape = (self.n_rows, self.n_columns)
        return sparse.csr_array((self.values, (self.rows, self.columns)), shape=shape)

    @cached_property
    def csc(self) -> sparse.csc_array:
        """The matrix, by columns."""
        return sparse.csc_array(self.csr)
