"""The dense block that crossing fills: one Cholesky factorisation, by LAPACK.

Where every factor of the tail has one column, Lambda is a scaling, and everything is done in
place on the lower triangle. With several columns a factor, Lambda mixes blocks of rows.
Matrices are stored by rows with their lower triangle valid, which LAPACK, reading by columns,
takes for an upper one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor

# Rows treated at once, so that a portion of a large triangle stays in the cache.
_PORTION = 128


@dataclass(frozen=True)
class DenseSolution:
    """
    Right sides passed through a tail.

    Parameters
    ----------
    F : ndarray of shape (t, m)
        The right sides.
    U, V : ndarray of shape (t, m)
        ``S^-1 Lambda' F`` and ``Lambda U``.
    """

    F: Array
    U: Array
    V: Array


@dataclass(frozen=True)
class DenseFactor:
    """
    A factorised tail.

    Parameters
    ----------
    plan : Plan
        Which factors stand in it.
    lambdas : sequence of ndarray of shape (K, K)
        One per factor.
    A : ndarray of shape (t, t)
        Its cross-products after the chain's elimination; None if all factors are scalar.
    root : ndarray of shape (t, t)
        Cholesky factor of ``Lambda' A Lambda + I``.
    log_det : float
        Its log-determinant.
    """

    symbolic: SymbolicFactor
    lambdas: Sequence[Array]
    A: Array | None
    root: Array
    log_det: float

    def solve(self, F: Array) -> DenseSolution:
        """Pass right sides of shape (t, m) through."""
        right = self._times(F, transpose=True)
        U, info = dpotrs(self.root.T, right, lower=0)
        assert info == 0
        U = np.ascontiguousarray(U)
        return DenseSolution(F, U, self._times(U, transpose=False))

    def backward(
        self, solved: DenseSolution, inner: Array
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        """Differentiate ``log_det`` plus a function of ``matrix`` with derivative ``inner``."""
        inverse = self.root.copy()
        _, info = dpotri(inverse.T, lower=0, overwrite_c=1)
        assert info == 0  # the root's diagonal is at least one
        if self.A is None:
            return self._scalar_backward(inverse, solved, inner)
        mirror(inverse)
        return self._block_backward(inverse, solved, inner)

    def _scalar_backward(
        self, inverse: Array, solved: DenseSolution, inner: Array
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        # Lambda' A Lambda S^-1 = I - S^-1 and Lambda' (F - A V) = U: A is not needed.
        scale, U, V = _scales(self.symbolic, self.lambdas), solved.U, solved.V
        slack = (1.0 - np.diagonal(inverse)) - np.einsum("tm,mc,tc->t", U, inner, U)
        VC = V @ inner
        for i in range(0, len(inverse), _PORTION):
            rows = slice(i, i + _PORTION)
            part = inverse[rows, : i + _PORTION]
            part *= scale[rows, None]
            part *= scale[None, : i + _PORTION]
            part += VC[rows] @ V[: i + _PORTION].T
        gradients, blocks = {}, {}
        diagonal = np.diagonal(inverse)
        for f in self.symbolic.dense:
            own = _within(self.symbolic, f)
            lam = self.lambdas[f][0, 0]
            slope = 2.0 * float(slack[own].sum()) / lam if lam != 0.0 else 0.0
            gradients[f] = np.array([[slope]])
            blocks[f] = diagonal[own].copy()[None, None]
        return inverse, gradients, blocks

    def _block_backward(
        self, inverse: Array, solved: DenseSolution, inner: Array
    ) -> tuple[Array, dict[int, Array], dict[int, Array]]:
        assert self.A is not None
        U, V = solved.U, solved.V
        T = self._times(inverse, transpose=False)
        bar = self._times(np.ascontiguousarray(T.T), transpose=False)
        bar += (V @ inner) @ V.T
        right = (solved.F - self.A @ V) @ inner
        gradients, blocks = {}, {}
        for f in self.symbolic.dense:
            K, L = self.symbolic.block_matrix.width(f), self.symbolic.block_matrix.levels(f)
            start = _within(self.symbolic, f).start
            gradient, block = np.empty((K, K)), np.empty((K, K, L))
            parts = [slice(start + a * L, start + (a + 1) * L) for a in range(K)]
            for i, cols in enumerate(parts):
                Ti = np.ascontiguousarray(T[:, cols].T)
                for a, rows in enumerate(parts):
                    trace = np.vdot(self.A[rows], Ti)
                    gradient[a, i] = 2.0 * (trace - np.vdot(right[rows], U[cols]))
                    block[a, i] = np.diagonal(bar[rows, cols])
            gradients[f], blocks[f] = gradient, block
        return bar, gradients, blocks

    def _times(self, M: Array, *, transpose: bool) -> Array:
        return times_lambda(self.symbolic, self.lambdas, M, transpose=transpose)


def factorize_dense(symbolic: SymbolicFactor, lambdas: Sequence[Array], A: Array) -> DenseFactor:
    """Factorise ``S = Lambda' A Lambda + I``."""
    t = symbolic.dense_size
    kept: Array | None = None
    if all(symbolic.block_matrix.width(f) == 1 for f in symbolic.dense):
        scale = _scales(symbolic, lambdas)
        for i in range(0, t, _PORTION):
            part = A[i : i + _PORTION, : i + _PORTION]
            part *= scale[i : i + _PORTION, None]
            part *= scale[None, : i + _PORTION]
        S = A
    else:
        mirror(A)
        kept = A
        half = times_lambda(symbolic, lambdas, A, transpose=True)
        S = times_lambda(symbolic, lambdas, np.ascontiguousarray(half.T), transpose=True)
    S.reshape(-1)[:: t + 1] += 1.0
    _, info = dpotrf(S.T, lower=0, overwrite_a=1, clean=0)
    if info != 0:
        raise linalg.LinAlgError("the penalised block is not positive definite")
    log_det = 2.0 * float(np.log(np.diagonal(S)).sum())
    return DenseFactor(symbolic, lambdas, kept, S, log_det)


def mirror(M: Array) -> None:
    """Copy the lower triangle onto the upper one, in place."""
    t = len(M)
    for i in range(0, t, _PORTION):
        j = min(i + _PORTION, t)
        M[i:j, j:] = M[j:, i:j].T
        block = M[i:j, i:j]
        block[...] = np.tril(block) + np.tril(block, -1).T


def _within(symbolic: SymbolicFactor, f: int) -> slice:
    start = symbolic.starts[f] - symbolic.dense_start
    return slice(start, start + symbolic.block_matrix.size(f))


def _scales(symbolic: SymbolicFactor, lambdas: Sequence[Array]) -> Array:
    return np.concatenate(
        [np.full(symbolic.block_matrix.size(f), lambdas[f][0, 0]) for f in symbolic.dense]
    )


def times_lambda(
    symbolic: SymbolicFactor, lambdas: Sequence[Array], M: Array, *, transpose: bool
) -> Array:
    """Multiply ``Lambda @ M``, or ``Lambda' @ M``, over the tail's rows."""
    out = np.zeros_like(M)
    for f in symbolic.dense:
        lam = lambdas[f].T if transpose else lambdas[f]
        L, start = symbolic.block_matrix.levels(f), symbolic.starts[f] - symbolic.dense_start
        for a in range(len(lam)):
            target = out[start + a * L : start + (a + 1) * L]
            for c in np.flatnonzero(lam[a]).tolist():
                target += lam[a, c] * M[start + c * L : start + (c + 1) * L]
    return out
