"""Sums by level that resampled cases of rows in chunks are of: the source is read once more."""

from __future__ import annotations

from typing import Any

from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.bootstrap.level_cases import check_level_cases
from mixedfx.inference.bootstrap.resampling import KINDS
from mixedfx.inference.streamed_responses import is_of_sums
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.streamed.level_influence import sums_by_level
from mixedfx.streamed.updating import check_in_chunks


def sums_of_cases(
    fit: FittedModel, kind: str, groups: str | None, data: Any, *, resample_rows: bool
) -> StratifiedSums | None:
    """Sums by level of the source that is given; None where draws need none."""
    check_choice("kind", kind, KINDS)
    check_in_chunks(fit, data)
    if kind == "cases" and is_of_sums(fit):
        group = check_level_cases(fit, groups, resample_rows=resample_rows)
        if data is None:
            raise ArgumentError(
                "kind='cases' of rows in chunks reads them once more, for sums by level: give the "
                "source that the fit read, data=source; or take kind='parametric'."
            )
        return sums_by_level(fit, group, data, "bootstrap").sums
    if data is not None:
        raise ArgumentError("data= is of kind='cases' of a linear fit: leave it out.")
    return None
