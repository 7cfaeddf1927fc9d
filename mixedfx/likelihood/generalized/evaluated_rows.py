"""Rows in memory at one linear predictor: derivatives of each, and the sums of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.families.derivatives import AllDerivatives
from mixedfx.families.family import ParamDerivatives, RowDerivatives
from mixedfx.likelihood.generalized.node_sums import Nodes, NodeSums, sums_of_rows
from mixedfx.likelihood.generalized.row_arrays import RowArrays
from mixedfx.likelihood.generalized.rows_model import (
    LogDetRows,
    RowsAt,
    ThroughSums,
    WorkingSums,
)
from mixedfx.linalg.cholesky.block_matrix import BlockMatrix
from mixedfx.linalg.cholesky.inverse_blocks import LogDetDerivatives

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class EvaluatedRows(RowsAt):
    """Rows in memory, with the derivatives of each at a linear predictor."""

    rows: RowArrays = field(repr=False)
    params: Vector  # of the family, natural values
    fixed: Vector = field(repr=False)  # (n,) offset + X beta
    Zb: Vector | float = field(repr=False)  # (n,); zero without factors
    derivatives: RowDerivatives = field(repr=False)
    # With those that Laplace's Hessian needs: of a family that writes them, and with the third
    all_derivatives: AllDerivatives | None = field(default=None, repr=False)

    @staticmethod
    def of(
        rows: RowArrays, fixed: Vector, effects: Sequence[Matrix], params: Vector, *, third: bool
    ) -> EvaluatedRows:
        """Evaluate the rows."""
        Zb = rows.random_predictor(effects)
        return EvaluatedRows(
            rows, params, fixed, Zb, *_derivatives(rows, fixed + Zb, params, third)
        )

    def total(self, function: Callable[[EvaluatedRows], T], *, third: bool = False) -> T:
        """A function of the rows."""
        return function(self.with_third() if third else self)

    @cached_property
    def by_params(self) -> ParamDerivatives:
        """Derivatives by the coordinates of the family's parameters."""
        known = self.all_derivatives
        return self.rows.by_params(self.eta, self.params) if known is None else known.by_params

    @cached_property
    def eta(self) -> Vector:
        """Linear predictor, (n,)."""
        return np.asarray(self.fixed + self.Zb)

    @property
    def value(self) -> float:
        """Sum of the log densities."""
        return float(self.derivatives.value.sum())

    @property
    def value_by_level(self) -> Vector:
        """The same of each level of a single factor."""
        factor = self.rows.factors[0]
        sums = np.bincount(factor.codes, self.derivatives.value, factor.n_levels)
        return np.asarray(sums, dtype=np.float64)

    @cached_property
    def Ztg(self) -> list[Matrix]:
        """``Z'g``."""
        return self.rows.sums(self.derivatives.first)

    @property
    def Xtg(self) -> Vector:
        """``X'g``."""
        return self.rows.fixed_sums(self.derivatives.first)

    @property
    def positive(self) -> bool:
        """Whether no weight is negative."""
        return self.rows.positive(self.derivatives.weight)

    def _weights(self, *, nonnegative: bool) -> Vector:
        w = self.derivatives.weight
        return self.rows.nonnegative(w) if nonnegative else w

    def products(self, *, nonnegative: bool = False) -> BlockMatrix:
        """``Z'WZ``."""
        return self.rows.weighted_products(self._weights(nonnegative=nonnegative))

    def weighted_effects(self, *, nonnegative: bool = False) -> list[Matrix]:
        """``Z'W Zb``."""
        weights = self._weights(nonnegative=nonnegative)
        return self.rows.sums(self.rows.weighted(weights, self.Zb))

    def curvature_by_level(self, *, nonnegative: bool = False) -> tuple[Vector, Vector | None]:
        """Of one predictor with its third derivatives; of several as of their products."""
        slope = self.derivatives.weight_slope
        if nonnegative or slope is None or self.rows.n_predictors > 1:
            return super().curvature_by_level(nonnegative=nonnegative)
        return self.rows.factors[0].powers_by_level(self.derivatives.weight, slope)

    def with_third(self) -> EvaluatedRows:
        """The same, with third derivatives."""
        if self.derivatives.weight_slope is not None:
            return self
        full, known = _derivatives(self.rows, self.eta, self.params, third=True)
        return replace(self, derivatives=full, all_derivatives=known)

    def by_log_det(self, of_log_det: LogDetDerivatives) -> EvaluatedLogDet:
        """Sums with the derivatives of ``log|H|``."""
        slope = self.derivatives.weight_slope
        assert slope is not None
        h = self.rows.quadratic(of_log_det.diagonal, of_log_det.off_diagonal)
        return EvaluatedLogDet(self, h, self.rows.by_predictor(slope, h))

    def over_nodes(self, nodes: Nodes, *, with_gradient: bool) -> NodeSums:
        """Sums over the nodes of a quadrature."""
        return sums_of_rows(self, nodes, with_gradient=with_gradient)

    def information(self) -> tuple[list[Matrix], Matrix]:
        """``Z'WX`` and ``X'WX``."""
        w = self._weights(nonnegative=True)
        return self.rows.random_by_fixed(w), self.rows.fixed_products(w)

    def working(self, least: float | None = None) -> WorkingSums:
        """Cross-products of the working linear model."""
        at = self.derivatives
        if least is not None:
            at = at._replace(weight=np.maximum(at.weight, least))
        return working_sums(self.rows, self.Zb, at)

    def scores_by_params(self) -> list[list[Matrix]]:
        """``Z'(dg/dphi)``."""
        return [self.rows.sums(first) for first in self.by_params.first]

    @property
    def working_rows(self) -> tuple[Vector | None, Vector | None]:
        """Working response and weights."""
        return working_response(self.eta, self.derivatives), self.derivatives.weight

    def any_certain(self, near: float, less: float, far: float) -> bool:
        """Whether a response is as good as certain."""
        rows, values = self.rows, self.derivatives.value
        at_bound = rows.family.unbounded(rows.y) != 0.0
        weights = np.ones(len(values)) if rows.weights is None else rows.weights
        certain = values > -np.where(np.abs(self.eta) > far, less, near) * weights
        return bool((at_bound & certain & (weights > 0.0)).any())

    def by_family_params(
        self, h: Vector, As: Vector | float, *, direct: Vector | None = None
    ) -> Vector:
        """
        ``-2 sum dl/dphi + sum h dw/dphi + (As)' dg/dphi`` by the family's coordinates, (r,).

        ``direct`` takes the place of ``sum dl/dphi`` where the density is averaged over nodes.
        """
        if not len(self.params):
            return np.zeros(0)
        by = self.by_params
        if direct is None:
            direct = by.value.sum(axis=-1)
        return np.asarray(-2.0 * direct + self.rows.by_params_sums(by, h, As))


def _derivatives(
    rows: RowArrays, eta: Vector, params: Vector, third: bool
) -> tuple[RowDerivatives, AllDerivatives | None]:
    """Those by the linear predictor, and with them all where the family writes these."""
    known = rows.all_derivatives(eta, params) if third else None
    if known is None:
        return rows.derivatives(eta, params, third=third), None
    return rows.relative(known.rows), known


@dataclass(frozen=True)
class EvaluatedLogDet(LogDetRows):
    """Rows in memory beside derivatives of ``log|H|``."""

    at: EvaluatedRows
    h: Vector = field(repr=False)  # (n,)
    c: Vector = field(repr=False)  # (n,)

    @property
    def Ztc(self) -> list[Matrix]:
        """``Z'c``."""
        return self.at.rows.sums(self.c)

    def through(self, effects: Sequence[Matrix]) -> ThroughSums:
        """Sums at ``Lambda s``."""
        at, rows = self.at, self.at.rows
        As = rows.random_predictor(effects)
        through = self.c - rows.weighted(at.derivatives.weight, As)
        by_eta = through - 2.0 * at.derivatives.first
        by_params = at.by_family_params(self.h, As)
        return ThroughSums(rows.sums(through), rows.fixed_sums(by_eta), by_params, by_eta)


def working_sums(rows: RowArrays, Zb: Vector | float, at: RowDerivatives) -> WorkingSums:
    """
    Cross-products at the observed weights, of X in its basis and ``z - offset - X beta``.

    ``Z'W(z - offset - X beta)`` is ``Z'(W Zb + g)``: nothing is divided by a weight but in the
    sum of squares of the response, on which no estimate depends.
    """
    w = at.weight
    residual = w * Zb + at.first
    squares = np.divide(residual**2, w, out=np.zeros_like(residual), where=w > 0.0)
    return WorkingSums(
        rows.fixed_products(w),
        rows.fixed_sums(residual),
        float(squares.sum()),
        rows.random_by_fixed(w),
        rows.sums(residual),
        rows.weighted_products(w),
    )


def working_response(eta: Vector, at: RowDerivatives) -> Vector:
    """``eta + g / w`` of each row; ``eta`` where the weight is not positive."""
    g, w = at.first, at.weight
    return eta + np.divide(g, w, out=np.zeros_like(g), where=w > 0.0)
