"""Variance of predicted means, from the joint covariance of fixed and random effects.

The error of ``x'beta + z'b`` as an estimate of a row's mean has the variance, over ``sigma**2``,

    z'Gz + (x - B'Gz)' Q (x - B'Gz),

with ``G = Lambda M^-1 Lambda'``, ``B = Z'WX`` and ``Q = cov(beta) / sigma**2``: the quadratic form
of ``[x, z]`` in the inverse of Henderson's mixed model equations (Henderson 1975, Biometrics
31:423, section 4). At the rows of the fit, times the weight, it is their leverage. Of G only the
entries of pairs of levels that can occur in one row are computed, or ``G z`` row by row where
these are too many.

``-GB`` is the derivative of the modes by beta. Where more parameters are uncertain, with modes
that depend on them, J holds the derivatives by all of them, Q is their joint covariance, and the
second part is ``d'Qd`` with ``d = [x, 0] + J'z`` (Kass and Steffey 1989, J. Am. Stat. Assoc.
84:717, equation 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.design.known_levels import LevelCombinations
from mixedfx.design.rows import ModelRows
from mixedfx.likelihood import pattern_variance
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.size import check_columns
from mixedfx.linalg import precision
from mixedfx.linalg.cholesky import selected_inverse
from mixedfx.linalg.cholesky.batched import WIDE
from mixedfx.linalg.precision import PrecisionBasis
from mixedfx.linalg.precision import quadratic_forms as forms
from mixedfx.linalg.solver import Factor

if TYPE_CHECKING:
    from mixedfx.likelihood.pattern_variance import EffectColumn
    from mixedfx.linalg.cholesky.selected_inverse import ProbingVectors


Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Largest number of entries of G that are stored; with more, G z is computed for chunks of rows.
_MAX_STORED = 60_000_000
# Right-hand sides that cost no more than a reverse pass through the factorisation.
_FEW_VECTORS = 30
# Numbers in a chunk of right-hand sides.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class PredictionRows:
    """Rows of the model matrices at which the mean is predicted."""

    X: Matrix = field(repr=False)  # (n, p)
    model_matrices: Sequence[Matrix] = field(repr=False)  # (n, k) of each random term
    codes: Sequence[Codes] = field(repr=False)  # (n,) levels of each term; negative: no effect
    # Of each term, where codes are not levels of independent effects
    combinations: Sequence[LevelCombinations | None] = field(default=(), repr=False)
    # Of each term, variances over sigma**2 that effects at new positions have beside
    left: Sequence[Vector] = field(default=(), repr=False)

    @property
    def left_of_known(self) -> Vector:
        """Sum of these over the terms of whose levels there are conditional modes, (n,)."""
        total = np.zeros(len(self.X))
        for codes, left in zip(self.codes, self.left, strict=False):
            total += np.where(codes >= 0, left, 0.0)
        return total

    def combination(self, t: int) -> LevelCombinations | None:
        """Effects that the codes of a term stand for; None: those of levels."""
        return self.combinations[t] if self.combinations else None

    def unknown_share(self, t: int) -> Vector:
        """Relative variance in each row of the effects that no conditional mode is of, (n,)."""
        codes, combination = self.codes[t], self.combination(t)
        if combination is None:
            return np.where(codes < 0, 1.0, 0.0)
        if not len(combination.unknown):
            return np.ones(len(codes))
        return np.where(codes < 0, 1.0, combination.unknown[codes])


def prediction_rows(rows: ModelRows) -> PredictionRows:
    """Rows that the model was fitted to."""
    terms = rows.random_terms
    combinations = [
        None if t.memberships is None else LevelCombinations.of_levels(t.memberships) for t in terms
    ]
    matrices, codes = [t.model_matrix for t in terms], [t.codes for t in terms]
    return PredictionRows(rows.X, matrices, codes, combinations)


def conditional_residuals(rows: ModelRows, solution: Solution) -> Vector:
    """``y - offset - X beta - Z b``, (n,)."""
    residuals = rows.response_less_offset - rows.X @ solution.beta
    for term, b in zip(rows.random_terms, solution.conditional_modes(), strict=True):
        term.add_to_linear_predictor(residuals, -b)
    return residuals


@dataclass(frozen=True)
class ParameterUncertainty:
    """Parameters that are uncertain, and what the conditional modes change by with them."""

    cov: Matrix = field(repr=False)  # (m, m) of the parameters, over sigma**2
    modes_jacobian: Matrix = field(repr=False)  # (q, m) of the modes, in the order of elimination
    beta: slice  # the coefficients in the basis of X, among the parameters
    # Derivatives of each term's covariance in its basis by its own parameters, the first of all
    covariance_jacobians: tuple[Matrix, ...] = field(default=(), repr=False)  # (m_t, k, k)

    @staticmethod
    def of_coefficients(solution: Solution) -> ParameterUncertainty:
        """The coefficients alone: ``db/dbeta = -GB``."""
        crossprod = solution.crossprod
        if crossprod.term_positions:
            GB = solution.schur.numeric.solve(crossprod.ZtX)
        else:
            GB = np.zeros((0, crossprod.p))
        return ParameterUncertainty(solution.vcov_in_basis, -GB, slice(0, crossprod.p))


@dataclass(frozen=True)
class PredictionErrors:
    """Errors of linear predictors: of the effects given the parameters, and by the parameters."""

    conditional: Vector = field(repr=False)  # (n,) ``z'Gz``
    gradient: Matrix = field(repr=False)  # (n, m) of the predictor by the parameters
    cov: Matrix = field(repr=False)  # (m, m) of the parameters

    @property
    def variance(self) -> Vector:
        """``z'Gz + d'Qd``, (n,), NaN of rows with NaN."""
        d = self.gradient
        variance = self.conditional + np.einsum("np,pq,nq->n", d, self.cov, d)
        return np.asarray(np.maximum(variance, 0.0))

    def times(self, factor: float) -> PredictionErrors:
        """Errors with variances multiplied by a factor."""
        return PredictionErrors(factor * self.conditional, self.gradient, factor * self.cov)


def prediction_errors(
    solution: Solution, rows: PredictionRows, uncertainty: ParameterUncertainty | None = None
) -> PredictionErrors:
    """Errors of each row's predicted mean over sigma, random effects included."""
    crossprod = solution.crossprod
    if uncertainty is None:
        uncertainty = ParameterUncertainty.of_coefficients(solution)
    conditional = np.zeros(len(rows.X))
    gradient = np.zeros((len(rows.X), len(uncertainty.cov)))
    numeric = solution.schur.numeric if crossprod.term_positions else None
    if isinstance(numeric, precision.PrecisionFactor):
        Z = node_rows(crossprod, rows)
        conditional = forms.quadratic_forms(numeric, Z)
        gradient += Z @ numeric.assembled.times_root_inverse(uncertainty.modes_jacobian)
    elif _has_many_entries(crossprod):
        Z = sparse_rows(crossprod, rows)
        conditional = of_sparse_rows(Z, solution.schur.numeric.solve)
        gradient += Z @ uncertainty.modes_jacobian
    elif crossprod.term_positions:
        z_columns = effect_columns(crossprod, rows)
        conditional = _conditional_variance(crossprod, solution, z_columns)
        for z in z_columns:
            gradient += z.value[:, None] * uncertainty.modes_jacobian[z.column]
    if crossprod.p:
        gradient[:, uncertainty.beta] += combinations_in_basis(rows.X, crossprod.qr_R)
    return PredictionErrors(conditional, gradient, uncertainty.cov)


def _has_many_entries(crossprod: CrossProducts) -> bool:
    """Whether a row's pairs of effects are too many for loops over them, or levels have a basis."""
    wide = max((position.width for position in crossprod.term_positions), default=0) >= WIDE
    return wide or any(B is not None for B in crossprod.level_bases)


def effect_variance_gradient(
    crossprod: CrossProducts, rows: PredictionRows, uncertainty: ParameterUncertainty
) -> Matrix:
    """Derivative of the variance ``z'Sigma z`` of the effects that rows do not include, (n, m)."""
    gradient = np.zeros((len(rows.X), len(uncertainty.cov)))
    first = 0
    terms = zip(
        uncertainty.covariance_jacobians,
        crossprod.bases,
        rows.model_matrices,
        rows.codes,
        strict=False,
    )
    for jacobian, basis, Z, codes in terms:
        z = np.where((codes < 0)[:, None], basis.columns(Z), 0.0)
        last = first + len(jacobian)
        gradient[:, first:last] = np.einsum("na,mab,nb->nm", z, jacobian, z, optimize=True)
        first = last
    return gradient


def prediction_variance(solution: Solution, rows: PredictionRows) -> Vector:
    """Variance of the error of each row's predicted mean, random effects included."""
    return solution.sigma**2 * unscaled_prediction_variance(solution, rows)


def unscaled_prediction_variance(
    solution: Solution, rows: PredictionRows, *, fixed: bool = True
) -> Vector:
    """Prediction variance over ``sigma**2``; ``z'Gz`` alone if not ``fixed``."""
    if fixed:
        return prediction_errors(solution, rows).variance
    crossprod = solution.crossprod
    if not crossprod.term_positions:
        return np.zeros(len(rows.X))
    if isinstance(solution.schur.numeric, precision.PrecisionFactor):
        return forms.quadratic_forms(solution.schur.numeric, node_rows(crossprod, rows))
    if _has_many_entries(crossprod):
        return of_sparse_rows(sparse_rows(crossprod, rows), solution.schur.numeric.solve)
    return _conditional_variance(crossprod, solution, effect_columns(crossprod, rows))


def _conditional_variance(
    crossprod: CrossProducts, solution: Solution, z_columns: list[EffectColumn]
) -> Vector:
    """``z'Gz`` of each row, (n,)."""
    symbolic, numeric = crossprod.symbolic, solution.schur.numeric
    probing = selected_inverse.probing_vectors(symbolic)
    if probing.n_vectors > _FEW_VECTORS:
        found = pattern_variance.variance_at_pattern(numeric, z_columns)
        if found is not None:
            return found
    if probing.n_entries <= _MAX_STORED and probing.n_vectors <= numeric.most_columns:
        return _by_selected_inverse(probing, probing.apply(numeric.solve), z_columns)
    return _by_solving(symbolic.size, numeric, z_columns)


def effect_columns(crossprod: CrossProducts, rows: PredictionRows) -> list[EffectColumn]:
    """Entries of Z that can be non-zero, one for each effect of each term."""
    symbolic, columns = crossprod.symbolic, []
    terms = zip(
        crossprod.term_positions, crossprod.bases, rows.model_matrices, rows.codes, strict=True
    )
    for position, basis, model_matrix, codes in terms:
        Z = basis.columns(model_matrix) if len(model_matrix) else model_matrix
        level, has_effect = np.maximum(codes, 0), codes >= 0
        L = symbolic.layout.levels(position.group)
        for a in range(position.width):
            effect = position.start + a
            column = symbolic.starts[position.group] + effect * L + level
            value = np.where(has_effect, Z[:, a] if len(Z) else 0.0, 0.0)
            columns.append(
                pattern_variance.EffectColumn(position.group, effect, level, column, value)
            )
    return columns


def node_rows(crossprod: CrossProducts, rows: PredictionRows) -> sparse.csr_array:
    """Z of rows in the bases of the terms' columns, (n, q), for the effects of nodes."""
    return _sparse_rows(crossprod, rows, lambda S, B: B.rows_of_nodes(S))


def sparse_rows(crossprod: CrossProducts, rows: PredictionRows) -> sparse.csr_array:
    """Z of rows in its bases, (n, q), where effects of levels are in a basis of their own."""
    return _sparse_rows(crossprod, rows, lambda S, B: B.rows(S))


def _sparse_rows(
    crossprod: CrossProducts,
    rows: PredictionRows,
    of_precision: Callable[[sparse.csr_array, PrecisionBasis], sparse.csr_array],
) -> sparse.csr_array:
    """Z of rows; those of effects with sparse precisions by a function of the levels'."""
    symbolic, n = crossprod.symbolic, len(rows.X)
    Z = sparse.csr_array((n, symbolic.size))
    terms = zip(
        crossprod.term_positions, crossprod.bases, rows.model_matrices, rows.codes, strict=True
    )
    for t, (position, basis, model_matrix, codes) in enumerate(terms):
        columns, combination = basis.columns(model_matrix), rows.combination(t)
        L, B = symbolic.layout.levels(position.group), crossprod.level_basis(position.group)
        at = np.flatnonzero(codes >= 0)
        level, n_levels = codes[at], L if B is None else len(B)
        S = sparse.csr_array(
            (np.ones(len(at)), (at, level)), shape=(n, max(n_levels, 1 + level.max(initial=0)))
        )
        if combination is not None:
            S = S[:, : combination.weights.n_rows] @ combination.weights.csr
        if B is not None:
            S = of_precision(S, B) if isinstance(B, PrecisionBasis) else sparse.csr_array(S @ B)
        for a in range(position.width):
            own = sparse.csr_array(sparse.diags_array(np.nan_to_num(columns[:, a])) @ S)
            first = symbolic.starts[position.group] + (position.start + a) * L
            Z = Z + sparse.csr_array(
                (own.data, own.indices + first, own.indptr), shape=(n, symbolic.size)
            )
    return Z


def of_sparse_rows(Z: sparse.csr_array, solve: Callable[[Matrix], Matrix]) -> Vector:
    """``z'G z`` of each row, in chunks of right-hand sides."""
    n, size = Z.shape
    zGz = np.empty(n)
    step = max(1, _CHUNK // max(size, 1))
    for first in range(0, n, step):
        z = Z[first : first + step].toarray().T
        zGz[first : first + step] = np.einsum("qn,qn->n", z, solve(z))
    return zGz


def _by_selected_inverse(
    probing: ProbingVectors, stored: Matrix, z_columns: list[EffectColumn]
) -> Vector:
    """``z'Gz`` of each row from stored entries of G, zero between unconnected levels."""
    layout = probing.symbolic.layout
    zGz = np.zeros(len(z_columns[0].level))
    for y in z_columns:
        for z in z_columns:
            f, g = y.factor, z.factor
            index = probing.index_in_component[g][z.level]
            vector = probing.first_vector[g] + index * layout.width(g) + z.effect
            connected = probing.component[f][y.level] == probing.component[g][z.level]
            zGz += np.where(connected, stored[y.column, vector] * y.value * z.value, 0.0)
    return zGz


def _by_solving(size: int, numeric: Factor, z_columns: list[EffectColumn]) -> Vector:
    """``z'(G z)`` of each distinct row, in chunks of right-hand sides."""
    keys = np.column_stack([part for z in z_columns for part in (z.column, z.value)])
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    columns, values = distinct[:, ::2].astype(np.intp), distinct[:, 1::2]
    check_columns(
        numeric,
        len(distinct),
        "the variance of predictions with random effects",
        "predict fewer rows, or without standard errors",
    )
    zGz = np.empty(len(distinct))
    step = max(1, _CHUNK // size)
    for first in range(0, len(distinct), step):
        chunk = slice(first, first + step)
        z = np.zeros((size, len(columns[chunk])))
        np.add.at(z, (columns[chunk].T, np.arange(z.shape[1])), values[chunk].T)
        zGz[chunk] = np.einsum("qn,qn->n", z, numeric.solve(z))
    return np.asarray(zGz[inverse.ravel()])


def leverage(rows: ModelRows, solution: Solution) -> Vector:
    """
    Derivative of each row's fitted value by its response: diagonal of the hat matrix.

    Demidenko and Stukel (2005), Stat. Med. 24:893, section 4.
    """
    variance = prediction_variance(solution, prediction_rows(rows)) / solution.sigma**2
    return variance if rows.weights is None else variance * rows.weights
