"""Cross-products of rows in chunks without those of one level of a grouping factor.

They are kept by level of the factor, and added up over the other levels: as sums by stratum of
equal residual variance (:mod:`~.stratum_sums`), each level being a stratum of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import ModelRows
from mixedfx.likelihood.basis import rows_in_basis
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_sums import blocks_by_group
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.likelihood.stream.stratum_sums import RowSumsByStratum, stratified, sums_by_stratum
from mixedfx.likelihood.stream.sums import added_by_stratum

Codes = npt.NDArray[np.intp]

# Difference of the sums over all levels from those of the fit, relative to these.
_SAME_SUMS = 1e-6


@dataclass(frozen=True)
class SumsByLevel:
    """Sums over rows by level of a grouping factor, in the bases of a fit."""

    crossprod: CrossProducts  # of all rows
    group: str
    sums: RowSumsByStratum | None = field(default=None, repr=False)

    def plus(self, rows: ModelRows) -> Self:
        """With the rows of a chunk."""
        crossprod = self.crossprod
        residuals = rows.response_less_offset - rows.X @ crossprod.ols_coef
        X = combinations_in_basis(rows.X, crossprod.qr_R)
        columns = [*np.ascontiguousarray(X.T), residuals]
        by_group = blocks_by_group(rows_in_basis(rows.random_terms, crossprod.bases))
        n_levels = len(crossprod.levels[crossprod.groups.index(self.group)])
        codes = rows.codes_of(self.group)
        own = sums_by_stratum(by_group, columns, rows.weights, codes, n_levels)
        return replace(self, sums=added_by_stratum(self.sums, own))

    @property
    def are_those_of_the_fit(self) -> bool:
        """Whether the rows are as many as those of the fit, with the same products."""
        if self.sums is None or int(self.sums.counts.sum()) != self.crossprod.n:
            return False
        expected = self.crossprod.XytXy
        size = np.sqrt(np.diag(expected))
        found = self.sums.XytXy.sum(axis=2)
        return bool((np.abs(found - expected) <= _SAME_SUMS * np.outer(size, size)).all())

    def total(self) -> DeletedLevels:
        """Sums of all rows."""
        assert self.sums is not None
        columns = np.arange(self.crossprod.p + 1)
        return DeletedLevels(stratified(self.sums, self.crossprod, columns, np.eye(len(columns))))


@dataclass(frozen=True)
class DeletedLevels:
    """Cross-products by level, of which one level is left out."""

    sums: StratifiedSums = field(repr=False)

    @property
    def counts(self) -> Codes:
        """Rows of each level."""
        return self.sums.counts.astype(np.intp)

    def without(self, level: int) -> CrossProducts:
        """Cross-products of the rows of all other levels."""
        return self.sums.of_strata(np.arange(len(self.sums.counts)) != level)
