"""Sums over all rows without weights, by which rows that were read in chunks are summarized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.combinations import Combinations
from mixedfx.likelihood.stream.assembly import StreamedModel
from mixedfx.likelihood.stream.sums import RowSums

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowMoments:
    """Numbers, means and products of the columns."""

    n: int
    XtX: Matrix  # (p, p)
    X_root: Matrix = field(repr=False)  # M with ``M'M`` the covariance of the columns of X
    squares: tuple[Matrix, ...] = field(repr=False)  # (k, k) of each term's columns
    counts: Mapping[str, Vector] = field(repr=False)  # rows of each level of a grouping factor
    offset_sum: float
    variable_sums: Mapping[str, float] = field(repr=False)

    @staticmethod
    def of(model: StreamedModel, sums: RowSums) -> RowMoments:
        """Of the sums of a pass."""
        counts = dict(zip(model.crossprod.groups, sums.counts, strict=True))
        return RowMoments(
            sums.n,
            model.XtX,
            model.X_root,
            sums.squares,
            counts,
            sums.offset_sum,
            dict(sums.variable_sums),
        )

    def of_columns(self, columns: Combinations) -> RowMoments:
        """Of combinations of the columns."""
        L = columns.fixed
        return replace(
            self,
            XtX=L.T @ self.XtX @ L,
            X_root=self.X_root @ L,
            squares=tuple(S.T @ self.squares[t] @ S for t, S in columns.terms),
        )
