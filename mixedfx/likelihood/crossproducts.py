"""What is left of the data: cross-products, which add up over portions of the rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.covariance.parametrization import Parametrization
from mixedfx.design.levels import Levels
from mixedfx.errors import DataError
from mixedfx.linalg.cholesky.batched import flatten
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix, OffDiagonalBlock
from mixedfx.linalg.cholesky.symbolic import SymbolicFactor, analyze

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Columns of a random term whose scaled cross-products have a smaller eigenvalue than this are
# nearly dependent, and are left as they are.
_INDEPENDENT = 1e-12


@dataclass(frozen=True)
class TermPosition:
    """
    Where one random term stands among the factors.

    Parameters
    ----------
    factor : int
        The grouping factor; terms of one group share it.
    start : int
        First of the term's columns within the factor.
    width : int
        Number of its columns.
    """

    factor: int
    start: int
    width: int


@dataclass(frozen=True)
class CrossProducts:
    """
    The data, reduced: its size does not depend on the number of rows.

    Cross-products of two portions of the rows add up to those of both: ``a + b``.

    Parameters
    ----------
    n : int
        Rows.
    response : str
        What the response is called.
    names : tuple of str
        Fixed columns, ``p`` of them.
    groups : tuple of str
        Grouping factors.
    levels : tuple of Levels
        Their levels.
    plan : mixedfx.linalg.cholesky.Plan
        ``Z'WZ``, by grouping factor, with its order of elimination.
    border : tuple of ndarray of shape (K, p + 1, L)
        Each grouping factor's cross-products with ``[X B^-1, y - X centre]``.
    corner : ndarray of shape (p + 1, p + 1)
        Cross-products of ``[X B^-1, y - X centre]``.
    slots : tuple of Slot
        The random terms, in formula order.
    layout : mixedfx.covariance.parametrization.parametrization.Parametrization
        Their parameters.
    centre : ndarray of shape (p,)
        Least-squares coefficients, about which the response was taken.
    basis : ndarray of shape (p, p) or None
        Upper triangular ``B``, with orthonormal ``X B^-1``; None for the identity.
    log_weights : float
        Sum of the logarithms of the weights.
    sigma : float or None
        Residual standard deviation of a row of weight one, where it is known.
    """

    n: int
    response: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    levels: tuple[Levels, ...] = field(repr=False)
    symbolic: SymbolicFactor = field(repr=False)
    ZtXy: tuple[Matrix, ...] = field(repr=False)
    XytXy: Matrix = field(repr=False)
    term_positions: tuple[TermPosition, ...]
    parametrization: Parametrization
    ols_coef: Vector = field(repr=False)
    qr_R: Matrix | None = field(repr=False)
    log_weights: float
    sigma: float | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values(), *self.ZtXy)

    @property
    def p(self) -> int:
        """Fixed columns."""
        return len(self.names)

    @property
    def ZtZ(self) -> BlockMatrix:
        """``Z'WZ``, by grouping factor."""
        return self.symbolic.block_matrix

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Add the cross-products of other rows of the same model."""
        return _add(self, other) if isinstance(other, CrossProducts) else NotImplemented

    @cached_property
    def column_rms(self) -> tuple[Vector, ...]:
        """Root mean square of each term's columns, weighted: the unit of its parameters."""
        sums = [np.einsum("aal->a", self.ZtZ.diagonal[s.factor]) for s in self.term_positions]
        return tuple(
            np.sqrt(total[s.start : s.start + s.width] / self.n)
            for total, s in zip(sums, self.term_positions, strict=True)
        )

    @cached_property
    def term_scaling(self) -> tuple[Matrix, ...]:
        """
        Change of each term's columns to unit-free ones, ``Z W``.

        For an unstructured term, which any change of columns leaves the same model, they are
        also uncorrelated over the rows, so that a slope by a column far from zero, such as a
        year, is as easy to search for as by its deviations from the mean.
        """
        term_scaling = []
        for position, scale, structure in zip(
            self.term_positions, self.column_rms, self.parametrization.structures, strict=True
        ):
            part = slice(position.start, position.start + position.width)
            unit = np.diag(1.0 / scale)
            if structure == "us" and position.width > 1:
                total = self.ZtZ.diagonal[position.factor][part, part].sum(axis=2) / self.n
                values = np.linalg.eigvalsh(unit @ total @ unit)
                if values[0] > _INDEPENDENT:
                    root = np.linalg.cholesky(unit @ total @ unit)
                    unit = unit @ np.linalg.inv(root).T
            term_scaling.append(unit)
        return tuple(term_scaling)

    @cached_property
    def theta_scale(self) -> Vector:
        """
        Scale of each entry of theta: times it, theta is free of units.

        The scale of the column that the entry's row belongs to.
        """
        parts = [
            s[rows]
            for s, (rows, _) in zip(self.column_rms, self.parametrization.positions, strict=True)
        ]
        unit = np.concatenate(parts) if parts else np.zeros(0)
        set_readonly(unit)
        return unit

    @property
    def log_det_basis(self) -> float:
        """``log |B'B|``."""
        if self.qr_R is None:
            return 0.0
        return 2.0 * float(np.log(np.abs(np.diag(self.qr_R))).sum())

    @property
    def flat_border(self) -> Matrix:
        """``Z'WX B^-1``, of shape (q, p), rows in the order of elimination."""
        out = np.zeros((self.symbolic.size, self.p))
        for f in self.ZtZ.factors:
            out[self.symbolic.columns(f)] = flatten(self.ZtXy[f][:, : self.p])
        return out

    def factor_lambdas(self, lambdas: list[Matrix]) -> list[Matrix]:
        """Put the terms' Lambdas on the diagonal of their factors' Lambdas."""
        result = [np.zeros(d.shape[:2]) for d in self.ZtZ.diagonal]
        for position, lam in zip(self.term_positions, lambdas, strict=True):
            part = slice(position.start, position.start + position.width)
            result[position.factor][part, part] = lam
        return result

    def term_rows(self, arrays: list[Matrix]) -> list[Matrix]:
        """Cut each term's rows out of one array per factor."""
        return [arrays[s.factor][s.start : s.start + s.width] for s in self.term_positions]

    def term_blocks(self, arrays: list[Matrix]) -> list[Matrix]:
        """Cut each term's diagonal block out of one square array per factor."""
        parts = [slice(s.start, s.start + s.width) for s in self.term_positions]
        return [arrays[s.factor][c, c] for s, c in zip(self.term_positions, parts, strict=True)]

    def to_natural(self, inner: Matrix) -> Matrix:
        """``B^-1 inner B^-T``: a covariance of coefficients in the units of X."""
        if self.qr_R is None:
            return inner
        half = linalg.solve_triangular(self.qr_R, inner)
        return np.asarray(linalg.solve_triangular(self.qr_R, half.T))


def _add(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """Join the levels, refer the second response to the first's centre, and add up."""
    if (a.names, a.groups, a.term_positions, a.parametrization) != (
        b.names,
        b.groups,
        b.term_positions,
        b.parametrization,
    ):
        raise DataError(
            "these cross-products are of different models: fixed columns "
            f"{', '.join(a.names)} and {', '.join(b.names)}, groups {', '.join(a.groups)} and "
            f"{', '.join(b.groups)}. Portions of one table need the same columns: make "
            "factors categorical with all their levels."
        )
    joined = [one.union(other) for one, other in zip(a.levels, b.levels, strict=True)]
    qr_R = b.qr_R if a.qr_R is None else a.qr_R
    Ta, Tb = _to_common(a, a.ols_coef, qr_R), _to_common(b, a.ols_coef, qr_R)
    off_diagonal = {
        (i, j): _add_couplings(
            (a.ZtZ.off_diagonal[i, j], joined[i][1], joined[j][1]),
            (b.ZtZ.off_diagonal[i, j], joined[i][2], joined[j][2]),
        )
        for i, j in a.ZtZ.off_diagonal
    }
    diagonal, ZtXy = [], []
    for f, (levels, mine, theirs) in enumerate(joined):
        L = len(levels)
        diagonal.append(_spread(a.ZtZ.diagonal[f], mine, L) + _spread(b.ZtZ.diagonal[f], theirs, L))
        sides = [np.einsum("kml,mc->kcl", x.ZtXy[f], T) for x, T in ((a, Ta), (b, Tb))]
        ZtXy.append(_spread(sides[0], mine, L) + _spread(sides[1], theirs, L))
    return replace(
        a,
        n=a.n + b.n,
        levels=tuple(levels for levels, _, _ in joined),
        symbolic=analyze(BlockMatrix(tuple(diagonal), off_diagonal)),
        ZtXy=tuple(ZtXy),
        XytXy=Ta.T @ a.XytXy @ Ta + Tb.T @ b.XytXy @ Tb,
        qr_R=qr_R,
        log_weights=a.log_weights + b.log_weights,
    )


def _to_common(crossprod: CrossProducts, ols_coef: Vector, qr_R: Matrix | None) -> Matrix:
    """Matrix that turns ``[X B^-1, y - X old]`` into ``[X basis^-1, y - X centre]``."""
    own = np.eye(crossprod.p) if crossprod.qr_R is None else crossprod.qr_R
    T = np.eye(crossprod.p + 1)
    T[:-1, :-1] = own
    if qr_R is not None:
        T[:-1, :-1] = linalg.solve_triangular(qr_R, own.T, trans="T").T
    T[:-1, -1] = own @ (crossprod.ols_coef - ols_coef)
    return T


def _spread(array: Matrix, at: npt.NDArray[np.intp], L: int) -> Matrix:
    out = np.zeros((*array.shape[:2], L))
    out[:, :, at] = array
    return out


def _add_couplings(*parts: tuple[OffDiagonalBlock, Any, Any]) -> OffDiagonalBlock:
    rows = np.concatenate([at[c.rows] for c, at, _ in parts])
    cols = np.concatenate([to[c.cols] for c, _, to in parts])
    values = np.concatenate([c.values for c, _, _ in parts], axis=2)
    width = int(cols.max()) + 1
    keys, inverse = np.unique(rows * width + cols, return_inverse=True)
    summed = [[np.bincount(inverse, v, len(keys)) for v in row] for row in values]
    return OffDiagonalBlock(keys // width, keys % width, np.array(summed))
