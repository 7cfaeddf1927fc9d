"""Numeric factorisation, forward and back substitution.

For each leading factor, with diagonal block ``A``, entries ``A_r`` in the later columns and
right-hand sides ``F``, all after the preceding eliminations,

    G = Lambda M^-1 Lambda',  M = Lambda' A Lambda + I
    A_later <- A_later - A_r' G A_r,   F_later <- F_later - A_r' G F,   C <- C - F' G F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mixedfx.linalg.cholesky import reverse_mode
from mixedfx.linalg.cholesky.assembled import AssembledMatrix
from mixedfx.linalg.cholesky.batched import (
    flatten,
    matmul,
    penalized_inverse,
    unflatten,
    unpack_lower,
)
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.dense import DenseFactor, DenseSolution, factorize_dense
from mixedfx.linalg.cholesky.entries import NumericStep, step_entries
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor


@dataclass(frozen=True)
class NumericFactor:
    """Factorised matrix at one set of Lambdas; returned by :func:`factorize`."""

    assembled: AssembledMatrix = field(repr=False)
    lambdas: tuple[Array, ...]  # one (K, K) per factor
    log_det: float  # log|Lambda' A Lambda + I| over all factors
    steps: tuple[NumericStep, ...] = field(repr=False)
    dense: DenseFactor | None = field(repr=False)

    @property
    def most_columns(self) -> float:
        """Right-hand sides may be as many as they are."""
        return np.inf

    @property
    def solved_by(self) -> str:
        """Nothing is refused."""
        return ""

    @property
    def otherwise(self) -> str:
        """Nothing is refused."""
        return ""

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

    @property
    def levels_are_apart(self) -> bool:
        """Whether M has no blocks but those within the levels of one factor."""
        return len(self.steps) == 1 and self.dense is None

    def solve_levels(self, rhs: Array) -> Array:
        """``u = M^-1 Lambda' rhs``, (K, L), of levels that are apart."""
        M_inv_lam = self.steps[0].lam_M_inv.transpose(1, 0, 2)
        return matmul(M_inv_lam, rhs[:, None])[:, 0]

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
            if values.entries is not None:
                block = block - unflatten(values.entries.multiply(out), step.K)
            out[step.columns] = flatten(matmul(values.G, block))
        return out

    def _forward_substitute(self, blocks: list[Array]) -> list[Array]:
        """Eliminate the leading factors from right-hand sides, in place; ``G F`` of each factor."""
        symbolic, GF = self.symbolic, []
        for step, values in zip(symbolic.steps, self.steps, strict=True):
            GF.append(matmul(values.G, blocks[step.factor]))
            if values.entries is None:
                continue
            change = values.entries.multiply_transposed(flatten(GF[-1]))
            for f, start in symbolic.starts.items():
                if start > step.start:
                    rows = change[start : start + symbolic.layout.size(f)]
                    blocks[f] = blocks[f] - unflatten(rows, symbolic.layout.width(f))
        return GF


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
            if values.entries is not None:
                rhs = rhs - values.entries.multiply(b).reshape(step.K, step.L)
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
        numeric = self.numeric
        columns = reverse_mode.EliminatedColumns(self._rhs, self._dense_solution, dC)
        found = reverse_mode.reverse_pass(numeric.symbolic, numeric.steps, numeric.dense, columns)
        factors = numeric.symbolic.layout.factors
        return [found.by_lambda[f] for f in factors], [found.diagonal[f] for f in factors]

    def derivative(self, dC: Array) -> list[Array]:
        """Derivatives of ``log_det + f(matrix)`` by each Lambda (K, K), given that of f."""
        return self.backward(dC)[0]

    def level_covariances(self) -> list[Array]:
        """Blocks of ``Lambda M^-1 Lambda'`` of each level, (K, K, L) per factor."""
        return self.backward(np.zeros_like(self.matrix))[1]


def factorize(assembled: AssembledMatrix, lambdas: Sequence[Array]) -> NumericFactor:
    """Eliminate every factor at the given Lambdas."""
    symbolic, trailing = assembled.symbolic, assembled.trailing_values.copy()
    log_det, steps = 0.0, []
    for step in symbolic.steps:
        A, entries = assembled.diagonal[step.factor], assembled.first_entries
        if step.diagonal_positions is not None:  # a later step
            A = unpack_lower(trailing[step.diagonal_positions].reshape(-1, step.L), step.K)
            entries = step_entries(step, trailing[step.entry_positions]) if step.update else None
        G, lam_M_inv, log_det_M = penalized_inverse(A, lambdas[step.factor])
        log_det += log_det_M
        if entries is not None:
            entries.subtract_update(G, trailing)
        steps.append(NumericStep(A, G, lam_M_inv, entries))
    dense = None
    if symbolic.dense_size:
        t = symbolic.dense_size
        dense = factorize_dense(symbolic, lambdas, trailing[symbolic.dense_offset :].reshape(t, t))
        log_det += dense.log_det
    return NumericFactor(assembled, tuple(lambdas), log_det, tuple(steps), dense)


def _sum_inner(F: Array, H: Array) -> Array:
    """Sum over columns and levels of ``F' H``, (m, m)."""
    if F.shape[0] == 1:
        total: Array = F[0] @ H[0].T
        return total
    return np.asarray(sum(f @ h.T for f, h in zip(F, H, strict=True)))
