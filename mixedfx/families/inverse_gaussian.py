"""Inverse Gaussian distribution: variance ``phi mu^3 / w``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives
from mixedfx.families.dispersion_family import DispersionFamily
from mixedfx.families.family import Mask, Vector
from mixedfx.families.links import bounded_exp

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class InverseGaussian(DispersionFamily):
    """
    Inverse Gaussian distribution, parameter ``phi``.

    The default link is the logarithm; R's ``inverse.gaussian()`` has ``1 / mu^2``.
    """

    name = "inverse_gaussian"
    links = ("log", "inverse", "identity")
    param_names = ("phi",)
    dispersion_param = "phi"
    positive_mean = True
    support = "positive numbers"

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``(log w - log 2 pi - 3 log y) / 2``."""
        constant = -1.5 * np.log(y) - _HALF_LOG_2PI
        return np.asarray(constant if w is None else constant + 0.5 * np.log(w))

    def _normalizer(self, w: Array | None, param: float) -> tuple[float, float]:
        return -0.5 * math.log(param), -0.5

    def _unit_log_link(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        m = bounded_exp(-eta)
        z = y * m
        rest = z - 1.0
        slope = m * (1.0 - 4.0 * z) if third else None
        return RowDerivatives(-0.5 * rest * rest / y, m * rest, m * (z + rest), slope)

    def _unit_by_mean(self, y: Array, mu: Array, *, third: bool) -> MeanDerivatives:
        v, z = 1.0 / mu, y / mu
        rest, squared = z - 1.0, v * v
        return MeanDerivatives(
            -0.5 * rest * rest / y,
            rest * squared,
            (2.0 - 3.0 * z) * v * squared,
            (12.0 * z - 6.0) * squared * squared if third else None,
        )

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not positive."""
        return ~((y > 0) & np.isfinite(y))

    def _variance_function(self, mu: Array) -> Array:
        return mu**3

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Inverse Gaussian draws."""
        return rng.wald(mu, np.broadcast_to((1.0 if w is None else w) / params[0], np.shape(mu)))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """With c^2 = w / (phi y): Phi(c (y/mu - 1)) + exp(2 w / (phi mu)) Phi(-c (y/mu + 1))."""
        precision = (1.0 if w is None else w) / params[0]
        c, z = np.sqrt(precision / y), y / mu
        second = np.exp(2.0 * precision / mu + special.log_ndtr(-c * (z + 1.0)))
        p = np.minimum(special.ndtr(c * (z - 1.0)) + second, 1.0)
        return p, p

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``w (y - mu)^2 / (y mu^2)``."""
        deviance = (y / mu - 1.0) ** 2 / y
        return deviance if w is None else w * deviance
