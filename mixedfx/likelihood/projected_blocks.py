"""Sums of products of ``K = Z'PZ`` over levels, and pairs of levels, of grouping factors.

With ``P = W - W X (X'WX)^-1 X'W``, ``R'R = X'WX`` and ``U = Z'WX R^-1`` (of no columns for ML),

    K = Z'WZ - U U'

Beyond the sums over levels, K is needed only where ``A = Z'WZ`` is not zero:

    tr(E_i K E_j K) = tr(E_i A E_j A) - 2 tr(E_i A E_j U U') + tr(U'E_i U U'E_j U)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.block_matrix import Ints
from mixedfx.linalg.triangular import solve_upper

Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Numbers in the largest temporary array of a sum over pairs of levels.
_BATCH = 4_000_000


@dataclass(frozen=True)
class ProjectedBlocks:
    """``Z'WZ`` and U in the columns of the bases."""

    crossprod: CrossProducts
    U: list[Array]  # (K, p, L) of each factor; p is 0 for ML
    inverse: Matrix  # (p, p) R^-1

    @classmethod
    def of(cls, crossprod: CrossProducts, *, reml: bool) -> ProjectedBlocks:
        """Make the columns of X orthonormal."""
        p = crossprod.p if reml else 0
        R = np.asarray(np.linalg.cholesky(crossprod.XytXy[:p, :p]).T, float)
        inverse = solve_upper(R, np.eye(p))
        U = [
            np.tensordot(inverse.T, ZtXy[:, :p], axes=(1, 1)).transpose(1, 0, 2)
            for ZtXy in crossprod.ZtXy
        ]
        return cls(crossprod, U, inverse)

    def within(self, f: int) -> Matrix:
        """Sum over the levels of the blocks of K within them, (K, K)."""
        total = self.crossprod.ZtZ.diagonal[f].sum(axis=2)
        U = self.U[f].reshape(len(total), -1)
        return np.asarray(total - U @ U.T)

    def products(self, f: int, g: int) -> Matrix:
        """``tr(e_a e_b' K_fg e_c e_d' K_gf)`` at [(a, b), (c, d)], (K_f^2, K_g^2)."""
        Kf, Kg = len(self.U[f]), len(self.U[g])
        total = np.zeros((Kf * Kf, Kg * Kg))
        for rows, cols, values in self._blocks(f, g):
            total += self._products_of_blocks(f, g, rows, cols, values)
        return total + self._products_through_fixed(f, g)

    def _products_of_blocks(self, f: int, g: int, rows: Ints, cols: Ints, values: Array) -> Matrix:
        """The same over some pairs of levels, without the products of two ``U U'``."""
        Kf, Kg = values.shape[:2]
        p = self.U[f].shape[1]
        total = np.zeros((Kf * Kg, Kf * Kg))  # sum of k_bc k_ad at [(b, c), (a, d)]
        size = max(_BATCH // (max(Kf, Kg) * max(Kf * Kg, p, 1)), 1)
        for first in range(0, len(rows), size):
            batch = slice(first, first + size)
            scaled = values[:, :, batch].reshape(Kf * Kg, -1)
            total += scaled @ scaled.T
            if p:
                U_f, U_g = self.U[f].take(rows[batch], 2), self.U[g].take(cols[batch], 2)
                cross = scaled @ np.einsum("ajl,bjl->abl", U_f, U_g).reshape(Kf * Kg, -1).T
                total -= cross + cross.T
        return total.reshape(Kf, Kg, Kf, Kg).transpose(2, 0, 1, 3).reshape(Kf * Kf, Kg * Kg)

    def _blocks(self, f: int, g: int) -> Iterator[tuple[Ints, Ints, Array]]:
        """Levels of two factors that share rows, and the blocks of ``Z'WZ`` between them."""
        ZtZ = self.crossprod.ZtZ
        if f != g:
            pairs = ZtZ.pattern.pairs[f, g]
            yield pairs.rows, pairs.cols, ZtZ.off_diagonal[f, g]
            return
        levels = np.arange(ZtZ.layout.levels(f))
        yield levels, levels, ZtZ.diagonal[f]
        if f in ZtZ.within:
            pairs, values = ZtZ.pattern.within[f], ZtZ.within[f]
            yield pairs.rows, pairs.cols, values
            yield pairs.cols, pairs.rows, values.transpose(1, 0, 2)

    def _products_through_fixed(self, f: int, g: int) -> Matrix:
        """``tr(U'e_a e_b'U U'e_c e_d'U)`` at [(a, b), (c, d)], a batch of columns at a time."""
        Kf, Kg, p = len(self.U[f]), len(self.U[g]), self.U[f].shape[1]
        total = np.zeros((Kf * Kf, Kg * Kg))
        size = max(_BATCH // (max(Kf, Kg) ** 2 * max(p, 1)), 1)
        for first in range(0, p, size):
            part = slice(first, first + size)
            of_f, of_g = self._through_fixed(f, part), self._through_fixed(g, part)
            transposed = of_g.reshape(Kg, Kg, -1).transpose(1, 0, 2).reshape(Kg * Kg, -1)
            total += of_f @ transposed.T
        return total

    def _through_fixed(self, f: int, part: slice) -> Matrix:
        """Some columns of ``U' e_a e_b' U`` for each pair of columns of a factor, (K^2, p s)."""
        U = self.U[f]
        K, p, L = U.shape
        products = U.reshape(K * p, L) @ U[:, part].reshape(-1, L).T
        return products.reshape(K, p, K, -1).transpose(0, 2, 1, 3).reshape(K * K, -1)
