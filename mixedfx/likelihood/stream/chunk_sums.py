"""Sums of a chunk's rows by level, of which each is made once.

A column of X that is one of a random term's own, ``M = Z~ T^-1`` in the term's basis, has the sums
``Z'WM = Z'WZ~ T^-1``: these follow from those of the basis, which lose nothing to a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._cached import cached_property
from mixedfx.design.rows import RandomTermRows
from mixedfx.likelihood.basis import ColumnBasis, rows_in_basis
from mixedfx.likelihood.level_sums import (
    is_constant,
    multiply,
    term_columns,
    wide_level_sums,
)
from mixedfx.linalg.cholesky.batched import WIDE

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

LevelSums = tuple[Matrix, Matrix]


class LevelRows:
    """Rows of the random terms of one grouping factor, as they are and in their bases."""

    def __init__(self, terms: Sequence[RandomTermRows], bases: Sequence[ColumnBasis]) -> None:
        self.own, self.bases = tuple(terms), tuple(bases)
        self.terms = list(rows_in_basis(terms, bases))
        self.columns = term_columns(self.terms)  # None stands for a column of ones
        self.codes, self.n_levels = terms[0].codes, terms[0].n_levels
        self.counts = np.bincount(self.codes, minlength=self.n_levels).astype(float)

    def sums(
        self, columns: list[Vector], w: Vector | None, spare: LevelSums | None = None
    ) -> LevelSums:
        """``Z'WZ`` (K, K, L) and ``Z'W[X, y]`` (K, m, L); in arrays of others, if there are."""
        z, K, L = self.columns, len(self.columns), self.n_levels
        if K >= WIDE:
            return wide_level_sums(self.terms, w, columns, self.codes, L)
        if spare is None:
            spare = np.empty((K, K, L)), np.empty((K, len(columns), L))
        ZtZ, ZtXy = spare
        weighted = [multiply(column, w) for column in z]
        by_level = [self._transposed(column) for column in weighted]
        for a in range(K):
            for b in range(a + 1):
                if weighted[a] is None and z[b] is None:
                    ZtZ[a, b] = self.counts
                else:
                    ZtZ[a, b] = by_level[a] @ (self._ones if z[b] is None else z[b])
                ZtZ[b, a] = ZtZ[a, b]
        for c, column in enumerate(columns):
            of_basis = self._in_basis(column)
            for a in range(K):
                if of_basis is not None:
                    np.dot(of_basis, ZtZ[a], out=ZtXy[a, c])
                else:
                    ZtXy[a, c] = by_level[a] @ column
        return ZtZ, ZtXy

    @cached_property
    def _ones(self) -> Vector:
        return np.ones(len(self.codes))

    @cached_property
    def _positions(self) -> tuple[Ints, Ints]:
        """Level of each row, and begin of each row's values."""
        n = len(self.codes)
        dtype = np.int32 if max(n, self.n_levels) < 2**31 else np.int64
        return self.codes.astype(dtype), np.arange(n + 1, dtype=dtype)

    def _transposed(self, column: Vector | None) -> Any:
        """Sparse Z' of a column, (L, n): its products with others run without the interpreter."""
        values = self._ones if column is None else column
        return sparse.csc_array((values, *self._positions), shape=(self.n_levels, len(values)))

    def _in_basis(self, column: Vector) -> Vector | None:
        """Coefficients (K,) of a column of a term in the bases of all; None of another column."""
        start = 0
        for term, basis in zip(self.own, self.bases, strict=True):
            k = term.model_matrix.shape[1]
            for j in range(k):
                if _is_equal(term.model_matrix[:, j], column):
                    coefficients = np.zeros(len(self.columns))
                    coefficients[start : start + k] = basis.inverse[:, j]
                    return coefficients
            start += k
        return None


def _is_equal(own: Vector, column: Vector) -> bool:
    """Whether two columns are the same; one of equal values may be a number in memory."""
    if not len(column) or own[0] != column[0]:
        return False
    if own.strides[0] == 0:
        return is_constant(column)
    return np.array_equal(own, column)
