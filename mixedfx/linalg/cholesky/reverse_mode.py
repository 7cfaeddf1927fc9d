"""Derivatives of the log-determinant and of eliminated columns, in reverse mode.

For each leading factor, in the notation of :mod:`~.numeric`, in reverse order, with half the
derivatives ``dF`` and ``dA`` (off the diagonal) of ``log|M| + f(C)`` by what follows, ``dC`` that
of ``f``, and ``N = A_r dF_later``, level by level,

    Q = A_r dA_later A_r' + N F' + F N' + F dC F'                (minus the derivative by G)
    dLambda = 2 sum (A - (I - A G) Q) Lambda M^-1
    dA = G + G Q G,   dF = -G (N + F dC),   dA_r = -G (A_r dA_later + F dF_later').

Without columns, ``dA`` and ``dA_r`` are the entries of ``Lambda M^-1 Lambda'`` over all factors at
the pattern of ``A``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixedfx.linalg.cholesky.batched import (
    flatten,
    matmul,
    pack_symmetric,
    sum_outer,
    unflatten,
    weighted_outer,
)
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.dense import DenseFactor, DenseSolution
from mixedfx.linalg.cholesky.entries import NumericStep
from mixedfx.linalg.cholesky.symbolic import EliminationStep, SymbolicFactor


@dataclass(frozen=True)
class EliminatedColumns:
    """Right-hand sides when they were eliminated, and the derivative by their Schur complement."""

    rhs: Sequence[Array]  # (K, m, L) per factor
    dense_solution: DenseSolution | None
    dC: Array  # (m, m)


@dataclass(frozen=True)
class Derivatives:
    """Derivatives by Lambda and by the values of ``A``; returned by :func:`reverse_pass`."""

    by_lambda: dict[int, Array]  # (K, K) of each factor
    diagonal: dict[int, Array]  # (K, K, L) of each factor
    # Half the derivatives by the trailing values: the diagonal occurs once in the matrix, others
    # twice. Of a dense block the lower triangle is valid.
    trailing: Array
    first_entries: Array | None  # (K, entries), half the derivatives by those of the first step


def reverse_pass(
    symbolic: SymbolicFactor,
    steps: Sequence[NumericStep],
    dense: DenseFactor | None,
    columns: EliminatedColumns | None = None,
    *,
    by_first_entries: bool = False,
) -> Derivatives:
    """Derivatives of ``log_det + f(C)``; of ``log_det`` without columns.

    Those by the first step's entries, which no step needs, are computed if asked for.
    """
    trailing, by_lambda, diagonal = _dense_backward(symbolic, dense, columns)
    rhs = np.zeros((0, 0))  # half the derivatives by the right-hand sides
    if columns is not None:
        rhs = np.zeros((symbolic.size, len(columns.dC)))
        if columns.dense_solution is not None:
            rhs[symbolic.dense_start :] = -columns.dense_solution.V @ columns.dC
    by_entries: Array | None = None
    for i in range(len(symbolic.steps) - 1, -1, -1):
        step, values = symbolic.steps[i], steps[i]
        Q, by_entries = _quadratic(values, trailing, at_entries=i > 0 or by_first_entries)
        if columns is not None:
            F = columns.rhs[step.factor]
            Q, N = _add_columns(step, values, F, columns.dC, rhs, Q)
            if i:
                FC = np.tensordot(F, columns.dC, axes=(1, 0)).transpose(0, 2, 1)
                rhs[step.columns] = -flatten(matmul(values.G, FC if N is None else N + FC))
            if by_entries is not None:
                by_later = rhs[step.entry_columns].T[None]
                by_entries += (F.take(step.entry_levels, axis=2) * by_later).sum(axis=1)
        by_lambda[step.factor], diagonal[step.factor] = _by_block(values, Q)
        if by_entries is not None:
            by_entries = -step.multiply_by_level(values.G, by_entries)
        if i:
            _store(step, diagonal[step.factor], by_entries, trailing)
    return Derivatives(by_lambda, diagonal, trailing, by_entries)


def _dense_backward(
    symbolic: SymbolicFactor, dense: DenseFactor | None, columns: EliminatedColumns | None
) -> tuple[Array, dict[int, Array], dict[int, Array]]:
    """Half the derivatives by the trailing values, as far as the dense block's are known."""
    trailing = np.zeros(symbolic.dense_offset)
    if dense is None:
        return trailing, {}, {}
    if columns is None:
        dA, by_lambda, diagonal = dense.backward()
    else:
        assert columns.dense_solution is not None
        dA, by_lambda, diagonal = dense.backward(columns.dense_solution, columns.dC)
    flat = dA.reshape(-1)
    flat[:: symbolic.dense_size + 1] *= 0.5
    return np.concatenate([trailing, flat]) if len(trailing) else flat, by_lambda, diagonal


def _quadratic(
    values: NumericStep, trailing: Array, *, at_entries: bool
) -> tuple[Array | None, Array | None]:
    """``A_r dA_later A_r'`` by level, and ``A_r dA_later`` at the entries if asked for."""
    if values.entries is None:
        return None, None
    if not at_entries:
        return values.entries.quadratic(trailing), None
    Y = values.entries.multiply_trailing(trailing)
    return values.entries.sum_by_level(Y), Y


def _by_block(values: NumericStep, Q: Array | None) -> tuple[Array, Array]:
    """Derivatives by Lambda and by the diagonal block, where a ``Q`` of None is zero."""
    M_inv_lam = values.lam_M_inv.transpose(1, 0, 2)
    if Q is None:
        return 2.0 * sum_outer(values.A, M_inv_lam), values.G
    GQ = matmul(values.G, Q)
    residual = values.A - Q + matmul(values.A, GQ)  # A - (I - A G) Q
    return 2.0 * sum_outer(residual, M_inv_lam), values.G + matmul(GQ, values.G)


def _add_columns(
    step: EliminationStep, values: NumericStep, F: Array, dC: Array, rhs: Array, Q: Array | None
) -> tuple[Array, Array | None]:
    """``Q + N F' + F N' + F dC F'``, and ``N``; None is zero."""
    total = weighted_outer(F, dC, F)
    if Q is not None:
        total += Q
    if values.entries is None:
        return total, None
    N = unflatten(values.entries.multiply(rhs), step.K)
    for c in range(F.shape[1]):
        NF = N[:, None, c] * F[None, :, c]
        total += NF
        total += NF.transpose(1, 0, 2)
    return total, N


def _store(step: EliminationStep, dA: Array, by_entries: Array | None, trailing: Array) -> None:
    """Store half the derivatives by a later step's diagonal block and entries."""
    assert step.diagonal_positions is not None
    trailing[step.diagonal_positions] = pack_symmetric(dA)
    if by_entries is not None:
        trailing[step.entry_positions] = by_entries
