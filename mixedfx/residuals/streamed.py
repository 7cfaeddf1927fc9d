"""Log-linear residual standard deviations of rows in chunks, from their sums by stratum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.design.build import Design
from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.strata import StratumRows
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.recentred import recentred
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.likelihood.stratum_score import stratum_residuals
from mixedfx.residuals.coordinates import DispersionCoordinates
from mixedfx.residuals.log_linear import LogLinear

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StreamedLogLinear(LogLinear):
    """``log sd = D gamma`` with D of the strata; rows are those of a chunk, or none."""

    rows: StratumRows  # type: ignore[assignment]
    sums: StratifiedSums = field(repr=False)

    @cached_property
    def coordinates(self) -> DispersionCoordinates:
        """Coordinates ``(mu, x)`` of ``D gamma`` over all rows."""
        return DispersionCoordinates.from_strata(self.rows.strata.D, self.counts)

    @property
    def counts(self) -> Vector:
        """Number of rows of each stratum, (strata,)."""
        return self.sums.counts

    def on_rows(self, rows: ResidualRows) -> Self:
        """The model on the rows of a chunk."""
        return replace(self, rows=rows) if isinstance(rows, StratumRows) else self

    def of_submodel(self, sums: Callable[[], StratifiedSums]) -> Self:
        """The model of fewer columns of the linear predictor."""
        return replace(self, sums=sums())

    def without_rows(self) -> Self:
        """The model itself: it keeps sums alone."""
        return self

    def check(self, design: Design, *, reml: bool) -> None:
        """Nothing: the search ends at a stratum that is fitted perfectly."""

    def reduce(self, design: Design) -> StratifiedSums:
        """Those of the second pass over the rows."""
        return self.sums

    def params_of_residuals(self, sums: Any, rows: ModelRows, solution: Solution) -> Vector:
        """Log root mean squares of the strata."""
        return self.params_of_squares(stratum_residuals(sums, solution, fixed=False).squares)

    def crossproducts_at(self, sums: StratifiedSums, params: Vector) -> CrossProducts:
        """Cross-products with the estimated weights, relative to the reported sigma."""
        return recentred(sums.reweight(self._relative_weights(params)))

    def weighted_design(self, design: Design, params: Vector) -> Design:
        """The kept rows with their estimated weights."""
        rows = design.rows
        assert isinstance(rows, StreamedRows)
        weighted = rows.with_stratum_weights(self._relative_weights(params))
        return replace(design, rows=weighted)

    def _relative_weights(self, params: Vector) -> Vector:
        return np.exp(-2.0 * (self.stratum_log_sds(params) - self.log_sigma_offset(params)))

    def stratum_name(self, stratum: int) -> str:
        """Values of the formula's variables."""
        return self.rows.strata.label(stratum)

    def residual_df(
        self, design: Design, params: Vector, solution: Solution, stratum: int
    ) -> float:
        """Rows of a stratum less their leverage."""
        w = np.exp(-2.0 * self.stratum_log_sds(params))
        found = stratum_residuals(self.sums, solution, fixed=solution.reml)
        return float((self.counts - w * found.leverage)[stratum])
