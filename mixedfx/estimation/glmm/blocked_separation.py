"""Separation in rows that are read in blocks: a direction of a part of them, confirmed by all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.estimation.glmm.separation import Separation, find_separation, is_suspicious
from mixedfx.estimation.glmm.separation_notes import of_coefficients
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows, RowBlock
from mixedfx.likelihood.generalized.pirls import Modes

Vector = npt.NDArray[np.float64]

# Part of a row's move along a direction that is rounding.
_ROUNDING = 1e-7


def blocked_separation(
    design: Design, rows: BlockedRows, part: Design, modes: Modes
) -> tuple[str, ...]:
    """
    Why the likelihood has no maximum, where a search has ended suspiciously.

    ``part`` has the extremes of each column and each combination of factors, in memory.
    """
    same_columns = np.array_equal(part.spec.kept_columns, design.spec.kept_columns)
    if not same_columns or not is_suspicious(modes):
        return ()
    weights = part.rows.weights
    used = np.arange(part.rows.n) if weights is None else np.flatnonzero(weights > 0.0)
    ends = part.spec.family.ends_of_rows(part.rows.X[used], part.rows.y[used])
    found = find_separation(ends.X, ends.signs)
    if found is None or not found.direction[: rows.p].any():
        return ()
    against, rising = rows.total(lambda block: _moves(block, found.direction))
    if against:
        return ()
    alone = Separation(found.direction[: rows.p], found.rows)
    return (of_coefficients(replace(part, spec=design.spec), alone, f"{rising:,} rows"),)


def _moves(block: RowBlock, direction: Vector) -> tuple[int, int]:
    """Number of rows whose density falls along a direction, and of those where it rises."""
    X, w = block.X @ block.qr_R, block.weights
    used = np.ones(len(X), dtype=bool) if w is None else w > 0.0
    ends = block.family.ends_of_rows(X[used], block.y[used])
    move = ends.X @ direction
    size = _ROUNDING * max(float(np.abs(move).max(initial=0.0)), 1.0)
    falls = np.where(ends.signs == 0.0, np.abs(move) > size, ends.signs * move < -size)
    rises = np.unique(ends.row[(ends.signs * move > size)])
    return int(falls.sum()), len(rises)
