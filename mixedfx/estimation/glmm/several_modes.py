"""Conditional modes of several predictors: their derivatives, and the part of one predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.glmm.mode_derivatives import scores_by_params
from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.likelihood.generalized.several_predictors import SeveralRows
from mixedfx.linalg.cholesky.batched import flatten
from mixedfx.linalg.cholesky.elimination import EliminationOrder

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def jacobian_of_all(modes: Modes, by_covariance: Sequence[Matrix]) -> Matrix:
    """
    Derivatives of all modes by all free parameters, (q, m).

    As in :mod:`mixedfx.estimation.glmm.mode_derivatives`, with the weights between predictors in
    ``A = Z'WZ`` and ``B = Z'WX``.
    """
    rows, numeric = modes.rows, modes.numeric
    size = sum(len(jacobian) for jacobian in by_covariance)
    if not rows.factors:
        return np.zeros((0, size + rows.p + len(modes.params)))
    symbolic, columns = numeric.symbolic, []
    for position, jacobian in zip(rows.term_positions, by_covariance, strict=True):
        score = modes.Ztg[position.group]
        effects = np.zeros((len(score), len(jacobian), score.shape[1]))
        effects[position.columns] = np.einsum("mab,bl->aml", jacobian, score[position.columns])
        column = np.zeros((symbolic.size, len(jacobian)))
        column[symbolic.columns(position.group)] = flatten(effects)
        columns.append(column)
    direct = np.concatenate(columns, axis=1)
    by_cov = direct - numeric.solve(numeric.assembled.sparse_matrix @ direct)
    ZtX = np.zeros((symbolic.size, rows.p))
    for f, block in enumerate(rows.random_by_fixed(modes.at_rows.weight)):
        ZtX[symbolic.columns(f)] = flatten(block)
    by_params = numeric.solve(scores_by_params(modes))
    return np.concatenate([by_cov, -numeric.solve(ZtX), by_params], axis=1)


def part_of_effects(rows: SeveralRows, k: int) -> list[tuple[int, Codes]]:
    """Joint factor of each factor of predictor k, and the columns there of its own, in order."""
    own = rows.parts[k].term_positions
    joint = rows.term_positions[rows.term_slices[k]]
    found = []
    for f in range(len(rows.parts[k].factors)):
        of_factor = [(a, b) for a, b in zip(own, joint, strict=True) if a.group == f]
        columns = np.empty(sum(a.width for a, _ in of_factor), dtype=np.intp)
        for a, b in of_factor:
            columns[a.columns] = np.arange(b.start, b.start + b.width)
        found.append((of_factor[0][1].group, columns))
    return found


def index_among_all(
    modes: Modes, own: EliminationOrder, groups: Sequence[tuple[int, Codes]]
) -> Codes:
    """Place of each effect of one predictor among all, both in their orders of elimination."""
    joint = modes.numeric.symbolic
    index = np.empty(own.size, dtype=np.intp)
    for f, (g, columns) in enumerate(groups):
        L = joint.layout.levels(g)
        places = joint.columns(g).start + columns[:, None] * L + np.arange(L)
        index[own.columns(f)] = places.ravel()
    return index
