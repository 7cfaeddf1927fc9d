"""Numeric factorisation, substitution and reverse-mode differentiation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedfx.linalg.cholesky.batched import (
    flatten,
    matmul,
    pack_lower,
    penalized_inverse,
    sum_outer,
    unflatten,
    unpack_lower,
    weighted_outer,
)
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.dense import DenseFactor, DenseSolution, factorize_dense, mirror
from mixedfx.linalg.cholesky.symbolic import Both, Pairs, Rows, Step, SymbolicFactor


@dataclass(frozen=True)
class _EliminatedFactor:
    """What the elimination of one chain factor leaves."""

    A: Array
    G: Array
    T: Array
    z: Array | None
    Z: Both | None  # entries, (K L) by all columns
    updates: tuple[Both, ...]  # of the store, one per distinct entry of G


@dataclass(frozen=True)
class NumericFactor:
    """
    The factorised matrix at one set of Lambdas; made by :func:`factorize`.

    Parameters
    ----------
    plan : Plan
        The order.
    lambdas : tuple of ndarray of shape (K, K)
        One per factor.
    log_det : float
        ``log |Lambda' A Lambda + I|`` over all factors.
    """

    symbolic: SymbolicFactor = field(repr=False)
    lambdas: tuple[Array, ...]
    log_det: float
    _done: tuple[_EliminatedFactor, ...] = field(repr=False)
    _dense: DenseFactor | None = field(repr=False)

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> SchurComplement:
        """Eliminate the factors from some dense columns."""
        symbolic = self.symbolic
        matrix = matrix.copy()
        F = list(rhs)
        for step, V in zip(symbolic.steps, self._pass(F), strict=True):
            matrix -= _inner_products(F[step.factor], V)
        if self._dense is None:
            return SchurComplement(self, matrix, tuple(F), None)
        solved = self._dense.solve(np.concatenate([flatten(F[f]) for f in symbolic.dense]))
        matrix -= solved.F.T @ solved.V
        return SchurComplement(self, matrix, tuple(F), solved)

    def solve(self, right: Array) -> Array:
        """Multiply by ``Lambda M^-1 Lambda'``: the effects' covariance over ``sigma**2``."""
        symbolic = self.symbolic
        F = [
            unflatten(right[symbolic.columns(f)], symbolic.block_matrix.width(f))
            for f in symbolic.block_matrix.factors
        ]
        self._pass(F)
        out = np.zeros_like(right)
        if self._dense is not None:
            dense = np.concatenate([flatten(F[f]) for f in symbolic.dense])
            out[symbolic.dense_start :] = self._dense.solve(dense).V
        for step, done in zip(reversed(symbolic.steps), reversed(self._done), strict=True):
            rest = F[step.factor]
            if done.Z is not None:
                rest = rest - unflatten(done.Z.plain @ out, step.K)
            elif isinstance(step.pairs, Rows):
                rest = rest - unflatten(step.pairs.matrix @ out[symbolic.dense_start :], step.K)
            out[step.columns] = flatten(matmul(done.G, rest))
        return out

    def _pass(self, F: list[Array]) -> list[Array]:
        """Eliminate the chain from columns, in place; ``G F`` of each of its factors."""
        symbolic, V = self.symbolic, []
        for step, done in zip(symbolic.steps, self._done, strict=True):
            V.append(matmul(done.G, F[step.factor]))
            if step.pairs is None:
                continue
            change = _to_columns(step, done, V[-1], symbolic)
            for g, start in symbolic.starts.items():
                if start > step.start:
                    part = change[start : start + symbolic.block_matrix.size(g)]
                    F[g] = F[g] - unflatten(part, symbolic.block_matrix.width(g))
        return V


@dataclass(frozen=True)
class SchurComplement:
    """
    Dense columns after elimination; made by :meth:`NumericFactor.schur_complement`.

    Parameters
    ----------
    factor : Factor
        The elimination.
    matrix : ndarray of shape (m, m)
        What is left of the columns' cross-products.
    """

    numeric: NumericFactor = field(repr=False)
    matrix: Array
    _F: tuple[Array, ...] = field(repr=False)  # each factor's rhs when it was eliminated
    _solved: DenseSolution | None = field(repr=False)

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Solve for the effects."""
        symbolic = self.numeric.symbolic
        b, u = np.zeros(symbolic.size), np.zeros(symbolic.size)
        if self._solved is not None:
            b[symbolic.dense_start :] = self._solved.V @ weights
            u[symbolic.dense_start :] = self._solved.U @ weights
        for step, done in zip(reversed(symbolic.steps), reversed(self.numeric._done), strict=True):
            right = np.tensordot(self._F[step.factor], weights, axes=(1, 0))
            if done.Z is not None:
                right = right - (done.Z.plain @ b).reshape(step.K, step.L)
            elif isinstance(step.pairs, Rows):
                right = right - (step.pairs.matrix @ b[symbolic.dense_start :]).reshape(
                    step.K, step.L
                )
            b[step.columns] = matmul(done.G, right[:, None])[:, 0].ravel()
            u[step.columns] = matmul(done.T.transpose(1, 0, 2), right[:, None])[:, 0].ravel()
        cut = [
            (symbolic.columns(f), symbolic.block_matrix.width(f))
            for f in symbolic.block_matrix.factors
        ]
        return [b[c].reshape(K, -1) for c, K in cut], [u[c].reshape(K, -1) for c, K in cut]

    def backward(self, inner: Array) -> tuple[list[Array], list[Array]]:
        """Differentiate ``log_det`` plus a function of :attr:`matrix`."""
        symbolic = self.numeric.symbolic
        store = np.zeros(symbolic.dense_at)
        rhs = np.zeros((symbolic.size, len(inner)))
        gradients: dict[int, Array] = {}
        blocks: dict[int, Array] = {}
        bar = None
        if self.numeric._dense is not None:
            assert self._solved is not None
            bar, gradients, blocks = self.numeric._dense.backward(self._solved, inner)
            rhs[symbolic.dense_start :] = -self._solved.V @ inner
            if any(isinstance(s.pairs, Rows) for s in symbolic.steps):
                mirror(bar)
            else:  # whatever is off the diagonal stands twice in the matrix
                store = (
                    np.concatenate([store, bar.ravel()]) if symbolic.dense_at else bar.reshape(-1)
                )
                store[symbolic.dense_at :] *= 2.0
                store[symbolic.dense_at :: symbolic.dense_size + 1] *= 0.5
        for i in range(len(symbolic.steps) - 1, -1, -1):
            step, done, F = (
                symbolic.steps[i],
                self.numeric._done[i],
                self._F[symbolic.steps[i].factor],
            )
            Q, N = _surrounding(step, done, F, inner, rhs, store, bar, symbolic)
            GQ = matmul(done.G, Q)
            slope = done.A - Q + matmul(done.A, GQ)  # A - (I - A G) Q
            gradients[step.factor] = 2.0 * sum_outer(slope, done.T.transpose(1, 0, 2))
            block = done.G + matmul(GQ, done.G)
            blocks[step.factor] = block
            if i:
                passed = N + np.tensordot(F, inner, axes=(1, 0)).transpose(0, 2, 1)
                rhs[step.columns] = -flatten(matmul(done.G, passed))
                _pass_on(step, done, F, rhs, store, block)
        order = symbolic.block_matrix.factors
        return [gradients[f] for f in order], [blocks[f] for f in order]


def factorize(symbolic: SymbolicFactor, lambdas: Sequence[Array]) -> NumericFactor:
    """Eliminate every factor at the given Lambdas."""
    store = symbolic.store.copy()
    log_det, all_done = 0.0, []
    for step in symbolic.steps:
        A = symbolic.block_matrix.diagonal[step.factor]
        if step.own is not None:
            A = unpack_lower(store[step.own].reshape(-1, step.L), step.K)
        G, T, log_m = penalized_inverse(A, lambdas[step.factor])
        log_det += log_m
        z: Array | None = None
        Z: Both | None = None
        updates: tuple[Both, ...] = ()
        if isinstance(step.pairs, Rows):
            _subtract_rows(step, G, store, symbolic)
        elif step.pairs is not None:
            z = step.entries(store)
            if step.constant is not None:
                Z, updates = step.constant
            else:
                Z = Both.of(step.matrix(z, symbolic.size))
                updates = tuple(map(Both.of, step.pairs.matrices(z)))
            for update, g in zip(updates, pack_lower(G), strict=True):
                store -= update.plain @ g
        all_done.append(_EliminatedFactor(A, G, T, z, Z, updates))
    dense = None
    if symbolic.dense_size:
        square = store[symbolic.dense_at :].reshape(symbolic.dense_size, symbolic.dense_size)
        dense = factorize_dense(symbolic, lambdas, square)
        log_det += dense.log_det
    return NumericFactor(symbolic, tuple(lambdas), log_det, tuple(all_done), dense)


def _subtract_rows(step: Step, G: Array, store: Array, symbolic: SymbolicFactor) -> None:
    """Subtract ``Z' G Z`` from the tail, by dense products."""
    assert isinstance(step.pairs, Rows)
    square = store[symbolic.dense_at :].reshape(symbolic.dense_size, symbolic.dense_size)
    for first, last in step.pairs.parts:
        Z = step.pairs.portion(first, last)
        GZ = np.zeros_like(Z)
        for a in range(step.K):
            for b in range(step.K):
                GZ[a] += G[a, b, first:last, None] * Z[b]
        flat = (Z.shape[0] * Z.shape[1], -1)
        square -= Z.reshape(flat).T @ GZ.reshape(flat)


def _inner_products(F: Array, V: Array) -> Array:
    """Sum over columns and levels of ``F' V``, (m, m)."""
    if F.shape[0] == 1:
        total: Array = F[0] @ V[0].T
        return total
    return np.asarray(sum(f @ v.T for f, v in zip(F, V, strict=True)))


def _to_columns(step: Step, done: _EliminatedFactor, V: Array, symbolic: SymbolicFactor) -> Array:
    """``Z' V`` for the entries of a step, (all columns, m)."""
    flat = flatten(V)
    if done.Z is not None:
        return np.asarray(done.Z.transposed @ flat)
    assert isinstance(step.pairs, Rows)
    change = np.zeros((symbolic.size, flat.shape[1]))
    change[symbolic.dense_start :] = step.pairs.matrix.T @ flat
    return change


def _surrounding(
    step: Step,
    done: _EliminatedFactor,
    F: Array,
    inner: Array,
    rhs: Array,
    store: Array,
    bar: Array | None,
    symbolic: SymbolicFactor,
) -> tuple[Array, Array]:
    """Sum up ``Q = A_r (derivative by the rest) A_r'`` at every level, and its half ``N``."""
    K = step.K
    Q = weighted_outer(F, inner, F)
    if step.pairs is None:
        return Q, np.zeros_like(F)
    if isinstance(step.pairs, Rows):
        assert bar is not None
        N = unflatten(step.pairs.matrix @ rhs[symbolic.dense_start :], K)
        for first, last in step.pairs.parts:
            Z = step.pairs.portion(first, last)
            Y = (Z.reshape(-1, Z.shape[2]) @ bar).reshape(Z.shape)
            for a in range(K):
                for b in range(K):
                    Q[a, b, first:last] += np.einsum("ld,ld->l", Y[a], Z[b])
    else:
        assert done.Z is not None
        N = unflatten(np.asarray(done.Z.plain @ rhs), K)
        found = np.stack([update.transposed @ store for update in done.updates])
        Q += _halve_off_diagonal(unpack_lower(found, K))
    for c in range(F.shape[1]):
        half = N[:, None, c] * F[None, :, c]
        Q += half
        Q += half.transpose(1, 0, 2)
    return Q, N


def _halve_off_diagonal(Q: Array) -> Array:
    """Undo that an entry off the diagonal of G was counted once for both its places."""
    for a in range(Q.shape[0]):
        for b in range(a):
            Q[a, b] *= 0.5
            Q[b, a] *= 0.5
    return Q


def _pass_on(
    step: Step,
    done: _EliminatedFactor,
    F: Array,
    rhs: Array,
    store: Array,
    block: Array,
) -> None:
    """Tell earlier steps the derivatives by this step's own block and couplings."""
    assert step.own is not None
    K = step.K
    own = [(1.0 if a == b else 2.0) * block[a, b] for a in range(K) for b in range(a + 1)]
    store[step.own] = np.concatenate(own)
    if step.pairs is None:
        return
    assert isinstance(step.pairs, Pairs)
    assert done.z is not None
    p = step.pairs
    # The store holds derivatives by values that stand twice in the matrix, so half of each;
    # entries paired with themselves stand once, but are then found from both sides.
    full = 0.5 * store[p.target]
    count = len(step.rows)
    Y = (F[:, :, step.rows] * rhs[step.cols].T[None]).sum(axis=1)
    for a in range(K):
        Y[a] += np.bincount(p.first, done.z[a, p.second] * full, count)
        Y[a] += np.bincount(p.second, done.z[a, p.first] * full, count)
    store[step.where] = -2.0 * matmul(done.G[:, :, step.rows], Y[:, None])[:, 0]
