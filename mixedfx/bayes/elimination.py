"""Elimination of the random effects from ``[X, y]`` at many Lambdas at once.

With ``M = Lambda' Z'WZ Lambda + I = L L'``, ``R = L^-1 Lambda' Z'W[X, y]`` and B points,

    log|M| (B,)    and    C = [X, y]'W[X, y] - R'R    (B, p + 1, p + 1).

Given coefficients and sigma the effects are normal, ``b = Lambda L^-T (R c + sigma e)``, where
``c = (-beta, 1)`` and e is standard normal. Of several grouping factors the largest is eliminated
level by level for all points at once, and all others, together, as one dense matrix of each point,
which costs what its products and its Cholesky factorisation do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dtrtrs

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.assembled import sparse_of_blocks
from mixedfx.linalg.cholesky.batched import factorize_levels, flatten
from mixedfx.linalg.cholesky.elimination import EliminationOrder

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Largest number of elements of one array for all points of a chunk.
CHUNK_SIZE = 1_000_000
# Multiplications of one point beyond which sparse factorisations, one by one, cost less.
_MOST_PRODUCTS = 50_000_000


class Eliminated(Protocol):
    """Effects eliminated at B points."""

    @property
    def log_det(self) -> Vector:
        """``log|M|`` (B,), NaN where it fails."""
        ...

    @property
    def schur(self) -> Array:
        """C, (B, p + 1, p + 1)."""
        ...

    def draw_effects(self, coef: Matrix, sigma: Vector, rng: np.random.Generator) -> list[Array]:
        """Effects (B, K, L) of each factor, given ``coef`` (B, p + 1) and ``sigma`` (B,)."""
        ...


class Elimination(Protocol):
    """What the effects of a model are eliminated from."""

    @property
    def products(self) -> int:
        """Multiplications of one point, roughly."""
        ...

    @property
    def elements(self) -> int:
        """Number of elements of the largest array of one point."""
        ...

    def eliminate(self, lambdas: Sequence[Array], count: int, *, keep: bool) -> Eliminated:
        """Eliminate at a Lambda (K, K, B) of each factor; keep what effects are drawn with."""
        ...


@dataclass(frozen=True)
class NoRandomEffects:
    """Without random effects nothing is eliminated."""

    XytXy: Matrix

    @property
    def elements(self) -> int:
        """Number of elements of the largest array of one point."""
        return self.XytXy.size

    @property
    def products(self) -> int:
        """None."""
        return 0

    def eliminate(self, lambdas: Sequence[Array], count: int, *, keep: bool) -> NothingEliminated:
        """The cross-products as they are, at each point."""
        return NothingEliminated(np.zeros(count), np.repeat(self.XytXy[None], count, axis=0))


@dataclass(frozen=True)
class NothingEliminated:
    """Cross-products of a model without random effects."""

    log_det: Vector
    schur: Array

    def draw_effects(self, coef: Matrix, sigma: Vector, rng: np.random.Generator) -> list[Array]:
        """Draw nothing."""
        return []


@dataclass(frozen=True)
class OneFactor:
    """Level by level: a sum over levels is a product with the levels' outer products."""

    diagonal: Array  # (K, K, L), Z'WZ
    ZtXy: Array  # (K, m, L)
    XytXy: Matrix
    outer_products: Array = field(repr=False)  # of the rows of Z'W[X y], (K, K, m m, L)

    @staticmethod
    def prepare(crossprod: CrossProducts) -> OneFactor | None:
        """Prepare a model; None with too many columns."""
        ZtXy = crossprod.ZtXy[0]
        K, m, L = ZtXy.shape
        if K * K * m * m * L > CHUNK_SIZE:
            return None
        products = (ZtXy[:, None, :, None] * ZtXy[None, :, None, :]).reshape(K, K, m * m, L)
        return OneFactor(crossprod.ZtZ.diagonal[0], ZtXy, crossprod.XytXy, products)

    @property
    def elements(self) -> int:
        """Number of elements of the largest array of one point."""
        return self.diagonal.size

    @property
    def products(self) -> int:
        """Multiplications of one point, roughly."""
        return self.outer_products.size + len(self.diagonal) * self.diagonal.size

    def eliminate(self, lambdas: Sequence[Array], count: int, *, keep: bool) -> OneEliminated:
        """Sum over levels at each point."""
        log_det, W = factorize_levels(self.diagonal, lambdas[0])
        K, m = len(W), len(self.XytXy)
        explained = np.zeros((m * m, count))
        for a in range(K):
            for b in range(K):
                inverse = np.einsum("clb,clb->lb", W[:, a], W[:, b])  # of Lambda M^-1 Lambda'
                explained += self.outer_products[a, b] @ inverse
        schur = self.XytXy - explained.T.reshape(count, m, m)
        return OneEliminated(self.ZtXy, W, log_det, schur)


@dataclass(frozen=True)
class OneEliminated:
    """Levels of one factor at B points."""

    ZtXy: Array  # (K, m, L)
    W: Array  # (K, K, L, B), L^-1 Lambda'
    log_det: Vector
    schur: Array

    def draw_effects(self, coef: Matrix, sigma: Vector, rng: np.random.Generator) -> list[Array]:
        """Draw level by level."""
        u = np.einsum("cklb,klb->clb", self.W, np.einsum("kml,bm->klb", self.ZtXy, coef))
        u += sigma * rng.standard_normal(u.shape)
        return [np.einsum("cklb,clb->bkl", self.W, u)]


@dataclass(frozen=True)
class SeveralFactors:
    """The largest factor level by level, the others as one dense matrix of t columns."""

    order: EliminationOrder  # one leading factor
    diagonal: Array  # (K, K, L) of the first factor
    entries: Array  # (L, K, t + m), Z_1'W[Z_2 X y]
    trailing: Matrix  # (t + m, t + m), [Z_2 X y]'W[Z_2 X y]

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
        diagonal = ZtZ.diagonal[first]
        return SeveralFactors(order, diagonal, np.ascontiguousarray(entries), whole[q:, q:])

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

    def times_lambda(self, lambdas: Sequence[Array], b: int, u: Vector) -> Vector:
        """``Lambda u`` of the others, at point b."""
        parts = [
            lambdas[f][:, :, b] @ u[rows].reshape(len(lambdas[f]), -1) for f, rows in self.rest
        ]
        return np.concatenate([part.ravel() for part in parts])

    def eliminate_first(self, W: Array, out: Array | None = None) -> Matrix:
        """R of the first factor and all other columns, (K L, t + m), at one point."""
        found = np.matmul(W, self.entries, out=out)
        return np.asarray(found.reshape(-1, self.entries.shape[2]))

    def eliminate(self, lambdas: Sequence[Array], count: int, *, keep: bool) -> SeveralEliminated:
        """Eliminate the first factor, then the others point by point, which stay in the cache."""
        log_det, W = factorize_levels(self.diagonal, lambdas[self.order.leading_factors[0]])
        W = np.ascontiguousarray(W.transpose(3, 2, 0, 1))
        t, m = self.order.dense_size, len(self.trailing) - self.order.dense_size
        V, schur, logs = np.empty((count, t, m)), np.empty((count, m, m)), np.empty(count)
        roots: list[Matrix] = []
        dense, new = _DenseElimination(self), _are_new(lambdas, count)
        for b in range(count):
            if not new[b]:
                V[b], schur[b], logs[b] = V[b - 1], schur[b - 1], logs[b - 1]
            else:
                root, V[b], schur[b], logs[b] = dense.at(W[b], lambdas, b)
            if keep:
                roots.append(root.copy(order="F") if new[b] else roots[-1])
        return SeveralEliminated(self, lambdas, W, tuple(roots), V, log_det + logs, schur)


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
        columns, t = len(model.trailing), model.order.dense_size
        L, K, _ = model.entries.shape
        self.R = np.empty((L, K, columns))
        self.S = np.empty((columns, columns))
        self.half = np.empty((t, columns))
        self.turned, self.M = np.empty((t, t)), np.empty((t, t))

    def at(
        self, W: Array, lambdas: Sequence[Array], b: int
    ) -> tuple[Matrix, Matrix, Matrix, float]:
        """Root of M of these factors, R and Schur complement of the columns, and ``log|M|``."""
        model, S, M, t = self.model, self.S, self.M, len(self.M)
        R = model.eliminate_first(W, self.R)
        np.matmul(R.T, R, out=S)
        np.subtract(model.trailing, S, out=S)
        multiply_transposed(model.rest, lambdas, b, S[:t], self.half)
        np.copyto(self.turned, self.half[:, :t].T)
        multiply_transposed(model.rest, lambdas, b, self.turned, M)
        M.reshape(-1)[:: t + 1] += 1.0
        root, failed = dpotrf(M.T, lower=1, clean=0, overwrite_a=1)
        V = dtrtrs(root, self.half[:, t:], lower=1)[0]
        log_det = np.nan if failed else 2.0 * float(np.log(M.reshape(-1)[:: t + 1]).sum())
        return root, V, S[t:, t:] - V.T @ V, log_det


def multiply_transposed(
    parts: Sequence[tuple[int, slice]], lambdas: Sequence[Array], b: int, A: Matrix, out: Matrix
) -> None:
    """``Lambda'A`` over the rows of factors, at point b."""
    for f, rows in parts:
        lam = lambdas[f][:, :, b].T
        K = len(lam)
        np.matmul(lam, A[rows].reshape(K, -1), out=out[rows].reshape(K, -1))


@dataclass(frozen=True)
class SeveralEliminated:
    """Several factors at B points; x stands for [X, y]."""

    model: SeveralFactors
    lambdas: Sequence[Array]
    W: Array  # (B, L, K, K), L_1^-1 Lambda_1' of each level of the first factor
    roots: tuple[Matrix, ...]  # (t, t) lower Cholesky factors of the other effects, if kept
    V: Array  # (B, t, m), their R
    log_det: Vector
    schur: Array

    def draw_effects(self, coef: Matrix, sigma: Vector, rng: np.random.Generator) -> list[Array]:
        """Draw the others, and the first factor's effects given these."""
        model, B, t = self.model, len(sigma), self.model.order.dense_size
        K, L = len(model.diagonal), model.diagonal.shape[2]
        rest, u = np.empty((B, t)), np.empty((B, L * K))
        for b in range(B):
            scaled = self.V[b] @ coef[b] + sigma[b] * rng.standard_normal(t)
            rest[b] = dtrtrs(self.roots[b], scaled, lower=1, trans=1)[0]
            rest[b] = model.times_lambda(self.lambdas, b, rest[b])
            u[b] = model.eliminate_first(self.W[b]) @ np.concatenate([-rest[b], coef[b]])
            u[b] += sigma[b] * rng.standard_normal(L * K)
        first, layout = model.order.leading_factors[0], model.order.layout
        effects = {first: np.einsum("blca,blc->bal", self.W, u.reshape(B, L, K))}
        for f, columns in model.rest:
            effects[f] = rest[:, columns].reshape(B, layout.width(f), -1)
        return [effects[f] for f in layout.factors]
