"""Beta-binomial distribution: binomial, with probabilities that vary as a beta distribution.

With k of n successes, a = mu phi, b = (1 - mu) phi and C of :mod:`mixedfx.families.gamma_ratios`,

    l = log binomial(n, k) + k log mu + (n - k) log(1 - mu) + C(k, a) + C(n - k, b) - C(n, phi),

of which the C vanish in the binomial limit of large phi.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from mixedfx.errors import ResponseError
from mixedfx.families.beta_shapes import MIN_SHAPE, BetaShapes, ShapePart
from mixedfx.families.binomial import Binomial
from mixedfx.families.derivatives import Array
from mixedfx.families.family import Vector
from mixedfx.families.gamma_ratios import log_gamma_ratio

_LEAST_START, _LARGEST_START = 0.1, 1e4  # of phi
_TRIALS = Binomial.with_link("logit")


@dataclass(frozen=True)
class BetaBinomial(BetaShapes):
    """
    Successes of ``w`` trials each, as the proportion ``y``, more variable than binomial ones.

    The variance of the successes of n trials is ``n mu (1 - mu) (phi + n) / (phi + 1)``.
    """

    name = "betabinomial"
    links = Binomial.links
    discrete = True
    takes_trials = True
    has_zeros = True
    limits = ("binomial",)
    infinite = ("phi",)
    support = Binomial.support
    mean_name = Binomial.mean_name
    _inner_eta = Binomial._inner_eta

    def _parts(
        self, y: Array, w: Array | None, a: Array, b: Array, phi: Array | float
    ) -> tuple[ShapePart, ShapePart, ShapePart]:
        n = np.ones_like(y) if w is None else w
        k = np.rint(y * n)
        of_phi = ShapePart(*(-part for part in _rising(n, np.asarray(phi), phi)))
        return _rising(k, a, phi), _rising(n - k, b, phi), of_phi

    def _row_weight(self, w: Array | None) -> Array | None:
        return None  # w are trials

    constants = Binomial.constants
    valid = Binomial.valid
    outside = Binomial.outside
    seen = Binomial.seen
    unbounded = Binomial.unbounded
    starting_mean = Binomial.starting_mean

    def check_response(
        self, name: str, y: Vector, w: Vector | None = None, index: pd.Index | None = None
    ) -> None:
        """As of a binomial response; of single trials there is no more variation than that."""
        _TRIALS.check_response(name, y, w, index)
        if w is None or not (w > 1.0).any():
            raise ResponseError(
                f"the response '{name}' is of one trial in every row, whose variance is binomial "
                "whatever phi is: take family='binomial', or aggregate the rows that share "
                "probabilities to cbind(successes, failures)."
            )

    def starting_params(self, y: Vector, w: Vector | None, mu: Vector) -> Vector:
        """From the mean of the squared Pearson residuals, which is ``(phi + n) / (phi + 1)``."""
        n = np.ones_like(y) if w is None else w
        several = n > 1.0
        squares = n * (y - mu) ** 2 / (mu * (1.0 - mu))
        excess = float(np.sum((squares - 1.0)[several]) / np.sum((n - 1.0)[several]))
        # The squares are 1 + (n - 1) / (phi + 1) on average.
        return np.array([np.clip(1.0 / max(excess, 1e-9) - 1.0, _LEAST_START, _LARGEST_START)])

    def variance(self, mu: Array, w: Array | None, params: Vector) -> Array:
        """``mu (1 - mu) (phi + n) / (phi + 1) / n``."""
        phi, n = params[0], 1.0 if w is None else w
        return np.asarray(mu * (1.0 - mu) * (phi + n) / ((phi + 1.0) * n))

    def simulate(
        self, mu: Vector, w: Vector | None, params: Vector, rng: np.random.Generator
    ) -> Vector:
        """Binomial draws with beta probabilities, as proportions."""
        phi = params[0]
        p = rng.beta(np.maximum(mu * phi, 1e-300), np.maximum((1.0 - mu) * phi, 1e-300))
        return _TRIALS.simulate(p, w, np.empty(0), rng)

    def cdf(self, y: Vector, mu: Vector, w: Vector | None, params: Vector) -> tuple[Vector, Vector]:
        """Sums of probabilities."""
        phi, n = params[0], np.ones_like(y) if w is None else w
        a, b = (np.maximum(phi * share, MIN_SHAPE) for share in (mu, 1.0 - mu))
        k, n, a, b = np.broadcast_arrays(np.rint(y * n), n, a, b)
        below = _probability_below(k, n, a, b)
        return below, np.minimum(below + _probability(k, n, a, b), 1.0)


def _rising(k: Array, shape: Array, unit: Array | float) -> ShapePart:
    """``lgamma(shape + k) - lgamma(shape) - k log unit``, as a function of log shape."""
    C = log_gamma_ratio(k, shape)
    assert C.third is not None
    return ShapePart(C.value + special.xlogy(k, shape / unit), C.first + k, C.second, C.third)


def _probability(k: Vector, n: Vector, a: Vector, b: Vector) -> Vector:
    """Probability of k successes of n, zero outside 0 to n."""
    inside = (k >= 0.0) & (k <= n)
    k = np.where(inside, k, 0.0)
    log_binomial = -special.betaln(k + 1.0, n - k + 1.0) - np.log1p(n)
    p = np.exp(log_binomial + special.betaln(k + a, n - k + b) - special.betaln(a, b))
    return np.where(inside, p, 0.0)


def _probability_below(k: Vector, n: Vector, a: Vector, b: Vector) -> Vector:
    """``P(K < k)``: sums of probabilities, from the side with fewer terms."""
    shape = k.shape
    k, n, a, b = (part.ravel() for part in (k, n, a, b))
    lower = 2.0 * k <= n
    first = np.where(lower, 0.0, k)
    terms = np.maximum(np.where(lower, k, n - k + 1.0), 0.0).astype(np.intp)
    row = np.repeat(np.arange(len(k)), terms)
    starts = np.cumsum(terms) - terms
    j = first[row] + (np.arange(len(row)) - starts[row])
    p = np.bincount(row, _probability(j, n[row], a[row], b[row]), minlength=len(k))
    return np.clip(np.where(lower, p, 1.0 - p), 0.0, 1.0).reshape(shape)
