"""Elimination of several grouping factors at many Lambdas at once.

The largest factor is eliminated level by level for all points at once, and all others, together, as
one dense matrix of each point. With Z_1 of the first factor and Z_2 of the others, x of [X, y],
``W'W = Lambda_1 M_1^-1 Lambda_1'`` and ``R = W Z_1'[Z_2 Lambda_2, x]``, the matrix

    [Lambda_2'Z_2'Z_2 Lambda_2 + I,  Lambda_2'Z_2'x; x'Z_2 Lambda_2,  x'x + D] - R'R

has a Cholesky factor whose blocks are that of M_2, the R of x, and that of ``C + D`` (D is
diagonal, since C can be singular). Only triangles are computed: a point costs what these two
products do, half of ``R'R`` and a Cholesky factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf, dtrtrs

from mixedfx._cached import cached_property
from mixedfx.bayes.elimination import CHUNK_SIZE
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.assembled import sparse_of_blocks
from mixedfx.linalg.cholesky.batched import factorize_levels, flatten
from mixedfx.linalg.cholesky.elimination import EliminationOrder

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Multiplications of one point beyond which sparse factorisations, one by one, cost less.
_MOST_PRODUCTS = 50_000_000


@dataclass(frozen=True)
class SeveralFactors:
    """The largest factor level by level, the others as one dense matrix of t columns."""

    order: EliminationOrder  # one leading factor
    diagonals: tuple[Array, ...]  # (K, K, L) of each factor
    entries: Array  # (L, K, t + m) of the first factor, Z_1'W[Z_2 X y]
    trailing: Matrix  # (t + m, t + m), [Z_2 X y]'W[Z_2 X y]
    raised: Vector  # (m,) D

    @staticmethod
    def prepare(crossprod: CrossProducts) -> SeveralFactors | None:
        """Prepare a model; None where it is so large that sparse factorisations cost less."""
        ZtZ, m = crossprod.ZtZ, len(crossprod.XytXy)
        separate = [f for f in ZtZ.layout.factors if f not in ZtZ.within]
        if not separate:
            return None
        first = max(separate, key=ZtZ.layout.size)
        rest = tuple(f for f in ZtZ.layout.factors if f != first)
        order = EliminationOrder.of(ZtZ.pattern, (first,), rest)
        q, columns = ZtZ.layout.size(first), order.dense_size + m
        if (q + columns) * columns**2 > _MOST_PRODUCTS or q * columns > CHUNK_SIZE:
            return None
        A = sparse_of_blocks(order, ZtZ).toarray()
        ZtXy = np.concatenate([flatten(crossprod.ZtXy[f]) for f in order.order])
        whole = np.block([[A, ZtXy], [ZtXy.T, crossprod.XytXy]])
        K, L = ZtZ.layout.width(first), ZtZ.layout.levels(first)
        entries = whole[:q, q:].reshape(K, L, columns).transpose(1, 0, 2)
        squares = np.diag(crossprod.XytXy)
        raised = np.where(squares > 0.0, squares, 1.0)
        return SeveralFactors(
            order, tuple(ZtZ.diagonal), np.ascontiguousarray(entries), whole[q:, q:], raised
        )

    @property
    def first(self) -> int:
        """The first factor."""
        return self.order.leading_factors[0]

    @property
    def elements(self) -> int:
        """Number of elements of the largest array of one point."""
        return max(self.entries.size, self.trailing.size)

    @property
    def products(self) -> int:
        """Multiplications of one point, roughly: of the dense matrix's update and factor."""
        return (self.order.dense_start + len(self.trailing)) * self.trailing.size

    @cached_property
    def rest(self) -> tuple[tuple[int, slice], ...]:
        """The other factors, and their columns in the dense matrix."""
        start = self.order.dense_start
        columns = [(f, self.order.columns(f)) for f in self.order.dense_factors]
        return tuple((f, slice(c.start - start, c.stop - start)) for f, c in columns)

    def eliminate(self, lambdas: Sequence[Array], count: int, *, keep: bool) -> SeveralEliminated:
        """Eliminate the first factor, then the others point by point, which stay in the cache."""
        log_det, W = factorize_levels(self.diagonals[self.first], lambdas[self.first])
        W = np.ascontiguousarray(W.transpose(3, 2, 0, 1))
        t, m = self.order.dense_size, len(self.raised)
        V, pivots, last = np.empty((count, t, m)), np.empty((count, t)), np.empty((count, m, m))
        roots: list[Matrix] = []
        by_factor = [np.ascontiguousarray(lam.transpose(2, 1, 0)) for lam in lambdas]
        dense, new = _DenseElimination(self), _are_new(lambdas, count)
        for b in range(count):
            if not new[b]:
                V[b], pivots[b], last[b] = V[b - 1], pivots[b - 1], last[b - 1]
            else:
                root, failed = dense.at(W[b], [lam[b] for lam in by_factor])
                V[b], last[b] = root[:t, t:], root[t:, t:]
                pivots[b] = np.nan if failed else root.reshape(-1)[:: t + m + 1][:t]
            if keep:
                roots.append(root.copy() if new[b] else roots[-1])
        upper = np.triu(last)
        schur = upper.transpose(0, 2, 1) @ upper - np.diag(self.raised)
        log_det = log_det + 2.0 * np.log(pivots).sum(axis=1)
        return SeveralEliminated(self, lambdas, W, tuple(roots), V, log_det, schur)


def _are_new(lambdas: Sequence[Array], count: int) -> npt.NDArray[np.bool_]:
    """Whether the Lambdas of each point differ from those of the point before it."""
    new = np.zeros(count, dtype=bool)
    new[:1] = True
    for of_factor in lambdas:
        new[1:] |= np.any(of_factor[:, :, 1:] != of_factor[:, :, :-1], axis=(0, 1))
    return new


class _DenseElimination:
    """
    Elimination of the factors but the first, in arrays that all points are computed in.

    Fresh arrays of this size cost more than what is computed in them.
    """

    def __init__(self, model: SeveralFactors) -> None:
        self.model = model
        columns = len(model.trailing)
        self.R, self.scaled = np.empty(model.entries.shape), np.empty(model.entries.shape)
        self.S = np.empty((columns, columns))
        within, rest = model.order.within, model.rest
        self.by_level = [(f, self._positions(f, at)) for f, at in rest if f not in within]
        x = slice(model.order.dense_size, columns)
        self.of_x = [(f, at, np.ascontiguousarray(model.trailing[at, x])) for f, at in rest]
        self.pairs = [
            (f, g, rows, at, np.empty((rows.stop - rows.start, at.stop - at.start)))
            for i, (f, rows) in enumerate(rest)
            for g, at in rest[i:]
            if f != g or f in within
        ]

    def _positions(self, f: int, at: slice) -> npt.NDArray[np.intp]:
        """Positions of a factor's blocks (K, K, L) in the dense matrix."""
        K, _, L = self.model.diagonals[f].shape
        columns = np.arange(at.start, at.stop).reshape(K, L)
        return np.asarray(columns[:, None] * len(self.S) + columns[None])

    def at(self, W: Array, lambdas: Sequence[Matrix]) -> tuple[Matrix, int]:
        """Transposed Cholesky factor in the upper triangle, and whether it failed, at Lambda'."""
        self._fill_trailing(lambdas)
        np.matmul(W, self.model.entries, out=self.R)
        R, scaled = self.R.reshape(-1, len(self.S)), self.scaled.reshape(-1, len(self.S))
        t = self.model.order.dense_size
        scaled[:, t:] = R[:, t:]
        for f, columns in self.model.rest:
            _multiply_columns(lambdas[f], R[:, columns], scaled[:, columns])
        # Of Fortran's arrays, the transposed ones, it is the lower triangle.
        S = dsyrk(-1.0, scaled.T, beta=1.0, c=self.S.T, lower=1, overwrite_c=1)
        _, failed = dpotrf(S, lower=1, clean=0, overwrite_a=1)
        return self.S, failed

    def _fill_trailing(self, lambdas: Sequence[Matrix]) -> None:
        """The matrix without the first factor's part; above the diagonal at least."""
        S, trailing, t = self.S, self.model.trailing, self.model.order.dense_size
        S.fill(0.0)
        for f, g, rows, columns, half in self.pairs:
            _multiply_columns(lambdas[g], trailing[rows, columns], half)
            _multiply_rows(lambdas[f], half, S[rows, columns])
        flat = S.reshape(-1)
        for f, positions in self.by_level:
            diagonal, lam = self.model.diagonals[f], lambdas[f]
            half = (lam @ diagonal.reshape(len(lam), -1)).reshape(diagonal.shape)
            flat[positions] = np.matmul(lam, half)
        flat[: t * len(S) : len(S) + 1] += 1.0
        for f, rows, of_x in self.of_x:
            _multiply_rows(lambdas[f], of_x, S[rows, t:])
        S[t:, t:] = trailing[t:, t:]
        flat[t * (len(S) + 1) :: len(S) + 1] += self.model.raised


def _multiply_columns(lam: Matrix, A: Matrix, out: Matrix) -> None:
    """``A Lambda``, of ``Lambda'`` of a factor (K, K), whose columns are effects by levels."""
    shape = len(A), len(lam), -1
    np.matmul(lam, A.reshape(shape), out=out.reshape(shape))


def _multiply_rows(lam: Matrix, A: Matrix, out: Matrix) -> None:
    """``Lambda'A``, of rows that are effects by levels; A is contiguous."""
    shape = len(lam), -1, A.shape[1]
    out.reshape(shape)[:] = np.matmul(lam, A.reshape(len(lam), -1)).reshape(shape)


@dataclass(frozen=True)
class SeveralEliminated:
    """Several factors at B points; x stands for [X, y]."""

    model: SeveralFactors
    lambdas: Sequence[Array]
    W: Array  # (B, L, K, K), L_1^-1 Lambda_1' of each level of the first factor
    roots: tuple[Matrix, ...] = field(repr=False)  # (t + m, t + m), transposed, if kept
    V: Array  # (B, t, m), R of x by the others
    log_det: Vector
    schur: Array

    def draw_effects(self, coef: Matrix, sigma: Vector, rng: np.random.Generator) -> list[Array]:
        """Draw the others, and the first factor's effects given these."""
        model, (B, t, _) = self.model, self.V.shape
        scaled = np.zeros((B, len(model.trailing)))
        scaled[:, :t] = np.einsum("btm,bm->bt", self.V, coef)
        scaled[:, :t] += sigma[:, None] * rng.standard_normal((B, t))
        for b, root in enumerate(self.roots):
            scaled[b] = dtrtrs(root.T, scaled[b], lower=1, trans=1)[0]
        effects = dict[int, Array]()
        for f, columns in model.rest:
            spherical = scaled[:, columns].reshape(B, len(self.lambdas[f]), -1)
            effects[f] = np.einsum("ijb,bjl->bil", self.lambdas[f], spherical)
            scaled[:, columns] = -effects[f].reshape(B, -1)
        scaled[:, t:] = coef
        L, K, columns = model.entries.shape
        of_first = scaled @ model.entries.reshape(L * K, columns).T
        u = np.matmul(self.W, of_first.reshape(B, L, K, 1))[..., 0]
        u += sigma[:, None, None] * rng.standard_normal(u.shape)
        effects[model.first] = np.einsum("blca,blc->bal", self.W, u)
        return [effects[f] for f in model.order.layout.factors]
