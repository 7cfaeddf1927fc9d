"""Effects of the levels of a term by maximum likelihood from the rows of each alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.families.family import Family
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.level_estimates import (
    LevelRows,
    Parts,
    level_maxima,
    with_infinite,
)
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def unpooled_effects(
    design: Design, family: Family, solution: Solution, params: Vector, t: int
) -> Matrix:
    """Effects (k, levels), infinite where the rows of a level are separated."""
    basis = solution.crossprod.bases[t]
    parts = _in_memory if design.rows.in_memory else _in_blocks
    of_rows = parts(design, family, solution, params, t)
    effects, steps = level_maxima(of_rows, solution.conditional_modes_in_basis()[t])
    columns = design.rows.sample.random_terms[t].model_matrix
    scales = np.sqrt((columns**2).mean(axis=0))
    return with_infinite(basis.effects(effects), basis.effects(steps), scales.tolist())


def _in_memory(design: Design, family: Family, solution: Solution, params: Vector, t: int) -> Parts:
    """Rows of a term in one piece."""
    rows, term = design.rows, design.rows.random_terms[t]
    modes = solution.conditional_modes()
    others = [None if s == t else b for s, b in enumerate(modes)]
    whole = LevelRows(
        family,
        rows.y,
        rows.weights,
        params,
        rest=rows.linear_predictor(solution.beta, others),
        columns=solution.crossprod.bases[t].columns(term.model_matrix),
        codes=term.codes,
        n_levels=term.n_levels,
    )
    return lambda: (whole,)


def _in_blocks(design: Design, family: Family, solution: Solution, params: Vector, t: int) -> Parts:
    """Rows of a term in blocks, which have the columns of the bases."""
    rows = rows_of(design)
    assert isinstance(rows, BlockedRows)
    beta, others = basis_coefficients(rows, solution.beta), rows.zero_effects
    modes = solution.conditional_modes_in_basis()
    for s, (position, b) in enumerate(zip(rows.term_positions, modes, strict=True)):
        others[position.group][position.columns] = 0.0 if s == t else b
    position = rows.term_positions[t]

    def blocks() -> Iterable[LevelRows]:
        for block in rows.blocks:
            factor = block.factors[position.group]
            yield LevelRows(
                family,
                block.y,
                block.weights,
                params,
                rest=block.fixed_predictor(beta) + block.random_predictor(others),
                columns=_columns(factor.columns[position.columns], len(block.y)),
                codes=factor.codes,
                n_levels=factor.n_levels,
            )

    return blocks


def _columns(columns: Sequence[Vector | None], n: int) -> Matrix:
    """Columns as a matrix; None is one of ones."""
    return np.column_stack([np.ones(n) if column is None else column for column in columns])
