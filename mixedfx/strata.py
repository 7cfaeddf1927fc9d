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

from mixedfx.crossprod import (
    CrossProducts,
    by_group,
    centred_sides,
    cross,
    level_sums,
    term_columns,
    times,
)
from mixedfx.design import Block, Design
from mixedfx.factor import Coupling, Gram, analyse
from mixedfx.frozen import freeze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Cells:
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

    def weighed(self, weights: Vector) -> Matrix:
        """Sum over the strata with their weights, (a, b, size)."""
        w = weights[self.stratum]
        a, b, _ = self.values.shape
        out = np.empty((a, b, self.size))
        for i in range(a):
            for j in range(b):
                out[i, j] = np.bincount(self.at, self.values[i, j] * w, self.size)
        return out


@dataclass(frozen=True)
class Strata:
    """
    A design's cross-products, stratum by stratum; made by :func:`stratify`.

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
    _grams: tuple[Cells, ...] = field(repr=False)
    _borders: tuple[Cells, ...] = field(repr=False)
    _couplings: dict[tuple[int, int], Cells] = field(repr=False)
    _corner: Cells = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        freeze(self.codes, self.counts)

    def weighed(self, weights: Vector) -> CrossProducts:
        """
        Sum the cross-products over the strata.

        Parameters
        ----------
        weights : ndarray of shape (strata,)
            Times the design's own weights, those of the rows of each stratum.

        Returns
        -------
        CrossProducts
            As :func:`mixedfx.crossprod.cross` would give for these weights, but for the centre.
        """
        plain = self.plain
        couplings = {
            pair: replace(plain.gram.couplings[pair], values=cells.weighed(weights))
            for pair, cells in self._couplings.items()
        }
        gram = Gram(tuple(cells.weighed(weights) for cells in self._grams), couplings)
        return replace(
            plain,
            plan=analyse(gram),
            border=tuple(cells.weighed(weights) for cells in self._borders),
            corner=self._corner.weighed(weights)[:, :, 0],
            log_weights=plain.log_weights + float(self.counts @ np.log(weights)),
        )


def stratify(design: Design, codes: Codes) -> Strata:
    """
    Reduce a design to the cross-products of its strata.

    Parameters
    ----------
    design : Design
        ``n`` rows.
    codes : ndarray of shape (n,)
        Stratum of each row, numbered from 0.

    Returns
    -------
    Strata
        Its sums are those of :func:`mixedfx.crossprod.cross`.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.design import build
    >>> d = build(mfx.parse("Yield ~ 1 + (1 | Batch)"), mfx.datasets.load("Dyestuff"))
    >>> strata = stratify(d, np.arange(30) % 2)
    >>> strata.weighed(np.array([1.0, 2.0])).gram.diagonal[0][0, 0]
    array([7., 8., 7., 8., 7., 8.])
    """
    plain, w = cross(design), design.weights
    sides, _, _ = centred_sides(design)
    members, S = by_group(design), int(codes.max()) + 1
    grams, borders, couplings = [], [], {}
    for blocks in members:
        cell, at, stratum = _cells(blocks[0].codes, codes, S)
        gram, border = level_sums(blocks, w, sides, cell, len(at))
        grams.append(Cells(gram, at, stratum, len(blocks[0].levels)))
        borders.append(Cells(border, at, stratum, len(blocks[0].levels)))
    for (i, j), coupling in plain.gram.couplings.items():
        couplings[i, j] = _coupled(coupling, members[i], members[j], w, codes, S)
    corner = np.array([[_sums(times(times(a, b), w), codes, S) for b in sides] for a in sides])
    whole = Cells(corner, np.zeros(S, dtype=np.intp), np.arange(S), 1)
    counts = np.bincount(codes, minlength=S).astype(float)
    return Strata(plain, codes, counts, tuple(grams), tuple(borders), couplings, whole)


def _cells(levels: Codes, codes: Codes, S: int) -> tuple[Codes, Codes, Codes]:
    """Number what occurs of levels and strata: each row's cell, each cell's level and stratum."""
    keys, cell = np.unique(levels * S + codes, return_inverse=True)
    at, stratum = np.divmod(keys, S)
    return np.asarray(cell.ravel(), dtype=np.intp), at, stratum


def _coupled(
    coupling: Coupling,
    first: list[Block],
    second: list[Block],
    w: Vector | None,
    codes: Codes,
    S: int,
) -> Cells:
    """Cells of the pairs of levels of two factors, in the order of their coupling."""
    width = len(second[0].levels)
    keys = coupling.rows.astype(np.int64) * width + coupling.cols
    pair = np.searchsorted(keys, first[0].codes * width + second[0].codes)
    cell, at, stratum = _cells(pair, codes, S)
    values = np.array(
        [
            [_sums(times(times(a, b), w), cell, len(at)) for b in term_columns(second)]
            for a in term_columns(first)
        ]
    )
    return Cells(values, at, stratum, len(keys))


def _sums(product: Vector | None, codes: Codes, size: int) -> Vector:
    return np.bincount(codes, product, size).astype(float)
