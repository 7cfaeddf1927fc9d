"""Cross-products about their own least-squares coefficients, in well-conditioned bases.

Those of rows in chunks are formed about coefficients and in bases that were known beforehand, and
at equal weights: at the end, and at other weights, an exact change of variables makes them those of
:mod:`mixedfx.likelihood.accumulate`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.accumulate import ILL_CONDITIONED
from mixedfx.likelihood.crossproducts import CrossProducts, in_bases
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class LeastSquares(NamedTuple):
    """Columns ``[X R^-1, y - X R^-1 coef]`` as combinations T of others."""

    R: Matrix  # (p, p) upper triangular
    T: Matrix  # (columns of the others, p + 1)
    coef: Vector  # (p,) of the columns of X R^-1

    @property
    def qr_R(self) -> Matrix | None:
        """R, None for the identity."""
        return None if is_identity(self.R) else self.R

    @property
    def ols_coef(self) -> Vector:
        """Coefficients of the columns of X."""
        return solve_upper(self.R, self.coef)

    def products(self, products: Matrix) -> Matrix:
        """Products of the columns from those of the others, symmetric."""
        found = self.T.T @ products @ self.T
        return np.asarray(0.5 * (found + found.T))


def least_squares(products: Matrix, n: int, R: Matrix, coef: Vector) -> LeastSquares:
    """About least squares, given the products of columns ``[X R^-1, y - X R^-1 coef]``."""
    p = len(coef)
    T = np.eye(p + 1)
    if p and smallest_eigenvalue(products[:p, :p]) <= ILL_CONDITIONED:
        root = np.asarray(np.linalg.cholesky(products[:p, :p] / n).T, float)
        T[:p, :p] = solve_upper(root, np.eye(p))
        R, coef = root @ R, root @ coef
        products = T.T @ products @ T
    if p:
        change = np.linalg.solve(products[:p, :p], products[:p, p])
        T[:, p] = T @ np.append(-change, 1.0)
        coef = coef + change
    return LeastSquares(R, T, coef)


def recentred(crossprod: CrossProducts) -> CrossProducts:
    """The same model's, about least squares at their weights, random columns of unit length."""
    p, n = crossprod.p, crossprod.n
    own = np.eye(p) if crossprod.qr_R is None else crossprod.qr_R
    columns = least_squares(crossprod.XytXy, n, own, own @ crossprod.ols_coef)
    scaled = []
    for position, basis in zip(crossprod.term_positions, crossprod.bases, strict=True):
        part = position.columns
        squares = np.einsum("aal->", crossprod.ZtZ.diagonal[position.group][part, part])
        scaled.append(replace(basis, R=basis.R * np.sqrt(squares / (n * position.width))))
    found = in_bases(crossprod, tuple(scaled))
    return replace(
        found,
        ZtXy=tuple(np.einsum("kml,mc->kcl", ZtXy, columns.T) for ZtXy in found.ZtXy),
        XytXy=columns.products(found.XytXy),
        ols_coef=columns.ols_coef,
        qr_R=columns.qr_R,
    )


def is_identity(R: Matrix) -> bool:
    """Whether columns are as they are."""
    return np.array_equal(np.eye(len(R)), R)


def smallest_eigenvalue(products: Matrix) -> float:
    """Of the products of columns at unit length."""
    return float(np.linalg.eigvalsh(at_unit_length(products)[0])[0])


def at_unit_length(products: Matrix) -> tuple[Matrix, Vector]:
    """Products of columns at unit length, and the lengths; one for columns of zeros."""
    size = np.sqrt(np.maximum(np.diag(products), 0.0))
    size[size == 0.0] = 1.0
    return products / np.outer(size, size), size
