"""Basis ``B = S R^-1`` of the effects of codes: ``b = B v``, v independent, ``R'R`` sparse.

S takes the effects of codes, which are levels or combinations of them, from those of nodes, which
are the levels and others without rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg.lapack import dtrtri

from mixedfx._cached import cached_property
from mixedfx.linalg.sparse_matrix import SparseMatrix, unit_inverse_rows

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PrecisionBasis:
    """A matrix (codes, nodes) that multiplies arrays from the right without being formed."""

    root: SparseMatrix = field(repr=False)  # (nodes, nodes) R, triangular
    of_nodes: SparseMatrix = field(repr=False)  # (codes, nodes) S
    combines: bool = False  # whether levels are nodes and codes combinations of them

    __array_ufunc__ = None  # arrays leave products to this class

    @staticmethod
    def at_nodes(root: SparseMatrix, at: Ints) -> PrecisionBasis:
        """Basis of levels that are nodes."""
        entries = (np.ones(len(at)), (np.arange(len(at)), at))
        return PrecisionBasis(
            root, SparseMatrix.of(sparse.csr_array(entries, shape=(len(at), root.n_rows)))
        )

    @staticmethod
    def of_combinations(S: SparseMatrix) -> PrecisionBasis:
        """Basis of combinations of independent effects."""
        return PrecisionBasis(SparseMatrix.of(sparse.eye_array(S.n_columns)), S, combines=True)

    @staticmethod
    def of_covariance(T: Array) -> PrecisionBasis:
        """Basis of levels of the covariance ``T T'``, T lower triangular."""
        inverse, info = dtrtri(T, lower=1)
        if info:
            raise np.linalg.LinAlgError("a covariance is not positive definite")
        return PrecisionBasis.at_nodes(SparseMatrix.of(inverse), np.arange(len(T)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the factorisation out of copies and pickles."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __len__(self) -> int:
        """Count the codes."""
        return self.of_nodes.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Codes and nodes."""
        return len(self), self.n_nodes

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.root.n_rows

    @property
    def of_levels(self) -> PrecisionBasis:
        """Basis of the levels' own effects."""
        if not self.combines:
            return self
        return PrecisionBasis.at_nodes(self.root, np.arange(self.n_nodes))

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
        from scipy.sparse.linalg import splu

        matrix = sparse.csc_matrix(self.root.csr)
        return splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def effects(self, v: Array) -> Array:
        """``R^-1 v`` of all nodes, (..., nodes)."""
        return self._solve(v, "N")

    def loadings(self, b: Array) -> Array:
        """``R^-T b``, (..., nodes)."""
        return self._solve(b, "T")

    def rows_of_nodes(self, C: sparse.csr_array) -> sparse.csr_array:
        """Combinations of codes as those of nodes, (n, nodes)."""
        return sparse.csr_array(C[:, : len(self)] @ self.of_nodes.csr)

    def rows(self, C: sparse.csr_array) -> sparse.csr_array:
        """``C B`` of a sparse matrix, (n, codes) to (n, nodes)."""
        S = self.rows_of_nodes(C)
        used, place = np.unique(S.indices, return_inverse=True)
        scale = self.root.csr.diagonal()
        to_earlier = sparse.csr_array(
            sparse.eye_array(self.n_nodes) - sparse.diags_array(1.0 / scale) @ self.root.csr
        )
        to_earlier.eliminate_zeros()
        rows = unit_inverse_rows(to_earlier, used.astype(np.intp))
        of_used = sparse.csr_array((S.data, place, S.indptr), shape=(S.shape[0], len(used)))
        return sparse.csr_array(of_used @ rows @ sparse.diags_array(1.0 / scale))

    def _solve(self, x: Array, trans: str) -> Array:
        flat = np.ascontiguousarray(x.reshape(-1, self.n_nodes).T, dtype=np.float64)
        return np.asarray(self._solver.solve(flat, trans=trans).T.reshape(x.shape))

    def __rmatmul__(self, values: Array) -> Array:
        """``values B``, (..., codes) to (..., nodes)."""
        flat = np.asarray(values).reshape(-1, len(self))
        of_nodes = np.asarray((self.of_nodes.csr.T @ flat.T).T)
        return self.loadings(of_nodes.reshape(*np.shape(values)[:-1], self.n_nodes))

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
        """``v B'``, (..., nodes) to (..., codes)."""
        b = self.basis.effects(np.asarray(v)).reshape(-1, self.basis.n_nodes)
        of_codes = np.asarray((self.basis.of_nodes.csr @ b.T).T)
        return of_codes.reshape(*np.shape(v)[:-1], len(self.basis))
