"""Covariances that residuals are made of, as operators on rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Positions
from mixedfx.covariance.structure import CovarianceStructure
from mixedfx.likelihood.patterns import Patterns

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


class BlockRows(Protocol):
    """Where a covariance of k positions, or its derivative D, stands in V."""

    def along(self, D: Matrix, U: Matrix) -> Matrix:
        """That part of V times U, (n, p)."""
        ...

    def products(self, U: Matrix) -> Array:
        """Sum over blocks of ``U_s U_t'`` of each two positions, (k, k, p, p)."""
        ...


@dataclass(frozen=True)
class CovarianceBlock:
    """One covariance, over ``sigma**2``."""

    structure: CovarianceStructure
    at: Positions
    cov: Matrix  # (k, k)
    rows: BlockRows = field(repr=False)


@dataclass(frozen=True)
class IndependentRows:
    """One variance of all rows, over their weights."""

    weights: Vector | None

    def along(self, D: Matrix, U: Matrix) -> Matrix:
        """``W^-1 U`` times the variance."""
        return np.asarray(D[0, 0] * (U if self.weights is None else U / self.weights[:, None]))

    def products(self, U: Matrix) -> Array:
        """``U'W^-1 U``."""
        return np.asarray((self.along(np.eye(1), U).T @ U)[None, None])


@dataclass(frozen=True)
class SubjectRows:
    """Rows of correlated residuals, of one stratum."""

    patterns: Patterns
    stratum: int
    k: int
    weights: Vector | None

    def _scaled(self, U: Matrix) -> Matrix:
        return U if self.weights is None else U / np.sqrt(self.weights)[:, None]

    def along(self, D: Matrix, U: Matrix) -> Matrix:
        """``W^-1/2 D[positions, positions] W^-1/2`` of each subject, times its rows of U."""
        scaled, out = self._scaled(U), np.zeros_like(U)
        for size in self.patterns.sizes:
            for p in np.flatnonzero(size.strata == self.stratum).tolist():
                rows, at = size.rows[size.starts[p] : size.starts[p + 1]], size.positions[p]
                out[rows] = D[np.ix_(at, at)] @ scaled[rows]
        return self._scaled(out)

    def products(self, U: Matrix) -> Array:
        """Sum over subjects."""
        scaled, q = self._scaled(U), U.shape[1]
        out = np.zeros((self.k, self.k, q, q))
        for size in self.patterns.sizes:
            for p in np.flatnonzero(size.strata == self.stratum).tolist():
                rows, at = size.rows[size.starts[p] : size.starts[p + 1]], size.positions[p]
                v = len(at)
                block = scaled[rows].reshape(-1, v * q)
                products = (block.T @ block).reshape(v, q, v, q)
                out[np.ix_(at, at)] += products.transpose(0, 2, 1, 3)
        return out
