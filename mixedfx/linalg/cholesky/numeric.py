"""Numeric factorisation, forward and back substitution, and reverse-mode derivatives.

For each leading factor, with diagonal block ``A``, entries ``A_r`` in the later columns and
right-hand sides ``F``, all after the preceding eliminations,

    G = Lambda M^-1 Lambda',  M = Lambda' A Lambda + I
    A_later <- A_later - A_r' G A_r,   F_later <- F_later - A_r' G F,   C <- C - F' G F.

In reverse order, with the derivatives ``dA``, ``dF`` (half of it) and ``dC`` of ``log|M| + f(C)``
by what follows, and ``N = A_r dF_later``, level by level,

    Q = A_r dA_later A_r' + N F' + F N' + F dC F'                (minus the derivative by G)
    dLambda = 2 sum (A - (I - A G) Q) Lambda M^-1
    dA = G + G Q G,   dF = -G (N + F dC),   dA_r = -2 G (A_r dA_later + F dF_later').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedfx.linalg.cholesky.assembled import (
    AssembledMatrix,
    DenseEntries,
    PairwiseEntries,
)
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
from mixedfx.linalg.cholesky.dense import (
    DenseFactor,
    DenseSolution,
    factorize_dense,
    symmetrize,
)
from mixedfx.linalg.cholesky.symbolic import (
    DenseUpdate,
    EliminationStep,
    PairwiseUpdate,
    SymbolicFactor,
)


@dataclass(frozen=True)
class NumericStep:
    """Values of one elimination step."""

    A: Array  # (K, K, L) diagonal block when the factor is eliminated
    G: Array  # (K, K, L)
    lam_M_inv: Array  # (K, K, L), Lambda M^-1
    entries: PairwiseEntries | DenseEntries | None  # None for a factor without entries


@dataclass(frozen=True)
class NumericFactor:
    """Factorised matrix at one set of Lambdas; returned by :func:`factorize`."""

    assembled: AssembledMatrix = field(repr=False)
    lambdas: tuple[Array, ...]  # one (K, K) per factor
    log_det: float  # log|Lambda' A Lambda + I| over all factors
    steps: tuple[NumericStep, ...] = field(repr=False)
    dense: DenseFactor | None = field(repr=False)

    @property
    def symbolic(self) -> SymbolicFactor:
        """Elimination order and positions of all values."""
        return self.assembled.symbolic

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> SchurComplement:
        """Eliminate all factors from ``m`` columns: ``matrix - rhs' Lambda M^-1 Lambda' rhs``.

        ``rhs`` holds their cross-products with each factor, (K, m, L), and ``matrix`` (m, m) those
        with each other.
        """
        symbolic = self.symbolic
        matrix = matrix.copy()
        blocks = list(rhs)
        for step, GF in zip(symbolic.steps, self._forward_substitute(blocks), strict=True):
            matrix -= _sum_inner(blocks[step.factor], GF)
        if self.dense is None:
            return SchurComplement(self, matrix, tuple(blocks), None)
        dense_rhs = np.concatenate([flatten(blocks[f]) for f in symbolic.dense_factors])
        solution = self.dense.solve(dense_rhs)
        matrix -= solution.rhs.T @ solution.V
        return SchurComplement(self, matrix, tuple(blocks), solution)

    def solve(self, rhs: Array) -> Array:
        """``Lambda M^-1 Lambda' rhs``, (q, m): the solution of ``A + (Lambda Lambda')^-1``.

        As an operator it is the conditional covariance of the random effects over ``sigma**2``; it
        is defined for singular Lambda too.
        """
        symbolic = self.symbolic
        blocks = [
            unflatten(rhs[symbolic.columns(f)], symbolic.layout.width(f))
            for f in symbolic.layout.factors
        ]
        self._forward_substitute(blocks)
        out = np.zeros_like(rhs)
        if self.dense is not None:
            dense_rhs = np.concatenate([flatten(blocks[f]) for f in symbolic.dense_factors])
            out[symbolic.dense_start :] = self.dense.solve(dense_rhs).V
        for step, values in zip(reversed(symbolic.steps), reversed(self.steps), strict=True):
            block = blocks[step.factor]
            if step.update is not None:
                block = block - unflatten(_multiply_entries(values.entries, out, symbolic), step.K)
            out[step.columns] = flatten(matmul(values.G, block))
        return out

    def _forward_substitute(self, blocks: list[Array]) -> list[Array]:
        """Eliminate the leading factors from right-hand sides, in place; ``G F`` of each factor."""
        symbolic, GF = self.symbolic, []
        for step, values in zip(symbolic.steps, self.steps, strict=True):
            GF.append(matmul(values.G, blocks[step.factor]))
            if step.update is None:
                continue
            change = _multiply_entries_transposed(values.entries, GF[-1], symbolic)
            for f, start in symbolic.starts.items():
                if start > step.start:
                    rows = change[start : start + symbolic.layout.size(f)]
                    blocks[f] = blocks[f] - unflatten(rows, symbolic.layout.width(f))
        return GF


@dataclass(frozen=True)
class _Adjoints:
    """Derivatives by the values that follow a step, filled in reverse order."""

    rhs: Array  # (q, m), half the derivative by the right-hand sides
    trailing: Array  # by the trailing values; without the dense block if updates are dense
    dense: Array | None  # (t, t) by the dense block, used if updates are dense


@dataclass(frozen=True)
class SchurComplement:
    """Dense columns after elimination; returned by :meth:`NumericFactor.schur_complement`."""

    numeric: NumericFactor = field(repr=False)
    matrix: Array  # (m, m), the Schur complement
    _rhs: tuple[Array, ...] = field(repr=False)  # (K, m, L) per factor, when it was eliminated
    _dense_solution: DenseSolution | None = field(repr=False)

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b = Lambda u`` and ``u = M^-1 Lambda' rhs weights``, (K, L) per factor."""
        symbolic = self.numeric.symbolic
        b, u = np.zeros(symbolic.size), np.zeros(symbolic.size)
        if self._dense_solution is not None:
            b[symbolic.dense_start :] = self._dense_solution.V @ weights
            u[symbolic.dense_start :] = self._dense_solution.U @ weights
        for step, values in zip(
            reversed(symbolic.steps), reversed(self.numeric.steps), strict=True
        ):
            rhs = np.tensordot(self._rhs[step.factor], weights, axes=(1, 0))
            if step.update is not None:
                rhs = rhs - _multiply_entries(values.entries, b, symbolic).reshape(step.K, step.L)
            b[step.columns] = matmul(values.G, rhs[:, None])[:, 0].ravel()
            M_inv_lam = values.lam_M_inv.transpose(1, 0, 2)
            u[step.columns] = matmul(M_inv_lam, rhs[:, None])[:, 0].ravel()
        columns = [(symbolic.columns(f), symbolic.layout.width(f)) for f in symbolic.layout.factors]
        return [b[c].reshape(K, -1) for c, K in columns], [u[c].reshape(K, -1) for c, K in columns]

    def backward(self, dC: Array) -> tuple[list[Array], list[Array]]:
        """Derivatives of ``log_det + f(matrix)``, given ``dC``, (m, m), that of f, in reverse mode.

        By each Lambda (K, K), and by the diagonal blocks of ``A`` (K, K, L); for ``f = 0`` these
        are the conditional covariances of each level's effects over ``sigma**2``.
        """
        symbolic, steps = self.numeric.symbolic, self.numeric.steps
        adjoints, lambda_gradients, level_blocks = self._dense_backward(dC)
        for i in range(len(symbolic.steps) - 1, -1, -1):
            step, values = symbolic.steps[i], steps[i]
            F = self._rhs[step.factor]
            Q, N = _update_adjoint(step, values, F, dC, adjoints, symbolic)
            GQ = matmul(values.G, Q)
            by_lambda = values.A - Q + matmul(values.A, GQ)  # A - (I - A G) Q
            M_inv_lam = values.lam_M_inv.transpose(1, 0, 2)
            lambda_gradients[step.factor] = 2.0 * sum_outer(by_lambda, M_inv_lam)
            dA = values.G + matmul(GQ, values.G)
            level_blocks[step.factor] = dA
            if i:
                FC = np.tensordot(F, dC, axes=(1, 0)).transpose(0, 2, 1)
                adjoints.rhs[step.columns] = -flatten(matmul(values.G, N + FC))
                _store_adjoints(step, values, F, adjoints, dA)
        factors = symbolic.layout.factors
        return [lambda_gradients[f] for f in factors], [level_blocks[f] for f in factors]

    def _dense_backward(self, dC: Array) -> tuple[_Adjoints, dict[int, Array], dict[int, Array]]:
        """Derivatives by the dense block, and by its factors' Lambdas and diagonal blocks."""
        symbolic = self.numeric.symbolic
        trailing = np.zeros(symbolic.dense_offset)
        rhs = np.zeros((symbolic.size, len(dC)))
        if self.numeric.dense is None:
            return _Adjoints(rhs, trailing, None), {}, {}
        assert self._dense_solution is not None
        dense, lambda_gradients, level_blocks = self.numeric.dense.backward(
            self._dense_solution, dC
        )
        rhs[symbolic.dense_start :] = -self._dense_solution.V @ dC
        if any(isinstance(s.update, DenseUpdate) for s in symbolic.steps):
            symmetrize(dense)
        else:  # each value below the diagonal occurs twice in the matrix
            flat = dense.reshape(-1)
            trailing = np.concatenate([trailing, flat]) if symbolic.dense_offset else flat
            trailing[symbolic.dense_offset :] *= 2.0
            trailing[symbolic.dense_offset :: symbolic.dense_size + 1] *= 0.5
        return _Adjoints(rhs, trailing, dense), lambda_gradients, level_blocks


def factorize(assembled: AssembledMatrix, lambdas: Sequence[Array]) -> NumericFactor:
    """Eliminate every factor at the given Lambdas."""
    symbolic, trailing = assembled.symbolic, assembled.trailing_values.copy()
    log_det, steps = 0.0, []
    for step in symbolic.steps:
        A, entries = assembled.diagonal[step.factor], assembled.first_entries
        if step.diagonal_positions is not None:  # a later step
            A = unpack_lower(trailing[step.diagonal_positions].reshape(-1, step.L), step.K)
            entries = None
            if isinstance(step.update, PairwiseUpdate):
                values = trailing[step.entry_positions]
                entries = PairwiseEntries.of(step, step.update, values)
        G, lam_M_inv, log_det_M = penalized_inverse(A, lambdas[step.factor])
        log_det += log_det_M
        if isinstance(entries, DenseEntries):
            _subtract_dense_products(step, entries, G, trailing, symbolic)
        elif entries is not None:
            for jacobian, g in zip(entries.jacobians, pack_lower(G), strict=True):
                trailing -= jacobian.matrix @ g
        steps.append(NumericStep(A, G, lam_M_inv, entries))
    dense = None
    if symbolic.dense_size:
        t = symbolic.dense_size
        dense = factorize_dense(symbolic, lambdas, trailing[symbolic.dense_offset :].reshape(t, t))
        log_det += dense.log_det
    return NumericFactor(assembled, tuple(lambdas), log_det, tuple(steps), dense)


def _subtract_dense_products(
    step: EliminationStep,
    entries: DenseEntries,
    G: Array,
    trailing: Array,
    symbolic: SymbolicFactor,
) -> None:
    """Subtract ``A_r' G A_r`` from the dense block, by dense products."""
    assert isinstance(step.update, DenseUpdate)
    t = symbolic.dense_size
    dense = trailing[symbolic.dense_offset :].reshape(t, t)
    for first, last in step.update.batches:
        A_r = entries.rows(first, last)
        GA_r = np.zeros_like(A_r)
        for a in range(step.K):
            for b in range(step.K):
                GA_r[a] += G[a, b, first:last, None] * A_r[b]
        shape = (A_r.shape[0] * A_r.shape[1], -1)
        dense -= A_r.reshape(shape).T @ GA_r.reshape(shape)


def _sum_inner(F: Array, H: Array) -> Array:
    """Sum over columns and levels of ``F' H``, (m, m)."""
    if F.shape[0] == 1:
        total: Array = F[0] @ H[0].T
        return total
    return np.asarray(sum(f @ h.T for f, h in zip(F, H, strict=True)))


def _multiply_entries(
    entries: PairwiseEntries | DenseEntries | None, x: Array, symbolic: SymbolicFactor
) -> Array:
    """``A_r x``, for ``x`` over all columns."""
    if isinstance(entries, PairwiseEntries):
        return np.asarray(entries.A_r.matrix @ x)
    assert entries is not None
    return np.asarray(entries.A_r @ x[symbolic.dense_start :])


def _multiply_entries_transposed(
    entries: PairwiseEntries | DenseEntries | None, V: Array, symbolic: SymbolicFactor
) -> Array:
    """``A_r' V``, (all columns, m)."""
    flat = flatten(V)
    if isinstance(entries, PairwiseEntries):
        return np.asarray(entries.A_r.transpose @ flat)
    assert entries is not None
    product = np.zeros((symbolic.size, flat.shape[1]))
    product[symbolic.dense_start :] = entries.A_r.T @ flat
    return product


def _update_adjoint(
    step: EliminationStep,
    values: NumericStep,
    F: Array,
    dC: Array,
    adjoints: _Adjoints,
    symbolic: SymbolicFactor,
) -> tuple[Array, Array]:
    """``Q = A_r dA_later A_r' + N F' + F N' + F dC F'`` by level, and ``N = A_r dF_later``."""
    K = step.K
    Q = weighted_outer(F, dC, F)
    if step.update is None:
        return Q, np.zeros_like(F)
    N = unflatten(_multiply_entries(values.entries, adjoints.rhs, symbolic), K)
    if isinstance(step.update, DenseUpdate):
        assert adjoints.dense is not None
        assert isinstance(values.entries, DenseEntries)
        for first, last in step.update.batches:
            A_r = values.entries.rows(first, last)
            A_r_dA = (A_r.reshape(-1, A_r.shape[2]) @ adjoints.dense).reshape(A_r.shape)
            for a in range(K):
                for b in range(K):
                    Q[a, b, first:last] += np.einsum("ld,ld->l", A_r_dA[a], A_r[b])
    else:
        assert isinstance(values.entries, PairwiseEntries)
        by_G = np.stack([j.transpose @ adjoints.trailing for j in values.entries.jacobians])
        quadratic = unpack_lower(by_G, K)
        # The Jacobian by an entry of G below the diagonal covers its two places.
        for a in range(K):
            for b in range(a):
                quadratic[a, b] *= 0.5
                quadratic[b, a] *= 0.5
        Q += quadratic
    for c in range(F.shape[1]):
        NF = N[:, None, c] * F[None, :, c]
        Q += NF
        Q += NF.transpose(1, 0, 2)
    return Q, N


def _store_adjoints(
    step: EliminationStep, values: NumericStep, F: Array, adjoints: _Adjoints, dA: Array
) -> None:
    """Store the derivatives by a step's diagonal block and entries with the trailing values."""
    assert step.diagonal_positions is not None
    K, trailing = step.K, adjoints.trailing
    packed = [(1.0 if a == b else 2.0) * dA[a, b] for a in range(K) for b in range(a + 1)]
    trailing[step.diagonal_positions] = np.concatenate(packed)
    if step.update is None:
        return
    assert isinstance(step.update, PairwiseUpdate)
    assert isinstance(values.entries, PairwiseEntries)
    z, (first, second) = values.entries.values, step.update.pairs
    # Stored derivatives are by values that occur twice in the matrix, so half of each; an entry
    # paired with itself occurs once, but is added as the first and as the second of the pair.
    A_later = 0.5 * trailing[step.update.target]
    count = len(step.entry_levels)
    Y = (F[:, :, step.entry_levels] * adjoints.rhs[step.entry_columns].T[None]).sum(axis=1)
    for a in range(K):
        Y[a] += np.bincount(first, z[a, second] * A_later, count)
        Y[a] += np.bincount(second, z[a, first] * A_later, count)
    G = values.G[:, :, step.entry_levels]
    trailing[step.entry_positions] = -2.0 * matmul(G, Y[:, None])[:, 0]
