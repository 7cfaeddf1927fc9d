"""Metropolis moves of the effects of levels whose rows are in a file.

As of rows in memory (:mod:`~mixedfx.inference.checks.metropolis`), of all draws at once: a move of
one term reads the file once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.metropolis import MOVES, Steps
from mixedfx.likelihood.crossproducts import TermPosition
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows, RowBlock

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockedState:
    """Where a draw is; its effects are moved in place."""

    beta: Vector  # in the basis of the blocks
    effects: list[Matrix] = field(repr=False)  # of each factor, (K, levels)
    params: Vector  # of the family


def moved_by_blocks(
    fit: FittedModel,
    rows: BlockedRows,
    states: Sequence[BlockedState],
    rngs: Sequence[np.random.Generator],
) -> None:
    """Move the effects of each draw, in place."""
    terms = [
        (position, Steps.of(F, fit.crossprod.ZtZ.diagonal[position.group][own, own]))
        for position, F in zip(rows.term_positions, fit.solution.factors, strict=True)
        for own in [position.columns]
    ]
    for _ in range(MOVES):
        for position, steps in terms:
            by_draw = [steps.draw(rng) for rng in rngs]
            changes = _changes(rows, position, states, by_draw)
            for state, step, change, rng in zip(states, by_draw, changes, rngs, strict=True):
                b = state.effects[position.group][position.columns]
                accepted = steps.accepted(b, step, change, rng)
                b[:, accepted] += step[:, accepted]


def _changes(
    rows: BlockedRows,
    position: TermPosition,
    states: Sequence[BlockedState],
    steps: Sequence[Matrix],
) -> Matrix:
    """Change of the log density of the rows of each level at each draw's steps, (m, levels)."""
    n_levels = steps[0].shape[1]

    def of_block(block: RowBlock) -> Matrix:
        factor, found = block.factors[position.group], []
        for state, step in zip(states, steps, strict=True):
            whole = np.zeros_like(state.effects[position.group])
            whole[position.columns] = step
            eta = block.fixed_predictor(state.beta) + block.random_predictor(state.effects)
            at, there = (
                block.family.derivatives(block.y, block.weights, values, state.params).value
                for values in (eta, eta + factor.predictor(whole))
            )
            found.append(np.bincount(factor.codes, there - at, n_levels))
        return np.array(found)

    return rows.total(of_block)
