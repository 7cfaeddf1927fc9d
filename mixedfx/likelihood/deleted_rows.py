"""Cross-products of a model without some of its rows, by subtraction.

    Z'WZ - Z_d'W_d Z_d        Z'W[X, y] - Z_d'W_d [X_d, y_d]        [X, y]'W[X, y] - ...

with ``d`` the rows left out, whose products cost what they are many of: the others are not read
again. Levels and pattern stay those of all rows. A level without rows has products of zero, adds
nothing to the criterion, and has a conditional mode of zero with the covariance of a new level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import ModelRows
from mixedfx.likelihood.basis import rows_in_basis
from mixedfx.likelihood.coefficient_covariance import combinations_in_basis
from mixedfx.likelihood.crossproducts import CHOLESKY, CrossProducts
from mixedfx.likelihood.level_sums import blocks_by_group
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Smallest eigenvalue of the scaled X'WX that is left, relative to one: independent columns.
_INDEPENDENT = 1e-6


@dataclass(frozen=True)
class _Cells:
    """Cells of a block in which rows are: levels, or pairs of levels."""

    codes: Codes = field(repr=False)  # (n,)
    counts: Codes = field(repr=False)  # rows of each

    @staticmethod
    def of(codes: Codes, n_cells: int) -> _Cells:
        return _Cells(codes, np.bincount(codes, minlength=n_cells))

    def less(self, total: Array, left: Matrix, right: Matrix, rows: Codes) -> Array:
        """``total - sum_d left_d right_d'`` by cell; exactly zero where no row is left."""
        cells, at = np.unique(self.codes[rows], return_inverse=True)
        out = total.copy()
        products = left[:, :, None] * right[:, None, :]
        sums = np.zeros((len(cells), *products.shape[1:]))
        np.add.at(sums, at, products)
        out[:, :, cells] -= np.moveaxis(sums, 0, 2)
        out[:, :, cells[self.counts[cells] == np.bincount(at)]] = 0.0
        return out


@dataclass(frozen=True)
class DeletedRows:
    """Columns of all rows in the bases of their cross-products, of which some are left out."""

    crossprod: CrossProducts
    weights: Vector | None = field(repr=False)
    Xy: Matrix = field(repr=False)  # (n, p + 1) [X qr_R^-1, y - X ols_coef]
    Z: tuple[Matrix, ...] = field(repr=False)  # (n, K) of each grouping factor
    levels: tuple[_Cells, ...] = field(repr=False)  # of each grouping factor
    pairs: Mapping[tuple[int, int], _Cells] = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.Xy, *self.Z)

    @staticmethod
    def of(crossprod: CrossProducts, rows: ModelRows) -> DeletedRows | None:
        """None where levels are related or the factorisation is iterative."""
        related = any(basis is not None for basis in crossprod.level_bases)
        if related or crossprod.ZtZ.within or crossprod.solver != CHOLESKY:
            return None
        residuals = rows.response_less_offset - rows.X @ crossprod.ols_coef
        Xy = np.column_stack([combinations_in_basis(rows.X, crossprod.qr_R), residuals])
        by_group = blocks_by_group(rows_in_basis(rows.random_terms, crossprod.bases))
        Z = tuple(np.hstack([term.model_matrix for term in terms]) for terms in by_group)
        codes = [terms[0].codes for terms in by_group]
        layout = crossprod.ZtZ.layout
        pairs = {}
        for (i, j), known in crossprod.ZtZ.pattern.pairs.items():
            at = known.positions(codes[i], codes[j], layout.levels(j))
            pairs[i, j] = _Cells.of(at, len(known))
        levels = tuple(_Cells.of(c, layout.levels(f)) for f, c in enumerate(codes))
        return DeletedRows(crossprod, rows.weights, Xy, Z, levels, pairs)

    def without(self, rows: Codes) -> CrossProducts:
        """Cross-products of all rows but these, given by their positions."""
        all_rows, Xy = self.crossprod, self.Xy[rows]
        w = None if self.weights is None else self.weights[rows]
        weighted = Xy if w is None else w[:, None] * Xy
        Z = [z[rows] for z in self.Z]
        WZ = [z if w is None else w[:, None] * z for z in Z]
        ZtZ, levels = all_rows.ZtZ, list(enumerate(self.levels))
        return replace(
            all_rows,
            n=all_rows.n - len(rows),
            ZtZ=BlockMatrix(
                ZtZ.pattern,
                tuple(cells.less(ZtZ.diagonal[f], WZ[f], Z[f], rows) for f, cells in levels),
                {
                    (i, j): cells.less(ZtZ.off_diagonal[i, j], WZ[i], Z[j], rows)
                    for (i, j), cells in self.pairs.items()
                },
            ),
            ZtXy=tuple(cells.less(all_rows.ZtXy[f], WZ[f], Xy, rows) for f, cells in levels),
            XytXy=all_rows.XytXy - weighted.T @ Xy,
            log_weights=all_rows.log_weights - (0.0 if w is None else float(np.log(w).sum())),
        )


def has_independent_columns(crossprod: CrossProducts) -> bool:
    """Whether X has full rank in the rows, and each column of a random term a row."""
    p = crossprod.p
    diagonal = np.diag(crossprod.XytXy)
    if crossprod.n <= p or not (diagonal[:p] > 0.0).all():
        return False
    if any(not (np.einsum("kkl->k", A) > 0.0).all() for A in crossprod.ZtZ.diagonal):
        return False
    scale = 1.0 / np.sqrt(diagonal[:p])
    values = np.linalg.eigvalsh(crossprod.XytXy[:p, :p] * np.outer(scale, scale))
    return bool(values.min(initial=1.0) > _INDEPENDENT)
