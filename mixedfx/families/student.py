"""Student's t distribution with location ``mu``, scale ``sigma`` and ``df`` degrees of freedom.

Lange, Little and Taylor (1989, J. Am. Stat. Assoc. 84:881): a normal response whose outliers weigh
little. With z = y - mu, A = df sigma^2 / w and D = A + z^2,

    l = lgamma((df + 1) / 2) - lgamma(df / 2) - log(pi A) / 2 - (df + 1) / 2 log(D / A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from mixedfx.families import partials
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives
from mixedfx.families.family import Family, Mask, Vector
from mixedfx.families.gamma_ratios import half_step_ratio
from mixedfx.families.partials import Partials

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_FIRST_DF = 5.0
# Of the normal distribution: the standard deviation over the median absolute deviation.
_MAD = 1.4826022185056018


@dataclass(frozen=True)
class Student(Family):
    """
    Student's t distribution, for a location that outliers do not move.

    The parameters are the scale ``sigma``, at unit weight, and the degrees of freedom ``df``; the
    variance is ``sigma^2 df / (df - 2)``, infinite where df is at most 2.
    """

    name = "student"
    links = ("identity",)
    param_names = ("sigma", "df")
    dispersion_param = "sigma"
    limits = ("gaussian",)
    infinite = ("df",)
    support = "any numbers"

    def _parts(
        self, y: Array, w: Array | None, eta: Array, params: Vector
    ) -> tuple[Array, Array | float, Array]:
        z = y - eta
        A = params[1] * params[0] ** 2 * (1.0 if w is None else 1.0 / w)
        return z, A, A + z * z

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        sigma, df = params
        z, A, D = self._parts(y, w, eta, params)
        value = half_step_ratio(df)[0] - math.log(sigma) - 0.5 * (df + 1.0) * np.log1p(z * z / A)
        c = (df + 1.0) / D
        first = c * z
        weight = c * (A - z * z) / D
        slope = 2.0 * first * (3.0 * A - z * z) / D**2 if third else None
        return RowDerivatives(value, first, weight, slope)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        df = float(params[1])
        z, A, D = self._parts(y, w, eta, params)
        square, share = z * z, A / D
        c = (df + 1.0) / D
        beyond = c * share * (3.0 * square - A) / D
        by_sigma = (c * square - 1.0, -2.0 * c * z * share, 2.0 * beyond)
        by_df = (
            half_step_ratio(df)[1] - 0.5 * df * np.log1p(square / A) + 0.5 * c * square,
            df * z / D - c * z * share,
            df * (A - square) / D**2 + beyond,
        )
        return ParamDerivatives(*(np.array(pair) for pair in zip(by_sigma, by_df, strict=True)))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """``h(df) - log sigma - (df + 1) / 2 log(1 + z^2 w / (df sigma^2))``."""
        log_sigma, log_df = log_params
        z = y - eta
        ratio = z * z * partials.exp(-2.0 * log_sigma - log_df)
        ratio = ratio if w is None else ratio * w
        h, slope = half_step_ratio(float(np.exp(log_df.value)))
        found = log_df.compose(h, slope, 0.0, None) - log_sigma
        return found - (0.5 * partials.exp(log_df) + 0.5) * partials.log1p(ratio)

    def constants(self, y: Vector, w: Vector | None) -> Vector:
        """``(log w - log 2 pi) / 2``."""
        constant = np.full(len(y), -_HALF_LOG_2PI)
        return constant if w is None else constant + 0.5 * np.log(w)

    def outside(self, y: Vector, w: Vector | None) -> Mask:
        """Values that are not finite."""
        return ~np.isfinite(y)

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """Scale by the median absolute residual."""
        residuals = np.abs(y - mu) * (1.0 if w is None else np.sqrt(w))
        scale = _MAD * float(np.median(residuals)) or float(residuals.mean())
        return np.array([max(scale, np.finfo(float).tiny), _FIRST_DF])

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``sigma^2 df / (df - 2) / w``, infinite where df is at most 2."""
        sigma, df = params
        factor = df / (df - 2.0) if float(np.max(df)) > 2.0 else math.inf
        variance = sigma**2 * factor * np.ones_like(mu)
        return np.asarray(variance if w is None else variance / w)

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Draws of t."""
        scale = params[0] / (1.0 if w is None else np.sqrt(w))
        return np.asarray(mu + scale * rng.standard_t(params[1], np.shape(mu)))

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Distribution function of t, twice."""
        scale = params[0] / (1.0 if w is None else np.sqrt(w))
        p = special.stdtr(params[1], (y - mu) / scale)
        return p, p

    def unit_deviance(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> Vector:
        """``(df + 1) log(D / A)``, twice what the log density is below that at the response."""
        z, A, _ = self._parts(y, w, mu, params)
        return np.asarray((params[1] + 1.0) * np.log1p(z * z / A))
