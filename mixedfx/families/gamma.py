"""Gamma distribution: shape ``w / phi``, variance ``phi mu^2 / w``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.derivatives import Array, MeanDerivatives, RowDerivatives
from mixedfx.families.dispersion_family import DispersionFamily
from mixedfx.families.family import Mask, Vector
from mixedfx.families.gamma_ratios import scaled_log_gamma, scaled_log_gamma_slopes
from mixedfx.families.links import bounded_exp
from mixedfx.families.partials import Partials


@dataclass(frozen=True)
class Gamma(DispersionFamily):
    """
    Gamma distribution, parameter ``phi``: the squared coefficient of variation.

    The default link is the logarithm; R's ``Gamma()`` has the inverse.
    """

    name = "gamma"
    links = ("log", "inverse", "identity")
    param_names = ("phi",)
    dispersion_param = "phi"
    positive_mean = True
    support = "positive numbers"
    log_link_methods = ("lognormal", "delta", "trigamma")
    log_concave_links = ("log",)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y``."""
        return -np.log(y)

    def _normalizer(self, w: Array | None, param: float) -> tuple[Array | float, Array | float]:
        K, slope = scaled_log_gamma(np.asarray((1.0 if w is None else w) / param))
        return K, -slope

    def _normalizer_of(self, w: Array | None, log_param: Partials) -> Partials:
        log_k = -log_param if w is None else np.log(w) - log_param
        return log_k.compose(*scaled_log_gamma_slopes(np.exp(log_k.value)))

    def _unit_log_link(self, y: Array, eta: Array, *, third: bool) -> RowDerivatives:
        z = y * bounded_exp(-eta)
        rest = z - 1.0
        return RowDerivatives(np.log(z) - rest, rest, z, -z if third else None)

    def _unit_by_mean(self, y: Array, mu: Array, *, third: bool) -> MeanDerivatives:
        z, v = y / mu, 1.0 / mu
        rest = z - 1.0
        third_ = (6.0 * z - 2.0) * v * v * v if third else None
        return MeanDerivatives(np.log(z) - rest, rest * v, (1.0 - 2.0 * z) * v * v, third_)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not positive."""
        return ~((y > 0) & np.isfinite(y))

    def _variance_function(self, mu: Array) -> Array:
        return mu**2

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Gamma draws."""
        scale = params[0] / (1.0 if w is None else w)
        return rng.gamma(np.broadcast_to(1.0 / scale, np.shape(mu)), mu * scale)

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Regularised incomplete gamma function, twice."""
        shape = (1.0 if w is None else w) / params[0]
        p = special.gammainc(shape, shape * y / mu)
        return p, p

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``2 w (y / mu - 1 - log(y / mu))``."""
        rest = y / mu - 1.0
        deviance = 2.0 * (rest - np.log1p(rest))
        return np.asarray(deviance if w is None else w * deviance)
