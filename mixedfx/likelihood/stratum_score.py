"""Score of the variances of strata, from sums by stratum: no row is read.

With ``E = [X, y] R - Z B`` for combinations R (p + 1, m) and effects B (q, m), the sums of squares
of a column of E over the rows of a stratum follow from the stratum's cross-products. Two of these
give ``dd / dlog w_s = h_s - n_s + w_s e_s'e_s / sigma^2`` (Smyth 2002, J. Comput. Graph. Stat.
11:836): of the conditional residuals, and of ``X R^-1 - Z G Z'WX R^-1`` with ``R'R`` the precision
of beta, which with ``tr(G Z_s'WZ_s)`` is the leverage of the stratum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.stratified import StratifiedSums, StratumSums
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


class StratumResiduals(NamedTuple):
    """Sums over the rows of each stratum, at the rows' own weights."""

    squares: Vector  # (S,) of the squared conditional residuals
    leverage: Vector  # (S,) of the variances of the fitted values over sigma**2


def stratum_residuals(sums: StratifiedSums, solution: Solution, *, fixed: bool) -> StratumResiduals:
    """Residuals and leverages at a solution, those of the fixed effects too if ``fixed``."""
    p = solution.crossprod.p
    combinations = solution.coef_vector[:, None]
    if fixed and p:
        root = np.linalg.cholesky(solution.vcov_in_basis)
        combinations = np.column_stack([combinations, np.vstack([root, np.zeros(p)])])
    effects = [solution.schur.back_substitute(c)[0] for c in combinations.T]
    by_factor = [np.stack(own, axis=1) for own in zip(*effects, strict=True)]  # (K, m, L) each
    squares = _sums_of_squares(sums, combinations, by_factor)
    return StratumResiduals(
        squares[:, 0], squares[:, 1:].sum(axis=1) + _conditional_variances(sums, solution)
    )


def _sums_of_squares(sums: StratifiedSums, R: Matrix, effects: list[Array]) -> Matrix:
    """Of each column of ``[X, y] R - Z B`` over the rows of each stratum, (S, m)."""
    products = np.einsum("ac,abs,bc->sc", R, sums.XytXy_by_stratum, R, optimize=True)
    total = np.asarray(products)
    for f, B in enumerate(effects):
        ZtXy, ZtZ = sums.right[f], sums.diagonal[f]
        at_cells = B.take(ZtZ.level, axis=2)
        along = np.einsum("kas,ac->kcs", ZtXy.values, R)
        total -= 2.0 * _by_stratum(np.einsum("kcs,kcs->cs", at_cells, along), ZtXy, total)
        products = np.einsum("kjs,jcs->kcs", ZtZ.values, at_cells)
        total += _by_stratum(np.einsum("kcs,kcs->cs", at_cells, products), ZtZ, total)
    for (f, g), cells in sums.off_diagonal.items():
        pairs = sums.pairs[f, g]
        first = effects[f].take(pairs.rows[cells.level], axis=2)
        second = effects[g].take(pairs.cols[cells.level], axis=2)
        products = np.einsum("kcs,kjs,jcs->cs", first, cells.values, second, optimize=True)
        total += 2.0 * _by_stratum(products, cells, total)
    return total


def _by_stratum(values: Matrix, cells: StratumSums, like: Matrix) -> Matrix:
    """Sums (S, m) over the cells of each stratum of values (m, cells)."""
    return np.array([np.bincount(cells.stratum, v, len(like)) for v in values]).T


def _conditional_variances(sums: StratifiedSums, solution: Solution) -> Vector:
    """``tr(G Z_s'WZ_s)`` of each stratum, (S,)."""
    total = np.zeros(len(sums.counts))
    if not sums.diagonal:
        return total
    G = log_det_derivatives(solution.schur.numeric)
    for cells, blocks in zip(sums.diagonal, G.diagonal, strict=True):
        values = np.einsum("abs,abs->s", cells.values, blocks.take(cells.level, axis=2))
        total += np.bincount(cells.stratum, values, len(total))
    for pair, cells in sums.off_diagonal.items():
        blocks = G.off_diagonal[pair].take(cells.level, axis=2)
        values = np.einsum("abs,abs->s", cells.values, blocks)
        total += 2.0 * np.bincount(cells.stratum, values, len(total))
    return total
