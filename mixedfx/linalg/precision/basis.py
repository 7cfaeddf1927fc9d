"""Basis ``B = S R^-1`` of levels' effects: ``b = B v``, v independent, ``R'R`` sparse.

S takes the levels from the nodes, which are the levels and others without rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from mixedfx._arrays import set_readonly
from mixedfx.linalg.sparse_matrix import SparseMatrix

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PrecisionBasis:
    """A matrix (levels, nodes) that multiplies arrays from the right without being formed."""

    root: SparseMatrix  # (nodes, nodes) R, triangular
    at: Ints = field(repr=False)  # (levels,) nodes

    __array_ufunc__ = None  # arrays leave products to this class

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.at)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the factorisation out of copies and pickles."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __len__(self) -> int:
        """Count the levels."""
        return len(self.at)

    @property
    def shape(self) -> tuple[int, int]:
        """Levels and nodes."""
        return len(self.at), self.n_nodes

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.root.n_rows

    @cached_property
    def precision(self) -> SparseMatrix:
        """``R'R``, the inverse of A: the diagonal and what is below."""
        R = self.root.csr
        return SparseMatrix.of(sparse.tril(R.T @ R))

    @property
    def diagonal(self) -> Array:
        """Diagonal of ``R'R``, (nodes,)."""
        return np.asarray(self.precision.csr.diagonal())

    @property
    def neighbours(self) -> tuple[Ints, Ints]:
        """Pairs of nodes that ``R'R`` has an entry of, the later one first."""
        below = self._is_below
        return self.precision.rows[below], self.precision.columns[below]

    @property
    def between_neighbours(self) -> Array:
        """Entries of ``R'R`` of these pairs."""
        return self.precision.values[self._is_below]

    @property
    def _is_below(self) -> npt.NDArray[np.bool_]:
        return self.precision.rows > self.precision.columns

    @property
    def log_det(self) -> float:
        """``log|A|``."""
        return -2.0 * float(np.log(np.abs(self.root.csr.diagonal())).sum())

    @cached_property
    def _solver(self) -> Any:
        """Factors of R, triangular: no position is filled in."""
        matrix = sparse.csc_matrix(self.root.csr)
        return sparse_linalg.splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def effects(self, v: Array) -> Array:
        """``R^-1 v`` of all nodes, (..., nodes)."""
        return self._solve(v, "N")

    def loadings(self, b: Array) -> Array:
        """``R^-T b``, (..., nodes)."""
        return self._solve(b, "T")

    def of_levels(self, values: Array) -> Array:
        """``S' values``: zero at nodes that are no levels, (..., nodes)."""
        out = np.zeros((*values.shape[:-1], self.n_nodes))
        out[..., self.at] = values
        return out

    def rows_of_nodes(self, S: sparse.csr_array) -> sparse.csr_array:
        """``S`` at the nodes of its levels, (n, nodes)."""
        shape = (S.shape[0], self.n_nodes)
        return sparse.csr_array((S.data, self.at[S.indices], S.indptr), shape=shape)

    def rows(self, S: sparse.csr_array) -> sparse.csr_array:
        """``S B`` of a sparse matrix, (n, levels) to (n, nodes)."""
        used, place = np.unique(S.indices, return_inverse=True)
        scale = self.root.csr.diagonal()
        to_earlier = sparse.csr_array(
            sparse.eye_array(self.n_nodes) - sparse.diags_array(1.0 / scale) @ self.root.csr
        )
        to_earlier.eliminate_zeros()
        at = (np.arange(len(used)), self.at[used])
        step = sparse.csr_array((np.ones(len(used)), at), shape=(len(used), self.n_nodes))
        rows = step
        while step.nnz:  # (I - N)^-1 = I + N + N^2 + ...
            step = step @ to_earlier
            rows = rows + step
        of_used = sparse.csr_array((S.data, place, S.indptr), shape=(S.shape[0], len(used)))
        return sparse.csr_array(of_used @ rows @ sparse.diags_array(1.0 / scale))

    def _solve(self, x: Array, trans: str) -> Array:
        flat = np.ascontiguousarray(x.reshape(-1, self.n_nodes).T, dtype=np.float64)
        return np.asarray(self._solver.solve(flat, trans=trans).T.reshape(x.shape))

    def __rmatmul__(self, values: Array) -> Array:
        """``values B``, (..., levels) to (..., nodes)."""
        return self.loadings(self.of_levels(np.asarray(values)))

    @property
    def T(self) -> TransposedBasis:
        """``B'``."""
        return TransposedBasis(self)


@dataclass(frozen=True, eq=False)
class TransposedBasis:
    """``B'``, which multiplies arrays from the right."""

    basis: PrecisionBasis

    __array_ufunc__ = None

    def __rmatmul__(self, v: Array) -> Array:
        """``v B'``, (..., nodes) to (..., levels)."""
        return np.asarray(self.basis.effects(np.asarray(v))[..., self.basis.at])
