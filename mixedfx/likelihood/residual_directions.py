"""Derivatives of V by the residual variances, in sums over strata of equal residual variance.

A direction is ``D_a = W^-1/2 Delta_a W^-1/2`` with ``Delta_a`` diagonal, ``delta_as`` in the rows
of stratum s: the derivative of their log variance. With P, R, U and K of
:mod:`mixedfx.likelihood.projected_blocks`, ``M_s = R^-T X_s'W X_s R^-1``,
``M_a = sum_s delta_as M_s`` and ``C_a = sum_s delta_as Z_s'W X_s R^-1``,

    tr(P D_a P D_b) = sum_s delta_as delta_bs (n_s - 2 tr M_s) + tr(M_a M_b)
    Z'P D_a P Z     = sum_s delta_as Z_s'W Z_s - U C_a' - C_a U' + U M_a U'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.precision import PrecisionBasis

if TYPE_CHECKING:
    from mixedfx.likelihood.projected_blocks import ProjectedBlocks
    from mixedfx.likelihood.stratified import StratifiedSums


Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


class ResidualDirections(Protocol):
    """Derivatives of V by the r free residual variances."""

    @property
    def size(self) -> int:
        """Number r."""
        ...

    def can_be_absorbed(self, crossprod: CrossProducts, *, reml: bool) -> bool:
        """Whether derivatives by the random effects' covariances can add up to one of these."""
        ...

    def products(self, blocks: ProjectedBlocks) -> Matrix:
        """``tr(P D_a P D_b)``, (r, r)."""
        ...

    def within(self, blocks: ProjectedBlocks, f: int) -> Array:
        """Sum over the levels of a factor of the blocks of ``Z'P D_a P Z`` in them, (r, K, K)."""
        ...


@dataclass(frozen=True)
class OneVariance:
    """The direction ``W^-1`` of a single residual variance."""

    @property
    def size(self) -> int:
        """One."""
        return 1

    def can_be_absorbed(self, crossprod: CrossProducts, *, reml: bool) -> bool:
        """Not by fewer random effects than the rank of ``P W^-1 P``, nor if it is known."""
        return crossprod.profiles_sigma and crossprod.symbolic.size >= crossprod.nu(reml=reml)

    def products(self, blocks: ProjectedBlocks) -> Matrix:
        """``n - p`` for REML, n for ML."""
        return np.array([[float(blocks.crossprod.n - len(blocks.inverse))]])

    def within(self, blocks: ProjectedBlocks, f: int) -> Array:
        """Blocks of K."""
        return blocks.within(f)[None]


@dataclass(frozen=True)
class StratumVariances:
    """Directions of the variances of strata."""

    sums: StratifiedSums
    weights: Vector  # (S,) of the strata, as in the cross-products
    deltas: Matrix  # (r, S) orthonormal over the rows

    @staticmethod
    def of(sums: StratifiedSums, weights: Vector, log_sd_jacobian: Matrix) -> StratumVariances:
        """Directions of sigma, and of parameters by which log sds have the jacobian (S, k)."""
        root = np.sqrt(sums.counts)
        columns = np.column_stack([np.ones(len(root)), log_sd_jacobian])
        left, s, _ = np.linalg.svd(root[:, None] * columns, full_matrices=False)
        return StratumVariances(sums, weights, (left / root[:, None])[:, s > 1e-10 * s[0]].T)

    @property
    def size(self) -> int:
        """Number of directions."""
        return len(self.deltas)

    def can_be_absorbed(self, crossprod: CrossProducts, *, reml: bool) -> bool:
        """Also by few random effects: a stratum can have few rows."""
        return True

    @cached_property
    def _weighted(self) -> Matrix:
        """Weights of the strata times each direction, (r, S)."""
        return self.deltas * self.weights

    def _fixed(self, blocks: ProjectedBlocks) -> Array:
        """``M_a``, (r, p, p)."""
        p = len(blocks.inverse)
        XtX = self.sums.XytXy_by_stratum[:p, :p]
        products = np.tensordot(self._weighted, XtX, axes=(1, 2))
        return np.asarray(blocks.inverse.T @ products @ blocks.inverse)

    def products(self, blocks: ProjectedBlocks) -> Matrix:
        """Sums over the strata."""
        p, M = len(blocks.inverse), self._fixed(blocks)
        unscaled = blocks.inverse @ blocks.inverse.T
        traces = self.weights * np.tensordot(unscaled, self.sums.XytXy_by_stratum[:p, :p], axes=2)
        separate = (self.deltas * (self.sums.counts - 2.0 * traces)) @ self.deltas.T
        return np.asarray(separate + np.einsum("aij,bji->ab", M, M))

    def within(self, blocks: ProjectedBlocks, f: int) -> Array:
        """Sums over the strata and levels."""
        U, p, found = blocks.U[f], len(blocks.inverse), []
        B = blocks.crossprod.level_basis(f)
        assert not isinstance(B, PrecisionBasis)  # sums of strata are in bases that are formed
        for weights, M in zip(self._weighted, self._fixed(blocks), strict=True):
            A = self.sums.ZtZ_within(f, weights, B)
            ZtX = self.sums.ZtXy_within(f, weights, B)[:, :p]
            C = np.einsum("ij,kil->kjl", blocks.inverse, ZtX)
            cross = np.einsum("ajl,bjl->ab", U, C)
            through = np.einsum("ail,ij,bjl->ab", U, M, U, optimize=True)
            found.append(A - cross - cross.T + through)
        return np.array(found)
