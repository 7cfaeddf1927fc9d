"""Cross-products by stratum of equal residual variance, summed at any weights of the strata.

    Z'WZ = sum_s w_s Z_s'Z_s

Only the pairs of a level and a stratum that share rows are stored, so that a stratum for each
level, or for each row, needs no more memory than the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.rows import RandomTermRows
from mixedfx.likelihood.accumulate import centred_columns, compute_crossproducts
from mixedfx.likelihood.basis import rows_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_basis import RelatedLevels
from mixedfx.likelihood.level_sums import (
    blocks_by_group,
    level_sums,
    multiply,
    off_diagonal_block,
    term_columns,
)
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix, LevelPairs

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StratumSums:
    """Sums of products over the rows that a level, or a pair of levels, shares with a stratum."""

    values: Matrix  # (a, b, cells), a cell being a level (or pair) and a stratum that share rows
    level: Codes  # (cells,) level, or pair of levels
    stratum: Codes  # (cells,)
    size: int  # number of levels, or pairs

    @staticmethod
    def of_all_rows(values: Matrix) -> StratumSums:
        """Those of all rows of each stratum, (a, b, S)."""
        S = values.shape[2]
        return StratumSums(values, np.zeros(S, dtype=np.intp), np.arange(S), 1)

    def reweight(self, weights: Vector) -> Matrix:
        """Weighted sum over the strata, (a, b, size)."""
        w = weights[self.stratum]
        a, b, _ = self.values.shape
        out = np.empty((a, b, self.size))
        for i in range(a):
            for j in range(b):
                out[i, j] = np.bincount(self.level, self.values[i, j] * w, self.size)
        return out


@dataclass(frozen=True)
class StratifiedSums:
    """A design's cross-products by stratum; made by :func:`sum_by_stratum`."""

    plain: CrossProducts  # at the design's own weights
    counts: Vector  # (strata,) rows of each
    # Of each grouping factor, Z'WZ within levels and Z'W[X, y]; of each two, Z_1'WZ_2.
    diagonal: tuple[StratumSums, ...] = field(repr=False)
    right: tuple[StratumSums, ...] = field(repr=False)
    off_diagonal: dict[tuple[int, int], StratumSums] = field(repr=False)
    _XytXy: StratumSums = field(repr=False)
    pairs: dict[tuple[int, int], LevelPairs] = field(repr=False)  # of codes, of off_diagonal
    _related: RelatedLevels = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.counts)

    @property
    def is_plain(self) -> bool:
        """Whether all levels are independent, and each row has one of them."""
        return self._related.is_plain

    @property
    def XytXy_by_stratum(self) -> Matrix:
        """``[X, y]'W[X, y]`` of each stratum at the design's own weights, (p + 1, p + 1, S)."""
        return self._XytXy.values

    def ZtZ_within(self, f: int, weights: Vector, basis: Matrix | None) -> Matrix:
        """Sum over a factor's levels, in a basis of these, of ``Z'WZ`` at any weights, (K, K)."""
        ZtZ, P = self.diagonal[f].reweight(weights), self._related.loadings(f, basis)
        return ZtZ.sum(axis=2) if P is None else np.asarray(ZtZ @ (P**2).sum(axis=1))

    def ZtXy_within(self, f: int, weights: Vector, basis: Matrix | None) -> Matrix:
        """``Z'W[X, y]`` of a factor in a basis of its levels, at any weights, (K, p + 1, L)."""
        ZtXy, P = self.right[f].reweight(weights), self._related.loadings(f, basis)
        return ZtXy if P is None else np.asarray(ZtXy @ P)

    def reweight(self, weights: Vector) -> CrossProducts:
        """Cross-products at one weight a stratum, times the design's own weights."""
        plain = self.plain
        cells = zip(self.diagonal, self.right, strict=True)
        sums, blocks, bases = self._related.in_bases(
            [(ZtZ.reweight(weights), ZtXy.reweight(weights)) for ZtZ, ZtXy in cells],
            {ij: (self.pairs[ij], c.reweight(weights)) for ij, c in self.off_diagonal.items()},
        )
        ZtZ = BlockMatrix(
            plain.ZtZ.pattern,  # in other bases of the levels it is the same
            tuple(of_factor.ZtZ for of_factor in sums),
            {ij: values for ij, (_, values) in blocks.items()},
            {f: s.within[1] for f, s in enumerate(sums) if s.within is not None},
        )
        return replace(
            plain,
            ZtZ=ZtZ,
            level_bases=bases,
            ZtXy=tuple(of_factor.ZtXy for of_factor in sums),
            XytXy=self._XytXy.reweight(weights)[:, :, 0],
            log_weights=plain.log_weights + float(self.counts @ np.log(weights)),
        )

    def of_strata(self, kept: Mask) -> CrossProducts:
        """Cross-products of the rows of some strata; a constant of their deviance is as it was."""
        with np.errstate(divide="ignore"):  # logarithms of weights of zero
            own = self.reweight(kept.astype(float))
        return replace(own, n=int(self.counts[kept].sum()), log_weights=self.plain.log_weights)


def sum_by_stratum(design: Design, codes: Codes) -> StratifiedSums:
    """Cross-products of a design by stratum."""
    plain, w = compute_crossproducts(design, strata=True), design.rows.weights
    Xy_columns, _, _ = centred_columns(design.rows)
    by_group = blocks_by_group(rows_in_basis(design.rows.random_terms, plain.bases))
    S = int(codes.max()) + 1
    diagonal, right, off_diagonal = [], [], {}
    for random_terms in by_group:
        cell, level, stratum = cells_of(random_terms[0].codes, codes, S)
        ZtZ, ZtXy = level_sums(random_terms, w, Xy_columns, cell, len(level))
        diagonal.append(StratumSums(ZtZ, level, stratum, random_terms[0].n_codes))
        right.append(StratumSums(ZtXy, level, stratum, random_terms[0].n_codes))
    related, code_pairs = RelatedLevels.of(design.spec, by_group), plain.ZtZ.pattern.pairs
    if not related.is_plain:
        code_pairs = {
            (i, j): off_diagonal_block(by_group[i], by_group[j], None)[0] for i, j in code_pairs
        }
    for (i, j), pairs in code_pairs.items():
        off_diagonal[i, j] = _pair_sums(pairs, by_group[i], by_group[j], w, codes, S)
    whole = StratumSums.of_all_rows(products_by_code(Xy_columns, Xy_columns, w, codes, S))
    counts = np.bincount(codes, minlength=S).astype(float)
    levels = tuple(diagonal), tuple(right), off_diagonal
    return StratifiedSums(plain, counts, *levels, whole, dict(code_pairs), related)


def cells_of(levels: Codes, codes: Codes, S: int) -> tuple[Codes, Codes, Codes]:
    """Cell of each row, and level and stratum of each cell that occurs."""
    keys, cell = np.unique(levels * S + codes, return_inverse=True)
    level, stratum = np.divmod(keys, S)
    return np.asarray(cell.ravel(), dtype=np.intp), level, stratum


def _pair_sums(
    pairs: LevelPairs,
    first: list[RandomTermRows],
    second: list[RandomTermRows],
    w: Vector | None,
    codes: Codes,
    S: int,
) -> StratumSums:
    """Sums by pair of levels of two grouping factors, in the order of their off-diagonal block."""
    pair = pairs.positions(first[0].codes, second[0].codes, second[0].n_codes)
    cell, at, stratum = cells_of(pair, codes, S)
    columns = term_columns(first), term_columns(second)
    return StratumSums(products_by_code(*columns, w, cell, len(at)), at, stratum, len(pairs))


def products_by_code(
    first: Sequence[Vector | None],
    second: Sequence[Vector | None],
    w: Vector | None,
    codes: Codes,
    size: int,
) -> Matrix:
    """Sums of the products of each two columns over the rows of each code, (a, b, size)."""

    def total(product: Vector | None) -> Vector:
        return np.bincount(codes, product, size).astype(float)

    return np.array([[total(multiply(multiply(a, b), w)) for b in second] for a in first])
