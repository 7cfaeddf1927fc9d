"""Numbers of a sparse factorisation: elimination, solutions, and entries of the inverse.

A column with pivot d and entries a in its later neighbours N, after the eliminations before it,

    A_NN <- A_NN - a a' / d,    C_N = -C_NN a / d,    C_ii = 1 / d - a'C_N / d

with C the inverse, of which these recursions need no entry that the factor does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from scipy.linalg.lapack import dpotrf, dpotri

from mixedfx.linalg.available_memory import check_memory
from mixedfx.linalg.sparse_cholesky.ordering import order_by_degree
from mixedfx.linalg.sparse_cholesky.symbolic import RoundPositions, SparseSymbolic

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Arrays of the dense block: its values, its factor and temporary ones.
_COPIES = 3


@dataclass(frozen=True)
class SparseFactor:
    """Factor of a symmetric positive definite matrix; returned by :func:`factorize_sparse`."""

    symbolic: SparseSymbolic = field(repr=False)
    values: Vector = field(repr=False)  # pivots and entries after elimination
    root: Matrix = field(repr=False)  # lower Cholesky factor of the dense block
    log_det: float

    def _multipliers(self, r: RoundPositions) -> Vector:
        """``a / d`` of the entries of a round."""
        return np.asarray(self.values[r.entries] / self.values[r.pivots][r.owner])

    def solve(self, rhs: Matrix) -> Matrix:
        """Solution of the system with right-hand sides (size, m)."""
        x, dense = np.array(rhs, dtype=np.float64), self.symbolic.order.dense
        multipliers = []
        for r in self.symbolic.rounds:
            shape = (len(r.columns), len(x))
            W = sparse.csr_array((self._multipliers(r), r.neighbours, r.starts), shape=shape)
            multipliers.append(W)
            if W.nnz:
                x -= np.asarray(W.T @ x[r.columns])
        if len(dense):
            x[dense] = linalg.cho_solve((self.root, True), x[dense], check_finite=False)
        for r, W in zip(reversed(self.symbolic.rounds), reversed(multipliers), strict=True):
            x[r.columns] /= self.values[r.pivots][:, None]
            if W.nnz:
                x[r.columns] -= np.asarray(W @ x)
        return x

    def inverse(self) -> Vector:
        """Entries of the inverse, at the positions of the values."""
        symbolic = self.symbolic
        found = np.zeros(symbolic.n_values)
        if symbolic.dense_size:
            block, _ = dpotri(self.root, lower=1)
            found[symbolic.dense_start :] = block.ravel()
        for r in reversed(symbolic.rounds):
            w, s = self._multipliers(r), found[r.target]
            beside = r.first != r.second
            size = len(w)
            entries = np.bincount(r.first, w[r.second] * s, size)
            entries += np.bincount(r.second, w[r.first] * s * beside, size)
            found[r.entries] = -entries
            explained = np.bincount(r.owner, w * entries, len(r.columns))
            found[r.pivots] = 1.0 / self.values[r.pivots] + explained
        return found


def factorize_sparse(symbolic: SparseSymbolic, values: Vector) -> SparseFactor:
    """Factorise a matrix given its values by position; LinAlgError if not positive definite."""
    values, log_det = np.array(values, dtype=np.float64), 0.0
    for r in symbolic.rounds:
        pivots, a = values[r.pivots], values[r.entries]
        if not (pivots > 0.0).all():
            raise np.linalg.LinAlgError("a matrix is not positive definite")
        log_det += float(np.log(pivots).sum())
        if len(r.unique):
            products = (a / pivots[r.owner])[r.first] * a[r.second]
            values[r.unique] -= np.add.reduceat(products, r.runs)
    c = symbolic.dense_size
    root = np.zeros((0, 0), order="F")
    if c:
        block = values[symbolic.dense_start :].reshape(c, c)
        root, info = dpotrf(np.asfortranarray(block), lower=1, clean=1)
        if info:
            raise np.linalg.LinAlgError("a matrix is not positive definite")
        log_det += 2.0 * float(np.log(np.diagonal(root)).sum())
    return SparseFactor(symbolic, values[: symbolic.dense_start], root, log_det)


def sparse_factor(matrix: sparse.csr_array) -> SparseFactor:
    """Order and factorise a symmetric positive definite matrix."""
    symbolic = SparseSymbolic.of(order_by_degree(matrix))
    check_memory(
        f"a sparse matrix of {matrix.shape[0]:,} columns leaves a dense block of "
        f"{symbolic.dense_size:,}",
        8.0 * symbolic.dense_size**2,
        copies=_COPIES,
        advice="Take fewer levels, or a machine with more memory.",
    )
    lower = sparse.coo_array(sparse.tril(matrix))
    values = np.zeros(symbolic.n_values)
    at = symbolic.positions(lower.row.astype(np.intp), lower.col.astype(np.intp))
    values[at] = lower.data
    return factorize_sparse(symbolic, values)
