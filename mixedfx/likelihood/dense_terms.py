"""Sums over the levels of random terms, of dense matrices whose columns are those of Z.

The columns of Z are in the terms' order, each term's effect by effect, (k, L). The matrices of a
term, ``F (x) I`` and the derivatives ``D (x) I`` of ``Lambda Lambda'``, are never formed. Where
every term has one effect they are diagonal, and the sums of all terms are made at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.cholesky.batched import WIDE

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class DenseTerms(Protocol):
    """Sums over the levels of all terms; ``tangents`` are of a form of its own."""

    def congruent(self, factors: Sequence[Matrix], S: Matrix) -> tuple[Matrix, Matrix]:
        """``T'S`` and ``T'S T``, T of the factors and an identity for further rows."""
        ...

    def blocks(self, matrix: Matrix) -> list[Matrix]:
        """Sum over the levels of each term's blocks within them, (k, k)."""
        ...

    def tangents(self, factors: Sequence[Matrix], jacobians: Sequence[Array]) -> Any:
        """Derivatives ``D_i = J_i F' + F J_i'`` of the covariances, J_i those of the factors."""
        ...

    def directions(self, tangents: Any, h: Vector) -> Matrix:
        """``D_i h``, (m, q)."""
        ...

    def traces(self, tangents: Any, K: Matrix) -> Matrix:
        """``tr(D_i K D_j K)``, (m, m)."""
        ...

    def along(self, tangents: Any, by_cov: Sequence[Matrix]) -> Vector:
        """``tr(S D_i)``, (m,), S the derivatives by the covariances."""
        ...

    def curvature(self, jacobians: Sequence[Array], by_cov: Sequence[Matrix]) -> Matrix:
        """``tr(S D_ij)``, (m, m), S the derivatives by the covariances, of linear factors."""
        ...


def dense_terms(columns: Sequence[slice], widths: Sequence[int]) -> DenseTerms:
    """Sums of terms with these columns, and numbers of effects."""
    if columns and max(widths) == 1:
        counts = [part.stop - part.start for part in columns]
        term = np.repeat(np.arange(len(counts)), counts)
        return ScalarTerms(term, np.array([part.start for part in columns]))
    return VectorTerms(tuple(columns), tuple(widths))


@dataclass(frozen=True, eq=False)
class ScalarTerms:
    """Terms of one effect each: factors and their derivatives are numbers."""

    term: Ints  # (q,) of each column
    starts: Ints  # first column of each term

    def congruent(self, factors: Sequence[Matrix], S: Matrix) -> tuple[Matrix, Matrix]:
        """Rows, and columns, times a number for each term."""
        scale = np.ones(len(S))
        scale[: len(self.term)] = np.array([F.item() for F in factors])[self.term]
        left = S * scale[:, None]
        return left, left * scale

    def blocks(self, matrix: Matrix) -> list[Matrix]:
        """Of the diagonal."""
        return list(np.add.reduceat(matrix.diagonal(), self.starts)[:, None, None])

    def tangents(self, factors: Sequence[Matrix], jacobians: Sequence[Array]) -> Matrix:
        """``2 F dF/dx_i``, (m, terms)."""
        found, i = np.zeros((sum(map(len, jacobians)), len(factors))), 0
        for t, (F, J) in enumerate(zip(factors, jacobians, strict=True)):
            for by_x in J.ravel().tolist():
                found[i, t], i = 2.0 * F.item() * by_x, i + 1
        return found

    def directions(self, tangents: Matrix, h: Vector) -> Matrix:
        """The effects times a number for each term."""
        return np.asarray(tangents[:, self.term] * h)

    def traces(self, tangents: Matrix, K: Matrix) -> Matrix:
        """Sums of squares of the blocks of every two terms."""
        by_term = np.add.reduceat(np.add.reduceat(K * K, self.starts, axis=0), self.starts, axis=1)
        return np.asarray(tangents @ by_term @ tangents.T)

    def along(self, tangents: Matrix, by_cov: Sequence[Matrix]) -> Vector:
        """Products of numbers."""
        return np.asarray(tangents @ np.array([S.item() for S in by_cov]))

    def curvature(self, jacobians: Sequence[Array], by_cov: Sequence[Matrix]) -> Matrix:
        """Products of derivatives by coordinates of the same term."""
        found, i = np.zeros((sum(map(len, jacobians)),) * 2), 0
        for J, S in zip(jacobians, by_cov, strict=True):
            m = len(J)
            found[i : i + m, i : i + m] = 2.0 * S.item() * J[:, 0] * J[:, 0, 0]
            i += m
        return found


@dataclass(frozen=True, eq=False)
class VectorTerms:
    """Terms of any numbers of effects."""

    columns: tuple[slice, ...]  # of each term
    widths: tuple[int, ...]  # effects of each term

    def congruent(self, factors: Sequence[Matrix], S: Matrix) -> tuple[Matrix, Matrix]:
        """Term by term, of symmetric S."""
        left = self._multiplied(factors, S)
        return left, self._multiplied(factors, left.T)

    def _multiplied(self, factors: Sequence[Matrix], rows: Matrix) -> Matrix:
        """``(F' (x) I)`` of each term times the rows of its effects; further rows as they are."""
        out = rows.copy()
        for part, F in zip(self.columns, factors, strict=True):
            k = len(F)
            out[part] = (F.T @ rows[part].reshape(k, -1)).reshape(-1, rows.shape[1])
        return out

    def blocks(self, matrix: Matrix) -> list[Matrix]:
        """Term by term."""
        found = []
        for part, k in zip(self.columns, self.widths, strict=True):
            levels = (part.stop - part.start) // k
            block = matrix[part, part].reshape(k, levels, k, levels)
            found.append(np.add.reduce(block.diagonal(axis1=1, axis2=3), axis=2))
        return found

    def tangents(self, factors: Sequence[Matrix], jacobians: Sequence[Array]) -> list[Array]:
        """Of each term, (m, k, k)."""
        found = []
        for F, J in zip(factors, jacobians, strict=True):
            half = J @ F.T
            found.append(half + half.transpose(0, 2, 1))
        return found

    def directions(self, tangents: list[Array], h: Vector) -> Matrix:
        """Term by term."""
        found, i = np.zeros((sum(map(len, tangents)), len(h))), 0
        for D, part in zip(tangents, self.columns, strict=True):
            m, k = D.shape[:2]
            h_t = h[part].reshape(k, -1)
            found[i : i + m, part] = (D @ h_t).reshape(m, h_t.size)
            i += m
        return found

    def traces(self, tangents: list[Array], K: Matrix) -> Matrix:
        """Of every two terms."""
        ends = [0, *itertools.accumulate(map(len, tangents))]
        found = np.empty((ends[-1], ends[-1]))
        parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
        for t, u in itertools.combinations_with_replacement(range(len(parts)), 2):
            block = K[self.columns[t], self.columns[u]]
            found[parts[t], parts[u]] = traces = _traces(tangents[t], block, tangents[u])
            if t != u:
                found[parts[u], parts[t]] = traces.T
        return found

    def along(self, tangents: list[Array], by_cov: Sequence[Matrix]) -> Vector:
        """Term by term."""
        terms = zip(tangents, by_cov, strict=True)
        return np.concatenate([D.reshape(len(D), S.size) @ S.ravel() for D, S in terms])

    def curvature(self, jacobians: Sequence[Array], by_cov: Sequence[Matrix]) -> Matrix:
        """Term by term."""
        found, i = np.zeros((sum(map(len, jacobians)),) * 2), 0
        for J, S in zip(jacobians, by_cov, strict=True):
            m = len(J)
            flat = J.reshape(m, S.size)
            found[i : i + m, i : i + m] = 2.0 * flat @ (S @ J).reshape(m, S.size).T
            i += m
        return found


def _traces(D: Array, K: Matrix, E: Array) -> Matrix:
    """``tr(D_i K E_j K')`` for K of all levels, (k L, k' L'), the tangents within each level."""
    m, k, n, other = len(D), D.shape[1], len(E), E.shape[1]
    if max(k, other) >= WIDE:
        DK = (D @ K.reshape(k, -1)).reshape(m, *K.shape)
        EK = (E @ K.T.reshape(other, -1)).reshape(n, *K.T.shape)
        return np.asarray(np.tensordot(DK, EK, axes=([1, 2], [2, 1])))
    levels, others = len(K) // k, K.shape[1] // other
    blocks = K.reshape(k, levels, other, others).transpose(0, 2, 1, 3).reshape(k * other, -1)
    products = (blocks @ blocks.T).reshape(k, other, k, other).transpose(0, 2, 1, 3)
    return np.asarray(
        D.reshape(m, k * k) @ products.reshape(k * k, other**2) @ E.reshape(n, other**2).T
    )
