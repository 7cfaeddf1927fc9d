"""Block matrix, its factor at given Lambdas, and columns eliminated, by iterations.

The same attributes and methods as those of :mod:`mixedfx.linalg.cholesky.numeric`, but for entries
of inverses: those are estimated (:mod:`~.level_covariances`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.batched import flatten
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.iterative.block_products import (
    BlockProducts,
    ProductsMatrix,
    at_all_levels,
    by_level,
    transposed,
)
from mixedfx.linalg.iterative.columns import in_chunks
from mixedfx.linalg.iterative.conjugate_gradients import conjugate_gradients
from mixedfx.linalg.iterative.deflation import Components, Deflation
from mixedfx.linalg.iterative.derivatives import ByLambda, OperatorDerivatives, add_scaled
from mixedfx.linalg.iterative.level_covariances import level_covariances
from mixedfx.linalg.iterative.log_det import LogDeterminant, estimate_log_det
from mixedfx.linalg.iterative.schur_operator import SchurOperator

# Residuals of systems, relative to their right-hand sides.
_TOLERANCE = 1e-11
_MAX_ITERATIONS = 2000
# More systems are not solved: what needs them needs the inverse.
MOST_COLUMNS = 2000.0


@dataclass(frozen=True)
class IterativeMatrix:
    """Values of a block matrix, and the components of its levels."""

    products: BlockProducts = field(repr=False)
    symbolic: EliminationOrder = field(repr=False)
    components: Components = field(repr=False)
    probes: int  # vectors of random signs
    seed: int

    @staticmethod
    def of(
        block_matrix: BlockMatrix, order: EliminationOrder, *, probes: int, seed: int
    ) -> IterativeMatrix:
        """Sparse blocks and components, made at the first call."""
        if "iterative" not in block_matrix.cache:
            block_matrix.cache["iterative"] = BlockProducts(block_matrix), Components.of(order)
        products, components = block_matrix.cache["iterative"]
        return IterativeMatrix(products, order, components, probes, seed)

    @property
    def diagonal(self) -> tuple[Array, ...]:
        """Blocks of each factor."""
        return self.products.matrix.diagonal

    @property
    def sparse_matrix(self) -> ProductsMatrix:
        """The block matrix as something to multiply by."""
        return ProductsMatrix(self.products, self.symbolic)

    def factorize(
        self, lambdas: Sequence[Array], fewer: IterativeFactor | None = None
    ) -> IterativeFactor:
        """Eliminate the first factor at given Lambdas; ``fewer`` is that, with fewer probes."""
        if fewer is not None:
            return replace(fewer, assembled=self, fewer=fewer)
        operator = SchurOperator.at(self.products, self.symbolic, lambdas)
        deflation = Deflation.of(self.symbolic, operator.rest, self.components, operator.roots)
        return IterativeFactor(self, tuple(lambdas), operator, deflation)


@dataclass(frozen=True)
class IterativeFactor:
    """The penalised matrix at one set of Lambdas."""

    assembled: IterativeMatrix = field(repr=False)
    lambdas: tuple[Array, ...]
    operator: SchurOperator = field(repr=False)
    deflation: Deflation = field(repr=False)
    fewer: IterativeFactor | None = field(default=None, repr=False)  # the same, with fewer probes
    # The last columns, of arrays that are read-only, and what they are solved to.
    _eliminated: dict[str, tuple[tuple[Array, ...], Array, Array, Array]] = field(
        default_factory=dict, repr=False
    )

    @property
    def symbolic(self) -> EliminationOrder:
        """Elimination order."""
        return self.assembled.symbolic

    @property
    def most_columns(self) -> float:
        """Right-hand sides whose solution takes no longer than some tens of evaluations."""
        return MOST_COLUMNS

    @property
    def solved_by(self) -> str:
        """The engine."""
        return "engine='iterative' solves for"

    @property
    def otherwise(self) -> str:
        """The exact engine."""
        return ", or fit with engine='profiled', which forms the inverse's block if memory holds it"

    @cached_property
    def log_det_estimate(self) -> LogDeterminant:
        """Estimate of ``log|P|`` with what its derivatives need."""
        return estimate_log_det(
            self.operator,
            self.deflation,
            probes=self.assembled.probes,
            seed=self.assembled.seed,
            fewer=None if self.fewer is None else self.fewer.log_det_estimate,
        )

    @property
    def log_det(self) -> float:
        """Estimate of ``log|Lambda' A Lambda + I|``."""
        return self.operator.log_det_blocks + self.log_det_estimate.value

    @property
    def log_det_error(self) -> float:
        """Monte Carlo standard error of :attr:`log_det`."""
        return self.log_det_estimate.error

    @cached_property
    def _log_det_derivatives(self) -> tuple[dict[int, Array], ByLambda]:
        """By each Lambda (K, K), and what each vector of signs says, (K, K, probes)."""
        derivatives = OperatorDerivatives(self.operator)
        known = None if self.fewer is None else self.fewer._log_det_derivatives[1]
        total, by_probe = self.log_det_estimate.derivatives(derivatives, known)
        add_scaled(total, derivatives.of_log_det_blocks(), 1.0)
        return total, by_probe

    @property
    def log_det_derivative_by_probe(self) -> list[Array]:
        """Derivatives of ``log_det`` by each Lambda, (K, K, probes), up to what is not random."""
        return [self._log_det_derivatives[1][f] for f in self.symbolic.layout.factors]

    @cached_property
    def level_covariances(self) -> tuple[dict[int, Array], dict[int, Array]]:
        """Estimates of the blocks of ``Lambda M^-1 Lambda'``, (K, K, L), and standard errors."""
        return level_covariances(self.operator, self.log_det_estimate)

    def log_det_derivative(self) -> list[Array]:
        """Derivative of ``log_det`` by each Lambda, (K, K)."""
        return [self._log_det_derivatives[0][f] for f in self.symbolic.layout.factors]

    def schur_complement(self, rhs: Sequence[Array], matrix: Array) -> IterativeSchurComplement:
        """``matrix - rhs' Lambda M^-1 Lambda' rhs``, for columns (K, m, L) of each factor."""
        known = self._eliminated.get("columns")
        same = known is not None and all(a is b for a, b in zip(known[0], rhs, strict=True))
        if known is None or not same:
            flat = np.empty((self.symbolic.size, len(matrix)))
            for f in self.symbolic.layout.factors:
                flat[self.symbolic.columns(f)] = flatten(rhs[f])
            known = tuple(rhs), flat, *self._solve(flat)
            if not any(part.flags.writeable for part in rhs):
                self._eliminated["columns"] = known
        _, flat, u, b = known
        return IterativeSchurComplement(self, matrix - flat.T @ b, flat, u, b)

    def solve(self, rhs: Array) -> Array:
        """``Lambda M^-1 Lambda' rhs``, (q, m)."""
        return self._solve(rhs)[1]

    def _solve(self, rhs: Array) -> tuple[Array, Array]:
        """``u = M^-1 Lambda' rhs`` and ``Lambda u``, (q, m) each."""
        if not rhs.shape[1]:
            return np.zeros_like(rhs), np.zeros_like(rhs)
        u, b = in_chunks(self._solve_chunk, rhs)
        return u, b

    def _solve_chunk(self, rhs: Array) -> tuple[Array, Array]:
        op, order = self.operator, self.symbolic
        layout = order.layout
        parts = {
            f: rhs[order.columns(f)].reshape(layout.width(f), layout.levels(f), -1)
            for f in order.order
        }
        eliminated = by_level(op.G, parts[op.first])
        right = {
            f: at_all_levels(
                self.lambdas[f].T, parts[f] - op.products.times(f, op.first, eliminated)
            )
            for f in op.rest
        }
        found = conjugate_gradients(
            op.multiply, op.to_root(right), tolerance=_TOLERANCE, max_iterations=_MAX_ITERATIONS
        )
        u = op.from_root(found.X)
        b = op.effects(u)
        left = parts[op.first] - op.with_first(b)
        u[op.first] = by_level(transposed(op.lam_M_inv), left)
        b[op.first] = by_level(op.G, left)
        columns = rhs.shape[1]
        return (
            np.concatenate([u[f].reshape(-1, columns) for f in order.order]),
            np.concatenate([b[f].reshape(-1, columns) for f in order.order]),
        )


@dataclass(frozen=True)
class IterativeSchurComplement:
    """Dense columns after elimination; returned by :meth:`IterativeFactor.schur_complement`."""

    numeric: IterativeFactor = field(repr=False)
    matrix: Array  # (m, m)
    _rhs: Array = field(repr=False)  # (q, m)
    _u: Array = field(repr=False)  # (q, m), M^-1 Lambda' rhs
    _b: Array = field(repr=False)  # (q, m), Lambda u

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b = Lambda u`` and ``u = M^-1 Lambda' rhs weights``, (K, L) per factor."""
        symbolic = self.numeric.symbolic
        b, u = self._b @ weights, self._u @ weights
        columns = [(symbolic.columns(f), symbolic.layout.width(f)) for f in symbolic.layout.factors]
        return [b[c].reshape(K, -1) for c, K in columns], [u[c].reshape(K, -1) for c, K in columns]

    def level_covariances(self) -> list[Array]:
        """Estimates of the blocks of ``Lambda M^-1 Lambda'`` of each level, (K, K, L)."""
        blocks, _ = self.numeric.level_covariances
        return [blocks[f] for f in self.numeric.symbolic.layout.factors]

    def derivative(self, dC: Array) -> list[Array]:
        """Derivative of ``log_det + f(matrix)`` by each Lambda (K, K), given that of f by matrix.

        That of f is ``-2 sum_l g_l dC u_l'`` with ``g = rhs - A b``, level by level.
        """
        numeric, order = self.numeric, self.numeric.symbolic
        g = (self._rhs - numeric.assembled.sparse_matrix @ self._b) @ dC
        found = numeric.log_det_derivative()
        for f in order.layout.factors:
            shape = (order.layout.width(f), -1)
            left, right = g[order.columns(f)], self._u[order.columns(f)]
            found[f] = found[f] - 2.0 * (left.reshape(shape) @ right.reshape(shape).T)
        return found
