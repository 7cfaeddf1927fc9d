"""Order in which grouping factors are eliminated, and the columns of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mixedfx.linalg.cholesky.block_matrix import BlockLayout, BlockPattern, LevelPairs


@dataclass(frozen=True)
class EliminationOrder:
    """Leading factors, those of the dense block, and the scalar columns of each, in this order."""

    layout: BlockLayout
    pairs: Mapping[tuple[int, int], LevelPairs] = field(repr=False)  # for every two factors i < j
    # Of factors whose own block is not block-diagonal: pairs of levels.
    within: Mapping[int, LevelPairs] = field(repr=False)
    leading_factors: tuple[int, ...]  # that are eliminated level by level
    dense_factors: tuple[int, ...]  # factors of the dense trailing block
    starts: Mapping[int, int]  # first scalar column of each factor, in the elimination order
    size: int  # scalar columns of all factors
    dense_start: int  # first scalar column of the dense block

    @staticmethod
    def of(
        pattern: BlockPattern, leading: tuple[int, ...], dense: tuple[int, ...]
    ) -> EliminationOrder:
        """Columns of the factors of a pattern, in a given order."""
        order = (*leading, *dense)
        ends = np.cumsum([0, *map(pattern.layout.size, order)]).tolist()
        starts = dict(zip(order, ends, strict=False))
        blocks = pattern.layout, pattern.pairs, pattern.within
        return EliminationOrder(*blocks, leading, dense, starts, ends[-1], ends[len(leading)])

    @property
    def order(self) -> tuple[int, ...]:
        """All factors in the elimination order."""
        return (*self.leading_factors, *self.dense_factors)

    @property
    def dense_size(self) -> int:
        """Scalar columns of the dense block."""
        return self.size - self.dense_start

    def columns(self, factor: int) -> slice:
        """Scalar columns of a factor, in the elimination order."""
        start = self.starts[factor]
        return slice(start, start + self.layout.size(factor))
