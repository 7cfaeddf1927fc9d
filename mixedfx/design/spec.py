"""Model specification: what was learned from the rows, by which the same columns are rebuilt."""

from __future__ import annotations

from dataclasses import dataclass

from patsy import DesignInfo, EvalEnvironment


@dataclass(frozen=True)
class ModelSpec:
    """State of every term of a formula, without rows."""

    fixed: DesignInfo  # all fixed columns, also the linearly dependent ones
    random: tuple[DesignInfo | None, ...]  # of each random term; None for an intercept alone
    env: EvalEnvironment  # the caller's functions and variables
    offset: str | None = None  # column of the offset, if it was given by name
    residual_sd: str | None = None  # column of the known residual sds, if given by name
