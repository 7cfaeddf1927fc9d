"""``B'Z'WZ B`` of effects v: products with it, and its equations' values at given Lambdas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.precision.basis import PrecisionBasis
from mixedfx.linalg.precision.pattern import PrecisionPattern

Array = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PrecisionMatrix:
    """Cross-products of the levels, and the bases that lead to v."""

    matrix: BlockMatrix = field(repr=False)  # of the levels
    bases: tuple[PrecisionBasis | None, ...] = field(repr=False)
    pattern: PrecisionPattern = field(repr=False)

    @property
    def sparse_matrix(self) -> PrecisionMatrix:
        """Itself: something to multiply by."""
        return self

    def __matmul__(self, v: Array) -> Array:
        """``B'Z'WZ B v``, (q, m) or (q,)."""
        columns = v if v.ndim == 2 else v[:, None]
        product = self.times_root_inverse(
            self._of_nodes @ self.times_root_inverse(columns), transposed=True
        )
        return product if v.ndim == 2 else product[:, 0]

    @cached_property
    def _of_nodes(self) -> sparse.csr_array:
        """``S'Z'WZ S`` in the columns of the nodes."""
        order, at = self.pattern.order, self.pattern.at
        entries = [(f, f, at[f], at[f], values) for f, values in enumerate(self.matrix.diagonal)]
        for (f, g), block in self.matrix.blocks():
            rows, cols = at[f][block.rows], at[g][block.cols]
            entries.append((f, g, rows, cols, block.values))
            entries.append((g, f, cols, rows, block.values.transpose(1, 0, 2)))
        found = sparse.csr_array((order.size, order.size))
        for f, g, rows, cols, values in entries:
            for (a, b), of_pair in _effects(values):
                i = order.starts[f] + a * order.layout.levels(f) + rows
                j = order.starts[g] + b * order.layout.levels(g) + cols
                found = found + sparse.csr_array((of_pair, (i, j)), shape=found.shape)
        return found

    def times_root(self, x: Array, *, transposed: bool = False) -> Array:
        """``R x`` or ``R'x`` of every effect, (q, m)."""
        out, order = np.array(x, dtype=np.float64), self.pattern.order
        for f, B in enumerate(self.bases):
            if B is not None:
                R = B.root.csr.T if transposed else B.root.csr
                first, n = order.starts[f], B.n_nodes
                for a in range(order.layout.width(f)):
                    part = slice(first + a * n, first + (a + 1) * n)
                    out[part] = R @ x[part]
        return out

    def times_root_inverse(self, x: Array, *, transposed: bool = False) -> Array:
        """``R^-1 x`` or ``R^-T x`` of every effect, (q, m)."""
        out, order = np.array(x, dtype=np.float64), self.pattern.order
        for f, B in enumerate(self.bases):
            if B is not None:
                part, K = order.columns(f), order.layout.width(f)
                by_effect = x[part].reshape(K, B.n_nodes, -1).transpose(0, 2, 1)
                solved = B.loadings(by_effect) if transposed else B.effects(by_effect)
                out[part] = solved.transpose(0, 2, 1).reshape(out[part].shape)
        return out

    def times_lambda(self, x: Array, lambdas: Sequence[Array], *, transposed: bool) -> Array:
        """``Lambda x`` or ``Lambda'x`` of all nodes, (q, m)."""
        out, order = np.empty_like(x), self.pattern.order
        for f, lam in enumerate(lambdas):
            part, K = order.columns(f), order.layout.width(f)
            left = lam.T if transposed else lam
            out[part] = (left @ x[part].reshape(K, -1)).reshape(out[part].shape)
        return out

    def values(self, lambdas: Sequence[Array]) -> Vector:
        """``Lambda'Z'WZ Lambda + A^-1`` at the positions of its factor."""
        found = np.zeros(self.pattern.symbolic.n_values)
        for f, (lam, B) in enumerate(zip(lambdas, self.bases, strict=True)):
            positions = self.pattern.own[f]
            own = np.zeros(positions.shape)
            own[:, :, self.pattern.at[f]] = _sandwich(lam, self.matrix.diagonal[f], lam)
            for a in range(len(lam)):
                own[a, a] += 1.0 if B is None else B.diagonal
            found[positions] = own
            if B is not None:
                found[self.pattern.beside[f]] = B.between_neighbours
        for (f, g), positions in self.pattern.between.items():
            block = self.matrix.off_diagonal[f, g]
            found[positions] = _sandwich(lambdas[f], block, lambdas[g])
        return found

    def log_det_derivative(self, lambdas: Sequence[Array], inverse: Vector) -> list[Array]:
        """``2 [Z'WZ Lambda C]`` within levels, summed over these, (K, K) of each factor."""
        found = []
        for f, (lam, A) in enumerate(zip(lambdas, self.matrix.diagonal, strict=True)):
            C = inverse[self.pattern.own[f][:, :, self.pattern.at[f]]]
            found.append(2.0 * np.einsum("abl,bc,cdl->ad", A, lam, C, optimize=True))
        for (f, g), positions in self.pattern.between.items():
            A, C = self.matrix.off_diagonal[f, g], inverse[positions]
            found[f] += 2.0 * np.einsum("abl,bc,dcl->ad", A, lambdas[g], C, optimize=True)
            found[g] += 2.0 * np.einsum("bal,bc,cdl->ad", A, lambdas[f], C, optimize=True)
        return found

    @property
    def log_det_covariances(self) -> float:
        """Sum of ``K log|A|`` over the factors."""
        layout = self.pattern.order.layout
        return sum(layout.width(f) * B.log_det for f, B in enumerate(self.bases) if B is not None)


def _sandwich(left: Array, values: Array, right: Array) -> Array:
    """``left' values right`` at each level or pair."""
    return np.asarray(np.einsum("ab,acl,cd->bdl", left, values, right, optimize=True))


def _effects(values: Array) -> list[tuple[tuple[int, int], Array]]:
    """Pairs of effects of a block, and its values of them."""
    return [((a, b), values[a, b]) for a in range(len(values)) for b in range(len(values[0]))]
