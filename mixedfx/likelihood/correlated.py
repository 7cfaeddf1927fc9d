"""Cross-products of rows with correlated residuals, linear in the precisions of their pairs.

With ``Q = R^-1``, block-diagonal over subjects, ``Z'QZ`` has the levels of pairs of rows of one
subject where ``Z'WZ`` has those of single rows: a factor whose levels cross subjects is not
block-diagonal. Without random effects the rows are read once, and summed by pattern and pair of
positions; with them, once an evaluation.

The derivative of the deviance by the entry ``q_ij`` of a pair is that of ``[X, y]'Q[X, y]`` and
``log|Q|``, with ``h_ij`` the covariance of the fitted values of two rows over ``sigma**2`` (of the
random effects under ML) and e the conditional residuals,

    dd / dQ_ij = h_ij - R_ij + e_i e_j / sigma^2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.design.build import Design
from mixedfx.likelihood.accumulate import centred_columns, compute_crossproducts
from mixedfx.likelihood.basis import ColumnBasis, rows_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_sums import blocks_by_group, term_columns
from mixedfx.likelihood.patterns import Patterns, sum_products
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.size import check_dense_block
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix, BlockPattern, LevelPairs
from mixedfx.linalg.cholesky.inverse_blocks import log_det_derivatives

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CorrelatedSums:
    """What the cross-products at any precisions are made from."""

    plain: CrossProducts  # with independent residuals
    patterns: Patterns
    products: Matrix | None = field(repr=False)  # (entries, c c), without random effects
    pairs: RowPairs | None = field(repr=False)  # with them

    @staticmethod
    def of(
        design: Design, patterns: Patterns, *, bases: tuple[ColumnBasis, ...] | None = None
    ) -> CorrelatedSums:
        """Read the rows of a design once, in given bases of the terms or in their own."""
        plain = compute_crossproducts(design, bases=bases)
        w = design.rows.weights
        root = 1.0 if w is None else np.sqrt(w)
        columns = [root * column for column in centred_columns(design.rows)[0]]
        if design.rows.random_terms:
            pairs = RowPairs.of(design, plain, patterns, np.column_stack(columns), root)
            return CorrelatedSums(plain, patterns, None, pairs)
        return CorrelatedSums(plain, patterns, sum_products(patterns, columns), None)

    def reweight(self, R: Array) -> CrossProducts:
        """Cross-products with the covariances R of all positions, (strata, k, k)."""
        q, log_det = self.patterns.precisions(R)
        log_weights = self.plain.log_weights - log_det
        if self.products is not None:
            c = self.plain.p + 1
            XytXy = (q @ self.products).reshape(c, c)
            return replace(self.plain, XytXy=XytXy, log_weights=log_weights)
        assert self.pairs is not None
        return replace(self.plain, log_weights=log_weights, **self.pairs.crossproducts(q))

    def score(self, R: Array, solution: Solution) -> Array:
        """Derivative of the deviance by R at given Lambda, sigma profiled out, (strata, k, k)."""
        r = solution.coef_vector
        by_Xy = np.outer(r, r) / solution.sigma**2
        p = self.plain.p
        if solution.reml:
            by_Xy[:p, :p] += solution.vcov_in_basis
        if self.products is not None:
            by_q = self.products @ by_Xy.ravel()
        else:
            assert self.pairs is not None
            by_q = self.pairs.by_precisions(solution, self.patterns.n_entries)
        return self.patterns.pulled_back(R, by_q, 1.0)

    def derivatives(
        self, R: Array, by_x: Array, curvature: Callable[[Array], Matrix], solution: Solution
    ) -> Derivatives:
        """
        First and second derivatives by the parameters of R, without random effects.

        ``curvature`` gives the second derivatives of ``tr(B R)`` at a matrix B.

        With ``M = [X, y]'Q[X, y]``, ``A = M_XX``, r the combination of the columns that leaves the
        residuals and ``r2 = r'M r``, the deviance is ``log|R| + nu log r2`` (REML ``+ log|A|``),

            r2_ij = r'M_ij r - 2 (M_i r)_X' A^-1 (M_j r)_X.
        """
        assert self.products is not None
        p, c, m = self.plain.p, self.plain.p + 1, len(by_x)
        r, Phi, r2 = solution.coef_vector, solution.vcov_in_basis, solution.pwrss
        nu = self.plain.nu(reml=solution.reml)
        weights = nu / r2 * np.outer(r, r)
        if solution.reml:
            weights[:p, :p] += Phi
        by_q = self.products @ weights.ravel()
        H, by_R = self.patterns.second(R, by_x, by_q)
        gradient = np.tensordot(by_x, by_R, axes=3)
        H += curvature(by_R)
        M = (self.patterns.along(R, by_x) @ self.products).reshape(m, c, c)
        Mr = M @ r
        by_r2, along = Mr @ r, Mr[:, :p]
        H -= 2.0 * nu / r2 * along @ Phi @ along.T + nu / r2**2 * np.outer(by_r2, by_r2)
        PhiA = Phi @ M[:, :p, :p]
        if solution.reml:
            H -= PhiA.reshape(m, p * p) @ PhiA.transpose(0, 2, 1).reshape(m, p * p).T
        vcov = (by_r2 / nu)[:, None, None] * Phi - r2 / nu * PhiA @ Phi
        vcov = 0.5 * (vcov + vcov.transpose(0, 2, 1))
        return Derivatives(gradient, 0.5 * (H + H.T), vcov, 0.5 * by_r2 / r2)


class Derivatives(NamedTuple):
    """Derivatives by the m parameters of the residuals' covariance, sigma profiled out."""

    gradient: Vector  # (m,) of the deviance
    hessian: Matrix  # (m, m)
    vcov: Array  # (m, p, p) of the covariance of the coefficients in the basis
    log_sigma: Vector  # (m,)


@dataclass(frozen=True)
class RowPairs:
    """Pairs of rows of one subject, and columns of the rows."""

    first: Codes = field(repr=False)  # (pairs,) both orders of every two rows, and each row itself
    second: Codes = field(repr=False)
    entry: Codes = field(repr=False)  # of ``q``
    Xy: Matrix = field(repr=False)  # (n, p + 1)
    columns: tuple[tuple[Vector, ...], ...] = field(repr=False)  # of each grouping factor
    codes: tuple[Codes, ...] = field(repr=False)
    pattern: BlockPattern = field(repr=False)
    level_pairs: Mapping[tuple[int, int], Codes] = field(repr=False)  # of each pair of rows
    same_level: tuple[Codes, ...] = field(repr=False)  # pairs of rows of one level, of each factor
    crossing: Mapping[int, tuple[Codes, Codes]] = field(repr=False)  # pairs of rows, and of levels

    @staticmethod
    def of(
        design: Design, plain: CrossProducts, patterns: Patterns, Xy: Matrix, root: Vector | float
    ) -> RowPairs:
        """Find the levels of all pairs of rows."""
        first, second, entry = patterns.pairs()
        by_group = blocks_by_group(rows_in_basis(design.rows.random_terms, plain.bases))
        n = len(Xy)
        columns, codes = [], []
        for terms in by_group:
            own = (np.ones(n) if c is None else c for c in term_columns(terms))
            columns.append(tuple(np.asarray(root * column) for column in own))
            codes.append(terms[0].codes)
        level_pairs, stored = {}, {}
        for i, j in itertools.combinations(range(len(codes)), 2):
            stored[i, j], level_pairs[i, j] = _level_pairs(
                codes[i][first], codes[j][second], by_group[j][0].n_levels
            )
        same_level, crossing, within = [], {}, {}
        for f, code in enumerate(codes):
            a, b = code[first], code[second]
            same_level.append(np.flatnonzero(a == b))
            later = np.flatnonzero(a > b)
            if len(later):
                width = by_group[f][0].n_levels
                within[f], of_pairs = _level_pairs(a[later], b[later], width)
                crossing[f] = later, of_pairs
        pattern = BlockPattern(plain.ZtZ.layout, stored, within)
        check_dense_block(pattern, plain.groups)
        return RowPairs(
            first,
            second,
            entry,
            Xy,
            tuple(columns),
            tuple(codes),
            pattern,
            level_pairs,
            tuple(same_level),
            crossing,
        )

    def crossproducts(self, q: Vector) -> dict[str, Any]:
        """``Z'QZ``, ``Z'Q[X, y]`` and ``[X, y]'Q[X, y]``."""
        values = q[self.entry]
        n, layout = len(self.Xy), self.pattern.layout
        Q = sparse.csr_array((values, (self.first, self.second)), shape=(n, n))
        QXy = Q @ self.Xy
        ZtXy, diagonal = [], []
        within: dict[int, Matrix] = {}
        for f, (columns, codes) in enumerate(zip(self.columns, self.codes, strict=True)):
            L = layout.levels(f)
            ZtXy.append(_sums(columns, np.asarray(QXy).T, codes, L))
            at = self.same_level[f]
            diagonal.append(self._block(values, f, f, at, codes[self.first[at]], L))
            if f in self.crossing:
                at, pair = self.crossing[f]
                within[f] = self._block(values, f, f, at, pair, len(self.pattern.within[f]))
        everything = slice(None)
        off_diagonal = {
            (f, g): self._block(values, f, g, everything, pair, len(self.pattern.pairs[f, g]))
            for (f, g), pair in self.level_pairs.items()
        }
        ZtZ = BlockMatrix(self.pattern, tuple(diagonal), off_diagonal, within)
        return {"ZtZ": ZtZ, "ZtXy": tuple(ZtXy), "XytXy": self.Xy.T @ QXy}

    def _block(self, values: Vector, f: int, g: int, at: Any, index: Codes, size: int) -> Matrix:
        """Sums of ``z_i q_ij z_j`` over pairs of rows, by an index, (K_f, K_g, size)."""
        i, j, w = self.first[at], self.second[at], values[at]
        return np.array(
            [
                [np.bincount(index, a[i] * w * b[j], size) for b in self.columns[g]]
                for a in self.columns[f]
            ]
        )

    def by_precisions(self, solution: Solution, n_entries: int) -> Vector:
        """``h_ij + e_i e_j / sigma**2`` summed over the pairs of rows of each entry of ``q``."""
        i, j = self.first, self.second
        residuals, fitted = self._rows_at(solution)
        total = residuals[i] * residuals[j] / solution.sigma**2
        if solution.reml:
            root = np.linalg.cholesky(solution.vcov_in_basis)
            E = fitted @ root
            total += np.einsum("np,np->n", E[i], E[j])
        total += self._covariances(solution)
        return np.bincount(self.entry, total, n_entries).astype(float)

    def _rows_at(self, solution: Solution) -> tuple[Vector, Matrix]:
        """Conditional residuals (n,), and ``X - Z G Z'QX`` (n, p)."""
        crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
        GB = solution.schur.numeric.solve(crossprod.ZtX)
        b, _ = solution.schur.back_substitute(solution.coef_vector)
        residuals = self.Xy @ solution.coef_vector
        fitted = self.Xy[:, :-1].copy()
        for f, (columns, codes) in enumerate(zip(self.columns, self.codes, strict=True)):
            L, start = symbolic.layout.levels(f), symbolic.starts[f]
            for a, z in enumerate(columns):
                residuals -= z * b[f][a, codes]
                fitted -= z[:, None] * GB[start + a * L + codes]
        return residuals, fitted

    def _covariances(self, solution: Solution) -> Vector:
        """``z_i'G z_j`` of each pair of rows, (pairs,)."""
        G = log_det_derivatives(solution.schur.numeric)
        i, j, total = self.first, self.second, np.zeros(len(self.first))
        for f, columns in enumerate(self.columns):
            at = self.same_level[f]
            level = self.codes[f][i[at]]
            for a, za in enumerate(columns):
                for b, zb in enumerate(columns):
                    total[at] += za[i[at]] * G.diagonal[f][a, b, level] * zb[j[at]]
            if f in self.crossing:
                later, pair = self.crossing[f]
                of_later = np.zeros(len(later))
                for a, za in enumerate(columns):
                    for b, zb in enumerate(columns):
                        of_later += za[i[later]] * G.within[f][a, b, pair] * zb[j[later]]
                total[later] += 2.0 * of_later  # the other order of the two rows has none
        for (f, g), pair in self.level_pairs.items():
            for a, za in enumerate(self.columns[f]):
                for b, zb in enumerate(self.columns[g]):
                    total += 2.0 * za[i] * G.off_diagonal[f, g][a, b, pair] * zb[j]
        return total


def _level_pairs(rows: Codes, cols: Codes, width: int) -> tuple[LevelPairs, Codes]:
    """Distinct pairs of levels, sorted, and the pair of each element."""
    keys, index = np.unique(rows * np.int64(width) + cols, return_inverse=True)
    first, second = np.divmod(keys, width)
    return LevelPairs(first, second), index.ravel()


def _sums(columns: tuple[Vector, ...], values: Matrix, codes: Codes, L: int) -> Matrix:
    """``Z'v`` for the rows of ``values``, (K, m, L)."""
    return np.array([[np.bincount(codes, z * v, L) for v in values] for z in columns])
