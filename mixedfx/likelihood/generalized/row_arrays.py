"""Rows of a generalised model as arrays: linear predictors, and sums over rows.

Everything that the likelihood computes from rows is a linear predictor, a sum over the rows of a
level, or a sum over the rows that two levels share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.families.derivatives import AllDerivatives
from mixedfx.families.family import Family, ParamDerivatives, RowDerivatives
from mixedfx.likelihood.generalized.factor_rows import FactorRows, PairRows
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.precision import PrecisionBasis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Mean size of log densities from which they are taken relative to their largest.
_LARGE = 1e3


@dataclass(frozen=True, kw_only=True)
class RowArrays(RowsModel):
    """Response, offset, fixed columns, and columns of each factor."""

    y: Vector  # (n,) response on the scale of the mean
    weights: Vector | None  # (n,) trials, prior weights, or numbers of merged rows
    offset: Vector | None
    X: Matrix = field(repr=False)  # (n, p) of equal root mean squares, nearly uncorrelated
    factors: tuple[FactorRows, ...] = field(repr=False)
    pairs: Mapping[tuple[int, int], PairRows] = field(repr=False)
    constants: float  # what of the log density depends on no parameter

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.y, self.weights, self.offset, self.X, self.qr_R)

    @property
    def effect_shapes(self) -> tuple[tuple[int, int], ...]:
        """Columns K and effects of each column, of each factor."""
        return tuple((f.width, f.n_effects) for f in self.factors)

    @property
    def level_bases(self) -> tuple[PrecisionBasis | None, ...]:
        """Bases of the levels' effects, of which rows may have several."""
        return tuple(factor.level_basis for factor in self.factors)

    @cached_property
    def base(self) -> Vector | None:
        """
        Log densities near their largest, to which those of the rows are relative, (n,).

        None where they are not so large that their sum would lose digits: counts of millions.
        """
        return largest_densities(self.family, self.y, self.weights)

    def derivatives(self, eta: Vector, params: Vector, *, third: bool = False) -> RowDerivatives:
        """Log densities relative to ``base``, and their derivatives."""
        return self.relative(
            self.family.derivatives(self.y, self.weights, eta, params, third=third)
        )

    def relative(self, at: RowDerivatives) -> RowDerivatives:
        """Log densities relative to ``base``."""
        return at if self.base is None else at._replace(value=at.value - self.base)

    def by_params(self, eta: Vector, params: Vector) -> ParamDerivatives:
        """Derivatives of those of the rows by the coordinates of the family's parameters."""
        return self.family.by_params(self.y, self.weights, eta, params)

    def all_derivatives(self, eta: Vector, params: Vector) -> AllDerivatives | None:
        """Those of Laplace's Hessian, of one predictor, where the family writes them."""
        return self.family.all_derivatives(self.y, self.weights, eta, params)

    @cached_property
    def rounding(self) -> float:
        """Rounding error of a sum of log densities relative to ``base``."""
        return 0.0 if self.base is None else 1e-15 * float(np.abs(self.base).sum())

    @property
    def largest(self) -> float:
        """Sum of ``base`` and of the constants."""
        return self.constants + (0.0 if self.base is None else float(self.base.sum()))

    def fixed_predictor(self, beta: Vector) -> Vector:
        """``offset + X beta``, of coefficients in the basis, (n,)."""
        eta = self.X @ beta
        return eta if self.offset is None else eta + self.offset

    def random_predictor(self, effects: Sequence[Matrix]) -> Vector | float:
        """``Z b`` of the effects of each factor, (n,); zero without factors."""
        parts = [f.predictor(b) for f, b in zip(self.factors, effects, strict=True)]
        return sum(parts[1:], parts[0]) if parts else 0.0

    def sums(self, values: Vector) -> list[Matrix]:
        """``Z'v`` of each factor, (K, L)."""
        return [f.sums(values) for f in self.factors]

    def fixed_sums(self, values: Vector) -> Vector:
        """``X'v``, (p,)."""
        return np.asarray(self.X.T @ values)

    def fixed_products(self, weights: Vector) -> Matrix:
        """``X'WX``, (p, p)."""
        return np.asarray((self.X * weights[:, None]).T @ self.X)

    def weighted_columns(self, weights: Vector) -> list[Vector]:
        """Columns of ``WX``, p times (n,)."""
        return [weights * self.X[:, j] for j in range(self.p)]

    def random_by_fixed(self, weights: Vector) -> list[Matrix]:
        """``Z'WX`` of each factor, (K, p, L)."""
        columns = self.weighted_columns(weights)
        return [
            np.stack([factor.sums(column) for column in columns], axis=1)
            if self.p
            else np.zeros((factor.width, 0, factor.n_effects))
            for factor in self.factors
        ]

    @property
    def n_predictors(self) -> int:
        """Number of linear predictors."""
        return 1

    @property
    def fixed_columns(self) -> Array:
        """Columns of X as they are in each predictor, (p, predictors, n)."""
        return self.X.T[:, None]

    # With several predictors a weight is a matrix in each row, and its slope has three indices.

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the weights of all rows."""
        return (len(self.y),)

    def weighted(self, weights: Vector, values: Vector | float) -> Vector:
        """``W v``, (n,)."""
        return np.asarray(weights * values)

    def positive(self, weights: Vector) -> bool:
        """Whether no weight is negative."""
        return bool((weights >= 0.0).all())

    def nonnegative(self, weights: Vector) -> Vector:
        """The nearest weights without negative ones."""
        return np.maximum(weights, 0.0)

    def by_predictor(self, slopes: Vector, h: Vector) -> Vector:
        """``sum_ab h_ab dW_ab/deta``, of one predictor ``h dw/deta``, (n,)."""
        return np.asarray(slopes * h)

    def by_params_sums(self, by: ParamDerivatives, h: Array, As: Array | float) -> Vector:
        """``sum h dw/dphi + (As)' dg/dphi`` over rows and predictors, (r,)."""
        of_weight = by.weight.reshape(len(by.weight), h.size) @ h.ravel()
        of_first = by.first * As
        return np.asarray(of_weight + of_first.sum(axis=tuple(range(1, of_first.ndim))))

    def weighted_products(self, weights: Vector) -> BlockMatrix:
        """``Z'WZ``."""
        off_diagonal = {
            (i, j): pair.blocks(weights, self.factors[i], self.factors[j])
            for (i, j), pair in self.pairs.items()
        }
        return BlockMatrix(
            self.pattern, tuple(f.blocks(weights) for f in self.factors), off_diagonal
        )

    def quadratic(
        self, diagonal: Sequence[Matrix], off_diagonal: Mapping[tuple[int, int], Matrix]
    ) -> Vector:
        """``z'Bz`` of each row for a symmetric B on the block pattern, (n,)."""
        total = np.zeros(self.weights_shape)
        for factor, blocks in zip(self.factors, diagonal, strict=True):
            total += factor.quadratic(blocks)
        for (i, j), pair in self.pairs.items():
            total += 2.0 * pair.bilinear(off_diagonal[i, j], self.factors[i], self.factors[j])
        return total


def log_constants(
    family: Family, y: Vector, weights: Vector | None, multiplicity: Vector | None
) -> Vector:
    """Constants of log densities; of rows that stand for several with trials each, their sums."""
    if multiplicity is None or weights is None:
        return family.constants(y, weights)
    return np.asarray(multiplicity * family.constants(y, weights / multiplicity))


def largest_densities(family: Family, y: Vector, weights: Vector | None) -> Vector | None:
    """Log densities near their largest, (n,); None where they are not large."""
    if not family.can_be_large(weights):
        return None
    with np.errstate(all="ignore"):
        eta = np.asarray(family.link.link(family.starting_mean(y, weights)))
        value = family.derivatives(y, weights, eta, family.first_params(y, weights)).value
    large = np.isfinite(value).all() and float(np.abs(value).mean()) > _LARGE
    return value if large else None
