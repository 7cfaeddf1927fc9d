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

``d = 2 P + log|H|``. The row functions w'', w'_j and those by two family parameters are
differences of exact derivatives: no modes are searched for them. Of several linear predictors a
row has one eta, g and As of each, and w and h are symmetric matrices, whose products are sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixedfx.families.derivatives import ParamDerivatives
from mixedfx.likelihood.generalized.factor_rows import FactorRows, times
from mixedfx.likelihood.generalized.likelihood import MarginalCoordinates
from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.rows_model import RowsModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Steps of the differences, central by eta and forward by the family's coordinates.
_ETA_STEP, _PARAM_STEP = 1e-4, 1e-6


def has_laplace_hessian(rows: RowsModel, coordinates: MarginalCoordinates) -> bool:
    """Whether the formulas hold: one plain factor, Lambda linear in it, and rows in memory."""
    return (
        rows.levels_are_apart
        and isinstance(rows, GeneralizedRows)
        and coordinates.p == rows.p
        and coordinates.covariance.is_linear
    )


def laplace_hessian(modes: Modes, coordinates: MarginalCoordinates, x: Vector) -> Matrix:
    """Hessian (m, m) of Laplace's deviance by the vector ``x``; not finite beyond a domain."""
    with np.errstate(all="ignore"):
        H = _Hessian(modes, coordinates, x).matrix()
    return 0.5 * (H + H.T)


@dataclass(frozen=True)
class _Levels:
    """Sums over the rows of each level, of many vectors of rows at once; L levels, K effects."""

    factor: FactorRows
    predictors: int  # r
    predictor_of: tuple[int, ...]  # of each column

    @staticmethod
    def of(rows: GeneralizedRows) -> _Levels:
        """Those of the grouping factor."""
        factor = rows.factors[0]
        return _Levels(factor, rows.n_predictors, factor.predictors_of_columns)

    def _by_level(self, values: Array) -> Array:
        """Sums (m, L) of (m, n)."""
        m, L = len(values), self.factor.n_levels
        if m == 1:
            return np.asarray(np.bincount(self.factor.codes, values[0], L)[None], dtype=float)
        index = self.factor.codes + L * np.arange(m)[:, None]
        sums = np.bincount(index.ravel(), values.ravel(), m * L)
        return np.asarray(sums.reshape(m, L), dtype=float)

    def sums(self, values: Array) -> Array:
        """``Z'v``, (m, L, K) of (m, r, n)."""
        columns = zip(self.predictor_of, self.factor.columns, strict=True)
        return np.stack([self._by_level(times(values[:, k], c)) for k, c in columns], axis=-1)

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


@dataclass(frozen=True)
class _Hessian:
    """What the second derivatives are sums of; m parameters, those of the family the last."""

    modes: Modes
    coordinates: MarginalCoordinates
    x: Vector

    @cached_property
    def levels(self) -> _Levels:
        """Sums of the grouping factor."""
        return _Levels.of(self.modes.rows)

    @property
    def lam(self) -> Matrix:
        """Lambda, (K, K)."""
        return self.modes.lambdas[0]

    @cached_property
    def lam_j(self) -> Array:
        """Derivatives of Lambda by the covariance coordinates, (m_theta, 1, K, K)."""
        rows, covariance = self.modes.rows, self.coordinates.covariance
        found = np.zeros((covariance.size, 1, *self.lam.shape))
        for J, part, position in zip(
            covariance.jacobians(self.x[: covariance.size]),
            covariance.slices,
            rows.term_positions,
            strict=True,
        ):
            found[part, 0, position.columns, position.columns] = J
        return found

    @cached_property
    def of_family(self) -> slice:
        """Place of the family's coordinates."""
        return slice(self.coordinates.beta.stop, self.coordinates.size)

    @cached_property
    def of_theta(self) -> slice:
        """Place of the covariance coordinates."""
        return slice(0, self.coordinates.covariance.size)

    @cached_property
    def by_family(self) -> ParamDerivatives:
        """Derivatives of the rows by the family's coordinates."""
        return self._by_family(self.modes.eta, self.modes.params)

    def _by_family(self, eta: Array, params: Vector) -> ParamDerivatives:
        """Of shapes (q, n), (q, r, n) and (q, r, r, n) of q coordinates."""
        (value, first, weight), r = self.modes.rows.by_params(eta, params), self.levels.predictors
        q, n = value.shape
        return ParamDerivatives(value, first.reshape(q, r, n), weight.reshape(q, r, r, n))

    @cached_property
    def weight(self) -> Array:
        """W of the rows, (r, r, n)."""
        r = self.levels.predictors
        return self.modes.at_rows.weight.reshape(r, r, -1)

    @cached_property
    def weight_slope(self) -> Array:
        """W' of the rows, (r, r, r, n)."""
        return self._slope(self.modes.eta)

    def _slope(self, eta: Array) -> Array:
        """The same at other predictors, not a number beyond the domain of the link."""
        at, r = self.modes.at_rows, self.levels.predictors
        if eta is not self.modes.eta:
            at = self.modes.rows.derivatives(eta, self.modes.params, third=True)
        assert at.weight_slope is not None
        slope = at.weight_slope.reshape(r, r, r, -1)
        return slope if np.isfinite(at.value).all() else np.full_like(slope, np.nan)

    @cached_property
    def eta_j(self) -> Array:
        """``e_j``, (m, r, n)."""
        of_theta = self.levels.predictor(self.modes.u[0].T @ self.lam_j[:, 0].transpose(0, 2, 1))
        of_family = np.zeros((len(self.modes.params), *of_theta.shape[1:]))
        return np.concatenate([of_theta, self.modes.rows.fixed_columns, of_family])

    @cached_property
    def B(self) -> Array:
        """``Z'WZ``, (L, K, K)."""
        return np.asarray(self.levels.blocks(self.weight[None])[0])

    @cached_property
    def inverse(self) -> Array:
        """``H^-1``, (L, K, K)."""
        H = np.eye(len(self.lam)) + self.lam.T @ self.B @ self.lam
        return np.asarray(1.0 / H if len(self.lam) == 1 else np.linalg.inv(H))

    @cached_property
    def Ztg_j(self) -> Array:
        """``Lambda_j'Z'g``, (m_theta, L, K)."""
        return np.asarray(self.modes.Ztg[0].T @ self.lam_j[:, 0])

    # ------------------------------------------------------------ along each parameter

    def _first(self, eta_along: Array) -> Array:
        """Change of g along a change of eta and of the family's parameters, (m, r, n)."""
        found = -_product(self.weight, eta_along)
        found[self.of_family] += self.by_family.first
        return found

    @cached_property
    def u_dot(self) -> Array:
        """``u.``, (m, L, K)."""
        target = self.levels.sums(self._first(self.eta_j)) @ self.lam
        target[self.of_theta] += self.Ztg_j
        return self._solved(target)

    def _solved(self, target: Array) -> Array:
        """``H^-1 v``, (m, L, K)."""
        return np.asarray((self.inverse @ target[..., None])[..., 0])

    @cached_property
    def eta_dot(self) -> Array:
        """``eta.``, (m, r, n)."""
        return np.asarray(self.eta_j + self.levels.predictor(self.u_dot @ self.lam.T))

    @cached_property
    def g_dot(self) -> Array:
        """``g.``, (m, r, n)."""
        return self._first(self.eta_dot)

    @cached_property
    def B_dot(self) -> Array:
        """``B.``, (m, L, K, K)."""
        w_dot = _product(self.weight_slope, self.eta_dot)
        w_dot[self.of_family] += self.by_family.weight
        return self.levels.blocks(w_dot)

    # ------------------------------------------------------------ sums

    def matrix(self) -> Matrix:
        """The Hessian, symmetric but for rounding and the differences."""
        theta, lam_j = self.of_theta, self.lam_j
        G, r = self.lam @ self.inverse @ self.lam.T, self.levels.predictors
        h = self.modes.rows.quadratic([np.moveaxis(G, 0, 2)], {}).reshape(r, r, -1)
        c = _contracted(self.weight_slope, h)
        s = self._solved(self.levels.sums(c[None]) @ self.lam)
        As = self.levels.predictor(s @ self.lam.T)[0]
        curvature, by_family = self._slopes(h, As)
        H = _inner(_product(curvature, self.eta_dot), self.eta_dot)
        cross = self._penalized()
        cross[self.of_family] += _inner(by_family, self.eta_dot)
        through = self.levels.sums((c - _product(self.weight, As[None])[0])[None]) @ lam_j[:, 0]
        cross[theta] += _inner(through, self.u_dot)
        cross[theta] += _inner(s @ lam_j[:, 0].transpose(0, 2, 1), self.levels.sums(self.g_dot))
        cross[theta] += 2.0 * _traces(lam_j @ (self.inverse @ self.lam.T), self.B_dot)
        H += cross + cross.T
        H[self.of_family, self.of_family] += self._of_family_twice(h, As)
        return np.asarray(H + self._log_det_of_levels())

    def _penalized(self) -> Matrix:
        """``P`` but for the rows' second derivatives by the family; it is symmetric."""
        half = _inner(self.eta_j, self.g_dot)
        half[self.of_family] += _inner(self.by_family.first, self.eta_dot)
        half[self.of_theta] += _inner(self.Ztg_j, self.u_dot)
        return -half

    def _log_det_of_levels(self) -> Matrix:
        """Traces of products of two first derivatives of H."""
        lam, lam_j, theta = self.lam, self.lam_j, self.of_theta
        half = lam_j.transpose(0, 1, 3, 2) @ (self.B @ lam)  # Lambda_j'B Lambda
        H_dot = lam.T @ self.B_dot @ lam
        H_dot[theta] += half + half.transpose(0, 1, 3, 2)
        turned = self.inverse @ H_dot
        found = -_traces(turned, turned)
        products = self.inverse @ (lam_j.transpose(0, 1, 3, 2) @ self.B)  # H^-1 Lambda_j'B
        found[theta, theta] += 2.0 * _traces(products, np.broadcast_to(lam_j, products.shape))
        return found

    # ------------------------------------------------------------ differences of the rows

    def _slopes(self, h: Array, As: Array) -> tuple[Array, Array]:
        """``h w'' - As w'`` (r, r, n), and ``h w'_j - As w_j`` of the family's (q, r, n)."""
        curvature = -_product(self.weight_slope, As[None])[0]
        by_family = -np.einsum("qabn,bn->qan", self.by_family.weight, As)
        for k in range(self.levels.predictors):
            for step in (_ETA_STEP, -_ETA_STEP):
                eta = np.array(self.modes.eta)
                (eta if eta.ndim == 1 else eta[k])[:] += step
                curvature[k] += _contracted(self._slope(eta), h) / (2.0 * step)
                if len(by_family):
                    weight = self._by_family(eta, self.modes.params).weight
                    by_family[:, k] += np.einsum("qabn,abn->qn", weight, h) / (2.0 * step)
        return curvature, by_family

    def _of_family_twice(self, h: Array, As: Array) -> Matrix:
        """``sum -2 v_jk + As g_jk + h w_jk``, (q, q)."""
        family, coordinates = self.modes.rows.family, self.x[self.of_family]
        found = np.empty((len(coordinates), len(coordinates)))
        at = _weighted_sums(self.by_family, h, As)
        for k in range(len(coordinates)):
            moved = coordinates.copy()
            moved[k] += _PARAM_STEP
            by = self._by_family(self.modes.eta, family.natural(moved))
            found[:, k] = (_weighted_sums(by, h, As) - at) / _PARAM_STEP
        return found


def _weighted_sums(by: ParamDerivatives, h: Array, As: Array) -> Vector:
    """``sum -2 v_j + As g_j + h w_j``, (q,)."""
    sums = -2.0 * by.value.sum(axis=-1) + _inner(by.first, As[None])[:, 0]
    return np.asarray(sums + _inner(by.weight, h[None])[:, 0])


def _product(matrices: Array, vectors: Array) -> Array:
    """``M v`` of each row, over the last index of M before the rows', (m, ..., n) of (m, r, n)."""
    if matrices.shape[-2] == 1:
        wide = vectors.reshape(len(vectors), *(1,) * (matrices.ndim - 2), -1)
        return np.asarray(wide * matrices[..., 0, :])
    return np.asarray(np.einsum("...bn,mbn->m...n", matrices, vectors))


def _contracted(slopes: Array, h: Array) -> Array:
    """``sum_ab h_ab dW_ab/deta``, (r, n)."""
    if len(h) == 1:
        return np.asarray(slopes[0, 0] * h[0])
    return np.asarray(np.einsum("abcn,abn->cn", slopes, h))


def _inner(a: Array, b: Array) -> Matrix:
    """Sums of products of each two, (m_a, m_b)."""
    size = math.prod(b.shape[1:])
    return np.asarray(a.reshape(len(a), size) @ b.reshape(len(b), size).T)


def _traces(a: Array, b: Array) -> Matrix:
    """Traces of products of each two blocks, summed over levels, (m_a, m_b)."""
    return _inner(a.swapaxes(-1, -2), b)
