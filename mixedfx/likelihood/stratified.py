"""Rows of equal residual variance to cross-products that can be weighed anew.

``Z'WZ = sum_s w_s A_s``: with one weight for each stratum of rows, the cross-products at any
weights are sums of those of the strata. Only what occurs is kept: a cell for each level and
stratum that share rows, so that a stratum for each level, or for each row, costs no more than
the rows themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.build import Design
from mixedfx.design.random import Block
from mixedfx.likelihood.accumulate import centred_columns, compute_crossproducts
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.level_sums import blocks_by_group, level_sums, multiply, term_columns
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix, OffDiagonalBlock
from mixedfx.linalg.cholesky.symbolic import analyze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class StratumSums:
    """
    Sums of products over the rows that a level, or a pair of levels, shares with a stratum.

    Parameters
    ----------
    values : ndarray of shape (a, b, cells)
        The sums.
    at : ndarray of shape (cells,)
        The level, or the pair.
    stratum : ndarray of shape (cells,)
        The stratum.
    size : int
        Levels, or pairs.
    """

    values: Matrix
    at: Codes
    stratum: Codes
    size: int

    def reweight(self, weights: Vector) -> Matrix:
        """Sum over the strata with their weights, (a, b, size)."""
        w = weights[self.stratum]
        a, b, _ = self.values.shape
        out = np.empty((a, b, self.size))
        for i in range(a):
            for j in range(b):
                out[i, j] = np.bincount(self.at, self.values[i, j] * w, self.size)
        return out


@dataclass(frozen=True)
class StratifiedSums:
    """
    A design's cross-products, stratum by stratum; made by :func:`sum_by_stratum`.

    Parameters
    ----------
    plain : CrossProducts
        With the design's own weights.
    codes : ndarray of shape (n,)
        Stratum of each row.
    counts : ndarray of shape (strata,)
        Rows of each.
    """

    plain: CrossProducts
    codes: Codes
    counts: Vector
    _grams: tuple[StratumSums, ...] = field(repr=False)
    _borders: tuple[StratumSums, ...] = field(repr=False)
    _couplings: dict[tuple[int, int], StratumSums] = field(repr=False)
    _corner: StratumSums = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.codes, self.counts)

    def reweight(self, weights: Vector) -> CrossProducts:
        """Sum the cross-products over the strata."""
        plain = self.plain
        off_diagonal = {
            pair: replace(plain.ZtZ.off_diagonal[pair], values=cells.reweight(weights))
            for pair, cells in self._couplings.items()
        }
        ZtZ = BlockMatrix(tuple(cells.reweight(weights) for cells in self._grams), off_diagonal)
        return replace(
            plain,
            symbolic=analyze(ZtZ),
            ZtXy=tuple(cells.reweight(weights) for cells in self._borders),
            XytXy=self._corner.reweight(weights)[:, :, 0],
            log_weights=plain.log_weights + float(self.counts @ np.log(weights)),
        )


def sum_by_stratum(design: Design, codes: Codes) -> StratifiedSums:
    """Reduce a design to the cross-products of its strata."""
    plain, w = compute_crossproducts(design), design.weights
    sides, _, _ = centred_columns(design)
    members, S = blocks_by_group(design), int(codes.max()) + 1
    grams, borders, off_diagonal = [], [], {}
    for blocks in members:
        cell, at, stratum = _cells(blocks[0].codes, codes, S)
        ZtZ, ZtXy = level_sums(blocks, w, sides, cell, len(at))
        grams.append(StratumSums(ZtZ, at, stratum, len(blocks[0].levels)))
        borders.append(StratumSums(ZtXy, at, stratum, len(blocks[0].levels)))
    for (i, j), coupling in plain.ZtZ.off_diagonal.items():
        off_diagonal[i, j] = _coupled(coupling, members[i], members[j], w, codes, S)
    XytXy = np.array([[_sums(multiply(multiply(a, b), w), codes, S) for b in sides] for a in sides])
    whole = StratumSums(XytXy, np.zeros(S, dtype=np.intp), np.arange(S), 1)
    counts = np.bincount(codes, minlength=S).astype(float)
    return StratifiedSums(plain, codes, counts, tuple(grams), tuple(borders), off_diagonal, whole)


def _cells(levels: Codes, codes: Codes, S: int) -> tuple[Codes, Codes, Codes]:
    """Number what occurs of levels and strata: each row's cell, each cell's level and stratum."""
    keys, cell = np.unique(levels * S + codes, return_inverse=True)
    at, stratum = np.divmod(keys, S)
    return np.asarray(cell.ravel(), dtype=np.intp), at, stratum


def _coupled(
    coupling: OffDiagonalBlock,
    first: list[Block],
    second: list[Block],
    w: Vector | None,
    codes: Codes,
    S: int,
) -> StratumSums:
    """Cells of the pairs of levels of two factors, in the order of their coupling."""
    width = len(second[0].levels)
    keys = coupling.rows.astype(np.int64) * width + coupling.cols
    pair = np.searchsorted(keys, first[0].codes * width + second[0].codes)
    cell, at, stratum = _cells(pair, codes, S)
    values = np.array(
        [
            [_sums(multiply(multiply(a, b), w), cell, len(at)) for b in term_columns(second)]
            for a in term_columns(first)
        ]
    )
    return StratumSums(values, at, stratum, len(keys))


def _sums(product: Vector | None, codes: Codes, size: int) -> Vector:
    return np.bincount(codes, product, size).astype(float)
