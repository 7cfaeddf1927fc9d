"""Uncertainty of rows: the joint covariance of the fixed and the random effects.

A row's mean ``x'beta + z'b`` is estimated with an error whose variance is, over ``sigma**2``,

    z'Cz + (x - B'Cz)' Q (x - B'Cz)

with ``C = Lambda M^-1 Lambda'``, ``B = Z'WX`` and ``Q`` the covariance of beta over ``sigma**2``.

The same form gives the standard error of a prediction and, at the rows of the fit, their
leverage. ``C`` is never formed whole: only the entries of levels that rows can bring together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.design.build import Design
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.selected_inverse import ProbingVectors, probing_vectors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Up to so many numbers, all entries of C that rows can ask for are made at once; beyond, the
# columns are made for the rows in turn.
_STORED = 60_000_000
_PORTION = 4_000_000


@dataclass(frozen=True)
class PredictionRows:
    """
    Rows whose uncertainty is asked for.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Fixed columns.
    values : sequence of ndarray of shape (n, k)
        Each random term's columns.
    codes : sequence of ndarray of shape (n,)
        Each random term's levels; negative for a level without an effect to add.
    """

    X: Matrix = field(repr=False)
    values: Sequence[Matrix] = field(repr=False)
    codes: Sequence[Codes] = field(repr=False)


def design_rows(design: Design) -> PredictionRows:
    """Take the rows of a design."""
    blocks = design.blocks
    return PredictionRows(design.X, [b.values for b in blocks], [b.codes for b in blocks])


def conditional_residuals(design: Design, solution: Solution) -> Vector:
    """Take the fixed and the random part off the response."""
    rest = design.y - design.X @ solution.beta
    for block, b in zip(design.blocks, solution.conditional_modes(), strict=True):
        block.add_to(rest, -b)
    return rest


def prediction_variance(fit: FittedModel, rows: PredictionRows) -> Vector:
    """
    Variance of the error of each row's mean, random effects included.

    References
    ----------
    .. [1] Henderson (1975), Biometrics 31:423, section 4.
    """
    return fit.solution.sigma**2 * unscaled_prediction_variance(fit.crossprod, fit.solution, rows)


def unscaled_prediction_variance(
    crossprod: CrossProducts, solution: Solution, rows: PredictionRows, *, fixed: bool = True
) -> Vector:
    """Variance of the error of each row's mean, over ``sigma**2``."""
    own, seen = np.zeros(len(rows.X)), np.zeros((1, 1))
    if crossprod.term_positions:
        own, seen = _random_part(crossprod, solution, rows)
    if not fixed or not crossprod.p:
        return own
    x = rows.X
    if crossprod.qr_R is not None:
        x = linalg.solve_triangular(crossprod.qr_R, x.T, trans="T").T
    x = x - seen
    return np.asarray(own + np.einsum("np,pq,nq->n", x, solution.vcov_in_basis, x))


def _random_part(
    crossprod: CrossProducts, solution: Solution, rows: PredictionRows
) -> tuple[Vector, Matrix]:
    """``z'Cz`` (n,) and ``z'CB`` (n, p) of each row."""
    symbolic, solve = crossprod.symbolic, solution.schur.numeric.solve
    shared = solve(crossprod.ZtX)
    entries = _entries(crossprod, rows)
    seen = np.zeros((len(rows.X), crossprod.p))
    for _, _, _, at, value in entries:
        seen += value[:, None] * shared[at]
    probe = probing_vectors(symbolic)
    if probe.n_entries <= _STORED:
        return _from_store(probe, probe.apply(solve), entries), seen
    return _row_by_row(symbolic.size, solve, entries), seen


Entry = tuple[int, Codes, int, Codes, Vector]  # factor, level, effect, column in the plan, value


def _entries(crossprod: CrossProducts, rows: PredictionRows) -> list[Entry]:
    """Columns of ``Z`` that are not zero in a row: one for each effect of each term."""
    symbolic, found = crossprod.symbolic, []
    for position, values, codes in zip(
        crossprod.term_positions, rows.values, rows.codes, strict=True
    ):
        level, known = np.maximum(codes, 0), codes >= 0
        L = symbolic.block_matrix.levels(position.factor)
        for a in range(position.width):
            effect = position.start + a
            at = symbolic.starts[position.factor] + effect * L + level
            value = np.where(known, values[:, a] if len(values) else 0.0, 0.0)
            found.append((position.factor, level, effect, at, value))
    return found


def _from_store(probe: ProbingVectors, store: Matrix, entries: list[Entry]) -> Vector:
    ZtZ = probe.symbolic.block_matrix
    total = np.zeros(len(entries[0][1]))
    for f, level, _, at, value in entries:
        for g, other, b, _, weight in entries:
            position = probe.first_vector[g] + probe.index_in_component[g][other] * ZtZ.width(g) + b
            meet = probe.component[f][level] == probe.component[g][other]
            total += np.where(meet, store[at, position] * value * weight, 0.0)
    return total


def _row_by_row(size: int, solve: Callable[[Matrix], Matrix], entries: list[Entry]) -> Vector:
    keys = np.column_stack([c for _, _, _, at, value in entries for c in (at, value)])
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    columns, weights = distinct[:, ::2].astype(np.intp), distinct[:, 1::2]
    total = np.empty(len(distinct))
    step = max(1, _PORTION // size)
    for first in range(0, len(distinct), step):
        at, value = columns[first : first + step], weights[first : first + step]
        z = np.zeros((size, len(at)))
        np.add.at(z, (at.T, np.arange(len(at))), value.T)
        total[first : first + step] = np.einsum("qn,qn->n", z, solve(z))
    return np.asarray(total[inverse.ravel()])


def leverage(fit: FittedModel) -> Vector:
    """
    Derivative of each row's fitted value by its response.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Stat. Med. 24:893, section 4.
    """
    variance = prediction_variance(fit, design_rows(fit.design)) / fit.solution.sigma**2
    return variance if fit.design.weights is None else variance * fit.design.weights
