"""Cross-products of a response that is drawn, without rows: from those of the columns alone.

With ``y = X beta + Z b + e`` and ``G = [Z X]'W[Z X]``, all that a likelihood needs of e is

    [Z X]'We ~ N(0, sigma**2 G)        e'We = sigma**2 (z'z + chi2(n - rank G))

where ``sigma M z`` is the first, M a root of G of full column rank: ``z'z`` is the part of ``e'We``
in the span of the columns, and the rest is independent of it. The products of y with the columns
follow, whatever G's rank, and no draw differs in distribution from one of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CHOLESKY, CrossProducts
from mixedfx.linalg.cholesky.batched import flatten, unflatten
from mixedfx.linalg.cholesky.root import CovarianceRoot
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


class NoiseProducts(NamedTuple):
    """Products of the residuals e of a response with the columns."""

    Zte: Vector  # (q,) Z'We, in the order of elimination
    Xte: Vector  # (p,) X'We
    ete: float  # e'We


@dataclass(frozen=True)
class DrawnResponses:
    """Responses with the columns of cross-products, as these see them."""

    crossprod: CrossProducts
    root: CovarianceRoot = field(repr=False)

    @staticmethod
    def of(crossprod: CrossProducts) -> DrawnResponses:
        """Of the columns of cross-products, factorised exactly."""
        p, own = crossprod.p, replace(crossprod, solver=CHOLESKY)
        ZtX = [ZtXy[:, :p] for ZtXy in own.ZtXy]
        return DrawnResponses(own, CovarianceRoot.of(own.ZtZ, ZtX, own.XytXy[:p, :p]))

    def noise(self, sigma: float, rng: np.random.Generator) -> NoiseProducts:
        """Draw the products of residuals of this standard deviation, over the root of a weight."""
        Zte, Xte, squares = self.root.draw(rng)
        if (left := self.crossprod.n - self.root.rank) > 0:
            squares += float(rng.chisquare(left))
        return NoiseProducts(sigma * Zte, sigma * Xte, sigma**2 * squares)


def with_drawn_response(
    crossprod: CrossProducts, beta: Vector, effects: Sequence[Matrix], noise: NoiseProducts
) -> CrossProducts:
    """
    Cross-products with the response of these coefficients, effects and residuals.

    ``effects`` are those of each grouping factor, (K, levels), in the terms' bases.
    """
    of_residuals = products_of_residuals(crossprod, effects, noise)
    return _about_least_squares(crossprod, beta, of_residuals)


def products_of_residuals(
    crossprod: CrossProducts, effects: Sequence[Matrix], noise: NoiseProducts
) -> NoiseProducts:
    """Products of ``y - X beta = Z b + e``."""
    symbolic = crossprod.symbolic
    b = np.zeros(symbolic.size)
    for f, v in enumerate(effects):
        b[symbolic.columns(f)] = flatten(v[:, None])[:, 0]
    ZtZb = crossprod.assembled.sparse_matrix @ b
    rtr = float(b @ ZtZb + 2.0 * b @ noise.Zte + noise.ete)
    return NoiseProducts(ZtZb + noise.Zte, crossprod.ZtX.T @ b + noise.Xte, rtr)


def _about_least_squares(
    crossprod: CrossProducts, beta: Vector, of_residuals: NoiseProducts
) -> CrossProducts:
    """Cross-products with a response of which those of ``y - X beta`` are known."""
    p, symbolic = crossprod.p, crossprod.symbolic
    coef = least_squares_of(crossprod.XytXy[:p, :p], of_residuals.Xte)
    Ztr = of_residuals.Zte - crossprod.ZtX @ coef
    ZtXy = []
    for f, old in enumerate(crossprod.ZtXy):
        new = old.copy()
        new[:, p] = unflatten(Ztr[symbolic.columns(f), None], len(old))[:, 0]
        ZtXy.append(new)
    XytXy = products_about(crossprod.XytXy, coef, of_residuals)
    ols_coef = beta + solve_upper(crossprod.qr_R, coef)
    return replace(crossprod, ZtXy=tuple(ZtXy), XytXy=XytXy, ols_coef=ols_coef)


def least_squares_of(XtX: Matrix, Xtr: Vector) -> Vector:
    """Coefficients of r in the basis of X."""
    return np.asarray(np.linalg.solve(XtX, Xtr) if len(Xtr) else Xtr)


def products_about(XytXy: Matrix, coef: Vector, of_residuals: NoiseProducts) -> Matrix:
    """``[X, r - X coef]'W[X, r - X coef]``, given that of X and the products of r."""
    p, found = len(coef), XytXy.copy()
    XtX_coef = found[:p, :p] @ coef
    found[:p, p] = found[p, :p] = of_residuals.Xte - XtX_coef
    found[p, p] = of_residuals.ete - coef @ (2.0 * of_residuals.Xte - XtX_coef)
    return found
