"""Small models by dense matrices: the matrix of cross-products, and many deviances at once.

With the columns of Z multiplied by the terms' factors, ``A = Lambda' Z'WZ Lambda``, the Cholesky
factor of

    [ A + I         Lambda'Z'W[X, y] ]
    [ [X, y]'WZ Lambda  [X, y]'W[X, y] ]

has ``log|M|``, ``log|R'R|`` and the penalised residual sum of squares on its diagonal (Bates et al.
2015, equation 18). For up to some hundred random effects one batched factorisation of many such
matrices costs less than a few evaluations level by level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense_terms import DenseTerms, dense_terms

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Elements of the matrices that are factorised at once.
_CHUNK_SIZE = 2_000_000
# Standard deviations below this are zero: the inverses of their squares are finite.
_TINY = 1e-150
# Random effects up to which one dense factor costs less than the elimination of grouping factors.
MAX_EFFECTS = 60
# Random effects up to which derivatives by dense matrices cost less than differences.
DENSE_EFFECTS = 150


class _LargestEffect(NamedTuple):
    """The effect that is eliminated first, and the cross-products of the other columns."""

    effect: int  # its position among the effects
    diagonal: Vector  # (levels,) of ``Z'WZ``
    products: Matrix  # (levels, r r) of the other columns' rows of its level
    others: Matrix  # (r, r)
    effects: Codes  # effect of each of the others that are of Z


@dataclass(frozen=True)
class DenseCrossProducts:
    """``[Z, X, y]'W[Z, X, y]`` as one matrix, the columns of Z in the terms' order."""

    crossprod: CrossProducts
    matrix: Matrix  # (q + p + 1, q + p + 1)
    columns: tuple[slice, ...]  # of each term, effect by effect: (k, levels)

    @cached_property
    def q(self) -> int:
        """Number of random effects."""
        return len(self.matrix) - self.crossprod.p - 1

    @staticmethod
    def of(crossprod: CrossProducts) -> DenseCrossProducts:
        """Expand the cross-products."""
        positions, layout, p = crossprod.term_positions, crossprod.ZtZ.layout, crossprod.p
        of_group: dict[int, list[int]] = {}
        for t, term in enumerate(positions):
            of_group.setdefault(term.group, []).append(t)
        levels = [layout.levels(term.group) for term in positions]
        sizes = [term.width * L for term, L in zip(positions, levels, strict=True)]
        starts, q = [sum(sizes[:t]) for t in range(len(sizes))], sum(sizes)
        matrix = np.zeros((q + p + 1, q + p + 1))
        matrix[q:, q:] = crossprod.XytXy

        # Rows of the effects of each term at its first level, (k, 1).
        first = [
            np.arange(a, a + size, L)[:, None]
            for a, size, L in zip(starts, sizes, levels, strict=True)
        ]
        for t, term in enumerate(positions):
            part = term.columns
            Xy = crossprod.ZtXy[term.group][part].transpose(0, 2, 1).reshape(-1, p + 1)
            matrix[starts[t] : starts[t] + sizes[t], q:] = Xy
            matrix[q:, starts[t] : starts[t] + sizes[t]] = Xy.T
            for u in of_group[term.group]:
                values = crossprod.ZtZ.diagonal[term.group][part, positions[u].columns]
                _set_diagonals(matrix, starts[t], starts[u], values)
        for (f, g), block in crossprod.ZtZ.blocks():
            for t, u in itertools.product(of_group[f], of_group[g]):
                row, col = (first[t] + block.rows)[:, None], first[u] + block.cols
                values = block.values[positions[t].columns, positions[u].columns]
                matrix[row, col] = matrix[col, row] = values
        for f, pairs in crossprod.ZtZ.pattern.within.items():
            for t, u in itertools.product(of_group[f], repeat=2):
                row, col = (first[t] + pairs.rows)[:, None], first[u] + pairs.cols
                values = crossprod.ZtZ.within[f][positions[t].columns, positions[u].columns]
                matrix[row, col] = matrix[col, row] = values
        columns = tuple(slice(a, a + size) for a, size in zip(starts, sizes, strict=True))
        return DenseCrossProducts(crossprod, matrix, columns)

    def times(self, bases: Sequence[Matrix]) -> DenseCrossProducts:
        """Cross-products with each term's columns ``Z_t`` multiplied by a (k, k) matrix."""
        if all(len(basis) == 1 for basis in bases):
            return self
        _, matrix = self.terms.congruent(bases, self.matrix)
        return DenseCrossProducts(self.crossprod, matrix, self.columns)

    @cached_property
    def terms(self) -> DenseTerms:
        """Sums over the levels of the terms."""
        return dense_terms(self.columns, [term.width for term in self.crossprod.term_positions])

    def deviances(self, sds: Matrix, *, reml: bool) -> Vector:
        """
        Deviances (B,) at Lambda = diag(s) for each row s, (B, sum of k), of ``sds``.

        Infinite where a matrix is singular or the residual sum of squares is rounding.
        """
        step = max(1, _CHUNK_SIZE // len(self.matrix) ** 2)
        parts = [self._deviances(sds[i : i + step], reml) for i in range(0, len(sds), step)]
        return np.concatenate([np.zeros(0), *parts])

    def _deviances(self, sds: Matrix, reml: bool) -> Vector:
        """
        The same of some rows.

        With ``A + diag(1 / s**2)`` in place of ``Lambda'A Lambda + I``, whose Cholesky factor is
        that one with its rows divided by s; zeros as the least number whose square is one.
        """
        crossprod, p = self.crossprod, self.crossprod.p
        sds = np.maximum(sds, _TINY)
        log_det, matrices, effects = self._eliminate_largest(sds)
        B, r, q = len(sds), matrices.shape[1], len(effects)
        matrices.reshape(B, -1)[:, : q * (r + 1) : r + 1] += (sds**-2.0)[:, effects]
        pivots = _pivots(matrices)
        with np.errstate(divide="ignore", invalid="ignore"):
            nu, logs = crossprod.nu(reml=reml), np.log(pivots[:, : q + p if reml else q])
            pwrss = pivots[:, -1] ** 2
            s2 = pwrss / nu if crossprod.sigma is None else crossprod.sigma**2
            deviance = log_det + 2.0 * logs.sum(axis=1) + (nu * np.log(2.0 * np.pi * s2))
            deviance += pwrss / s2 - crossprod.log_weights
        if reml:
            deviance += crossprod.log_det_qr
        valid = np.isfinite(deviance)
        if crossprod.profiles_sigma:
            valid &= pwrss > crossprod.zero_pwrss
        return np.where(valid, deviance, np.inf)

    def _eliminate_largest(self, sds: Matrix) -> tuple[Vector, Array, Codes]:
        """
        Eliminate the effect of most levels, of those whose block of ``Z'WZ`` is diagonal.

        Returns its ``log|M|`` (B,) with ``log s**2`` of all other columns of Z, the Schur
        complements (B, r, r) of the others, and the effects (r - p - 1,) of those of Z.
        """
        largest, counts = self._largest_effect, self._levels_of_effects
        if largest is None:
            schur = np.repeat(self.matrix[None], len(sds), axis=0)
            return np.log(sds) @ (2.0 * counts), schur, self._effect_of_column
        variances = sds[:, largest.effect, None] ** 2
        M = 1.0 + variances * largest.diagonal
        r, counts = len(largest.others), counts.copy()
        counts[largest.effect] = 0.0
        explained = ((variances / M) @ largest.products).reshape(-1, r, r)
        log_det = np.log(M).sum(axis=1) + np.log(sds) @ (2.0 * counts)
        return log_det, largest.others - explained, largest.effects

    @cached_property
    def _levels_of_effects(self) -> Vector:
        """Number of levels of each effect."""
        terms, levels = self.crossprod.term_positions, self.crossprod.ZtZ.layout.levels
        return np.array([float(levels(term.group)) for term in terms for _ in range(term.width)])

    @cached_property
    def _effect_of_column(self) -> Codes:
        """Effect that each column of Z is of, (q,)."""
        counts = self._levels_of_effects.astype(np.intp)
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def _largest_effect(self) -> _LargestEffect | None:
        """The effect of most levels with a diagonal block; None if none has one."""
        within, terms = self.crossprod.ZtZ.pattern.within, self.crossprod.term_positions
        levels = self.crossprod.ZtZ.layout.levels
        diagonal = [
            0 if term.group in within else levels(term.group)
            for term in terms
            for _ in range(term.width)
        ]
        if not any(diagonal):
            return None
        effect, largest = self._effect_of_column, diagonal.index(max(diagonal))
        start = int(np.argmax(effect == largest))
        part = slice(start, start + diagonal[largest])
        others = np.concatenate([np.arange(start), np.arange(part.stop, len(self.matrix))])
        rest = others[: self.q - diagonal[largest]]
        A = self.matrix[others, part]
        products = (A[:, None] * A[None, :]).reshape(len(A) ** 2, -1).T
        return _LargestEffect(
            largest,
            np.diagonal(self.matrix)[part],
            np.ascontiguousarray(products),
            self.matrix[others[:, None], others],
            effect[rest],
        )


def _set_diagonals(matrix: Matrix, row: int, col: int, values: Array) -> None:
    """Write (k, k', L) values as blocks of diagonal matrices from a row and a column on."""
    entries, (k, other, L), step = matrix.reshape(-1), values.shape, len(matrix) + 1
    for a, b in itertools.product(range(k), range(other)):
        first = (row + a * L) * len(matrix) + col + b * L
        entries[first : first + (L - 1) * step + 1 : step] = values[a, b]


def _pivots(matrices: Array) -> Matrix:
    """Diagonals (B, m) of the Cholesky factors; NaN for a matrix that is not positive definite."""
    try:
        return np.asarray(np.einsum("bii->bi", np.linalg.cholesky(matrices)))
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full(matrices.shape[:2], np.nan)
        half = len(matrices) // 2
        return np.concatenate([_pivots(matrices[:half]), _pivots(matrices[half:])])
