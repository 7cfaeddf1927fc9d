"""
Separation in rows that are read in blocks.

Of coefficients, a direction of a part of the rows is confirmed by all. That fixed and random
effects together fit every response, ``s_i (x_i'beta + z_i'b) > 0``, is shown by effects that do:
those at the end of the search, or else the nearest ones that a linear program finds for the rows
that these miss, to which the rows that the program's solution misses are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.design.build import Design
from mixedfx.design.rows import ModelRows
from mixedfx.estimation.glmm.separation import (
    Separation,
    find_separation,
    is_suspicious,
    large_terms,
    linprog,
)
from mixedfx.estimation.glmm.separation_notes import of_coefficients, of_term, term_sds
from mixedfx.likelihood.generalized.blocked_rows import BlockedAt, BlockedRows, RowBlock
from mixedfx.likelihood.generalized.likelihood import MarginalEvaluation
from mixedfx.likelihood.generalized.pirls import Modes

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Part of a row's move along a direction that is rounding.
_ROUNDING = 1e-7
# Rows that are added to a linear program at a time, and how often.
_MOST_ROWS, _MOST_PROGRAMS = 2000, 20
_TIME_LIMIT = 20.0


def blocked_separation(design: Design, evaluation: MarginalEvaluation) -> tuple[str, ...]:
    """Why the likelihood has no maximum, where a search has ended suspiciously."""
    rows = evaluation.modes.model
    assert isinstance(rows, BlockedRows)
    kept: ModelRows = design.rows.sample
    if statement := _of_coefficients(Design(design.spec, kept), rows, evaluation.modes):
        return (statement,)
    sds = term_sds(evaluation, [term.model_matrix for term in kept.random_terms])
    large = large_terms(sds)
    if not large or not _all_fitted(rows, evaluation.modes):
        return ()
    shares = [_shares(rows, rows.term_positions[t].group) for t in large]
    terms = zip(large, shares, strict=True)
    return tuple(of_term(design.spec.random_terms[t], sds[t], share) for t, share in terms)


def _of_coefficients(part: Design, rows: BlockedRows, modes: Modes) -> str | None:
    """Statement of a direction of the coefficients; the extremes of each column are in the part."""
    if part.rows.X.shape[1] != rows.p or not is_suspicious(modes):
        return None
    weights = part.rows.weights
    used = np.arange(part.rows.n) if weights is None else np.flatnonzero(weights > 0.0)
    ends = part.spec.family.ends_of_rows(part.rows.X[used], part.rows.y[used])
    found = find_separation(ends.X, ends.signs)
    if found is None or not found.direction[: rows.p].any():
        return None
    against, rising = rows.total(lambda block: _moves(block, found.direction))
    if against:
        return None
    alone = Separation(found.direction[: rows.p], found.rows)
    return of_coefficients(part, alone, f"{rising:,} rows")


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


def _shares(rows: BlockedRows, factor: int) -> Vector:
    """Mean response of each level of a grouping factor."""

    def sums(block: RowBlock) -> Matrix:
        codes, n_levels = block.factors[factor].codes, block.factors[factor].n_levels
        return np.stack([np.bincount(codes, block.y, n_levels), np.bincount(codes, None, n_levels)])

    of_y, n = rows.total(sums)
    return np.asarray(of_y / np.maximum(n, 1.0))


@dataclass(frozen=True)
class _Effects:
    """Fixed and random effects."""

    beta: Vector
    of_factors: tuple[Matrix, ...]

    @property
    def vector(self) -> Vector:
        """All of them."""
        return np.concatenate([self.beta, *(b.ravel() for b in self.of_factors)])

    def of(self, vector: Vector) -> _Effects:
        """Those of such a vector."""
        ends = np.cumsum([len(self.beta), *(b.size for b in self.of_factors)])
        beta, *parts = np.split(vector, ends[:-1])
        shapes = [b.shape for b in self.of_factors]
        return _Effects(beta, tuple(p.reshape(s) for p, s in zip(parts, shapes, strict=True)))


def _all_fitted(rows: BlockedRows, modes: Modes) -> bool:
    """Whether some effects have every response on its side."""
    at = modes.at
    assert isinstance(at, BlockedAt)
    first = _Effects(at.beta, at.effects)
    known = first.vector
    missed: sparse.csr_array | None = None
    effects = first
    for _ in range(_MOST_PROGRAMS):
        found = _missed_rows(rows, effects)
        if found is None:
            return False
        if not found.shape[0]:
            return True
        missed = found if missed is None else sparse.vstack([missed, found], format="csr")
        vector = _nearest(missed, known)
        if vector is None:
            return False
        effects = first.of(vector)
    return False


def _missed_rows(rows: BlockedRows, effects: _Effects) -> sparse.csr_array | None:
    """Rows ``s_i [x_i, z_i]`` on the wrong side, the worst ones; None where a row has no side."""
    parts: list[sparse.csr_array] = []
    margins: list[Vector] = []
    for block in rows.blocks:
        signs = block.family.unbounded(block.y)
        if (signs == 0.0).any() or (block.weights is not None and (block.weights <= 0.0).any()):
            return None
        eta = block.X @ effects.beta + block.random_predictor(effects.of_factors)
        margin = signs * eta
        at = np.flatnonzero(margin < _ROUNDING)
        at = at[np.argsort(margin[at])[:_MOST_ROWS]]
        parts.append(_sparse_rows(block, signs, at))
        margins.append(margin[at])
    worst = np.argsort(np.concatenate(margins))[:_MOST_ROWS]
    return sparse.csr_array(sparse.vstack(parts, format="csr")[np.sort(worst)])


def _sparse_rows(block: RowBlock, signs: Vector, at: npt.NDArray[np.intp]) -> sparse.csr_array:
    """Some rows ``s_i [x_i, z_i]``."""
    columns: list[Any] = [sparse.csr_array(block.X[at])]
    for factor in block.factors:
        shape = len(at), factor.n_levels
        for column in factor.columns:
            values = np.ones(len(at)) if column is None else column[at]
            own = sparse.csr_array((values, (np.arange(len(at)), factor.codes[at])), shape=shape)
            columns.append(own)
    return sparse.csr_array(sparse.diags_array(signs[at]) @ sparse.hstack(columns, format="csr"))


def _nearest(A: sparse.csr_array, known: Vector) -> Vector | None:
    """
    Effects v with ``A v >= 1`` that differ least from multiples of those known; None without any.

    ``min sum |e|`` over e and a factor k of at least zero, ``v = k known + e``: effects that none
    of these rows has stay in proportion.
    """
    used = np.flatnonzero(np.bincount(A.indices, minlength=A.shape[1]))
    own = A[:, used]
    result = linprog(
        np.concatenate([[0.0], np.ones(2 * len(used))]),
        A_ub=-sparse.hstack([sparse.csr_array((A @ known)[:, None]), own, -own], format="csr"),
        b_ub=-np.ones(A.shape[0]),
        bounds=(0.0, None),
        method="highs",
        options={"time_limit": _TIME_LIMIT},
    )
    if result.status != 0:
        return None
    factor, (plus, minus) = result.x[0], np.split(result.x[1:], 2)
    vector = factor * known
    vector[used] += plus - minus
    return np.asarray(vector)
