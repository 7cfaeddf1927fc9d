"""Factorisation of the equations of effects with sparse precisions as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixedfx.linalg.cholesky.block_matrix import Array, BlockMatrix, BlockPattern
from mixedfx.linalg.cholesky.elimination import EliminationOrder
from mixedfx.linalg.precision import factor, matrix
from mixedfx.linalg.precision import pattern as positions
from mixedfx.linalg.precision.basis import PrecisionBasis

if TYPE_CHECKING:
    from mixedfx.linalg.precision.factor import PrecisionFactor
    from mixedfx.linalg.precision.matrix import PrecisionMatrix
    from mixedfx.linalg.precision.pattern import PrecisionPattern


@dataclass(frozen=True, eq=False)
class PrecisionSolver:
    """Factorisation of the equations of effects some of which have a sparse precision."""

    bases: tuple[PrecisionBasis | None, ...] = field(repr=False)  # of each factor

    @property
    def for_curvature(self) -> PrecisionSolver:
        """The same: it is exact."""
        return self

    def pattern(self, pattern: BlockPattern) -> PrecisionPattern:
        """Positions of the equations, analysed at the first call."""
        known = pattern.cache.get("precision")
        if known is None or known[0] is not self:
            columns = positions.NodeColumns.of(pattern, self.bases)
            known = self, positions.PrecisionPattern.of(columns, columns.elimination())
            pattern.cache["precision"] = known
        found: PrecisionPattern = known[1]
        return found

    def symbolic(self, pattern: BlockPattern) -> EliminationOrder:
        """Columns of the nodes."""
        return self.pattern(pattern).order

    def assemble(self, block_matrix: BlockMatrix) -> PrecisionMatrix:
        """The block matrix with its bases, made at the first call."""
        known = block_matrix.cache.get("precision")
        if known is None or known.bases is not self.bases:
            known = matrix.PrecisionMatrix(
                block_matrix, self.bases, self.pattern(block_matrix.pattern)
            )
            block_matrix.cache["precision"] = known
        found: PrecisionMatrix = known
        return found

    def factorize(self, block_matrix: BlockMatrix, lambdas: Sequence[Array]) -> PrecisionFactor:
        """Factorise at the given Lambdas."""
        return factor.PrecisionFactor.at(self.assemble(block_matrix), lambdas)
