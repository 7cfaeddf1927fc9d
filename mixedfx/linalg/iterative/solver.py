"""Factorisation of block matrices by iterations as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mixedfx.linalg.cholesky.analysis import elimination_order
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, BlockPattern
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.iterative import factor

if TYPE_CHECKING:
    from mixedfx.linalg.iterative.factor import IterativeFactor, IterativeMatrix

# The deviance is asked for to a fixed error, second derivatives to a relative one: with 16 and 512
# vectors those of 60,000 rows, 6,000 and 3,000 levels differ by 2e-6.
_PROBES_OF_CURVATURE = 64


@dataclass(frozen=True)
class IterativeSolver:
    """Factorisation of block matrices by iterations, with random signs of one seed."""

    probes: int = 16  # vectors of random signs
    seed: int = 0

    @property
    def for_curvature(self) -> IterativeSolver:
        """With as many vectors as give second derivatives to some 1e-5 of them."""
        return replace(self, probes=min(self.probes, _PROBES_OF_CURVATURE))

    def symbolic(self, pattern: BlockPattern) -> EliminationOrder:
        """Elimination order: the factor of most levels first."""
        if "order" not in pattern.cache:
            leading, dense = elimination_order(pattern)
            pattern.cache["order"] = EliminationOrder.of(pattern, tuple(leading), tuple(dense))
        order: EliminationOrder = pattern.cache["order"]
        return order

    def assemble(self, block_matrix: BlockMatrix) -> IterativeMatrix:
        """The block matrix with its sparse blocks, made at the first call."""
        order = self.symbolic(block_matrix.pattern)
        return factor.IterativeMatrix.of(block_matrix, order, probes=self.probes, seed=self.seed)

    def factorize(self, block_matrix: BlockMatrix, lambdas: Sequence[Array]) -> IterativeFactor:
        """Eliminate the first factor at the given Lambdas; the last factor is kept."""
        key = (self, *(lam.tobytes() for lam in lambdas))
        known, found = block_matrix.cache.get("last", ((), None))
        if known != key:
            fewer = known[1:] == key[1:] and self._has_more_probes(known[0])
            found = self.assemble(block_matrix).factorize(lambdas, found if fewer else None)
            block_matrix.cache["last"] = key, found
        return cast("IterativeFactor", found)

    def _has_more_probes(self, other: IterativeSolver) -> bool:
        return other.seed == self.seed and other.probes < self.probes
