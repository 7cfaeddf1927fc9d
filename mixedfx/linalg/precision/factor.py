"""Block matrix of effects with sparse precisions, its factor at given Lambdas, and columns.

The same attributes and methods as those of :mod:`mixedfx.linalg.cholesky.numeric`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.batched import flatten, matmul_left, matmul_right
from mixedfx.linalg.cholesky.block_matrix import Array
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.precision.matrix import PrecisionMatrix
from mixedfx.linalg.sparse_cholesky.numeric import SparseFactor, factorize_sparse

Vector = npt.NDArray[np.float64]

# More systems are not solved: what needs them needs the inverse.
MOST_COLUMNS = 50_000.0


@dataclass(frozen=True, eq=False)
class PrecisionFactor:
    """The penalised matrix at one set of Lambdas."""

    assembled: PrecisionMatrix = field(repr=False)
    lambdas: tuple[Array, ...]
    factor: SparseFactor = field(repr=False)

    @staticmethod
    def at(assembled: PrecisionMatrix, lambdas: Sequence[Array]) -> PrecisionFactor:
        """Factorise at the given Lambdas."""
        factor = factorize_sparse(assembled.pattern.symbolic, assembled.values(lambdas))
        return PrecisionFactor(assembled, tuple(lambdas), factor)

    @property
    def symbolic(self) -> EliminationOrder:
        """Columns of the nodes."""
        return self.assembled.pattern.order

    @property
    def most_columns(self) -> float:
        """Right-hand sides whose solution takes about a minute."""
        return MOST_COLUMNS

    @property
    def solved_by(self) -> str:
        """The equations of the animals."""
        return "the sparse equations of a pedigree are solved for"

    @property
    def otherwise(self) -> str:
        """Less to solve."""
        return ", or take the records of fewer levels"

    @property
    def log_det(self) -> float:
        """``log|M|``."""
        return self.factor.log_det + self.assembled.log_det_covariances

    @cached_property
    def inverse(self) -> Vector:
        """Entries of the inverse of the equations, at their positions."""
        return self.factor.inverse()

    def solve(self, rhs: Array) -> Array:
        """``Lambda M^-1 Lambda' rhs``, (q, m)."""
        return self._solve(rhs)[1]

    def _solve(self, rhs: Array) -> tuple[Array, Array]:
        """``u = M^-1 Lambda' rhs`` and ``Lambda u``, (q, m) each."""
        assembled, lambdas = self.assembled, self.lambdas
        right = assembled.times_lambda(rhs, lambdas, transposed=True)
        solved = self.factor.solve(assembled.times_root(right, transposed=True))
        u = assembled.times_root(solved)
        return u, assembled.times_lambda(u, lambdas, transposed=False)

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> PrecisionSchurComplement:
        """``matrix - rhs' Lambda M^-1 Lambda' rhs``, for columns (K, m, nodes) of each factor."""
        flat = np.empty((self.symbolic.size, len(matrix)))
        for f in self.symbolic.layout.factors:
            flat[self.symbolic.columns(f)] = flatten(rhs[f])
        u, b = self._solve(flat)
        return PrecisionSchurComplement(self, matrix - flat.T @ b, flat, u, b)

    @cached_property
    def _inverse_blocks(self) -> tuple[list[Array], dict[tuple[int, int], Array]]:
        """Blocks C of the inverse of the equations, for the codes and for pairs of codes."""
        return self.assembled.inverse_blocks(self.inverse)

    @property
    def blocks(self) -> tuple[list[Array], dict[tuple[int, int], Array]]:
        """``Lambda C Lambda'`` of the codes, (K, K, codes), and of pairs of codes."""
        lambdas, off_diagonal = self.lambdas, self._inverse_blocks[1]
        return [self.code_covariances(f) for f in self.symbolic.layout.factors], {
            (f, g): _times(lambdas[f], C, lambdas[g]) for (f, g), C in off_diagonal.items()
        }

    def code_covariances(self, f: int) -> Array:
        """``Lambda C Lambda'`` of the codes of a factor, (K, K, codes)."""
        return _times(self.lambdas[f], self._inverse_blocks[0][f], self.lambdas[f])

    def log_det_derivative(self) -> list[Array]:
        """Derivative of ``log|M|`` by each Lambda, (K, K)."""
        return self.assembled.log_det_derivative(self.lambdas, *self._inverse_blocks)

    def node_covariances(self, f: int) -> Array:
        """Blocks of the effects' inverse equations of all nodes of a factor, (K, K, nodes)."""
        C, lam = self.inverse[self.assembled.pattern.own[f]], self.lambdas[f]
        return _times(lam, C, lam)


def _times(left: Array, blocks: Array, right: Array) -> Array:
    """``left C right'`` of each block."""
    return matmul_left(left, matmul_right(blocks, right.T))


@dataclass(frozen=True, eq=False)
class PrecisionSchurComplement:
    """Dense columns after elimination."""

    numeric: PrecisionFactor = field(repr=False)
    matrix: Array  # (m, m)
    _rhs: Array = field(repr=False)  # (q, m)
    _u: Array = field(repr=False)  # (q, m), M^-1 Lambda' rhs
    _b: Array = field(repr=False)  # (q, m), Lambda u

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b = Lambda u`` and ``u = M^-1 Lambda' rhs weights``, (K, nodes) per factor."""
        order = self.numeric.symbolic
        b, u = self._b @ weights, self._u @ weights
        columns = [(order.columns(f), order.layout.width(f)) for f in order.layout.factors]
        return [b[c].reshape(K, -1) for c, K in columns], [u[c].reshape(K, -1) for c, K in columns]

    def level_covariances(self) -> list[Array]:
        """Conditional covariances of the effects of levels, not of v, (K, K, L) per factor."""
        numeric = self.numeric
        return [
            numeric.node_covariances(f)
            if basis is not None and basis.combines
            else numeric.code_covariances(f)
            for f, basis in enumerate(numeric.assembled.bases)
        ]

    def derivative(self, dC: Array) -> list[Array]:
        """Derivative of ``log_det + f(matrix)`` by each Lambda (K, K), given that of f by matrix.

        That of f is ``-2 sum_l g_l dC u_l'`` with ``g = rhs - A b``, node by node.
        """
        numeric, order = self.numeric, self.numeric.symbolic
        found = numeric.log_det_derivative()
        g = (self._rhs - numeric.assembled @ self._b) @ dC
        for f in order.layout.factors:
            shape = (order.layout.width(f), -1)
            left, right = g[order.columns(f)], self._u[order.columns(f)]
            found[f] = found[f] - 2.0 * (left.reshape(shape) @ right.reshape(shape).T)
        return found
