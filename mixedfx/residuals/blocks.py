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
Codes = npt.NDArray[np.intp]


class BlockRows(Protocol):
    """Where a covariance of k positions, or its derivative D, stands in V."""

    def along(self, D: Array, U: Matrix) -> Array:
        """That part of V times U, (n, p); of a stack of D, (m, n, p)."""
        ...

    def products(self, U: Matrix) -> Array:
        """Sum over blocks of ``U_s U_t'`` of each two positions, (k, k, p, p)."""
        ...


def natural_values(structure: CovarianceStructure, cov: Matrix, at: Positions) -> Vector:
    """Variances and correlations, or covariances, of a covariance of a structure."""
    return structure.natural(structure.nearest(cov, at), at)[1]


@dataclass(frozen=True)
class CovarianceBlock:
    """One covariance, over ``sigma**2``, of natural parameters: variances and correlations."""

    structure: CovarianceStructure
    at: Positions
    cov: Matrix  # (k, k)
    rows: BlockRows = field(repr=False)

    def natural_values(self, scale: float) -> Vector:
        """Natural parameters of the covariance times a scale, (m,)."""
        return natural_values(self.structure, scale * self.cov, self.at)

    def natural_derivatives(self) -> tuple[Array, Array | None]:
        """First and second derivatives by the natural parameters; None: zero."""
        structure, at = self.structure, self.at
        params = structure.nearest(self.cov, at)
        first = structure.covariance_jacobian_natural(params, at)
        if structure.linear or structure.covariances_are_parameters:
            return first, None
        return first, structure.covariance_hessian_natural(params, at)


@dataclass(frozen=True)
class ScaledBlock(CovarianceBlock):
    """Covariance ``s_e s_f cov[t_e, t_f]`` of cells e at positions t, with ``log s = C x``."""

    position: Codes  # (cells,)
    C: Matrix  # (cells, r)
    x: Vector  # (r,)

    def natural_values(self, scale: float) -> Vector:
        """Those of the covariance, and x."""
        return np.append(super().natural_values(scale), self.x)

    def natural_derivatives(self) -> tuple[Array, Array]:
        """Of the cells' covariances."""
        s = np.exp(self.C @ self.x)
        ss, at = np.outer(s, s), (self.position[:, None], self.position)
        first, second = super().natural_derivatives()
        own = first[:, *at] * ss
        by_log = (self.C[:, None] + self.C).transpose(2, 0, 1)  # (r, cells, cells)
        by_x = by_log * (self.cov[at] * ss)
        m, r = len(own), len(by_x)
        H = np.zeros((m + r, m + r, *ss.shape))
        if second is not None:
            H[:m, :m] = second[:, :, *at] * ss
        H[:m, m:] = own[:, None] * by_log
        H[m:, :m] = H[:m, m:].swapaxes(0, 1)
        H[m:, m:] = by_x[:, None] * by_log
        return np.concatenate([own, by_x]), H


@dataclass(frozen=True)
class IndependentRows:
    """One variance of all rows, over their weights."""

    weights: Vector | None

    def along(self, D: Array, U: Matrix) -> Array:
        """``W^-1 U`` times the variance."""
        variance = D[..., :1, :1]
        return np.asarray(variance * (U if self.weights is None else U / self.weights[:, None]))

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

    def _scaled(self, U: Array) -> Array:
        return U if self.weights is None else U / np.sqrt(self.weights)[:, None]

    def along(self, D: Array, U: Matrix) -> Array:
        """``W^-1/2 D[positions, positions] W^-1/2`` of each subject, times its rows of U."""
        scaled, out = self._scaled(U), np.zeros((*D.shape[:-2], *U.shape))
        for size in self.patterns.sizes:
            for p in np.flatnonzero(size.strata == self.stratum).tolist():
                rows, at = size.rows[size.starts[p] : size.starts[p + 1]], size.positions[p]
                out[..., rows, :] = D[..., None, at[:, None], at] @ scaled[rows]
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
