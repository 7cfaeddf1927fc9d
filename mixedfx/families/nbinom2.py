"""Negative binomial distribution with variance ``mu + alpha mu^2``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mixedfx.families import partials
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Vector
from mixedfx.families.gamma_ratios import GammaRatio, log_gamma_ratio
from mixedfx.families.links import MAX_EXPONENT, bounded_exp
from mixedfx.families.negative_binomial import NegativeBinomial
from mixedfx.families.partials import Partials


@dataclass(frozen=True)
class NegativeBinomial2(NegativeBinomial):
    """Counts with variance ``mu + alpha mu^2``; ``1 / alpha`` is R's theta."""

    name = "nbinom2"
    log_concave_links = ("log",)

    def _size(self, mu: Array, alpha: Array | float) -> Array:
        return np.asarray(1.0 / alpha)

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        alpha = float(params[0])
        mu = bounded_exp(eta)
        s = alpha * mu
        q = 1.0 / (1.0 + s)
        value = (-1.0 / alpha - y) * np.log1p(s)
        value += y * eta
        beyond = np.maximum(eta - MAX_EXPONENT, 0.0)
        if beyond.any():  # log(1 + s) stays behind there, so that the density would rise for ever
            value -= (1.0 / alpha + y) * beyond
        C, rows = _gamma_ratio(y, alpha)
        value += C.value[rows]
        mu_q = mu * q
        weight = (alpha * y + 1.0) * mu_q
        weight *= q
        slope = weight * (1.0 - s) * q if third else None
        return weighted(RowDerivatives(value, y * q - mu_q, weight, slope), w)

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        alpha = float(params[0])
        mu = bounded_exp(eta)
        s = alpha * mu
        q = 1.0 / (1.0 + s)
        p = s * q
        C, rows = _gamma_ratio(y, alpha)
        value = (np.log1p(s) - p) / alpha - y * p - C.first[rows]
        first = (mu - y) * p * q
        weight = mu * q * q * (alpha * y - 2.0 * (1.0 + alpha * y) * p)
        scale = 1.0 if w is None else w
        return ParamDerivatives(*((scale * part)[np.newaxis] for part in (value, first, weight)))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """``C(y, 1 / alpha) + y eta - (1 / alpha + y) log(1 + alpha mu)``."""
        log_k = -log_params[0]
        C = log_gamma_ratio(y, np.exp(log_k.value))
        found = log_k.compose(C.value, C.first, C.second, C.third) + y * eta
        found = found - (partials.exp(log_k) + y) * partials.softplus(eta + log_params[0])
        return found if w is None else found * w


def _gamma_ratio(y: Array, alpha: float) -> tuple[GammaRatio, Any]:
    """C(y, 1 / alpha), with the rows' indices into it: a table of all y where that is shorter."""
    largest = float(y.max(initial=0.0))
    if not largest < y.size:
        return log_gamma_ratio(y, np.asarray(1.0 / alpha), third=False), slice(None)
    return _table(math.floor(largest), alpha), y.astype(np.intp)


@lru_cache(maxsize=4)  # modes are found at one alpha, by some evaluations
def _table(largest: int, alpha: float) -> GammaRatio:
    """C(y, 1 / alpha) for y up to the largest."""
    return log_gamma_ratio(np.arange(largest + 1.0), np.asarray(1.0 / alpha), third=False)
