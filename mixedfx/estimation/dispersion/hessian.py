"""Traces and quadratic forms in the Hessian of the deviance by the levels' log residual sds.

With ``T = [Z X]``, ``A_g = T_g'W T_g`` of the rows of level ``g``, ``k_g = T_g'W e_g`` of their
conditional residuals, and ``C`` the covariance of the effects (under REML of effects and
coefficients) over ``sigma**2``, the Hessian (:mod:`mixedfx.estimation.dispersion.laplace`) needs
``tr(C A_g)``, ``tr(C A_g C A_h)`` and ``k_g'C k_h``. Factors ``F_g F_g' = A_g`` have few columns,
so with ``G = F'C F`` these are traces and sums of squares of the blocks of ``G``.

If every random effect belongs to a single level, ``C`` connects levels only through the
coefficients: the right-hand sides of different levels share columns, and their products are of
order p.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Singular values below this share of the largest are rounding.
_RANK = 1e-10
# Multiplications of a dense matrix of right-hand sides with itself, which take some milliseconds.
_DENSE_TRACES = 5_000_000


@dataclass(frozen=True)
class LevelTraces:
    """Traces and quadratic forms by level of the dispersion model's random term."""

    leverages: Vector  # (levels,) tr(C A_g), the sum of the leverages of a level's rows
    trace_products: Matrix  # (levels, levels) tr(C A_g C A_h)
    residual_forms: Matrix  # (levels, levels) k_g'C k_h
    projected_residuals: Matrix  # (p, levels) X'W e_g - X'W Z C_b Z'W e_g, C_b of the effects alone

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(
            self.leverages, self.trace_products, self.residual_forms, self.projected_residuals
        )


@dataclass(frozen=True)
class LevelFactors:
    """Factors ``F_g`` of the levels' cross-products, side by side."""

    F: sparse.csc_array | Matrix  # (q + p, R)
    level: Codes  # (R,) of each column, in order
    position: Codes  # (R,) of each column within its level

    @property
    def is_dense(self) -> bool:
        """Whether they are one dense matrix, as of small models."""
        return isinstance(self.F, np.ndarray)

    def multiply_levels(self, by_level: Vector) -> LevelFactors:
        """Multiply each level's factor by a number."""
        scale = by_level[self.level]
        if isinstance(self.F, np.ndarray):
            return LevelFactors(self.F * scale, self.level, self.position)
        F = sparse.csc_array(self.F @ sparse.diags_array(scale))
        return LevelFactors(F, self.level, self.position)

    def in_smaller_form(self, n_levels: int) -> LevelFactors:
        """A dense matrix where the dense traces cost less than calls of sparse matrices."""
        size, R = self.F.shape
        if size * (R + n_levels) ** 2 > _DENSE_TRACES:
            return self
        return LevelFactors(_dense(self.F), self.level, self.position)


def _dense(matrix: sparse.csc_array | Matrix) -> Matrix:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def level_factors(T: sparse.csr_array, codes: Codes, n_levels: int) -> LevelFactors:
    """Factor each level's ``T_g'T_g`` by the singular value decomposition of its rows."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_levels))
    factors: list[sparse.csc_array] = []
    level: list[Codes] = []
    for g, rows in enumerate(np.split(order, ends[:-1])):
        T_g = T[rows]
        columns = np.unique(T_g.indices)
        _, values, right = np.linalg.svd(T_g[:, columns].toarray(), full_matrices=False)
        kept = values > _RANK * values[0]
        F_g = right[kept].T * values[kept]
        rank = F_g.shape[1]
        row, col = np.repeat(columns, rank), np.tile(np.arange(rank), len(columns))
        factors.append(sparse.csc_array((F_g.ravel(), (row, col)), shape=(T.shape[1], rank)))
        level.append(np.full(rank, g))
    position = np.concatenate([np.arange(len(part)) for part in level])
    F = sparse.csc_array(sparse.hstack(factors))
    return LevelFactors(F, np.concatenate(level), position)


def levels_of_effects(
    rows: ModelRows, crossprod: CrossProducts, random_term: RandomTermRows
) -> Codes | None:
    """Level that each random effect (q,) of the mean belongs to; None if one belongs to several."""
    symbolic, out = crossprod.symbolic, np.zeros(crossprod.symbolic.size, dtype=np.intp)
    for position, mean_term in zip(crossprod.term_positions, rows.random_terms, strict=True):
        L = symbolic.layout.levels(position.group)
        level = np.zeros(L, dtype=np.intp)
        level[mean_term.codes] = random_term.codes
        if (level[mean_term.codes] != random_term.codes).any():
            return None
        first = symbolic.starts[position.group] + position.start * L
        out[first : first + position.width * L] = np.tile(level, position.width)
    return out


@dataclass(frozen=True)
class RightHandSides:
    """Columns that ``C`` is applied to, with the factorisation at the same weights."""

    crossprod: CrossProducts
    solution: Solution
    factors: LevelFactors = field(repr=False)
    residual_products: sparse.csc_array | Matrix = field(repr=False)  # (q + p, levels) k_g
    reml: bool

    @property
    def integrates_coefficients(self) -> bool:
        """Whether ``C`` has a part of the coefficients."""
        return self.reml and self.crossprod.p > 0


def level_traces(sides: RightHandSides, effect_levels: Codes | None) -> LevelTraces:
    """
    Compute the traces and forms.

    By the nested method where every effect has one level, unless the dense matrix is small.
    """
    F, k = sides.factors.F, sides.residual_products
    if effect_levels is None or isinstance(F, np.ndarray) or isinstance(k, np.ndarray):
        return _dense_traces(sides, _dense(F), _dense(k))
    return _nested_traces(sides, F, k, effect_levels)


def _dense_traces(sides: RightHandSides, F: Matrix, k: Matrix) -> LevelTraces:
    """Traces and forms from the dense ``G = [F k]'C [F k]``."""
    q, L = sides.crossprod.symbolic.size, k.shape[1]
    level = sides.factors.level
    right = np.concatenate([F, k], axis=1)
    CZ = sides.solution.schur.numeric.solve(right[:q])
    G, projected = right[:q].T @ CZ, right[q:] - sides.crossprod.ZtX.T @ CZ
    if sides.integrates_coefficients:
        G += projected.T @ sides.solution.vcov_in_basis @ projected
    R = len(level)
    trace_products = np.zeros((L, L))
    present, starts = np.unique(level, return_index=True)
    squares = np.add.reduceat(G[:R, :R] ** 2, starts, axis=0)
    trace_products[np.ix_(present, present)] = np.add.reduceat(squares, starts, axis=1)
    leverages: Vector = np.bincount(level, np.diag(G)[:R], L).astype(float)
    return LevelTraces(leverages, trace_products, G[R:, R:], projected[:, R:])


def _nested_traces(
    sides: RightHandSides, of_levels: sparse.csc_array, k: sparse.csc_array, effect_levels: Codes
) -> LevelTraces:
    """Traces and forms from the diagonal blocks of ``G`` and its rank-p part."""
    q, L = sides.crossprod.symbolic.size, k.shape[1]
    p, factors = sides.crossprod.p, sides.factors
    r = int(factors.position.max()) + 1  # largest rank of a level
    # Column a holds column a of every level's factor, column r every level's k: supports differ.
    F = sparse.coo_array(of_levels[:q])
    right = np.zeros((q, r + 1))
    right[F.row, factors.position[F.col]] = F.data
    right[:, r] = np.asarray(k[:q].sum(axis=1))
    CZ = sides.solution.schur.numeric.solve(right)
    by_level = sparse.csr_array((np.ones(q), (effect_levels, np.arange(q))), shape=(L, q))
    G = np.empty((r, r, L))
    for a in range(r):
        G[a] = np.asarray(by_level @ (right[:, a, None] * CZ[:, :r])).T
    residual_forms = np.asarray(by_level @ (right[:, r] * CZ[:, r]))
    projected = np.zeros((r + 1, p, L))
    projected[factors.position, :, factors.level] = of_levels[q:].toarray().T
    projected[r] = k[q:].toarray()
    ZtX = sides.crossprod.ZtX
    for a in range(r + 1):
        projected[a] -= np.asarray(by_level @ (ZtX * CZ[:, a, None])).T
    projected_residuals = projected[r]
    if not sides.integrates_coefficients:
        trace_products = np.diag((G**2).sum(axis=(0, 1)))
        leverages = np.einsum("aal->l", G)
        return LevelTraces(leverages, trace_products, np.diag(residual_forms), projected_residuals)
    half = np.linalg.cholesky(sides.solution.vcov_in_basis)
    scaled = np.einsum("ij,ail->ajl", half, projected)
    within = G + np.einsum("ail,bil->abl", scaled[:r], scaled[:r])
    between = np.einsum("ail,ajl->ijl", scaled[:r], scaled[:r]).reshape(p * p, L)
    trace_products = between.T @ between
    trace_products[np.diag_indices(L)] = (within**2).sum(axis=(0, 1))
    forms = scaled[r].T @ scaled[r]
    forms[np.diag_indices(L)] += residual_forms
    leverages = np.einsum("aal->l", within)
    return LevelTraces(leverages, trace_products, forms, projected_residuals)
