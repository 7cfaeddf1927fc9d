"""Correlations that fall with the distance d in time or space.

    ou     exp(-rate d)                                     one coordinate
    exp    exp(-d / range)
    gau    exp(-(d / range)**2)
    mat    2**(1 - nu) / Gamma(nu) (d / range)**nu K_nu(d / range),  nu the smoothness

Unbounded parameters are logarithms, of ranges relative to the mean distance, so that they do not
depend on the unit, with limits far out. The derivative of the Matern correlation by its smoothness
is a difference of
fourth order; all others are exact.

References
----------
.. [1] Diggle and Ribeiro (2007), Model-based Geostatistics, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.covariance.components import ZERO, Component, ComponentKind, Positions
from mixedfx.covariance.correlation import CorrelationStructure, atanh_inside, tanh_slope
from mixedfx.covariance.ends import NEGLIGIBLE
from mixedfx.covariance.entries import EntryFormula
from mixedfx.covariance.structure import CovarianceStructure

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Of distances, range and smoothness.
_OfDistance = Callable[[Vector, float, float], Vector]

# Ranges over the mean distance from which a search may end elsewhere.
_TYPICAL = (0.03, 0.1, 0.3, 1.0, 3.0)
_SMOOTHNESS = (0.4, 1.2, 3.0)
# Largest power of e of a parameter over its unit: the likelihood is flat far out, and a range of
# a million mean distances is that of a field whose variogram is a power of the distance.
_MAX_LOG: dict[str, float] = {"range": 14.0, "rate": 14.0, "smoothness": 4.0}
# A field whose correlations all exceed this has its range at the limit.
_CONSTANT = 1.0 - 1e-3
# Relative step of differences by the smoothness; its first four powers are lost.
_STEP = 2e-3
# Smoothness of the limit above, at which the correlation is nearly the Gaussian one.
_SMOOTHEST = float(np.exp(_MAX_LOG["smoothness"]))
# Distances from which the parameters of a given Matern correlation matrix are found.
_MAX_DISTANCES = 60


class DistanceStructure(CorrelationStructure):
    """One standard deviation, and a correlation that is a function of distance."""

    design: ClassVar[Literal["effects", "levels", "coordinates"]] = "coordinates"
    kinds: ClassVar[tuple[ComponentKind, ...]] = ("range",)
    goes_on: ClassVar[bool] = True

    def n_correlations(self, at: Positions) -> int:
        """Range, rate or smoothness, of two points or more."""
        return len(self.kinds) if at.k > 1 else 0

    def _unit(self, at: Positions) -> Vector:
        """Units of the parameters: the mean distance for a range."""
        mean = at.mean_distance
        units = {"range": mean, "rate": 1.0 / mean, "smoothness": 1.0}
        return np.array([units[kind] for kind in self.kinds])

    def _limits(self) -> Vector:
        """Largest logarithm of each parameter."""
        return np.array([_MAX_LOG[kind] for kind in self.kinds])

    def bounded(self, x: Vector, at: Positions) -> Vector:
        """``unit exp(limit tanh(x / limit))``."""
        if not len(x):
            return x
        limit = self._limits()
        return np.asarray(self._unit(at) * np.exp(limit * np.tanh(x / limit)))

    def bounded_jacobian(self, x: Vector, at: Positions) -> Matrix:
        """``c / cosh(x / limit)**2``."""
        slope = tanh_slope(x / self._limits()) if len(x) else x
        return np.diag(self.bounded(x, at) * slope)

    def unbounded(self, c: Vector, at: Positions) -> Vector:
        """Inverse of :meth:`bounded`."""
        if not len(c):
            return c
        limit = self._limits()
        return limit * atanh_inside(np.log(np.maximum(c / self._unit(at), 1e-300)) / limit)

    def correlation_components(self, c: Vector, at: Positions) -> tuple[Component, ...]:
        """Each parameter."""
        named = zip(self.kinds, c.tolist(), strict=False)
        return tuple(
            Component(kind, (), value, i, (0.0, np.inf)) for i, (kind, value) in enumerate(named)
        )

    def components_at(self, params: Vector, at: Positions) -> tuple[Component, ...]:
        """Without a factor: a smooth field has none."""
        of_c = self.correlation_components(self.bounded(params[1:], at), at)
        sd = Component("sd", (), float(params[0]), 0)
        return (sd, *(replace(c, parameter=i) for i, c in enumerate(of_c, 1)))

    def full_rank_factor(self, factor: Matrix, tolerance: float) -> Matrix:
        """The factor, or none: a smooth field is singular inside its family."""
        return CovarianceStructure.full_rank_factor(self, factor, tolerance)

    def boundary(self, factor: Matrix) -> tuple[Component, ...]:
        """A sd of zero, or a range at its limits: a smooth field is singular without."""
        rows = np.sqrt((factor**2).sum(axis=1))
        if rows.max(initial=0.0) < ZERO:
            return (Component("sd", (), 0.0),)
        R = ((factor @ factor.T) / np.outer(rows, rows))[np.triu_indices(len(rows), 1)]
        at_limit = len(R) > 0 and (R.min() > _CONSTANT or R.max() < NEGLIGIBLE)
        return (Component(self.kinds[0], (), np.nan),) if at_limit else ()

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Short to long ranges."""
        if at.k == 1:
            return ()
        return [self._of_range(share * at.mean_distance) for share in _TYPICAL]

    def generic(self, at: Positions) -> Vector:
        """A range of the mean distance."""
        return self._of_range(at.mean_distance) if at.k > 1 else np.zeros(0)

    def _of_range(self, distance: float) -> Vector:
        """Parameters c of a range."""
        return np.array([distance])


class Exponential(DistanceStructure):
    """``exp(lon + lat | g)``: correlations ``exp(-d / range)``."""

    name: ClassVar[str] = "exp"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "exp(−‖s−t‖ / {range})", r"\exp(-\lVert s-t \rVert / {range})"
    )

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """``exp(-d / range)``."""
        return np.asarray(np.exp(-at.distances / c[0])) if len(c) else np.ones((1, 1))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """``exp(-z) z / range``, z the distance over the range."""
        z = at.distances / c[:, None, None]
        return np.asarray(np.exp(-z) * z / c[:, None, None])

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """``exp(-z) z (z - 2) / range**2``."""
        z = at.distances / c[:, None, None]
        return np.asarray(np.exp(-z) * z * (z - 2.0) / c[:, None, None] ** 2)[:, None]

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """By the pair whose correlation is nearest to ``1 / e``."""
        return np.full(1, _scale_of_pair(R, at)[0]) if at.k > 1 else np.zeros(0)


class OrnsteinUhlenbeck(DistanceStructure):
    """``ou(time | g)``: correlations ``exp(-rate d)`` in real times."""

    name: ClassVar[str] = "ou"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "exp(−{rate} |s−t|)", r"\exp(-{rate} |s-t|)"
    )
    markov: ClassVar[bool] = True
    kinds: ClassVar[tuple[ComponentKind, ...]] = ("rate",)
    max_coordinates: ClassVar[int] = 1

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """``exp(-rate d)``."""
        return np.asarray(np.exp(-at.distances * c[0])) if len(c) else np.ones((1, 1))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """``-d exp(-rate d)``."""
        d = at.distances
        return np.asarray(-d * np.exp(-d * c[:, None, None]))

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """``d**2 exp(-rate d)``."""
        d = at.distances
        return np.asarray(d**2 * np.exp(-d * c[:, None, None]))[:, None]

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """By the pair whose correlation is nearest to ``1 / e``."""
        return np.full(1, 1.0 / _scale_of_pair(R, at)[0]) if at.k > 1 else np.zeros(0)

    def _of_range(self, distance: float) -> Vector:
        return np.array([1.0 / distance])


class Gaussian(DistanceStructure):
    """``gau(lon + lat | g)``: correlations ``exp(-(d / range)**2)``."""

    name: ClassVar[str] = "gau"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "exp(−(‖s−t‖ / {range})²)", r"\exp(-(\lVert s-t \rVert / {range})^2)"
    )

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """``exp(-(d / range)**2)``."""
        return np.asarray(np.exp(-((at.distances / c[0]) ** 2))) if len(c) else np.ones((1, 1))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """``2 z**2 exp(-z**2) / range``, z the distance over the range."""
        z = at.distances / c[:, None, None]
        return np.asarray(2.0 * z**2 * np.exp(-(z**2)) / c[:, None, None])

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """``2 z**2 (2 z**2 - 3) exp(-z**2) / range**2``."""
        z = at.distances / c[:, None, None]
        H = 2.0 * z**2 * (2.0 * z**2 - 3.0) * np.exp(-(z**2)) / c[:, None, None] ** 2
        return np.asarray(H)[:, None]

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """By the pair whose correlation is nearest to ``1 / e``."""
        if at.k == 1:
            return np.zeros(0)
        scale, d = _scale_of_pair(R, at)
        return np.full(1, np.sqrt(scale * d))


class Matern(DistanceStructure):
    """``mat(lon + lat | g)``: the Matern correlation, of a range and a smoothness."""

    name: ClassVar[str] = "mat"
    correlation_entry: ClassVar[EntryFormula | None] = EntryFormula(
        "2^(1−{smoothness}) / Γ({smoothness}) z^{smoothness} K_{smoothness}(z), "
        "z = ‖s−t‖ / {range}",
        r"\frac{{2^{{1-{smoothness}}}}}{{\Gamma({smoothness})}} z^{{{smoothness}}} "
        r"K_{{{smoothness}}}(z),\; z = \lVert s-t \rVert / {range}",
    )
    kinds: ClassVar[tuple[ComponentKind, ...]] = ("range", "smoothness")

    def correlation(self, c: Vector, at: Positions) -> Matrix:
        """By distinct distances."""
        return self._by_distance(_matern, c, at) if len(c) else np.ones((1, 1))

    def correlation_jacobian(self, c: Vector, at: Positions) -> Array:
        """By the range exactly, by the smoothness a difference."""
        if not len(c):
            return np.zeros((0, 1, 1))
        return np.stack(
            [self._by_distance(_matern_by_range, c, at), self._by_distance(_by_smoothness, c, at)]
        )

    def correlation_hessian(self, c: Vector, at: Positions) -> Array:
        """By the range exactly, otherwise differences."""
        if not len(c):
            return np.zeros((0, 0, 1, 1))
        mixed = self._by_distance(_by_range_and_smoothness, c, at)
        return np.array(
            [
                [self._by_distance(_matern_by_range_twice, c, at), mixed],
                [mixed, self._by_distance(_by_smoothness_twice, c, at)],
            ]
        )

    def _by_distance(self, function: _OfDistance, c: Vector, at: Positions) -> Matrix:
        """A function of distance, each distinct one evaluated once."""
        R = np.full(at.distances.shape, float(function is _matern))
        apart = at.distances > 0.0
        distinct, which = np.unique(at.distances[apart], return_inverse=True)
        R[apart] = function(distinct, float(c[0]), float(c[1]))[which]
        return R

    def estimate(self, R: Matrix, at: Positions) -> Vector:
        """Least squares over some distances, from several starts."""
        if at.k == 1:
            return np.zeros(0)
        upper = np.triu_indices(at.k, 1)
        d, r = at.distances[upper], R[upper]
        order = np.argsort(d, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(d) - 1, _MAX_DISTANCES).astype(np.intp))]
        informative = order[(r[order] > 0.05) & (r[order] < 0.98)][:_MAX_DISTANCES]
        if len(informative) >= 2:
            chosen = informative
        return _fit_matern(d[chosen], r[chosen], _scale_of_pair(R, at)[0])

    def typical(self, at: Positions) -> Sequence[Vector]:
        """Ranges at several smoothnesses, of nearly the same distance of little correlation."""
        if at.k == 1:
            return ()
        unit = at.mean_distance
        return [
            np.array([share * unit / np.sqrt(2.0 * nu), nu])
            for nu in _SMOOTHNESS
            for share in _TYPICAL
        ]

    def _of_range(self, distance: float) -> Vector:
        return np.array([0.6 * distance, 1.2])


def _scale_of_pair(R: Matrix, at: Positions) -> tuple[float, float]:
    """``-d / log(r)`` of the pair whose correlation r is nearest to 1 / e, and its distance d."""
    upper = np.triu_indices(at.k, 1)
    d, r = at.distances[upper], np.clip(R[upper], 1e-12, 1.0 - 1e-12)
    best = int(np.argmin(np.abs(np.log(-np.log(r)))))
    if r[best] <= 1e-12:  # no correlation at all: that of the nearest pair is small
        best = int(np.argmin(d))
    return float(-d[best] / np.log(r[best])), float(d[best])


def _matern(d: Vector, scale: float, nu: float) -> Vector:
    """Matern correlations at positive distances."""
    return _bessel_power(d / scale, nu, nu)


def _bessel_power(z: Vector, nu: float, order: float) -> Vector:
    """``2**(1 - nu) / Gamma(nu) z**nu K_order(z)``, its limit one at zero for order nu."""
    with np.errstate(all="ignore"):
        log = (1.0 - nu) * np.log(2.0) - special.gammaln(nu) + nu * np.log(z) - z
        value = np.exp(log) * special.kve(order, z)
    return np.where(np.isfinite(value), value, 1.0 if order == nu else 0.0)


def _matern_by_range(d: Vector, scale: float, nu: float) -> Vector:
    """``dR/dz = -2**(1 - nu) / Gamma(nu) z**nu K_(nu-1)(z)`` times ``-z / range``."""
    z = d / scale
    return np.asarray(_bessel_power(z, nu, nu - 1.0) * z / scale)


def _matern_by_range_twice(d: Vector, scale: float, nu: float) -> Vector:
    """Second derivative by the range: ``(z**2 R'' + 2 z R') / range**2``."""
    z = d / scale
    first = -_bessel_power(z, nu, nu - 1.0)
    second = first / z + _bessel_power(z, nu, nu - 2.0)
    return np.asarray((z**2 * second + 2.0 * z * first) / scale**2)


def _by_smoothness(d: Vector, scale: float, nu: float) -> Vector:
    """Difference of fourth order."""
    return _difference(_matern, d, scale, nu)


def _by_range_and_smoothness(d: Vector, scale: float, nu: float) -> Vector:
    """Difference of the exact derivative by the range."""
    return _difference(_matern_by_range, d, scale, nu)


def _difference(function: _OfDistance, d: Vector, scale: float, nu: float) -> Vector:
    h = _STEP * nu
    near = function(d, scale, nu + h) - function(d, scale, nu - h)
    far = function(d, scale, nu + 2.0 * h) - function(d, scale, nu - 2.0 * h)
    return np.asarray((8.0 * near - far) / (12.0 * h))


def _by_smoothness_twice(d: Vector, scale: float, nu: float) -> Vector:
    """Second difference of fourth order."""
    h = 5.0 * _STEP * nu
    near = _matern(d, scale, nu + h) + _matern(d, scale, nu - h)
    far = _matern(d, scale, nu + 2.0 * h) + _matern(d, scale, nu - 2.0 * h)
    return np.asarray((16.0 * near - far - 30.0 * _matern(d, scale, nu)) / (12.0 * h**2))


def _fit_matern(d: Vector, r: Vector, scale: float) -> Vector:
    """Range and smoothness whose correlations at distances ``d`` are nearest to ``r``."""
    from scipy.optimize import least_squares

    low, high = -np.log(_SMOOTHEST), np.log(_SMOOTHEST)

    def misfit(x: Vector) -> Vector:
        return _matern(d, float(np.exp(x[0])), float(np.exp(np.clip(x[1], low, high)))) - r

    def jacobian(x: Vector) -> Matrix:
        c = np.exp([x[0], np.clip(x[1], low, high)])
        by_range = _matern_by_range(d, float(c[0]), float(c[1])) * c[0]
        return np.column_stack([by_range, _by_smoothness(d, float(c[0]), float(c[1])) * c[1]])

    best: tuple[float, Vector] | None = None
    for nu in (0.5, 1.5, 4.0, 15.0):
        start = np.array([np.log(scale / np.sqrt(2.0 * nu)), np.log(nu)])
        end = least_squares(
            misfit, start, jac=jacobian, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=100
        )
        if best is None or end.cost < best[0]:
            best = end.cost, end.x
        if end.cost < 1e-24 * len(d):
            break
    assert best is not None
    return np.exp([best[1][0], np.clip(best[1][1], low, high)])
