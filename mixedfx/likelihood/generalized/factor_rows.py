"""Columns of Z in the rows of a generalised model, by grouping factor, and sums over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import RandomTermRows
from mixedfx.likelihood.level_sums import multiply, term_columns
from mixedfx.linalg.precision import PrecisionBasis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class FactorRows:
    """Columns of all terms of one grouping factor, and the level of each row."""

    codes: Codes  # (n,)
    n_levels: int
    columns: tuple[Vector | None, ...]  # K of them; None is a column of ones
    products: Mapping[tuple[int, int], Vector | None] = field(repr=False)  # of columns a >= b
    # Of effects v of which those of the levels are combinations; None: v are the levels' own.
    basis: PrecisionBasis | None = field(default=None, repr=False)

    @staticmethod
    def of(terms: Sequence[RandomTermRows], basis: PrecisionBasis | None = None) -> FactorRows:
        """Columns of the terms of one grouping factor."""
        columns = tuple(term_columns(list(terms)))
        K = len(columns)
        products = {
            (a, b): multiply(columns[a], columns[b]) for a in range(K) for b in range(a + 1)
        }
        return FactorRows(terms[0].codes, terms[0].n_codes, columns, products, basis)

    @property
    def width(self) -> int:
        """Number of columns, K."""
        return len(self.columns)

    @property
    def predictors_of_columns(self) -> tuple[int, ...]:
        """Linear predictor that each column belongs to."""
        return (0,) * self.width

    @property
    def n_effects(self) -> int:
        """Number of effects v of each column."""
        return self.n_levels if self.basis is None else self.basis.n_nodes

    @property
    def level_basis(self) -> PrecisionBasis | None:
        """Basis of the levels' effects, of which rows may have several."""
        return None if self.basis is None else self.basis.of_levels

    def taken(self, rows: Codes) -> FactorRows:
        """Some of the rows, with all levels."""
        columns = tuple(None if c is None else c[rows] for c in self.columns)
        products = {ab: None if v is None else v[rows] for ab, v in self.products.items()}
        return replace(self, codes=self.codes[rows], columns=columns, products=products)

    def predictor(self, effects: Matrix) -> Vector:
        """``Z b`` of effects (K, L), (n,)."""
        if self.basis is not None:
            effects = effects @ self.basis.T
        total: Vector | None = None
        for column, effect in zip(self.columns, effects, strict=True):
            part = effect[self.codes]
            if column is not None:
                part *= column
            total = part if total is None else total + part
        assert total is not None
        return total

    def sums(self, values: Vector) -> Matrix:
        """``Z'v``, (K, L)."""
        L = self.n_levels
        of_columns = [np.bincount(self.codes, times(values, c), L) for c in self.columns]
        one = len(of_columns) == 1
        sums = np.asarray(of_columns[0][None] if one else np.array(of_columns), dtype=np.float64)
        return sums if self.basis is None else sums @ self.basis

    def blocks(self, weights: Vector) -> Matrix:
        """``Z'WZ`` within the levels, (K, K, L)."""
        K, L = self.width, self.n_levels
        out = np.empty((K, K, L))
        for (a, b), product in self.products.items():
            out[a, b] = out[b, a] = np.bincount(self.codes, times(weights, product), L)
        return out

    def powers_by_level(self, first: Vector, second: Vector) -> tuple[Vector, Vector]:
        """``sum z^2 v_1`` and ``sum z^3 v_2`` of each level, z the only column, (L,)."""
        squares, L = self.products[0, 0], self.n_levels
        cubes = times(times(second, squares), self.columns[0])
        return (
            np.asarray(np.bincount(self.codes, times(first, squares), L), dtype=np.float64),
            np.asarray(np.bincount(self.codes, cubes, L), dtype=np.float64),
        )

    def quadratic(self, blocks: Matrix) -> Vector:
        """``z'Bz`` of each row for a symmetric block of each level, (n,)."""
        total = np.zeros(len(self.codes))
        for (a, b), product in self.products.items():
            part = blocks[a, b][self.codes]
            total += times(part, product) if a == b else 2.0 * times(part, product)
        return total


@dataclass(frozen=True)
class PairRows:
    """Pair of levels of two grouping factors that each row belongs to."""

    index: Codes  # (n,) into the pairs of the block pattern
    n_pairs: int

    def taken(self, rows: Codes) -> PairRows:
        """Some of the rows."""
        return replace(self, index=self.index[rows])

    def blocks(self, weights: Vector, first: FactorRows, second: FactorRows) -> Matrix:
        """``Z_1'W Z_2`` over the pairs, (K_1, K_2, pairs)."""
        return np.array(
            [
                [
                    np.bincount(self.index, times(times(weights, a), b), self.n_pairs)
                    for b in second.columns
                ]
                for a in first.columns
            ]
        )

    def bilinear(self, blocks: Matrix, first: FactorRows, second: FactorRows) -> Vector:
        """``z_1'B z_2`` of each row for a block of each pair, (n,)."""
        total = np.zeros(len(self.index))
        for a, column_a in enumerate(first.columns):
            for b, column_b in enumerate(second.columns):
                total += times(times(blocks[a, b][self.index], column_a), column_b)
        return total


def times(values: Vector, column: Vector | None) -> Vector:
    """Product with a column; None is one of ones."""
    return values if column is None else values * column
