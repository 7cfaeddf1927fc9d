"""Sums of a chunk's rows by stratum of equal residual variance, and what they are at the end."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.design.rows import RandomTermRows
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_basis import RelatedLevels
from mixedfx.likelihood.level_sums import term_columns
from mixedfx.likelihood.stratified import StratifiedSums, StratumSums, products_by_code
from mixedfx.likelihood.stream.pair_sums import PairSums, PairTable, PairTotals, pair_sums

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class RowSumsByStratum:
    """Sums over rows by stratum, at the rows' own weights."""

    counts: Vector  # (S,) rows
    inverse_weights: Vector  # (S,) sums of 1 / weight
    XytXy: Array  # (P + 1, P + 1, S)
    # Z'W[Z, X, y] of each factor, by level and stratum, and Z_1'WZ_2, by pair of levels and stratum
    levels: tuple[PairSums | PairTable, ...]
    pairs: Mapping[tuple[int, int], PairSums | PairTable]


def sums_by_stratum(
    by_group: Sequence[list[RandomTermRows]],
    Xy_columns: list[Vector],
    w: Vector | None,
    codes: Codes,
    S: int,
) -> RowSumsByStratum:
    """Sums of the rows of a chunk, given the stratum of each."""
    Z = [term_columns(terms) for terms in by_group]
    levels = [
        pair_sums(terms[0].codes, codes, (terms[0].n_levels, S), z, [*z, *Xy_columns], w)
        for terms, z in zip(by_group, Z, strict=True)
    ]
    pairs = {}
    for i, j in itertools.combinations(range(len(by_group)), 2):
        first, second = by_group[i][0], by_group[j][0]
        pair = first.codes.astype(np.int64) * second.n_levels + second.codes
        shape = first.n_levels * second.n_levels, S
        pairs[i, j] = pair_sums(pair, codes, shape, Z[i], Z[j], w)

    counts = np.bincount(codes, minlength=S).astype(float)
    inverse_weights = counts if w is None else np.bincount(codes, 1.0 / w, S).astype(float)
    XytXy = products_by_code(Xy_columns, Xy_columns, w, codes, S)
    return RowSumsByStratum(counts, inverse_weights, XytXy, tuple(levels), pairs)


def stratified(
    sums: RowSumsByStratum, plain: CrossProducts, part: Codes, T: Matrix
) -> StratifiedSums:
    """Cross-products by stratum, in the columns ``[X, y][part] T`` of the plain ones."""
    diagonal, right, off_diagonal = [], [], {}
    for f, own in enumerate(sums.levels):
        K, L = plain.ZtZ.layout.width(f), plain.ZtZ.layout.levels(f)
        values, level, stratum = _cells(own.total(), K)
        ZtXy = np.einsum("kml,mc->kcl", values[:, K + part], T)
        diagonal.append(StratumSums(values[:, :K], level, stratum, L))
        right.append(StratumSums(ZtXy, level, stratum, L))
    for (i, j), found in sums.pairs.items():
        values, pair, stratum = _cells(found.total(), plain.ZtZ.layout.width(i))
        pairs, width = plain.ZtZ.pattern.pairs[i, j], plain.ZtZ.layout.levels(j)
        at = pairs.positions(*np.divmod(pair, width), width)
        off_diagonal[i, j] = StratumSums(values, at, stratum, len(pairs))
    products = np.moveaxis(sums.XytXy[np.ix_(part, part)], 2, 0)
    by_stratum = np.moveaxis(T.T @ products @ T, 0, 2)
    return StratifiedSums(
        plain,
        sums.counts,
        tuple(diagonal),
        tuple(right),
        off_diagonal,
        StratumSums.of_all_rows(by_stratum),
        dict(plain.ZtZ.pattern.pairs),
        RelatedLevels.plain(plain.groups, plain.levels),
    )


def _cells(total: PairTotals, K: int) -> tuple[Array, Codes, Codes]:
    """Sums (K, m, cells), and level and stratum of each cell."""
    level, stratum = total.rows.astype(np.intp), total.cols.astype(np.intp)
    return total.values.reshape(K, -1, len(level)), level, stratum
