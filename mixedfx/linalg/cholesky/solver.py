"""Exact factorisation of block matrices as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixedfx.linalg.cholesky.analysis import symbolic_factor
from mixedfx.linalg.cholesky.assembled import AssembledMatrix, assemble
from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, BlockPattern
from mixedfx.linalg.cholesky.numeric import NumericFactor, factorize
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor


@dataclass(frozen=True)
class CholeskySolver:
    """Factorisation by elimination, to rounding."""

    @property
    def for_curvature(self) -> CholeskySolver:
        """The same: it is exact."""
        return self

    def symbolic(self, pattern: BlockPattern) -> SymbolicFactor:
        """Symbolic factor of a pattern."""
        return symbolic_factor(pattern)

    def assemble(self, block_matrix: BlockMatrix) -> AssembledMatrix:
        """Values of a block matrix in the elimination order."""
        return assemble(block_matrix)

    def factorize(self, block_matrix: BlockMatrix, lambdas: Sequence[Array]) -> NumericFactor:
        """Eliminate every factor at the given Lambdas."""
        return factorize(assemble(block_matrix), lambdas)
