"""Rows of one grouping factor, given the effects of the others.

These stand after the coefficients: ``X beta + Z_2 b_2`` is the fixed part, and sums with the fixed
columns are ``[X Z_2]'v``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.factor_rows import FactorRows
from mixedfx.likelihood.generalized.row_arrays import RowArrays
from mixedfx.linalg.cholesky.block_matrix import BlockPattern

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GivenOthers(RowArrays):
    """Rows in memory, all or those of a block, with one of their factors."""

    others: tuple[FactorRows, ...] = field(repr=False)
    of_all: RowArrays = field(repr=False)  # with all factors

    @staticmethod
    def of(rows: RowArrays, f: int, alone: BlockPattern) -> GivenOthers:
        """The rows with a factor, whose pattern is that of it alone."""
        shared: dict[str, Any] = {
            one.name: getattr(rows, one.name) for one in fields(RowArrays) if one.init
        }
        shared |= {"factors": (rows.factors[f],), "pairs": {}, "pattern": alone}
        others = tuple(factor for g, factor in enumerate(rows.factors) if g != f)
        return GivenOthers(**shared, others=others, of_all=rows)

    def at(
        self, fixed: Vector, effects: Sequence[Matrix], params: Vector, *, third: bool = False
    ) -> EvaluatedRows:
        """The rows at a linear predictor."""
        return EvaluatedRows.of(self, fixed, effects, params, third=third)

    def given_others(self, f: int) -> GivenOthers:
        """The same: there is one factor."""
        return self

    @property
    def base(self) -> Vector | None:
        """Log densities near their largest."""
        return self.of_all.base

    def fixed_predictor(self, beta: Vector) -> Vector:
        """``offset + X beta + Z_2 b_2``."""
        eta = super().fixed_predictor(beta[: self.p])
        at = self.p
        for factor in self.others:
            size = factor.width * factor.n_levels
            eta = eta + factor.predictor(beta[at : at + size].reshape(factor.width, -1))
            at += size
        return eta

    def fixed_sums(self, values: Vector) -> Vector:
        """``[X Z_2]'v``."""
        sums = [factor.sums(values).ravel() for factor in self.others]
        return np.concatenate([super().fixed_sums(values), *sums])
