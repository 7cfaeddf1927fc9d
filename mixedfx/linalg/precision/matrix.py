"""``B'Z'WZ B`` of effects v: products with it, and its equations' values at given Lambdas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.linalg.cholesky.assembled import sparse_of_blocks
from mixedfx.linalg.cholesky.batched import matmul_left, matmul_right
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.cholesky.elimination import EliminationOrder
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

    @property
    def diagonal(self) -> tuple[Array, ...]:
        """Blocks of the codes of each factor."""
        return self.matrix.diagonal

    @cached_property
    def _of_nodes(self) -> sparse.csr_array:
        """``S'Z'WZ S`` in the columns of the nodes."""
        order, S = self.pattern.order, []
        for f in order.order:
            basis, K = self.bases[f], order.layout.width(f)
            of_nodes = (
                sparse.eye_array(order.layout.levels(f)) if basis is None else basis.of_nodes.csr
            )
            S.append(sparse.kron(sparse.eye_array(K), of_nodes, format="csr"))
        whole = sparse.block_diag(S, format="csr")
        codes = EliminationOrder.of(self.matrix.pattern, (), order.order)
        of_codes = sparse_of_blocks(codes, self.matrix)
        return sparse.csr_array(whole.T @ of_codes @ whole)

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
        pattern, columns = self.pattern, self.pattern.columns
        found = np.zeros(pattern.symbolic.n_values)
        for f, (lam, B) in enumerate(zip(lambdas, self.bases, strict=True)):
            D = matmul_left(lam.T, matmul_right(self.matrix.diagonal[f], lam))
            own = np.asarray(D.reshape(len(lam) ** 2, -1) @ columns.squares[f])
            own = own.reshape(len(lam), len(lam), -1)
            for a in range(len(lam)):
                own[a, a] += 1.0 if B is None else B.diagonal
            found[pattern.own[f]] = own
            if B is not None:
                found[pattern.beside[f]] = B.between_neighbours
            if len(columns.members[f].rows):
                found[pattern.among[f]] += columns.members[f].of_pairs(D)
        for (f, g), positions in pattern.between.items():
            right = matmul_right(self.matrix.off_diagonal[f, g], lambdas[g])
            block = matmul_left(lambdas[f].T, right)
            found[positions] = columns.joined[f, g].of_pairs(block)
        return found

    def inverse_blocks(self, inverse: Vector) -> tuple[list[Array], dict[tuple[int, int], Array]]:
        """Blocks of the inverse of the equations for the codes, and for pairs of codes."""
        pattern, columns = self.pattern, self.pattern.columns
        diagonal = []
        for f, positions in enumerate(pattern.own):
            K = len(positions)
            summed = inverse[positions].reshape(K * K, -1) @ columns.squares[f].T
            C: Array = np.asarray(summed).reshape(K, K, -1)
            if len(columns.members[f].rows):
                beside = columns.members[f].of_codes(inverse[pattern.among[f]])
                C = C + beside + beside.transpose(1, 0, 2)
            diagonal.append(C)
        return diagonal, {
            fg: columns.joined[fg].of_codes(inverse[positions])
            for fg, positions in pattern.between.items()
        }

    def log_det_derivative(
        self,
        lambdas: Sequence[Array],
        diagonal: Sequence[Array],
        off_diagonal: Mapping[tuple[int, int], Array],
    ) -> list[Array]:
        """``2 [Z'WZ Lambda C]`` within levels, summed over these, (K, K) of each factor."""
        found = [
            2.0 * np.einsum("abl,bc,cdl->ad", A, lam, C, optimize=True)
            for lam, A, C in zip(lambdas, self.matrix.diagonal, diagonal, strict=True)
        ]
        for (f, g), C in off_diagonal.items():
            A = self.matrix.off_diagonal[f, g]
            found[f] += 2.0 * np.einsum("abl,bc,dcl->ad", A, lambdas[g], C, optimize=True)
            found[g] += 2.0 * np.einsum("bal,bc,cdl->ad", A, lambdas[f], C, optimize=True)
        return found

    @property
    def log_det_covariances(self) -> float:
        """Sum of ``K log|A|`` over the factors."""
        layout = self.pattern.order.layout
        return sum(layout.width(f) * B.log_det for f, B in enumerate(self.bases) if B is not None)
