"""Rows of a location-scale model, compressed within cells of equal residual variance.

Rows of the mean's model ``[Z X]`` are independent blocks where they share no level of its random
terms. A cell is the part of a block that has one residual standard deviation, apart from prior
weights. With ``W_0^1/2 [Z X] = Q R`` of the rows of a cell, ``R`` and ``Q'W_0^1/2 y`` with the rest
of the sum of squares of y are all that the likelihood needs: R has as many rows as columns of
``[Z X]`` are independent there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.estimation.dispersion.by_level import parts_of_terms, sums_of_level_blocks
from mixedfx.likelihood.accumulate import centred_columns
from mixedfx.likelihood.basis import rows_in_basis
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.stratified import cells_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Singular values below this share of the largest are rounding.
_RANK = 1e-10
# Cells of so few rows stay as they are.
_SHORTEST = 1


@dataclass(frozen=True)
class Batch:
    """Blocks of similar size, with rows and levels of zeros up to one size."""

    Z: Array = field(repr=False)  # (blocks, r, q): the columns of each term, level by level
    levels: tuple[int, ...]  # of each term in a block
    widths: tuple[int, ...]  # effects of each term
    rows: slice  # of all compressed rows

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of blocks, and of rows of each."""
        return self.Z.shape[0], self.Z.shape[1]

    def of(self, values: Any) -> Any:
        """The part of an array of all compressed rows that is of these, by block."""
        return values[self.rows].reshape(*self.shape, *values.shape[1:])

    def times_factors(self, Z: Array, factors: Sequence[Matrix]) -> Array:
        """``Z Lambda`` of each block."""
        if all(width == 1 for width in self.widths):
            by_column = [np.full(n, F[0, 0]) for n, F in zip(self.levels, factors, strict=True)]
            return np.asarray(Z * np.concatenate([*by_column, np.zeros(0)]))
        out = np.empty_like(Z)
        terms = parts_of_terms(self.levels, self.widths)
        for (columns, levels, width), F in zip(terms, factors, strict=True):
            of_levels = Z[:, :, columns].reshape(*self.shape, levels, width)
            out[:, :, columns] = (of_levels @ F).reshape(*self.shape, levels * width)
        return out

    def level_blocks(self, products: Array) -> list[Matrix]:
        """Sum of (blocks, q, q) over the blocks and the levels of each term, (k, k)."""
        return sums_of_level_blocks(products.sum(axis=0), self.levels, self.widths)


@dataclass(frozen=True)
class CellRows:
    """All compressed rows; those that pad a block are of zeros, and of the first cell."""

    batches: tuple[Batch, ...]
    X: Matrix = field(repr=False)  # (R, p) in the basis of the cross-products
    y: Vector = field(repr=False)  # (R,) less the least-squares fit
    cell: Codes = field(repr=False)  # (R,)
    stratum: Codes = field(repr=False)  # (cells,)
    counts: Vector = field(repr=False)  # (cells,) rows of the data
    rest: Vector = field(repr=False)  # (cells,) sums of squares of y that no column fits
    log_weights: float  # of the data's rows

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.X, self.y, self.cell, self.stratum, self.counts, self.rest)

    def sum_by_cell(self, values: Vector) -> Vector:
        """Sum over the compressed rows of each cell."""
        return np.bincount(self.cell, values, len(self.counts)).astype(float)


def compress_rows(
    rows: ModelRows,
    crossprod: CrossProducts,
    strata: Codes,
    check_size: Callable[[int], None],
) -> CellRows:
    """
    Compress the rows of each cell, and gather the blocks in batches.

    ``check_size`` is given the rows of the largest block as soon as they are known: first those
    that it has at least, before any is compressed.
    """
    terms = rows_in_basis(rows.random_terms, crossprod.bases)
    blocks = _Blocks.of(terms, strata)
    cell, block, stratum = cells_of(blocks.of_rows, strata, int(strata.max()) + 1)
    counts = np.bincount(cell)
    check_size(_largest(block, _least_rows(terms, blocks, cell, counts, rows.X.shape[1])))
    root = np.ones(rows.n) if rows.weights is None else np.sqrt(rows.weights)
    columns = np.column_stack([np.zeros((rows.n, 0)), *centred_columns(rows)[0]])
    found = _Compressed.of(terms, blocks, cell, root, columns)
    check_size(_largest(found.block, np.ones(len(found.block))))
    log_weights = 0.0 if rows.weights is None else float(np.log(rows.weights).sum())
    return found.in_batches(blocks, stratum, counts.astype(float), log_weights)


def _largest(block: Codes, n: Vector) -> int:
    """Rows of the largest block in its batch, from the numbers of rows of parts of the blocks."""
    return int(_rounded_up(np.bincount(block, n).astype(np.intp)).max(initial=0))


def _least_rows(
    terms: Sequence[RandomTermRows], blocks: _Blocks, cell: Codes, counts: Codes, p: int
) -> Vector:
    """Least number of rows that each cell keeps: the columns of a term's levels are independent."""
    long, rank = _are_long(counts, p, blocks), np.zeros(len(counts), dtype=np.intp)
    for term in terms:
        used = np.flatnonzero(long[cell] & term.model_matrix.any(axis=1))
        pairs = np.unique(cell[used] * term.n_levels + term.codes[used])
        rank = np.maximum(rank, np.bincount(pairs // term.n_levels, minlength=len(counts)))
    return np.where(long, rank, counts).astype(float)


def _are_long(counts: Codes, p: int, blocks: _Blocks) -> npt.NDArray[np.bool_]:
    """Whether cells have more rows than columns, and are compressed."""
    return np.asarray(counts > max(p + sum(blocks.widths), _SHORTEST))


@dataclass(frozen=True)
class _Blocks:
    """Block of each row, and place of each level within its block."""

    of_rows: Codes  # (n,)
    number: int
    places: tuple[Codes, ...]  # of each term, (n,) of each row's level among those of its block
    levels: tuple[Codes, ...]  # of each term, (blocks,)
    widths: tuple[int, ...]

    @staticmethod
    def of(terms: Sequence[RandomTermRows], strata: Codes) -> _Blocks:
        """Connected components of the levels; without any random term, the strata."""
        if not terms:
            return _Blocks(strata, int(strata.max()) + 1, (), (), ())
        ends = np.cumsum([0, *(term.n_levels for term in terms)])
        first = terms[0].codes
        joined = [(first, ends[t] + term.codes) for t, term in enumerate(terms) if t]
        i, j = np.concatenate([np.zeros((2, 0), dtype=np.intp), *joined], axis=1)
        graph = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(ends[-1], ends[-1]))
        number, labels = connected_components(graph, directed=False)
        of_level = np.asarray(labels, dtype=np.intp)
        places, levels = [], []
        for t, term in enumerate(terms):
            own = of_level[ends[t] : ends[t + 1]]
            count = np.bincount(own, minlength=number)
            places.append(_places(own, count)[term.codes])
            levels.append(count)
        widths = tuple(term.model_matrix.shape[1] for term in terms)
        return _Blocks(of_level[first], number, tuple(places), tuple(levels), widths)


class _Entries(NamedTuple):
    """Entries of Z that may differ from zero."""

    row: Codes
    term: Codes
    place: Codes  # of the level in its block
    effect: Codes
    value: Vector


def _no_entries() -> _Entries:
    none = np.zeros(0, dtype=np.intp)
    return _Entries(none, none, none, none, np.zeros(0))


def _joined(parts: Sequence[_Entries]) -> _Entries:
    """One after the other."""
    return _Entries(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class _Compressed:
    """Compressed rows one after the other, block by block: their effects' columns are sparse."""

    block: Codes  # (R,) in order
    cell: Codes
    columns: Matrix  # (R, p + 1)
    entries: _Entries
    rest: Vector  # (cells,)

    @staticmethod
    def of(
        terms: Sequence[RandomTermRows], blocks: _Blocks, cell: Codes, root: Vector, columns: Matrix
    ) -> _Compressed:
        """Replace the rows of cells that have more of them than columns."""
        counts = np.bincount(cell)
        rest = np.zeros(len(counts))
        long = _are_long(counts, columns.shape[1] - 1, blocks)
        kept = np.flatnonzero(~long[cell])
        order = kept[np.argsort(blocks.of_rows[kept], kind="stable")]
        parts = [(blocks.of_rows[order], cell[order], root[order, None] * columns[order])]
        entries = [_row_entries(terms, blocks, order, root)]
        by_cell = np.argsort(cell, kind="stable")
        ends = np.cumsum(counts)
        total = len(order)
        for c in np.flatnonzero(long):
            own = by_cell[ends[c] - counts[c] : ends[c]]
            Xy, Z, rest[c] = _compress(terms, blocks, own, root, columns)
            m = len(Xy)
            parts.append((np.full(m, blocks.of_rows[own[0]]), np.full(m, c), Xy))
            entries.append(Z._replace(row=Z.row + total))
            total += m
        block, cells, Xy = (np.concatenate(found) for found in zip(*parts, strict=True))
        return _Compressed(block, cells, Xy, _joined(entries), rest)

    def in_batches(
        self, blocks: _Blocks, stratum: Codes, counts: Vector, log_weights: float
    ) -> CellRows:
        """Blocks of similar numbers of rows side by side."""
        sizes = np.bincount(self.block, minlength=blocks.number)
        size_class = _rounded_up(sizes)
        p = self.columns.shape[1] - 1
        within = _places(self.block, sizes)
        at = np.empty(len(within), dtype=np.intp)  # of each row among the padded ones
        batches, total = [], 0
        row, term, place, effect, value = self.entries
        for r in np.unique(size_class[sizes > 0]):
            members = np.flatnonzero((size_class == r) & (sizes > 0))
            number = np.full(blocks.number, -1)
            number[members] = np.arange(len(members))
            own = number[self.block] >= 0
            at[own] = total + number[self.block[own]] * r + within[own]
            levels = tuple(int(found[members].max()) for found in blocks.levels)
            spans = [n * width for n, width in zip(levels, blocks.widths, strict=True)]
            starts = np.cumsum([0, *spans])
            Z = np.zeros((len(members) * r, starts[-1]))
            here = own[row]
            widths = np.array([*blocks.widths, 0])
            column = starts[term[here]] + place[here] * widths[term[here]] + effect[here]
            Z[at[row[here]] - total, column] = value[here]
            rows = slice(total, total + len(Z))
            shaped = Z.reshape(len(members), r, starts[-1])
            batches.append(Batch(shaped, levels, blocks.widths, rows))
            total += len(Z)
        Xy, cell = np.zeros((total, p + 1)), np.zeros(total, dtype=np.intp)
        Xy[at], cell[at] = self.columns, self.cell
        return CellRows(
            tuple(batches), Xy[:, :p], Xy[:, p], cell, stratum, counts, self.rest, log_weights
        )


def _places(block: Codes, counts: Codes) -> Codes:
    """Place of each element among those of its block, in their order."""
    order = np.argsort(block, kind="stable")
    places = np.empty(len(block), dtype=np.intp)
    places[order] = np.arange(len(block)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _rounded_up(sizes: Codes) -> Codes:
    """Sizes that are at most a quarter larger, and few different ones."""
    exponent = np.floor(np.log2(np.maximum(sizes, 1))).astype(int) - 2
    step = 2 ** np.maximum(exponent, 0)
    return np.asarray(-(-sizes // step) * step, dtype=np.intp)


def _row_entries(
    terms: Sequence[RandomTermRows], blocks: _Blocks, rows: Codes, root: Vector
) -> _Entries:
    """Entries of Z in some rows, which are numbered in their order."""
    found = [_no_entries()]
    for t, term in enumerate(terms):
        k = term.model_matrix.shape[1]
        values = root[rows, None] * term.model_matrix[rows]
        m = len(rows)
        found.append(
            _Entries(
                np.repeat(np.arange(m), k),
                np.full(m * k, t),
                np.repeat(blocks.places[t][rows], k),
                np.tile(np.arange(k), m),
                values.ravel(),
            )
        )
    return _joined(found)


def _compress(
    terms: Sequence[RandomTermRows], blocks: _Blocks, rows: Codes, root: Vector, columns: Matrix
) -> tuple[Matrix, _Entries, float]:
    """Compressed ``[X y]`` of the rows of a cell, entries of their Z, and the rest of y'y."""
    local, labels = [], []
    for t, term in enumerate(terms):
        k = term.model_matrix.shape[1]
        places, code = np.unique(blocks.places[t][rows], return_inverse=True)
        Z = np.zeros((len(rows), len(places), k))
        Z[np.arange(len(rows)), code.ravel()] = term.model_matrix[rows]
        local.append(Z.reshape(len(rows), -1))
        labels += [(t, place, a) for place in places.tolist() for a in range(k)]
    y = root[rows] * columns[rows, -1]
    T = root[rows, None] * np.column_stack([*local, columns[rows, :-1]])
    if not T.shape[1]:
        return np.zeros((0, 1)), _no_entries(), float(y @ y)
    left, values, right = np.linalg.svd(T, full_matrices=False)
    kept = values > _RANK * values[0]
    along = left[:, kept].T @ y
    R, q = values[kept, None] * right[kept], len(labels)
    Xy = np.column_stack([R[:, q:], along])
    rest = y - left[:, kept] @ along
    of, place, effect = np.tile(np.array(labels, dtype=np.intp).reshape(-1, 3).T, len(R))
    row = np.repeat(np.arange(len(R)), q)
    return Xy, _Entries(row, of, place, effect, R[:, :q].ravel()), math.fsum(rest**2)
