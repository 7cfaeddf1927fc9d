"""What a bootstrap draws: responses of the fitted model, resampled residuals or cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mixedfx.errors import ArgumentError, check_choice, check_flag
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.blocked_responses import BlockedResponses
from mixedfx.inference.bootstrap.cases import CaseResampling, case_resampling
from mixedfx.inference.bootstrap.level_cases import LevelCases
from mixedfx.inference.bootstrap.residual import ResampledResponse, resampled_response
from mixedfx.inference.merged_responses import MergedResponses
from mixedfx.inference.simulation import (
    RANDOM,
    RandomName,
    ResponseDistribution,
    response_distribution,
    stands_for_several,
)
from mixedfx.inference.streamed_responses import SummedResponses, is_of_sums
from mixedfx.likelihood.stratified import StratifiedSums

# What a draw is drawn from: distributions of a response, of its sums, or cases.
Responses = (
    ResponseDistribution
    | ResampledResponse
    | CaseResampling
    | LevelCases
    | BlockedResponses
    | MergedResponses
    | SummedResponses
)

Kind = Literal["parametric", "residual", "cases"]
KINDS: tuple[Kind, ...] = ("parametric", "residual", "cases")


@dataclass(frozen=True)
class Resampling:
    """What a draw is drawn from."""

    kind: Kind = "parametric"
    random: RandomName = "new"  # of simulated responses
    groups: str | None = None  # of cases
    resample_rows: bool = False
    by_level: StratifiedSums | None = field(default=None, repr=False)  # of cases of rows in chunks

    def __post_init__(self) -> None:
        """Refuse what is of another kind."""
        check_choice("kind", self.kind, KINDS)
        check_choice("random", self.random, RANDOM)
        check_flag("resample_rows", self.resample_rows)
        if self.kind != "parametric" and self.random != "new":
            raise ArgumentError(f"random='fitted' is of kind='parametric', not of '{self.kind}'.")
        if self.kind != "cases" and (self.groups is not None or self.resample_rows):
            raise ArgumentError(
                f"groups= and resample_rows= are of kind='cases', not '{self.kind}'."
            )

    def of(self, fit: FittedModel) -> Responses:
        """Distribution of the draws from a fit."""
        of_sums = is_of_sums(fit)
        if self.kind == "cases" and of_sums and self.by_level is not None:
            return LevelCases.of(fit, self.by_level)
        if self.kind != "parametric" and of_sums:
            raise ArgumentError(
                f"kind='{self.kind}' resamples rows that are in memory, and this fit has sums of "
                "its rows alone: the products of a residual depend on the row that it is drawn "
                "for. Without rows take kind='parametric', or kind='cases' with data=source."
            )
        if self.kind == "residual":
            return resampled_response(fit)
        if fit.rows.has_file and self.kind == "cases":
            raise ArgumentError(
                "kind='cases' resamples rows that are in memory, and those of this fit are in a "
                "file, in the order in which they were read: take kind='parametric'."
            )
        if self.kind == "cases":
            return case_resampling(fit, self.groups, resample_rows=self.resample_rows)
        if of_sums:
            return SummedResponses.of(fit, random=self.random)
        if fit.rows.has_file:
            return BlockedResponses.of(fit, random=self.random)
        if stands_for_several(fit):
            return MergedResponses.of(fit, random=self.random)
        return response_distribution(fit, random=self.random)
