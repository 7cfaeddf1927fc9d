"""Negative binomial distribution with variance ``mu (1 + alpha)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixedfx.families import partials
from mixedfx.families.derivatives import Array, ParamDerivatives, RowDerivatives, weighted
from mixedfx.families.family import Vector
from mixedfx.families.gamma_ratios import log_gamma_ratio
from mixedfx.families.links import bounded_exp
from mixedfx.families.negative_binomial import NegativeBinomial
from mixedfx.families.partials import Partials


@dataclass(frozen=True)
class NegativeBinomial1(NegativeBinomial):
    """
    Counts with variance ``mu (1 + alpha)``.

    The size ``k = mu / alpha`` differs by row, so that log k moves with eta: with L = log(1 +
    alpha) the log density is ``C(y, k) + y eta - y L - k L``.
    """

    name = "nbinom1"

    def _size(self, mu: Array, alpha: Array | float) -> Array:
        return mu / alpha

    def _rows(
        self, y: Array, w: Array | None, eta: Array, params: Vector, *, third: bool
    ) -> RowDerivatives:
        alpha = float(params[0])
        L = math.log1p(alpha)
        k = bounded_exp(eta) / alpha
        C = log_gamma_ratio(y, k, third=third)
        kL = k * L
        return weighted(
            RowDerivatives(
                C.value + y * (eta - L) - kL,
                C.first + y - kL,
                kL - C.second,
                None if C.third is None else kL - C.third,
            ),
            w,
        )

    def _by_params(self, y: Array, w: Array | None, eta: Array, params: Vector) -> ParamDerivatives:
        alpha = float(params[0])
        L, p = math.log1p(alpha), alpha / (1.0 + alpha)
        k = bounded_exp(eta) / alpha
        C = log_gamma_ratio(y, k)
        assert C.third is not None
        excess = k * (L - p)
        scale = 1.0 if w is None else w
        parts = (excess - C.first - y * p, excess - C.second, C.third - excess)
        return ParamDerivatives(*((scale * part)[np.newaxis] for part in parts))

    def several(
        self, y: Array, w: Array | None, eta: Partials, log_params: list[Partials]
    ) -> Partials:
        """``C(y, k) + y (eta - L) - k L`` with ``k = mu / alpha`` and ``L = log(1 + alpha)``."""
        log_k, L = eta - log_params[0], partials.softplus(log_params[0])
        C = log_gamma_ratio(y, bounded_exp(np.asarray(log_k.value)))
        found = log_k.compose(C.value, C.first, C.second, C.third) + y * (eta - L)
        found = found - partials.exp(log_k) * L
        return found if w is None else found * w
