"""Cholesky factorisation of the dense trailing block, by LAPACK.

With ``A`` the block's cross-products after the leading factors are eliminated,

    S = Lambda' A Lambda + I = L L'.

Where every factor of the block has one column, Lambda is diagonal and ``S`` is computed in place
on the lower triangle. Matrices are stored by rows with their lower triangle valid; LAPACK, which
stores by columns, is given their transposes and the upper triangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor

# Rows of a triangle that are processed at once, so that they stay in the cache.
_BLOCK_ROWS = 128


@dataclass(frozen=True)
class DenseSolution:
    """Solutions of the dense block for ``m`` right-hand sides."""

    rhs: Array  # (t, m)
    U: Array  # (t, m), S^-1 Lambda' rhs
    V: Array  # (t, m), Lambda U


@dataclass(frozen=True)
class DenseFactor:
    """Numeric factor of the dense block, of ``t`` scalar columns."""

    symbolic: SymbolicFactor
    lambdas: Sequence[Array]  # one (K, K) per factor
    A: Array | None  # (t, t); None if all factors are scalar, where it is overwritten
    cholesky: Array  # (t, t), L
    log_det: float  # log|S|

    def solve(self, rhs: Array) -> DenseSolution:
        """Solve for right-hand sides of shape (t, m)."""
        scaled = self._multiply_lambda(rhs, transpose=True)
        U, info = dpotrs(self.cholesky.T, scaled, lower=0)
        assert info == 0
        U = np.ascontiguousarray(U)
        return DenseSolution(rhs, U, self._multiply_lambda(U, transpose=False))

    def backward(
        self, solution: DenseSolution | None = None, dC: Array | None = None
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        """
        Derivatives of ``log|S| + f(C)``, ``C = matrix - rhs'V``, given ``dC``, that of f by C.

        By ``A`` (lower triangle valid if all factors are scalar), by each factor's Lambda, and by
        the within-level blocks of ``A``:
        ``dA = Lambda S^-1 Lambda' + V dC V'`` and
        ``dLambda = 2 (A Lambda S^-1 - (rhs - A V) dC U')``. Without a solution, of ``log|S|``.
        """
        inverse = self.cholesky.copy()
        _, info = dpotri(inverse.T, lower=0, overwrite_c=1)
        assert info == 0  # the diagonal of L is at least one
        if solution is None or dC is None:
            none = np.empty((len(inverse), 0))
            solution, dC = DenseSolution(none, none, none), np.empty((0, 0))
        if self.A is None:
            return self._scalar_backward(inverse, solution, dC)
        symmetrize(inverse)
        return self._block_backward(inverse, solution, dC)

    def _scalar_backward(
        self, inverse: Array, solution: DenseSolution, dC: Array
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        # Lambda' A Lambda S^-1 = I - S^-1 and Lambda' (rhs - A V) = U: A is not needed.
        scale, U, V = _lambda_diagonal(self.symbolic, self.lambdas), solution.U, solution.V
        half_by_log_lambda = 1.0 - np.diagonal(inverse)
        half_by_log_lambda = half_by_log_lambda - np.einsum("tm,mc,tc->t", U, dC, U)
        V_dC = V @ dC
        for i in range(0, len(inverse), _BLOCK_ROWS):
            rows = slice(i, i + _BLOCK_ROWS)
            block = inverse[rows, : i + _BLOCK_ROWS]
            block *= scale[rows, None]
            block *= scale[None, : i + _BLOCK_ROWS]
            if len(dC):
                block += V_dC[rows] @ V[: i + _BLOCK_ROWS].T
        dA = inverse
        lambda_gradients, level_blocks = {}, {}
        diagonal = np.diagonal(dA)
        for f in self.symbolic.dense_factors:
            columns = _columns_in_block(self.symbolic, f)
            lam = self.lambdas[f][0, 0]
            # At lam = 0 the derivative is zero: the deviance is even in a scalar Lambda.
            gradient = 2.0 * float(half_by_log_lambda[columns].sum()) / lam if lam != 0.0 else 0.0
            lambda_gradients[f] = np.array([[gradient]])
            level_blocks[f] = diagonal[columns].copy()[None, None]
        return dA, lambda_gradients, level_blocks

    def _block_backward(
        self, inverse: Array, solution: DenseSolution, dC: Array
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        assert self.A is not None
        U, V = solution.U, solution.V
        lam_S_inv = self._multiply_lambda(inverse, transpose=False)
        dA = self._multiply_lambda(np.ascontiguousarray(lam_S_inv.T), transpose=False)
        if len(dC):
            dA += (V @ dC) @ V.T
        residual = (solution.rhs - self.A @ V) @ dC
        lambda_gradients, level_blocks = {}, {}
        for f in self.symbolic.dense_factors:
            K, L = self.symbolic.layout.width(f), self.symbolic.layout.levels(f)
            start = _columns_in_block(self.symbolic, f).start
            gradient, block = np.empty((K, K)), np.empty((K, K, L))
            effects = [slice(start + a * L, start + (a + 1) * L) for a in range(K)]
            for i, cols in enumerate(effects):
                transposed = np.ascontiguousarray(lam_S_inv[:, cols].T)
                for a, rows in enumerate(effects):
                    trace = np.vdot(self.A[rows], transposed)
                    gradient[a, i] = 2.0 * (trace - np.vdot(residual[rows], U[cols]))
                    block[a, i] = np.diagonal(dA[rows, cols])
            lambda_gradients[f], level_blocks[f] = gradient, block
        return dA, lambda_gradients, level_blocks

    def _multiply_lambda(self, matrix: Array, *, transpose: bool) -> Array:
        return multiply_lambda(self.symbolic, self.lambdas, matrix, transpose=transpose)


def factorize_dense(symbolic: SymbolicFactor, lambdas: Sequence[Array], A: Array) -> DenseFactor:
    """Factorise ``S = Lambda' A Lambda + I``; overwrites ``A``."""
    t = symbolic.dense_size
    symmetric_A: Array | None = None
    if all(symbolic.layout.width(f) == 1 for f in symbolic.dense_factors):
        scale = _lambda_diagonal(symbolic, lambdas)
        for i in range(0, t, _BLOCK_ROWS):
            block = A[i : i + _BLOCK_ROWS, : i + _BLOCK_ROWS]
            block *= scale[i : i + _BLOCK_ROWS, None]
            block *= scale[None, : i + _BLOCK_ROWS]
        S = A
    else:
        symmetrize(A)
        symmetric_A = A
        lam_A = multiply_lambda(symbolic, lambdas, A, transpose=True)
        S = multiply_lambda(symbolic, lambdas, np.ascontiguousarray(lam_A.T), transpose=True)
    S.reshape(-1)[:: t + 1] += 1.0
    _, info = dpotrf(S.T, lower=0, overwrite_a=1, clean=0)
    if info != 0:
        raise linalg.LinAlgError("the penalised block is not positive definite")
    log_det = 2.0 * float(np.log(np.diagonal(S)).sum())
    return DenseFactor(symbolic, lambdas, symmetric_A, S, log_det)


def symmetrize(M: Array) -> None:
    """Copy the lower triangle onto the upper one, in place."""
    t = len(M)
    for i in range(0, t, _BLOCK_ROWS):
        j = min(i + _BLOCK_ROWS, t)
        M[i:j, j:] = M[j:, i:j].T
        block = M[i:j, i:j]
        block[...] = np.tril(block) + np.tril(block, -1).T


def multiply_lambda(
    symbolic: SymbolicFactor, lambdas: Sequence[Array], matrix: Array, *, transpose: bool
) -> Array:
    """``Lambda @ matrix``, or ``Lambda' @ matrix``, over the rows of the dense block."""
    out = np.zeros_like(matrix)
    for f in symbolic.dense_factors:
        lam = lambdas[f].T if transpose else lambdas[f]
        L, start = symbolic.layout.levels(f), symbolic.starts[f] - symbolic.dense_start
        for a, row in enumerate(lam.tolist()):
            target = out[start + a * L : start + (a + 1) * L]
            for c, entry in enumerate(row):
                if entry:
                    target += entry * matrix[start + c * L : start + (c + 1) * L]
    return out


def _lambda_diagonal(symbolic: SymbolicFactor, lambdas: Sequence[Array]) -> Array:
    """Diagonal of Lambda over the dense block, where all its factors are scalar."""
    return np.concatenate(
        [np.full(symbolic.layout.size(f), lambdas[f][0, 0]) for f in symbolic.dense_factors]
    )


def _columns_in_block(symbolic: SymbolicFactor, f: int) -> slice:
    """Scalar columns of a factor, counted from the first of the dense block."""
    start = symbolic.starts[f] - symbolic.dense_start
    return slice(start, start + symbolic.layout.size(f))
