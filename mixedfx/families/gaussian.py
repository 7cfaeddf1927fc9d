"""Normal distribution: variance ``sigma^2 / w``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives
from mixedfx.families.dispersion_family import DispersionFamily
from mixedfx.families.family import Mask, Vector
from mixedfx.families.links import Identity, bounded_exp

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# Of the mean size of the response: the least starting mean of a log or inverse link.
_LEAST_START = 0.1


@dataclass(frozen=True)
class Gaussian(DispersionFamily):
    """Normal distribution, parameter ``sigma``: the standard deviation at unit weight."""

    name = "gaussian"
    links = ("identity", "log", "inverse")
    param_names = ("sigma",)
    dispersion_param = "sigma"
    support = "any numbers"
    log_concave_links = ("identity",)
    power = 2

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``(log w - log 2 pi) / 2``."""
        constant = np.full(len(y), -_HALF_LOG_2PI)
        return constant if w is None else constant + 0.5 * np.log(w)

    def _normalizer(self, w: Array | None, param: float) -> tuple[float, float]:
        return -math.log(param), -1.0

    def _unit_log_link(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        mu = bounded_exp(eta)
        e = y - mu
        slope = mu * (4.0 * mu - y) if third else None
        return RowDerivatives(-0.5 * e * e, e * mu, mu * (mu - e), slope)

    def _unit_by_mean(self, y: Array, mu: Array, *, third: bool) -> MeanDerivatives:
        e = y - mu
        return MeanDerivatives(
            -0.5 * e * e, e, np.full_like(e, -1.0), np.zeros_like(e) if third else None
        )

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not finite."""
        return ~np.isfinite(y)

    def starting_mean(self, y: Vector, w: Vector | None) -> Vector:
        """The response, raised to where the link has a linear predictor."""
        if self.link.name == "identity":
            return y
        return np.maximum(y, _LEAST_START * float(np.abs(y).mean()))

    def residual_sd(self, params: Vector) -> float | None:
        """``sigma``."""
        return float(params[0])

    def _variance_function(self, mu: Array) -> Array:
        return np.ones_like(mu)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Normal draws."""
        return mu + np.sqrt(self.variance(mu, w, params)) * rng.standard_normal(np.shape(mu))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Normal distribution function, twice."""
        p = special.ndtr((y - mu) / np.sqrt(self.variance(mu, w, params)))
        return p, p

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``w (y - mu)^2``."""
        squares = (y - mu) ** 2
        return squares if w is None else w * squares


# The family of linear mixed models.
NORMAL = Gaussian(Identity())
