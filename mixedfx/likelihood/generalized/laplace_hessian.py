"""Second derivatives of Laplace's approximation, of one grouping factor and one linear predictor.

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
differences of exact derivatives: no modes are searched for them.
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

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Steps of the differences, central by eta and forward by the family's coordinates.
_ETA_STEP, _PARAM_STEP = 1e-4, 1e-6


def has_laplace_hessian(rows: GeneralizedRows, coordinates: MarginalCoordinates) -> bool:
    """Whether the formulas hold: one plain factor, one predictor, Lambda linear in its params."""
    return (
        len(rows.factors) == 1
        and rows.factors[0].basis is None
        and len(rows.weights_shape) == 1
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

    def _by_level(self, values: Array) -> Array:
        """Sums (m, L) of (m, n)."""
        m, L = len(values), self.factor.n_levels
        if m == 1:
            return np.asarray(np.bincount(self.factor.codes, values[0], L)[None], dtype=float)
        index = self.factor.codes + L * np.arange(m)[:, None]
        sums = np.bincount(index.ravel(), values.ravel(), m * L)
        return np.asarray(sums.reshape(m, L), dtype=float)

    def sums(self, values: Array) -> Array:
        """``Z'v``, (m, L, K) of (m, n)."""
        parts = [self._by_level(times(values, column)) for column in self.factor.columns]
        return np.stack(parts, axis=-1)

    def blocks(self, weights: Array) -> Array:
        """``Z'diag(w)Z``, (m, L, K, K) of (m, n)."""
        K = self.factor.width
        found = np.empty((len(weights), self.factor.n_levels, K, K))
        for (a, b), product in self.factor.products.items():
            found[..., a, b] = found[..., b, a] = self._by_level(times(weights, product))
        return found

    def predictor(self, effects: Array) -> Array:
        """``Zb``, (m, n) of (m, L, K)."""
        parts = [
            times(effects[:, self.factor.codes, k], column)
            for k, column in enumerate(self.factor.columns)
        ]
        return np.asarray(sum(parts[1:], parts[0]))


@dataclass(frozen=True)
class _Hessian:
    """What the second derivatives are sums of; m parameters, those of the family the last."""

    modes: Modes
    coordinates: MarginalCoordinates
    x: Vector

    @cached_property
    def levels(self) -> _Levels:
        """Sums of the grouping factor."""
        return _Levels(self.modes.rows.factors[0])

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
        return self.modes.rows.by_params(self.modes.eta, self.modes.params)

    @cached_property
    def weight_slope(self) -> Vector:
        """W' of the rows."""
        slope = self.modes.at_rows.weight_slope
        assert slope is not None
        return slope

    @cached_property
    def eta_j(self) -> Array:
        """``e_j``, (m, n)."""
        of_theta = self.levels.predictor(self.modes.u[0].T @ self.lam_j[:, 0].transpose(0, 2, 1))
        X = self.modes.rows.X
        of_family = np.zeros((len(self.modes.params), len(X)))
        return np.concatenate([of_theta, X.T, of_family])

    @cached_property
    def B(self) -> Array:
        """``Z'WZ``, (L, K, K)."""
        return np.asarray(self.levels.blocks(self.modes.at_rows.weight[None])[0])

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

    @cached_property
    def u_dot(self) -> Array:
        """``u.``, (m, L, K)."""
        change = -self.modes.at_rows.weight * self.eta_j
        change[self.of_family] += self.by_family.first
        target = self.levels.sums(change) @ self.lam
        target[self.of_theta] += self.Ztg_j
        return self._solved(target)

    def _solved(self, target: Array) -> Array:
        """``H^-1 v``, (m, L, K)."""
        return np.asarray((self.inverse @ target[..., None])[..., 0])

    @cached_property
    def eta_dot(self) -> Array:
        """``eta.``, (m, n)."""
        return self.eta_j + self.levels.predictor(self.u_dot @ self.lam.T)

    @cached_property
    def g_dot(self) -> Array:
        """``g.``, (m, n)."""
        found = -self.modes.at_rows.weight * self.eta_dot
        found[self.of_family] += self.by_family.first
        return found

    @cached_property
    def B_dot(self) -> Array:
        """``B.``, (m, L, K, K)."""
        w_dot = self.weight_slope * self.eta_dot
        w_dot[self.of_family] += self.by_family.weight
        return self.levels.blocks(w_dot)

    # ------------------------------------------------------------ sums

    def matrix(self) -> Matrix:
        """The Hessian, symmetric but for rounding and the differences."""
        G = self.lam @ self.inverse @ self.lam.T
        h = np.asarray(self.modes.rows.quadratic([np.moveaxis(G, 0, 2)], {}))
        c = self.weight_slope * h
        s = self._solved(self.levels.sums(c[None]) @ self.lam)
        As = self.levels.predictor(s @ self.lam.T)[0]
        curvature, by_family = self._slopes(h, As)
        H = (self.eta_dot * curvature) @ self.eta_dot.T
        cross = self._penalized()
        cross[self.of_family] += by_family @ self.eta_dot.T
        theta = self.of_theta
        through = self.levels.sums((c - self.modes.at_rows.weight * As)[None]) @ self.lam_j[:, 0]
        cross[theta] += _inner(through, self.u_dot)
        cross[theta] += _inner(
            s @ self.lam_j[:, 0].transpose(0, 2, 1), self.levels.sums(self.g_dot)
        )
        turned = self.lam_j @ (self.inverse @ self.lam.T)
        cross[theta] += 2.0 * _traces(turned, self.B_dot)
        H += cross + cross.T
        H[self.of_family, self.of_family] += self._of_family_twice(h, As)
        return H + self._log_det_of_levels()

    def _penalized(self) -> Matrix:
        """Half of ``2 P`` but for the rows' second derivatives by the family: P is symmetric."""
        half = self.eta_j @ self.g_dot.T
        half[self.of_family] += self.by_family.first @ self.eta_dot.T
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

    def _slopes(self, h: Vector, As: Vector) -> tuple[Vector, Matrix]:
        """``h w'' - As w'`` (n,), and ``h w'_j - As w_j`` of the family's coordinates (r, n)."""
        rows, params = self.modes.rows, self.modes.params
        etas = np.stack([self.modes.eta - _ETA_STEP, self.modes.eta + _ETA_STEP])
        slopes = rows.derivatives(etas, params, third=True).weight_slope
        assert slopes is not None
        valid = rows.family.valid(etas)
        if valid is not None and not valid.all():
            slopes = np.full_like(slopes, np.nan)
        curvature = h * (slopes[1] - slopes[0]) / (2.0 * _ETA_STEP) - As * self.weight_slope
        if not len(params):
            return curvature, np.zeros((0, len(h)))
        weights = rows.by_params(etas, params).weight
        by_family = h * (weights[:, 1] - weights[:, 0]) / (2.0 * _ETA_STEP)
        return curvature, by_family - As * self.by_family.weight

    def _of_family_twice(self, h: Vector, As: Vector) -> Matrix:
        """``sum -2 v_jk + As g_jk + h w_jk``, (r, r)."""
        rows, r = self.modes.rows, len(self.modes.params)
        coordinates, found = self.x[self.of_family], np.empty((r, r))
        at = self._weighted_sums(self.by_family, h, As)
        for k in range(r):
            moved = coordinates.copy()
            moved[k] += _PARAM_STEP
            by = rows.by_params(self.modes.eta, rows.family.natural(moved))
            found[:, k] = (self._weighted_sums(by, h, As) - at) / _PARAM_STEP
        return found

    @staticmethod
    def _weighted_sums(by: ParamDerivatives, h: Vector, As: Vector) -> Vector:
        return np.asarray(-2.0 * by.value.sum(axis=-1) + by.first @ As + by.weight @ h)


def _inner(a: Array, b: Array) -> Matrix:
    """Sums of products of each two, (m_a, m_b)."""
    size = math.prod(b.shape[1:])
    return np.asarray(a.reshape(len(a), size) @ b.reshape(len(b), size).T)


def _traces(a: Array, b: Array) -> Matrix:
    """Traces of products of each two blocks, summed over levels, (m_a, m_b)."""
    return _inner(a.swapaxes(-1, -2), b)
