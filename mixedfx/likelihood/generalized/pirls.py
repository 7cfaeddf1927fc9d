"""Conditional modes of the random effects: penalised iteratively reweighted least squares.

The modes minimise ``-sum l(eta) + u'u/2`` at given Lambda, beta and family parameters. A Newton
step solves (Bates and others 2015, section 3, with the observed weights W)

    (Lambda'Z'WZ Lambda + I) u_new = Lambda'Z'(W Zb + g),       b = Lambda u,

and is shortened until the objective falls: with one grouping factor level by level, as its levels
are independent. The determinant is not stationary at the modes, so that these are found to the
last digits: the search ends by the gradient ``Lambda'Z'g - u``, whose norm bounds the error of u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ModesNotFound
from mixedfx.families.family import RowDerivatives
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.linalg.cholesky.batched import matmul_left, matmul_right
from mixedfx.linalg.cholesky.numeric import NumericFactor
from mixedfx.linalg.solver import Factor

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Norm of the gradient of a spherical effect at which the modes are found.
_TOLERANCE = 1e-11
# From a gradient below this a Newton step mostly ends at the modes, as it squares the error.
_LAST_STEP = 1e-5
# A gradient below this is at the modes if rounding of the objective lets it fall no further.
_ROUNDING = 1e-6
_MAX_ITERATIONS = 100
_MAX_HALVINGS = 40


@dataclass(frozen=True)
class Modes:
    """Conditional modes at one set of parameters, and what the rows are there."""

    rows: GeneralizedRows = field(repr=False)
    lambdas: tuple[Matrix, ...] = field(repr=False)  # of each grouping factor
    params: Vector  # of the family, natural values
    fixed: Vector = field(repr=False)  # (n,) offset + X beta
    u: tuple[Matrix, ...] = field(repr=False)  # (K, L) spherical effects of each factor
    eta: Vector = field(repr=False)  # (n,)
    at_rows: RowDerivatives = field(repr=False)  # to the third derivative
    Ztg: tuple[Matrix, ...] = field(repr=False)  # (K, L), ``Z'g`` of each factor
    numeric: Factor = field(repr=False)  # at the weights of the modes
    iterations: int

    @property
    def b(self) -> list[Matrix]:
        """Effects ``Lambda u`` in the bases, (K, L) of each factor."""
        return _scaled(self.lambdas, self.u)

    @property
    def least_curvature(self) -> float:
        """
        Smallest eigenvalue of the levels' blocks of ``Lambda'Z'WZ Lambda + I``.

        It is 1 or more where all weights are positive, and goes to zero where a mode and a saddle
        of the density merge: Laplace's approximation divides by it.
        """
        if self.rows.positive(self.at_rows.weight):
            return 1.0
        blocks = zip(self.lambdas, self.numeric.assembled.diagonal, strict=True)
        return min((_least_eigenvalue(lam, ZtWZ) for lam, ZtWZ in blocks), default=1.0)

    @property
    def penalized_loglik(self) -> float:
        """``sum l - u'u/2``, constants included."""
        return float(self.at_rows.value.sum()) + self.rows.largest - 0.5 * _squares(self.u)


def find_modes(
    rows: GeneralizedRows,
    lambdas: Sequence[Matrix],
    fixed: Vector,
    params: Vector,
    start: Sequence[Matrix] | None = None,
) -> Modes:
    """Find the modes, from a start that is near or from zero."""
    return _Search(rows, tuple(lambdas), fixed, params).run(start)


def _scaled(lambdas: Sequence[Matrix], u: Sequence[Matrix]) -> list[Matrix]:
    return [lam @ v for lam, v in zip(lambdas, u, strict=True)]


def _least_eigenvalue(lam: Matrix, ZtWZ: Matrix) -> float:
    """Of ``lam' ZtWZ lam + I`` over the levels, the last axis."""
    blocks = matmul_left(lam.T, matmul_right(ZtWZ, lam))
    if len(blocks) == 1:
        return 1.0 + float(blocks.min(initial=np.inf))
    if len(blocks) == 2:
        middle, half = blocks[0, 0] + blocks[1, 1], blocks[0, 0] - blocks[1, 1]
        least = 0.5 * (middle - np.sqrt(half**2 + 4.0 * blocks[0, 1] ** 2))
        return 1.0 + float(least.min(initial=np.inf))
    return 1.0 + float(np.linalg.eigvalsh(np.moveaxis(blocks, 2, 0)).min(initial=np.inf))


def _squares(u: Sequence[Matrix]) -> float:
    return float(sum(np.vdot(v, v) for v in u))


@dataclass(frozen=True)
class _Search:
    """Damped Newton search at one set of parameters."""

    rows: GeneralizedRows
    lambdas: tuple[Matrix, ...]
    fixed: Vector
    params: Vector

    def run(self, start: Sequence[Matrix] | None) -> Modes:
        """Newton steps from the start."""
        with np.errstate(all="ignore"):
            zero = [np.zeros((f.width, f.n_effects)) for f in self.rows.factors]
            u = zero if start is None else [np.array(v) for v in start]
            Zb, at = self._at(u)
            if start is not None and not np.isfinite(at.value.sum()):
                u = zero
                Zb, at = self._at(u)
            if not np.isfinite(at.value.sum()):
                raise ModesNotFound("the mean is outside the family's range")
            return self._iterate(u, Zb, at)

    def _iterate(self, u: list[Matrix], Zb: Vector | float, at: RowDerivatives) -> Modes:
        last = np.inf
        for iteration in range(1, _MAX_ITERATIONS + 1):
            Ztg = self.rows.sums(at.first)
            gradient = [lam.T @ v - w for lam, v, w in zip(self.lambdas, Ztg, u, strict=True)]
            norm = np.sqrt(_squares(gradient))
            scale = np.sqrt(self.rows.q) + np.sqrt(_squares(u))
            small = norm <= _TOLERANCE * scale or (last <= _ROUNDING * scale and norm >= 0.5 * last)
            weight, numeric = at.weight, self._factorize(at.weight)
            if small and numeric is not None:
                eta = self.fixed + Zb
                full = at if at.weight_slope is not None else self._derivatives(eta, third=True)
                found = (self.lambdas, self.params, self.fixed, tuple(u), eta, full, tuple(Ztg))
                return Modes(self.rows, *found, numeric, iteration)
            if numeric is None:
                weight = self.rows.nonnegative(at.weight)
                numeric = self._factorize(weight)
            if numeric is None:
                break
            last = norm if norm <= _ROUNDING * scale else np.inf
            target = self._newton_target(numeric, weight, Ztg, Zb)
            u, Zb, at = self._step(u, target, at, third=bool(norm <= _LAST_STEP * scale))
        raise ModesNotFound("the conditional modes of the random effects were not found")

    def _newton_target(
        self, numeric: Factor, weight: Vector, Ztg: list[Matrix], Zb: Vector | float
    ) -> list[Matrix]:
        """``M^-1 Lambda'Z'(W Zb + g)`` of each factor, at the weights of the factorisation."""
        WZb = self.rows.weighted(weight, Zb)
        rhs = [s + v for s, v in zip(self.rows.sums(WZb), Ztg, strict=True)]
        if isinstance(numeric, NumericFactor) and numeric.levels_are_apart:
            return [numeric.solve_levels(rhs[0])]
        schur = numeric.schur_complement([v[:, None] for v in rhs], np.zeros((1, 1)))
        return schur.back_substitute(np.ones(1))[1]

    def _step(
        self, u: list[Matrix], target: list[Matrix], at: RowDerivatives, *, third: bool
    ) -> tuple[list[Matrix], Vector | float, RowDerivatives]:
        """The longest of the steps 1, 1/2, ... to the target at which the objective falls."""
        levelwise = len(u) == 1 and self.rows.factors[0].basis is None
        before = self._objective(u, at, levelwise=levelwise)
        share = np.ones_like(before)
        for _ in range(_MAX_HALVINGS):
            trial = [v + share * (t - v) for v, t in zip(u, target, strict=True)]
            Zb, trial_at = self._at(trial, third=third)
            after = self._objective(trial, trial_at, levelwise=levelwise)
            # Negated, so that NaN is a failure.
            failed = ~(after <= before + 1e-12 * (1.0 + np.abs(before)) + self.rows.rounding)
            if not failed.any():
                return trial, Zb, trial_at
            share = np.where(failed, 0.5 * share, share)
        raise ModesNotFound("no step lowers the objective of the conditional modes")

    def _objective(self, u: list[Matrix], at: RowDerivatives, *, levelwise: bool) -> Vector:
        """``-sum l + u'u/2``: of each level of a single factor, or of all."""
        if levelwise:
            factor = self.rows.factors[0]
            by_level = np.bincount(factor.codes, at.value, factor.n_levels)
            return np.asarray(0.5 * (u[0] ** 2).sum(axis=0) - by_level)
        return np.array([0.5 * _squares(u) - float(at.value.sum())])

    def _at(self, u: list[Matrix], *, third: bool = False) -> tuple[Vector | float, RowDerivatives]:
        """``Zb`` and the derivatives of the rows at spherical effects."""
        Zb = self.rows.random_predictor(_scaled(self.lambdas, u))
        return Zb, self._derivatives(self.fixed + Zb, third=third)

    def _derivatives(self, eta: Vector, *, third: bool) -> RowDerivatives:
        return self.rows.derivatives(eta, self.params, third=third)

    def _factorize(self, weights: Vector) -> Factor | None:
        """Factorise M; None where it is not positive definite."""
        try:
            products = self.rows.weighted_products(weights)
            numeric = self.rows.solver.factorize(products, self.lambdas)
        except (np.linalg.LinAlgError, ValueError):
            return None
        return numeric if np.isfinite(numeric.log_det) else None
