"""Correlations of levels in order: autoregressive, Toeplitz and ante-dependence.

Positions are whole numbers p_1 < ... < p_k, and a lag is a difference of two:

    ar1     rho**|p_i - p_j|
    toep    rho_l at the lag l = |p_i - p_j|
    ad      rho_i rho_(i+1) ... rho_(j-1), i < j

Toeplitz correlations are those of partial autocorrelations by the recursion of Durbin and Levinson,
any of which between -1 and 1 give a positive definite matrix. Those at lags that do not occur are
zero.

References
----------
.. [1] Barndorff-Nielsen and Schou (1973), On the parametrization of autoregressive models by
   partial autocorrelations, J. Multivariate Anal. 3:408-419.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.correlation import (
    CorrelationStructure,
    Heterogeneous,
    TanhCorrelations,
    atanh_inside,
    tanh_slope,
)
from mixedfx.covariance.entries import EntryFormula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Correlations between neighbours from which a search may end elsewhere.
_TYPICAL = (-0.95, -0.8, -0.4, 0.1, 0.4, 0.6, 0.8, 0.95)


class Autoregressive(TanhCorrelations):
    """``ar1(visit | g)``: one standard deviation, correlations ``rho**lag``."""

    name: ClassVar[str] = "ar1"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "{corr}^|s−t|", r"{corr}^{{|s-t|}}"
    )
    goes_on: ClassVar[bool] = True
    markov: ClassVar[bool] = True
    design: ClassVar[Literal["effects", "levels", "coordinates"]] = "levels"

    def n_correlations(self, at: Positions) -> int:
        """One, of two effects or more."""
        return int(at.k > 1)

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """``rho**lag``."""
        return np.asarray(c.sum() ** at.distances) if len(c) else np.ones((1, 1))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """``lag rho**(lag - 1)``."""
        lag = at.distances
        return np.array([lag * rho ** np.maximum(lag - 1.0, 0.0) for rho in c]).reshape(
            -1, *lag.shape
        )

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """``lag (lag - 1) rho**(lag - 2)``."""
        lag = at.distances
        H = np.array([lag * (lag - 1.0) * rho ** np.maximum(lag - 2.0, 0.0) for rho in c])
        return H.reshape(len(c), len(c), *lag.shape)

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Root of the mean correlation at the smallest lag, negative only of an odd one."""
        if at.k == 1:
            return np.zeros(0)
        apart = np.where(np.isnan(R), 0.0, at.distances)  # known pairs
        if not apart.any():
            return np.zeros(1)
        lag = apart[apart > 0.0].min()
        mean = float(R[apart == lag].mean())
        if lag % 2 == 0:  # an odd lag has the sign, if there is one
            odd = apart % 2 == 1
            sign = np.sign(R[odd].sum()) if odd.any() else 1.0
            return np.array([sign * max(mean, 0.0) ** (1.0 / lag)])
        return np.array([np.sign(mean) * abs(mean) ** (1.0 / lag)])

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Of either sign, where a lag is odd."""
        if at.k == 1:
            return ()
        signed = bool((at.lags % 2 == 1).any())
        usual = [r for r in _TYPICAL if r > 0.0 or signed]
        return [np.array([np.sign(r) * abs(r) ** (1.0 / at.lags[0])]) for r in usual]

    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """The correlation."""
        return tuple(Component("corr", (), float(rho), i) for i, rho in enumerate(c))


class HeterogeneousAutoregressive(Heterogeneous, Autoregressive):
    """``ar1h(visit | g)``: a standard deviation for each level."""

    name: ClassVar[str] = "ar1h"


class Toeplitz(CorrelationStructure):
    """``toep(visit | g)``: one standard deviation, a correlation for each lag."""

    name: ClassVar[str] = "toep"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula("{corr:|s−t|}", r"{corr:|s-t|}")
    covariances_are_parameters: ClassVar[bool] = True
    design: ClassVar[Literal["effects", "levels", "coordinates"]] = "levels"

    def n_correlations(self, at: Positions) -> int:
        """One for each lag that occurs."""
        return len(at.lags)

    def _lag_masks(self, at: Positions) -> Array:
        """Pairs of each lag, (lags, k, k)."""
        return np.array([at.distances == lag for lag in at.lags], dtype=float).reshape(
            -1, at.k, at.k
        )

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """Each pair's correlation by its lag."""
        of_lag = np.concatenate([[1.0], c])
        return of_lag[np.searchsorted(at.lags, at.distances) + (at.distances > 0.0)]

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """Ones at the pairs of each lag."""
        return self._lag_masks(at)

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """Zero."""
        return np.zeros((len(c), len(c), at.k, at.k))

    def bounded(self, x: Vector, at: Positions) -> Vector:
        """Correlations of the partial autocorrelations ``tanh(x)``."""
        return _durbin_levinson(x, _steps(at))[0]

    def bounded_jacobian(self, x: Vector, at: Positions) -> Matrix:
        """Derivatives of the recursion."""
        return _durbin_levinson(x, _steps(at))[1]

    def unbounded(self, c: Vector, at: Positions) -> Vector:
        """Inverse hyperbolic tangents of the partial autocorrelations."""
        return _partial_autocorrelations(c, _steps(at))

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Mean at each lag."""
        masks = self._lag_masks(at) * ~np.isnan(R)
        total = (masks * np.nan_to_num(R)).sum(axis=(1, 2))
        return np.asarray(total / np.maximum(masks.sum(axis=(1, 2)), 1.0))

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Those of one partial autocorrelation, at the first lag, and of two."""
        if at.k == 1:
            return ()
        x = np.zeros((len(_TYPICAL) + len(at.lags) - 1, len(at.lags)))
        x[:, 0] = np.arctanh(_TYPICAL + (0.4,) * (len(at.lags) - 1))
        x[np.arange(len(_TYPICAL), len(x)), np.arange(1, len(at.lags))] = np.arctanh(0.8)
        return [self.bounded(one, at) for one in x]

    def generic(self, at: Positions) -> Vector:
        """Of several partial autocorrelations."""
        return self.bounded(0.4 ** np.arange(1.0, len(at.lags) + 1.0), at)

    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """A correlation for each lag; that of the first alone is a function of one parameter."""
        return tuple(
            Component("corr", (), float(r), 0 if i == 0 else None, label=f"lag {lag:g}")
            for i, (r, lag) in enumerate(zip(c, at.lags, strict=True))
        )


class HeterogeneousToeplitz(Heterogeneous, Toeplitz):
    """``toeph(visit | g)``: a standard deviation for each level."""

    name: ClassVar[str] = "toeph"


class Antedependence(TanhCorrelations):
    """``ad(visit | g)`` of residuals: one standard deviation, a correlation of each neighbours."""

    name: ClassVar[str] = "ad"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "∏(s ≤ u < t) {corr:u} for s ≤ t", r"\prod_{{s \le u < t}} {corr:u} \text{{ for }} s \le t"
    )
    markov: ClassVar[bool] = True
    design: ClassVar[Literal["effects", "levels", "coordinates"]] = "levels"
    sides: ClassVar[frozenset[str]] = frozenset({"residual"})

    def n_correlations(self, at: Positions) -> int:
        """One for each level but the last."""
        return at.k - 1

    def _between(self, at: Positions) -> npt.NDArray[np.bool_]:
        """Whether the step from level t to the next lies between i and j, (k - 1, k, k)."""
        i = np.arange(at.k)
        low, high = np.minimum.outer(i, i), np.maximum.outer(i, i)
        t = np.arange(at.k - 1)[:, None, None]
        return np.asarray((low <= t) & (t < high))

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """Products of the correlations between."""
        return np.asarray(np.where(self._between(at), c[:, None, None], 1.0).prod(axis=0))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """Products of the others."""
        between = self._between(at)
        others = [self._without(c, between, [t]) for t in range(len(c))]
        return np.array(others).reshape(len(c), at.k, at.k)

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """Products of all but two."""
        between, H = self._between(at), np.zeros((len(c), len(c), at.k, at.k))
        for t in range(len(c)):
            for u in range(t):
                H[t, u] = H[u, t] = self._without(c, between, [t, u])
        return H

    def _without(self, c: Vector, between: npt.NDArray[np.bool_], left_out: list[int]) -> Matrix:
        """Products of the correlations but some, at the pairs that have all of those."""
        factors = np.where(between, c[:, None, None], 1.0)
        factors[left_out] = between[left_out]
        return np.asarray(factors.prod(axis=0))

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Correlations of neighbours."""
        return np.nan_to_num(np.diag(R, 1))

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Equal ones; the middle one has distinct ones."""
        if at.k == 1:
            return ()
        tilt = 1.0 + 0.3 * np.arange(at.k - 1) / at.k
        return [np.full(at.k - 1, r) if r != 0.4 else r * tilt for r in _TYPICAL]

    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """A correlation of each two neighbours."""
        return tuple(Component("corr", (i, i + 1), float(r), i) for i, r in enumerate(c))


class HeterogeneousAntedependence(Heterogeneous, Antedependence):
    """``adh(visit | g)`` of residuals: a standard deviation for each level."""

    name: ClassVar[str] = "adh"


def _steps(at: Positions) -> Ints:
    """The lags over their largest common divisor."""
    lags = np.rint(at.lags).astype(np.intp)
    return np.asarray(lags // max(int(np.gcd.reduce(lags)), 1)) if len(lags) else lags


def _durbin_levinson(x: Vector, steps: Ints) -> tuple[Vector, Matrix]:
    """
    Autocorrelations at some steps, and their derivatives by ``x``.

    ``r_m = sum_i phi_i r_(m-i) + a_m v``, ``v = prod (1 - a_i^2)``, where the partial
    autocorrelations ``a`` are ``tanh(x)`` at those steps and zero at the others.
    """
    m, size = len(x), int(steps[-1]) if len(steps) else 0
    r, dr = np.ones(size + 1), np.zeros((size + 1, m))
    phi, dphi, v, dv, own = np.zeros(0), np.zeros((0, m)), 1.0, np.zeros(m), 0
    for s in range(1, size + 1):
        back, dback = r[s - 1 : 0 : -1], dr[s - 1 : 0 : -1]
        r[s], dr[s] = phi @ back, dphi.T @ back + dback.T @ phi
        if own < m and steps[own] == s:
            a, slope = float(np.tanh(x[own])), float(tanh_slope(x[own : own + 1])[0])
            r[s] += a * v
            dr[s] += a * dv
            dr[s, own] += slope * v
            reverse = dphi[::-1].copy()
            reverse *= a
            dphi = dphi - reverse
            dphi[:, own] -= slope * phi[::-1]
            last = np.zeros((1, m))
            last[0, own] = slope
            phi, dphi = np.append(phi - a * phi[::-1], a), np.vstack([dphi, last])
            # 1 - tanh^2 is the slope: no digits are lost at a correlation of nearly one.
            dv = dv * slope
            dv[own] -= 2.0 * a * slope * v
            v, own = v * slope, own + 1
        else:
            phi, dphi = np.append(phi, 0.0), np.vstack([dphi, np.zeros((1, m))])
    return r[steps], dr[steps]


def _partial_autocorrelations(c: Vector, steps: Ints) -> Vector:
    """Inverse hyperbolic tangents of the partial autocorrelations at the steps."""
    size = int(steps[-1]) if len(steps) else 0
    r, phi, v, x, own = np.ones(size + 1), np.zeros(0), 1.0, np.zeros(len(c)), 0
    for s in range(1, size + 1):
        r[s] = phi @ r[s - 1 : 0 : -1]
        if steps[own] != s:
            phi = np.append(phi, 0.0)
            continue
        ratio = (c[own] - r[s]) / v if v > 0.0 else 0.0
        x[own] = atanh_inside(np.array([ratio]))[0]
        a, r[s] = float(np.tanh(x[own])), c[own]
        phi, v, own = np.append(phi - a * phi[::-1], a), v * (1.0 - a * a), own + 1
    return x
