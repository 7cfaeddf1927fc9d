"""Tweedie's distribution with a power between 1 and 2: a Poisson number of gamma amounts.

Tweedie (1984); Jorgensen (1987, J. R. Stat. Soc. B 49:127). Zero has a positive probability, and
the variance is ``phi mu^p``. With ``A = mu^(1 - p)`` and ``B = mu^(2 - p)``

    l = log W - log y - (y A / (p - 1) + B / (2 - p)) / phi,

without the first two terms where y is zero; W is the series of
:mod:`mixedfx.families.tweedie_series`, which does not depend on the mean.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.links import bounded_exp
from mixedfx.families.parameters import Matrix, ParamScale
from mixedfx.families.partials import Partials
from mixedfx.families.tweedie_dispersion import Power, log_density
from mixedfx.families.tweedie_series import log_series, of_distinct, poisson_gamma_cdf

_FIRST_POWER = 1.5
_POWER = Power()


@dataclass(frozen=True)
class Tweedie(Family):
    """
    Amounts with exact zeros, the variance ``phi mu^power``, ``1 < power < 2``; R's ``tweedie``.

    Prior weights divide ``phi``.
    """

    name = "tweedie"
    links = ("log",)
    param_names = ("phi", "power")
    positive_mean = True
    has_zeros = True
    dispersion_param = "phi"
    beside_dispersion = _POWER
    support = "numbers that are not negative"
    rises_at_end = _POWER.rises_at_end
    param_range = "must be above 0, and the power between 1 and 2"

    # ------------------------------------------------------------ parameters

    @property
    def param_scales(self) -> tuple[ParamScale, ...]:
        """The power is between 1 and 2."""
        return ("log", "power")

    def coordinates(self, params: Vector) -> Vector:
        """``log phi``, and the logit of ``power - 1``."""
        return np.append(np.log(params[:1]), _POWER.coordinates(params[1:]))

    def natural(self, coordinates: Vector) -> Vector:
        """Back."""
        return np.append(super().natural(coordinates[:1]), _POWER.natural(coordinates[1:]))

    def distance_to_end(self, coordinates: Vector) -> float:
        """That of the power."""
        return _POWER.distance_to_end(coordinates[1:])

    def natural_jacobian(self, coordinates: Vector) -> Matrix:
        """Diagonal."""
        phi, power = self.natural(coordinates)
        return np.diag([phi, (power - 1.0) * (2.0 - power)])

    def first_params(self, y: Vector, w: Vector | None) -> Vector:
        """A power in the middle."""
        return np.array([1.0, _FIRST_POWER])

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Dispersion by the squares over the variance function, the power as it was."""
        squares = (y - mu) ** 2 / mu**_FIRST_POWER * (1.0 if w is None else w)
        return np.array([max(float(squares.mean()), 1e-10), _FIRST_POWER])

    # ------------------------------------------------------------ log density

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        phi, p = params
        A, B = bounded_exp((1.0 - p) * eta), bounded_exp((2.0 - p) * eta)
        yA, scale = y * A, (1.0 if w is None else w) / phi
        value = _series(y, w, params)[0] - scale * (yA / (p - 1.0) + B / (2.0 - p))
        first = scale * (yA - B)
        weight = scale * ((p - 1.0) * yA + (2.0 - p) * B)
        slope = scale * ((2.0 - p) ** 2 * B - (p - 1.0) ** 2 * yA) if third else None
        return RowDerivatives(value, first, weight, slope)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        phi, p = params
        _, by_log_phi, by_power = _series(y, w, params)
        A, B = bounded_exp((1.0 - p) * eta), bounded_exp((2.0 - p) * eta)
        yA, scale = y * A, (1.0 if w is None else w) / phi
        part = scale * (yA / (p - 1.0) + B / (2.0 - p))
        first = scale * (yA - B)
        weight = scale * ((p - 1.0) * yA + (2.0 - p) * B)
        d_part = scale * (B / (2.0 - p) ** 2 - yA / (p - 1.0) ** 2) - eta * part
        by_p = by_power - d_part, -eta * first, first - eta * weight
        by_phi = by_log_phi + part, -first, -weight
        unit = (p - 1.0) * (2.0 - p)  # of the power by its coordinate
        pairs = zip(by_phi, by_p, strict=True)
        return ParamDerivatives(*(np.array([one, unit * other]) for one, other in pairs))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """By log phi, which can differ by row, and the coordinate of the power."""
        return log_density(y, w, eta, *log_params)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y`` of positive responses."""
        return np.asarray(-np.log(np.where(y > 0.0, y, 1.0)))

    # ------------------------------------------------------------ response

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are negative or not finite."""
        with np.errstate(invalid="ignore"):
            return np.asarray(~((y >= 0.0) & np.isfinite(y)))

    def unbounded(self, y: Vector) -> Vector:
        """Zeros downwards."""
        return np.where(y == 0.0, -1.0, 0.0)

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """The response, moved off zero by a tenth of the mean."""
        return y + 0.1 * float(np.mean(y))

    # ------------------------------------------------------------ distribution

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``phi mu^p / w``."""
        variance = params[0] * mu ** params[1]
        return np.asarray(variance if w is None else variance / w)

    def scale(self, params: Vector) -> float | None:
        """``phi``."""
        return float(params[0])

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Gamma amounts, as many as a Poisson draw."""
        phi, p = params[0] / (1.0 if w is None else w), params[1]
        number = rng.poisson(mu ** (2.0 - p) / (phi * (2.0 - p)))
        shape = number * ((2.0 - p) / (p - 1.0))
        amount = rng.gamma(np.where(number > 0, shape, 1.0)) * phi * (p - 1.0) * mu ** (p - 1.0)
        return np.where(number > 0, amount, 0.0)

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """By Poisson and gamma probabilities; below a zero there is nothing."""
        phi = params[0] / (np.ones_like(mu) if w is None else w)
        shape = np.broadcast_shapes(np.shape(y), np.shape(mu), np.shape(phi))
        of_y, of_mu, of_phi = (np.broadcast_to(v, shape).ravel() for v in (y, mu, phi))
        up_to = poisson_gamma_cdf(of_y, of_mu, of_phi, _power(params)).reshape(shape)
        return np.where(np.broadcast_to(y, shape) > 0.0, up_to, 0.0), up_to

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``2 w (y^(2-p) / ((1-p)(2-p)) - y mu^(1-p) / (1-p) + mu^(2-p) / (2-p))``."""
        p = _power(params)
        own = y ** (2.0 - p) / ((1.0 - p) * (2.0 - p))
        deviance = 2.0 * (own - y * mu ** (1.0 - p) / (1.0 - p) + mu ** (2.0 - p) / (2.0 - p))
        deviance = np.maximum(deviance, 0.0)
        return np.asarray(deviance if w is None else w * deviance)


def _power(params: Array) -> float:
    """The power, which is one number where phi differs by row."""
    return float(np.ravel(params[1])[0])


# The last series: modes are searched at parameters that stay, and it does not depend on the mean.
_LAST: list[tuple[weakref.ref[Vector], object, tuple[float, float], Matrix]] = []


def _series(y: Array, w: Array | None, params: Vector) -> Matrix:
    """``log W`` and its derivatives by log phi and the power, zero where y is, (3, n)."""
    key = float(params[0]), float(params[1])
    if _LAST:
        of_y, of_w, at, found = _LAST[0]
        if of_y() is y and of_w is w and at == key:
            return found
    phi = np.full(len(y), key[0]) if w is None else key[0] / w
    found = of_distinct(log_series, y, phi, key[1])
    if not y.flags.writeable:  # else the values may change
        _LAST[:] = [(weakref.ref(y), w, key, found)]
    return found
