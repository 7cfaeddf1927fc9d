"""Estimates of a generalised model of rows in a file without the rows of a level.

As of rows in memory (:mod:`~mixedfx.estimation.glmm.deletion`): each evaluation reads the file, and
leaves out the level's rows of each block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.deletion import RowDeletion
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows, RowBlock, RowBlocks
from mixedfx.likelihood.generalized.likelihood import Point
from mixedfx.likelihood.generalized.rows import rows_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Columns are dependent where an eigenvalue of their products, at unit length, is below this.
_DEPENDENT = 1e-10


@dataclass(frozen=True)
class _BlocksWithout(RowBlocks):
    """Blocks without the rows of a level."""

    blocks: RowBlocks
    factor: int
    level: int

    def __iter__(self) -> Iterator[RowBlock]:
        """Read the blocks."""
        for block in self.blocks:
            kept = np.flatnonzero(block.factors[self.factor].codes != self.level)
            yield block if len(kept) == len(block.y) else _taken(block, kept)


def _taken(block: RowBlock, kept: npt.NDArray[np.intp]) -> RowBlock:
    """Some rows of a block, with all levels."""
    w, offset, base = block.weights, block.offset, block.known_base
    return replace(
        block,
        y=block.y[kept],
        weights=None if w is None else w[kept],
        offset=None if offset is None else offset[kept],
        X=block.X[kept],
        factors=tuple(factor.taken(kept) for factor in block.factors),
        pairs={ij: pair.taken(kept) for ij, pair in block.pairs.items()},
        known_base=None if base is None else base[kept],
    )


@dataclass(frozen=True)
class BlockedDeletion(RowDeletion):
    """Of rows in a file, those of a level of a factor left out."""

    rows: BlockedRows
    factor: int  # number of the grouping factor
    counts: Vector = field(repr=False)  # (levels,) rows
    XtX: Matrix = field(repr=False)  # (levels, p, p) of the rows of each level
    squares: Matrix = field(repr=False)  # (levels, columns) of the columns of all random terms

    @staticmethod
    def of(fit: FittedModel, group: str) -> BlockedDeletion:
        """At the estimates of a fit, by one reading of its file."""
        estimate, rows = fit.residual, rows_of(fit.design)
        assert isinstance(estimate, FamilyEstimate)
        assert isinstance(rows, BlockedRows)
        beta = basis_coefficients(rows, fit.solution.beta)
        point = Point(tuple(fit.solution.factors), beta, rows.family.coordinates(estimate.params))
        factor = rows.groups.index(group)
        n_levels = rows.effect_shapes[factor][1]

        def by_level(block: RowBlock) -> tuple[Vector, Matrix, Matrix]:
            codes, X = block.factors[factor].codes, block.X
            products = np.empty((n_levels, X.shape[1], X.shape[1]))
            for a, b in np.ndindex(products.shape[1:]):
                products[:, a, b] = np.bincount(codes, X[:, a] * X[:, b], n_levels)
            counts = np.bincount(codes, minlength=n_levels).astype(float)
            columns = [c for one in block.factors for c in one.columns]
            of_columns = [
                counts if c is None else np.bincount(codes, c**2, n_levels) for c in columns
            ]
            return counts, products, np.array(of_columns, float).T

        sums = rows.total(by_level)
        shared = (rows, fit.solution.crossprod, point, estimate.hessian, max(estimate.nagq, 1))
        return BlockedDeletion(*shared, factor, *sums)

    def without_level(self, level: int, method: str) -> Vector:
        """The estimates without the rows of a level; NaN where they do not exist."""
        if not self._can_be_estimated(level):
            return self.no_estimates
        blocks = _BlocksWithout(self.rows.blocks, self.factor, level)
        n = self.rows.n - int(self.counts[level])
        return self.of_rows(replace(self.rows, blocks=blocks, n=n), method)

    def _can_be_estimated(self, level: int) -> bool:
        """Whether no column of a random term is zero, and those of X are independent."""
        left = self.squares.sum(axis=0) - self.squares[level]
        if not (left > _DEPENDENT * self.squares.sum(axis=0)).all():
            return False
        XtX = self.XtX.sum(axis=0) - self.XtX[level]
        size = np.sqrt(np.maximum(np.diag(XtX), 1e-300))
        values = np.linalg.eigvalsh(XtX / np.outer(size, size))
        return bool(values.min(initial=1.0) > _DEPENDENT)
