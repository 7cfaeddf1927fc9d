"""Beta distribution: shares strictly between 0 and 1, variance ``mu (1 - mu) / (1 + phi)``.

Ferrari and Cribari-Neto (2004, J. Appl. Stat. 31:799). With a = mu phi, b = (1 - mu) phi and
K(k) = k log k - k - lgamma(k), which grows slowly,

    l = K(a) + K(b) - K(phi) + a log(y / mu) + b log((1 - y) / (1 - mu)) - log y - log(1 - y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families.beta_shapes import BetaShapes, ShapePart
from mixedfx.families.derivatives import Array
from mixedfx.families.family import Mask, Vector
from mixedfx.families.gamma_ratios import scaled_log_gamma

_LEAST_START, _LARGEST_START = 0.1, 1e4  # of phi


@dataclass(frozen=True)
class Beta(BetaShapes):
    """
    Beta distribution with the mean ``mu`` and the precision ``phi``, as glmmTMB's ``beta_family``.

    A prior weight multiplies the log density of its row.
    """

    name = "beta"
    links = ("logit", "probit", "cloglog")
    support = "numbers between 0 and 1, without these"
    mean_name = "mean share"

    def _parts(
        self, y: Array, w: Array | None, a: Array, b: Array, phi: Array | float
    ) -> tuple[ShapePart, ShapePart, ShapePart]:
        of_phi = ShapePart(*(-part for part in _part(np.asarray(phi), np.asarray(0.0))))
        of_a, of_b = (_part(x, np.log(z * phi / x)) for x, z in ((a, y), (b, 1.0 - y)))
        return of_a, of_b, of_phi

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``-log y - log(1 - y)``, times the weight."""
        constant = -np.log(y) - np.log1p(-y)
        return np.asarray(constant if w is None else w * constant)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not between 0 and 1."""
        with np.errstate(invalid="ignore"):
            return np.asarray(~((y > 0.0) & (y < 1.0)))

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """``mu (1 - mu)`` over the squared residuals, less one."""
        weights = np.ones_like(y) if w is None else w
        ratio = np.average((y - mu) ** 2 / (mu * (1.0 - mu)), weights=weights)
        return np.array([np.clip(1.0 / ratio - 1.0, _LEAST_START, _LARGEST_START)])

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``mu (1 - mu) / (1 + phi)``, over the weight."""
        variance = mu * (1.0 - mu) / (1.0 + params[0])
        return np.asarray(variance if w is None else variance / w)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Beta draws, kept within the support."""
        phi = params[0]
        drawn = rng.beta(np.maximum(mu * phi, 1e-300), np.maximum((1.0 - mu) * phi, 1e-300))
        return np.asarray(np.clip(drawn, np.finfo(float).tiny, 1.0 - np.finfo(float).epsneg))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Regularised incomplete beta function, twice."""
        phi = params[0]
        p = np.asarray(special.betainc(mu * phi, (1.0 - mu) * phi, y), dtype=float)
        return p, p


def _part(a: Array, log_ratio: Array) -> ShapePart:
    """
    ``K(a) + a log_ratio``, with derivatives of ``-lgamma(a) + a (log y + log phi)`` by log a.

    The two differ by terms that a and b, whose sum is phi, have with opposite signs.
    """
    K, slope = scaled_log_gamma(a)
    first = a * log_ratio + slope
    curvature = a * a * special.polygamma(1, a)
    third = -(a**3) * special.polygamma(2, a)
    return ShapePart(K + a * log_ratio, first, first - curvature, first - 3.0 * curvature + third)
