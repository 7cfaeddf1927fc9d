"""Second derivatives of Laplace's approximation, of one grouping factor.

Along parameter j let ``e_j`` be the derivative of eta at fixed u, ``Lambda_j`` that of Lambda, and
v_j, g_j, w_j those of the rows' l, g = dl/deta and w = -d2l/deta2. With ``A = Z Lambda`` and
``H = A'WA + I`` the derivatives that follow the modes are

    u. = H^-1 [Lambda_j'Z'g + A'(g_j - w e_j)],   eta. = e_j + Au.,   g. = g_j - w eta.,
    w. = w_j + w' eta.,   B. = Z'diag(w.)Z,   H. = Lambda'B. Lambda + Lambda_j'B Lambda + (...)',

and those of the penalised log density's minus are
``P_jk = -[sum v_jk + g_j eta._k + e_j g._k] - <Lambda_j'Z'g, u._k>``. With ``h_i = a_i'H^-1 a_i``,
``c = w'h``, ``s = H^-1 A'c`` and ``As``, differentiating ``u = A'g`` twice eliminates u.. and

    d2 log|H| = sum (h w'' - As w') eta._j eta._k + h w_jk + As g_jk
              + {sum (h w'_j - As w_j) eta._k + <Lambda_j'Z'(c - w As), u._k> + <Lambda_j s, Z'g._k>
                 + 2 tr(Lambda_j H^-1 Lambda' B._k)} + {j and k exchanged}
              + 2 tr(H^-1 Lambda_j'B Lambda_k) - tr(H^-1 H._j H^-1 H._k),

``d = 2 P + log|H|``, whose first derivatives ``-2 sum (v_j + g e_j) + tr(H^-1 H._j)`` are had with
the second ones. The row functions w'', w'_j and those by two family parameters need no other
modes (:mod:`mixedfx.likelihood.generalized.row_curvature`). Of several linear predictors a row has
one eta, g and As of each, and w and h are symmetric matrices, whose products are sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import ParamDerivatives
from mixedfx.likelihood.generalized.evaluated_rows import EvaluatedRows
from mixedfx.likelihood.generalized.factor_rows import FactorRows, times
from mixedfx.likelihood.generalized.likelihood import MarginalCoordinates
from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.likelihood.generalized.row_arrays import RowArrays
from mixedfx.likelihood.generalized.row_curvature import contracted, row_curvature
from mixedfx.likelihood.generalized.rows_model import RowsModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


def has_laplace_hessian(rows: RowsModel, coordinates: MarginalCoordinates) -> bool:
    """Whether the formulas hold: one plain factor, Lambda linear in its parameters."""
    return rows.levels_are_apart and coordinates.p == rows.p and coordinates.covariance.is_linear


@dataclass(frozen=True)
class LaplaceCurvature:
    """Derivatives of Laplace's deviance at a point, and first ones of the modes."""

    x: Vector  # (m,)
    u: Matrix  # (K, L) the modes there
    gradient: Vector  # (m,)
    hessian: Matrix  # (m, m); not finite beyond a domain
    u_dot: Array  # (m, L, K)

    def modes_near(self, x: Vector) -> list[Matrix]:
        """Modes at a point near, along their tangents."""
        moved = (x - self.x) @ self.u_dot.reshape(len(x), -1)
        return [self.u + moved.reshape(self.u.T.shape).T]


def laplace_curvature(
    modes: Modes, coordinates: MarginalCoordinates, x: Vector
) -> LaplaceCurvature:
    """Second derivatives by the vector ``x``."""
    with np.errstate(all="ignore"):
        gradient, H, u_dot = _Hessian(_Parameters.of(modes, coordinates, x)).derivatives()
    return LaplaceCurvature(x, modes.u[0], gradient, 0.5 * (H + H.T), u_dot)


@dataclass(frozen=True)
class _Parameters:
    """The m parameters, those of the family the last, and Lambda and the modes there."""

    modes: Modes
    family_coordinates: Vector
    size: int  # m
    of_theta: slice  # place of the covariance coordinates
    of_family: slice  # and of the family's
    lam: Matrix  # Lambda, (K, K)
    lam_j: Array  # derivatives of Lambda by the covariance coordinates, (m_theta, 1, K, K)
    B: Array  # Z'WZ, (L, K, K)
    inverse: Array  # H^-1, (L, K, K)
    inverse_lam: Array  # H^-1 Lambda', (L, K, K)
    Ztg_j: Array  # Lambda_j'Z'g, (m_theta, L, K)

    @staticmethod
    def of(modes: Modes, coordinates: MarginalCoordinates, x: Vector) -> _Parameters:
        """At the modes of a vector."""
        covariance, lam = coordinates.covariance, modes.lambdas[0]
        of_theta, of_family = slice(0, covariance.size), slice(coordinates.beta.stop, len(x))
        lam_j = np.zeros((covariance.size, 1, *lam.shape))
        terms = zip(
            covariance.jacobians(x[of_theta]),
            covariance.slices,
            modes.model.term_positions,
            strict=True,
        )
        for J, part, position in terms:
            lam_j[part, 0, position.columns, position.columns] = J
        B = modes.numeric.assembled.diagonal[0].transpose(2, 0, 1)
        inverse = _inverse(B, lam)
        Ztg_j = _matmul(modes.Ztg[0].T, lam_j[:, 0])
        return _Parameters(
            modes,
            x[of_family],
            len(x),
            of_theta,
            of_family,
            lam,
            lam_j,
            B,
            inverse,
            _matmul(inverse, lam.T),
            Ztg_j,
        )

    @property
    def G(self) -> Array:
        """``Lambda H^-1 Lambda'``, (K, K, L)."""
        return _matmul(self.lam, self.inverse_lam).transpose(1, 2, 0)

    def solved(self, target: Array) -> Array:
        """``H^-1 v``, (m, L, K)."""
        return _matmul(self.inverse, target[..., None])[..., 0]


def _inverse(B: Array, lam: Matrix) -> Array:
    """``(Lambda'B Lambda + I)^-1``, (L, K, K)."""
    if len(lam) == 1:
        return np.asarray(1.0 / (1.0 + B * lam**2))
    return np.asarray(np.linalg.inv(np.eye(len(lam)) + lam.T @ B @ lam), dtype=np.float64)


class _ModeSums(NamedTuple):
    """What of the rows the modes follow, and the score."""

    score: Vector  # sum v_j + g e_j, (m,)
    change: Array  # Z'(g_j - w e_j), and Z'c the last, (m + 1, L, K)


class _AlongSums(NamedTuple):
    """Sums along the parameters, the modes following."""

    H: Matrix  # products of two changes of eta, and what the family adds, (m, m)
    cross: Matrix  # what is added to its transpose, (m, m)
    Ztg_dot: Array  # and Z'(c - w As) the last, (m + 1, L, K)
    B_dot: Array  # (m, L, K, K)


@dataclass(frozen=True)
class _Levels:
    """Sums over the rows of each level, of many vectors of rows at once; L levels, K effects."""

    factor: FactorRows
    predictors: int  # r
    predictor_of: tuple[int, ...]  # of each column
    index: npt.NDArray[np.intp]  # of level and row in as many vectors as there are, one by one

    @staticmethod
    def of(rows: RowArrays, vectors: int) -> _Levels:
        """Those of the grouping factor."""
        factor = rows.factors[0]
        index = (factor.codes + factor.n_levels * np.arange(vectors)[:, None]).ravel()
        return _Levels(factor, rows.n_predictors, factor.predictors_of_columns, index)

    def _by_level(self, values: Array) -> Array:
        """Sums (m, L) of (m, n)."""
        m, L = len(values), self.factor.n_levels
        sums = np.bincount(self.index[: values.size], values.ravel(), m * L)
        return np.asarray(sums.reshape(m, L), dtype=float)

    def sums(self, values: Array) -> Array:
        """``Z'v``, (m, L, K) of (m, r, n)."""
        found = np.empty((len(values), self.factor.n_levels, self.factor.width))
        for k, (of, column) in enumerate(zip(self.predictor_of, self.factor.columns, strict=True)):
            found[..., k] = self._by_level(times(values[:, of], column))
        return found

    def blocks(self, weights: Array) -> Array:
        """``Z'WZ``, (m, L, K, K) of (m, r, r, n)."""
        K, of = self.factor.width, self.predictor_of
        found = np.empty((len(weights), self.factor.n_levels, K, K))
        for (a, b), product in self.factor.products.items():
            weighted = times(weights[:, of[a], of[b]], product)
            found[..., a, b] = found[..., b, a] = self._by_level(weighted)
        return found

    def predictor(self, effects: Array) -> Array:
        """``Zb``, (m, r, n) of (m, L, K)."""
        codes = self.factor.codes
        found = np.zeros((len(effects), self.predictors, len(codes)))
        for k, (of, column) in enumerate(zip(self.predictor_of, self.factor.columns, strict=True)):
            found[:, of] += times(effects[..., k].take(codes, axis=1), column)
        return found


class _Rows:
    """Rows at the modes, or a block of them, and their sums."""

    def __init__(self, at: EvaluatedRows, parameters: _Parameters) -> None:
        slope = at.derivatives.weight_slope
        assert slope is not None
        self.at, self.parameters = at, parameters
        self.levels = levels = _Levels.of(at.rows, parameters.size + 1)
        r = levels.predictors
        self.weight = at.derivatives.weight.reshape(r, r, -1)
        self.weight_slope = slope.reshape(r, r, r, -1)
        self.h = at.rows.quadratic([parameters.G], {}).reshape(r, r, -1)
        self.c = contracted(self.weight_slope, self.h)  # (r, n)
        self.by_family = self._shaped(at.by_params)
        u = parameters.modes.u[0].T
        of_theta = levels.predictor(_matmul(u, parameters.lam_j[:, 0].transpose(0, 2, 1)))
        of_family = np.zeros((len(at.params), *of_theta.shape[1:]))
        self.eta_j = np.concatenate([of_theta, at.rows.fixed_columns, of_family])  # (m, r, n)

    def _shaped(self, by: ParamDerivatives) -> ParamDerivatives:
        """Of shapes (q, n), (q, r, n) and (q, r, r, n) of q coordinates."""
        (value, first, weight), r = by, self.levels.predictors
        q, n = value.shape
        return ParamDerivatives(value, first.reshape(q, r, n), weight.reshape(q, r, r, n))

    def _first(self, eta_along: Array) -> Array:
        """Change of g along a change of eta and of the family's parameters, (m, r, n)."""
        found = -_product(self.weight, eta_along)
        found[self.parameters.of_family] += self.by_family.first
        return found

    def mode_sums(self) -> _ModeSums:
        """What the modes follow."""
        g = self.at.derivatives.first.reshape(1, *self.eta_j.shape[1:])
        score = _inner(self.eta_j, g)[:, 0]
        score[self.parameters.of_family] += self.by_family.value.sum(axis=-1)
        change = self.levels.sums(_with_last(self._first(self.eta_j), self.c))
        return _ModeSums(score, change)

    def along_sums(self, effects: Array) -> _AlongSums:
        """Sums at ``Lambda u.`` and ``Lambda s``, the last, (m + 1, L, K)."""
        of_family, levels = self.parameters.of_family, self.levels
        moved = levels.predictor(effects)
        eta_dot, As = self.eta_j + moved[:-1], moved[-1]
        g_dot, w_dot = self._first(eta_dot), _product(self.weight_slope, eta_dot)
        w_dot[of_family] += self.by_family.weight
        more = row_curvature(self.at, self.parameters.family_coordinates, self.h, As)
        curvature = more.by_eta - _product(self.weight_slope, As[None])[0]
        H = _inner(_product(curvature, eta_dot), eta_dot)
        H[of_family, of_family] += more.of_family
        by_family = more.by_family - (self.by_family.weight * As).sum(axis=-2)
        cross = -_inner(self.eta_j, g_dot)
        cross[of_family] += _inner(by_family - self.by_family.first, eta_dot)
        through = self.c - _product(self.weight, As[None])[0]
        return _AlongSums(H, cross, levels.sums(_with_last(g_dot, through)), levels.blocks(w_dot))


class _Reading:
    """Rows that are read twice; the last block, which is all of those in memory, is kept."""

    def __init__(self, parameters: _Parameters) -> None:
        self.parameters = parameters
        self.last: _Rows | None = None

    def of(self, block: EvaluatedRows) -> _Rows:
        """Rows of a block."""
        if self.last is None or self.last.at is not block:
            self.last = _Rows(block, self.parameters)
        return self.last


@dataclass(frozen=True)
class _Hessian:
    """Sums over the levels, of two readings of the rows."""

    parameters: _Parameters

    def derivatives(self) -> tuple[Vector, Matrix, Array]:
        """Gradient, Hessian, symmetric but for rounding and the differences, and ``u.``."""
        at = self.parameters
        lam, lam_j, theta, rows = at.lam, at.lam_j, at.of_theta, at.modes.at
        reading = _Reading(at)
        first = rows.total(lambda block: reading.of(block).mode_sums(), third=True)
        target = _matmul(first.change, lam)
        target[theta] += at.Ztg_j
        solved = at.solved(target)
        u_dot, s = solved[:-1], solved[-1:]
        effects = _matmul(solved, lam.T)
        sums = rows.total(lambda block: reading.of(block).along_sums(effects), third=True)
        Ztg_dot, through = sums.Ztg_dot[:-1], sums.Ztg_dot[-1:]
        cross = sums.cross.copy()
        of_theta = _inner(_matmul(through, lam_j[:, 0]) - at.Ztg_j, u_dot)
        of_theta += _inner(_matmul(s, lam_j[:, 0].transpose(0, 2, 1)), Ztg_dot)
        turned = _matmul(lam_j, at.inverse_lam)
        cross[theta] += of_theta + 2.0 * _traces(turned, sums.B_dot)
        traces, products = self._of_levels(sums.B_dot)
        return traces - 2.0 * first.score, sums.H + cross + cross.T + products, u_dot

    def _of_levels(self, B_dot: Array) -> tuple[Vector, Matrix]:
        """Traces of ``H^-1 H._j``, and of products of two of them."""
        at = self.parameters
        lam, lam_j, theta = at.lam, at.lam_j, at.of_theta
        half = _matmul(lam_j.transpose(0, 1, 3, 2), at.B)  # Lambda_j'B
        both = _matmul(half, lam)
        H_dot = _matmul(_matmul(lam.T, B_dot), lam)
        H_dot[theta] += both + both.transpose(0, 1, 3, 2)
        turned = _matmul(at.inverse, H_dot)
        found = -_traces(turned, turned)
        products = _matmul(at.inverse, half).sum(axis=1)
        found[theta, theta] += 2.0 * _inner(products.swapaxes(-1, -2), lam_j[:, 0])
        return np.einsum("mlkk->m", turned), found


def _matmul(a: Array, b: Array) -> Array:
    """``a @ b``; of one column and one row it is a product of numbers, which costs less."""
    return np.asarray(a * b if a.shape[-1] == 1 else a @ b)


def _with_last(values: Array, last: Array) -> Array:
    """Values (m, r, n) and (r, n), in one array."""
    return np.concatenate([values, last[None]])


def _product(matrices: Array, vectors: Array) -> Array:
    """``M v`` of each row, over the last index of M before the rows', (m, ..., n) of (m, r, n)."""
    if matrices.shape[-2] == 1:
        wide = vectors.reshape(len(vectors), *(1,) * (matrices.ndim - 2), -1)
        return np.asarray(wide * matrices[..., 0, :])
    return np.asarray(np.einsum("...bn,mbn->m...n", matrices, vectors))


def _inner(a: Array, b: Array) -> Matrix:
    """Sums of products of each two, (m_a, m_b)."""
    size = math.prod(b.shape[1:])
    return np.asarray(a.reshape(len(a), size) @ b.reshape(len(b), size).T)


def _traces(a: Array, b: Array) -> Matrix:
    """Traces of products of each two blocks, summed over levels, (m_a, m_b)."""
    return _inner(a.swapaxes(-1, -2), b)
