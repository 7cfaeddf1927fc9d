"""Elimination of the random effects from ``[X, y]`` at many Lambdas at once.

With ``M = Lambda' Z'WZ Lambda + I = L L'``, ``R = L^-1 Lambda' Z'W[X, y]`` and B points,

    log|M| (B,)    and    C = [X, y]'W[X, y] - R'R    (B, p + 1, p + 1).

Given coefficients and sigma the effects are normal, ``b = Lambda L^-T (R c + sigma e)``, where
``c = (-beta, 1)`` and e is standard normal. Here one grouping factor is eliminated, level by level;
several are in :mod:`mixedfx.bayes.dense_elimination`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import factorize_levels

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Largest number of elements of one array for all points of a chunk.
CHUNK_SIZE = 1_000_000


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
