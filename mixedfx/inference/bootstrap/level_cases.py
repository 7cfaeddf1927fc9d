"""Resampling of the levels of the one grouping factor of rows in chunks, by the sums of each level.

``Z'WZ`` and ``Z'W[X, y]`` are those of the levels that are drawn, and ``[X, y]'W[X, y]`` is the sum
of theirs: a draw is that of rows in memory (:mod:`~mixedfx.inference.bootstrap.cases`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LevelCases:
    """Cross-products of all rows, and what of them is of each level alone."""

    crossprod: CrossProducts
    XytXy: Matrix = field(repr=False)  # (p + 1, p + 1, levels)
    counts: Codes = field(repr=False)  # (levels,) rows

    @staticmethod
    def of(fit: FittedModel, by_level: StratifiedSums) -> LevelCases:
        """Of a linear fit, and the sums by level of its grouping factor."""
        return LevelCases(fit.crossprod, by_level.XytXy_by_stratum, by_level.counts.astype(np.intp))

    def draw(self, rng: np.random.Generator) -> tuple[CrossProducts, Codes]:
        """Cross-products of resampled levels, and how often each is drawn."""
        whole, count = self.crossprod, len(self.counts)
        taken = rng.integers(count, size=count)
        frequencies = np.bincount(taken, minlength=count)
        blocks = tuple(np.ascontiguousarray(A[:, :, taken]) for A in whole.ZtZ.diagonal)
        drawn = replace(
            whole,
            n=int(self.counts[taken].sum()),
            ZtZ=BlockMatrix(whole.ZtZ.pattern, blocks, {}),
            ZtXy=tuple(np.ascontiguousarray(F[:, :, taken]) for F in whole.ZtXy),
            XytXy=self.XytXy @ frequencies,
        )
        return drawn, frequencies


def check_level_cases(fit: FittedModel, group: str | None, *, resample_rows: bool) -> str:
    """Grouping factor whose levels are drawn; refuses fits whose levels have no sums apart."""
    groups = fit.formula.groups
    parametric = "take kind='parametric'."
    if len(groups) != 1:
        raise ArgumentError(
            "kind='cases' of rows in chunks draws the levels of one grouping factor, and "
            f"'{fit.formula}' has {len(groups)}: {parametric}"
        )
    if fit.residual.residual_params.size or fit.has_prior_weights:
        raise ArgumentError(
            f"kind='cases' of rows in chunks is of rows with one residual variance: {parametric}"
        )
    if resample_rows:
        raise ArgumentError(
            "resample_rows=True resamples rows that are in memory, and this fit has sums of its "
            "rows alone: leave it out."
        )
    if group is not None:
        check_choice("groups", group, groups)
    return str(groups[0])
