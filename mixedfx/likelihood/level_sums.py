"""Sums of products of columns by level of a grouping factor, without forming a dense Z."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx.design.rows import RandomTermRows
from mixedfx.linalg.cholesky.batched import WIDE
from mixedfx.linalg.cholesky.block_matrix import LevelPairs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


# Pairs of levels up to which sums are of all pairs, those without rows included.
_FEW_PAIRS = 4096


def blocks_by_group(random_terms: Sequence[RandomTermRows]) -> list[list[RandomTermRows]]:
    """Random terms of each grouping factor."""
    groups = dict.fromkeys(term.group for term in random_terms)
    return [[term for term in random_terms if term.group == g] for g in groups]


def column_products(columns: list[Vector], w: Vector | None) -> Matrix:
    """Weighted cross-products of columns over all rows, (m, m)."""
    m = len(columns)
    products = np.empty((m, m))
    for i in range(m):
        left = columns[i] if w is None else w * columns[i]
        for j in range(i + 1):
            products[i, j] = products[j, i] = np.vdot(left, columns[j])
    return products


def term_columns(random_terms: list[RandomTermRows]) -> list[Vector | None]:
    """Columns of all terms of a grouping factor; None stands for a column of ones."""
    columns: list[Vector | None] = []
    for term in random_terms:
        for j in range(term.model_matrix.shape[1]):
            column = term.model_matrix[:, j]
            constant = term.model_matrix.strides[0] == 0 or is_constant(column)
            columns.append(None if constant else np.ascontiguousarray(column))
    return columns


def is_constant(column: Vector) -> bool:
    """Whether all values are one; in no rows they are."""
    return len(column) == 0 or (column[0] == 1.0 and bool((column == 1.0).all()))


def multiply(a: Vector | None, b: Vector | None) -> Vector | None:
    """Product of two columns, None being a column of ones."""
    if a is None or b is None:
        return a if b is None else b
    return a * b


def level_sums(
    random_terms: list[RandomTermRows],
    w: Vector | None,
    Xy_columns: list[Vector],
    codes: npt.NDArray[np.intp],
    L: int,
) -> tuple[Matrix, Matrix]:
    """``Z'WZ`` (K, K, L) and ``Z'W[X, y]`` (K, m, L) of one grouping factor."""
    K = sum(term.model_matrix.shape[1] for term in random_terms)
    if K >= WIDE:
        return wide_level_sums(random_terms, w, Xy_columns, codes, L)
    z = term_columns(random_terms)
    weighted = [multiply(column, w) for column in z]
    ZtZ, ZtXy = np.empty((K, K, L)), np.empty((K, len(Xy_columns), L))
    for a, b in itertools.combinations_with_replacement(range(K), 2):
        ZtZ[a, b] = ZtZ[b, a] = np.bincount(codes, multiply(weighted[a], z[b]), L)
    for c, column in enumerate(Xy_columns):
        known = _index_among(z, column)
        if known is not None:
            ZtXy[:, c] = ZtZ[:, known]
            continue
        for a in range(K):
            ZtXy[a, c] = np.bincount(codes, multiply(weighted[a], column), L)
    return ZtZ, ZtXy


def wide_level_sums(
    random_terms: list[RandomTermRows],
    w: Vector | None,
    Xy_columns: list[Vector],
    codes: npt.NDArray[np.intp],
    L: int,
) -> tuple[Matrix, Matrix]:
    """The same of many columns: products of matrices, level by level."""
    Z, Xy = np.hstack([term.model_matrix for term in random_terms]), np.column_stack(Xy_columns)
    ZtZ, ZtXy = np.zeros((Z.shape[1], Z.shape[1], L)), np.zeros((Z.shape[1], Xy.shape[1], L))
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(L + 1))
    for level in range(L):
        rows = order[ends[level] : ends[level + 1]]
        weighted = Z[rows].T if w is None else Z[rows].T * w[rows]
        ZtZ[:, :, level], ZtXy[:, :, level] = weighted @ Z[rows], weighted @ Xy[rows]
    return ZtZ, ZtXy


def _index_among(columns: list[Vector | None], column: Vector) -> int | None:
    """Index of an equal column in a list, None if there is none."""
    ones = is_constant(column)
    for i, known in enumerate(columns):
        if known is None:
            if ones:
                return i
        elif known[0] == column[0] and bool((known == column).all()):
            return i
    return None


def off_diagonal_block(
    first: list[RandomTermRows], second: list[RandomTermRows], w: Vector | None
) -> tuple[LevelPairs, Matrix]:
    """Pairs of levels of two grouping factors that share rows, and ``Z_1'W Z_2`` over them."""
    rows, cols = first[0].codes, second[0].codes
    shape = (first[0].n_codes, second[0].n_codes)
    za, zb = term_columns(first), term_columns(second)
    if shape[0] * shape[1] <= _FEW_PAIRS:
        pair = rows * shape[1] + cols
        counts = np.bincount(pair, minlength=shape[0] * shape[1])
        present = np.flatnonzero(counts)
        sums = np.empty((len(za), len(zb), len(present)))
        for (i, a), (j, b) in itertools.product(enumerate(za), enumerate(zb)):
            product = multiply(multiply(a, b), w)
            sums[i, j] = (counts if product is None else np.bincount(pair, product))[present]
        of_rows, of_cols = np.divmod(present, shape[1])
        of_pairs = LevelPairs(*(p.astype(np.int64, copy=False) for p in (of_rows, of_cols)))
        return of_pairs, sums
    values, pattern = [], None
    for a in za:
        for b in zb:
            product = multiply(multiply(a, b), w)
            data = np.ones(len(rows)) if product is None else product
            pattern = sparse.coo_matrix((data, (rows, cols)), shape=shape).tocsr()
            pattern.sort_indices()
            values.append(pattern.data)
    assert pattern is not None
    counts = np.diff(pattern.indptr)
    pairs = LevelPairs(
        rows=np.repeat(np.arange(shape[0], dtype=pattern.indices.dtype), counts),
        cols=pattern.indices,
    )
    return pairs, np.stack(values).reshape(len(za), len(zb), -1)
