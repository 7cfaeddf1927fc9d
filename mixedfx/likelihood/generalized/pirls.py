"""Conditional modes of the random effects: penalised iteratively reweighted least squares.

The modes minimise ``-sum l(eta) + u'u/2`` at given Lambda, beta and family parameters. A Newton
step solves (Bates and others 2015, section 3, with the observed weights W)

    (Lambda'Z'WZ Lambda + I) u_new = Lambda'Z'(W Zb + g),       b = Lambda u,

and is shortened until the objective falls: with one grouping factor level by level, as its levels
are independent. The determinant is not stationary at the modes, so that these are found to the
last digits: the search ends by the gradient ``Lambda'Z'g - u``, whose norm bounds the error of u.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ModesNotFound
from mixedfx.families.family import RowDerivatives
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.rows_model import RowsAt, RowsModel
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
# Share of a Newton step that the third derivatives may add or take away.
_MOST_BEND = 0.5
_MAX_ITERATIONS = 100
_MAX_HALVINGS = 40


@dataclass(frozen=True)
class Modes:
    """Conditional modes at one set of parameters, and what the rows are there."""

    model: RowsModel = field(repr=False)  # the rows, in memory or not
    lambdas: tuple[Matrix, ...] = field(repr=False)  # of each grouping factor
    params: Vector  # of the family, natural values
    u: tuple[Matrix, ...] = field(repr=False)  # (K, L) spherical effects of each factor
    at: RowsAt = field(repr=False)  # the rows at the modes, to the third derivative
    numeric: Factor = field(repr=False)  # at the weights of the modes
    iterations: int

    @property
    def rows(self) -> GeneralizedRows:
        """The rows, in memory."""
        return in_memory(self.model)

    @property
    def evaluated(self) -> EvaluatedRows:
        """The rows at the modes, in memory."""
        assert isinstance(self.at, EvaluatedRows)
        return self.at

    @property
    def fixed(self) -> Vector:
        """``offset + X beta`` of rows in memory, (n,)."""
        return self.evaluated.fixed

    @property
    def eta(self) -> Vector:
        """Linear predictor of rows in memory, (n,)."""
        return self.evaluated.eta

    @property
    def at_rows(self) -> RowDerivatives:
        """Derivatives of rows in memory, to the third."""
        return self.evaluated.derivatives

    @property
    def Ztg(self) -> list[Matrix]:
        """``Z'g`` of each factor, (K, L)."""
        return self.at.Ztg

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
        if self.at.positive:
            return 1.0
        blocks = zip(self.lambdas, self.numeric.assembled.diagonal, strict=True)
        return min((_least_eigenvalue(lam, ZtWZ) for lam, ZtWZ in blocks), default=1.0)

    @property
    def penalized_loglik(self) -> float:
        """``sum l - u'u/2``, constants included."""
        return self.at.value + self.model.largest - 0.5 * _squares(self.u)


def in_memory(rows: RowsModel) -> GeneralizedRows:
    """Rows, for what is computed from arrays of them."""
    assert isinstance(rows, GeneralizedRows)
    return rows


def find_modes(
    rows: RowsModel,
    lambdas: Sequence[Matrix],
    fixed: Any,
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
    total = 0.0
    for v in u:
        total += float(np.vdot(v, v))
    return total


@dataclass(frozen=True)
class _Search:
    """Damped Newton search at one set of parameters."""

    rows: RowsModel
    lambdas: tuple[Matrix, ...]
    fixed: Any  # of the linear predictor, as the rows have it
    params: Vector

    def run(self, start: Sequence[Matrix] | None) -> Modes:
        """Newton steps from the start."""
        with np.errstate(all="ignore"):
            u = self.rows.zero_effects if start is None else [np.array(v) for v in start]
            # A start may be the modes, where the third derivatives will be needed.
            at = self._at(u, third=start is not None)
            if start is not None and not np.isfinite(at.value):
                u = self.rows.zero_effects
                at = self._at(u)
            if not np.isfinite(at.value):
                raise ModesNotFound("the mean is outside the family's range")
            return self._iterate(u, at)

    def _iterate(self, u: list[Matrix], at: RowsAt) -> Modes:
        last, value = np.inf, self._objective(u, at)
        for iteration in range(1, _MAX_ITERATIONS + 1):
            Ztg = at.Ztg
            gradient = [lam.T @ v - w for lam, v, w in zip(self.lambdas, Ztg, u, strict=True)]
            norm = math.sqrt(_squares(gradient))
            scale = math.sqrt(self.rows.q) + math.sqrt(_squares(u))
            small = norm <= _TOLERANCE * scale or (last <= _ROUNDING * scale and norm >= 0.5 * last)
            if small and (numeric := self._factorize(at)) is not None:
                full = at.with_third()
                return Modes(
                    self.rows, self.lambdas, self.params, tuple(u), full, numeric, iteration
                )
            target = self._target(u, at, gradient)
            if target is None:
                target = self._target(u, at, gradient, nonnegative=True)
            if target is None:
                break
            last = norm if norm <= _ROUNDING * scale else np.inf
            u, at, value = self._step(u, target, value, third=norm <= _LAST_STEP * scale)
        raise ModesNotFound("the conditional modes of the random effects were not found")

    def _target(
        self, u: list[Matrix], at: RowsAt, gradient: list[Matrix], *, nonnegative: bool = False
    ) -> list[Matrix] | None:
        """Where a Newton step ends; None where M is not positive definite."""
        if self.rows.has_scalar_levels:
            lam = float(self.lambdas[0][0, 0])
            squares, slopes = at.curvature_by_level(nonnegative=nonnegative)
            M = 1.0 + lam**2 * squares
            if not M.min() > 0.0:
                return None
            step = gradient[0] / M
            if slopes is not None:
                bend = (0.5 * lam**3) * slopes * step / M
                step /= np.where(np.abs(bend) < _MOST_BEND, 1.0 + bend, 1.0)
            return [u[0] + step]
        numeric = self._factorize(at, nonnegative=nonnegative)
        if numeric is None:
            return None
        return _newton_target(numeric, at.weighted_effects(nonnegative=nonnegative), at.Ztg)

    def _step(
        self, u: list[Matrix], target: list[Matrix], before: Vector, *, third: bool
    ) -> tuple[list[Matrix], RowsAt, Vector]:
        """The longest of the steps 1, 1/2, ... to the target at which the objective falls."""
        share: Vector | None = None
        most = before + 1e-12 * (1.0 + np.abs(before)) + self.rows.rounding
        for _ in range(_MAX_HALVINGS):
            trial = target
            if share is not None:
                trial = [v + share * (t - v) for v, t in zip(u, target, strict=True)]
            trial_at = self._at(trial, third=third)
            after = self._objective(trial, trial_at)
            # NaN is no fall.
            fell = after <= most
            if fell.all():
                return trial, trial_at, after
            share = np.where(fell, 1.0, 0.5) * (1.0 if share is None else share)
        raise ModesNotFound("no step lowers the objective of the conditional modes")

    def _objective(self, u: list[Matrix], at: RowsAt) -> Vector:
        """``-sum l + u'u/2``: of each level of a single factor, or of all."""
        if self.rows.levels_are_apart:
            return np.asarray(0.5 * (u[0] ** 2).sum(axis=0) - at.value_by_level)
        return np.array([0.5 * _squares(u) - at.value])

    def _at(self, u: list[Matrix], *, third: bool = False) -> RowsAt:
        """The rows at spherical effects; of one effect a level the third serve the next step."""
        third = third or self.rows.has_scalar_levels
        return self.rows.at(self.fixed, _scaled(self.lambdas, u), self.params, third=third)

    def _factorize(self, at: RowsAt, *, nonnegative: bool = False) -> Factor | None:
        """Factorise M; None where it is not positive definite."""
        products = at.products(nonnegative=nonnegative)
        try:
            numeric = self.rows.solver.factorize(products, self.lambdas)
        except (np.linalg.LinAlgError, ValueError):
            return None
        return numeric if np.isfinite(numeric.log_det) else None


def _newton_target(numeric: Factor, effects: list[Matrix], Ztg: list[Matrix]) -> list[Matrix]:
    """``M^-1 Lambda'Z'(W Zb + g)`` of each factor, at the weights of the factorisation."""
    rhs = [s + v for s, v in zip(effects, Ztg, strict=True)]
    if isinstance(numeric, NumericFactor) and numeric.levels_are_apart:
        return [numeric.solve_levels(rhs[0])]
    schur = numeric.schur_complement([v[:, None] for v in rhs], np.zeros((1, 1)))
    return schur.back_substitute(np.ones(1))[1]
