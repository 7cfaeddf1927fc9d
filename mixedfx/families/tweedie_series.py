"""The normalising series of Tweedie's density, with derivatives by its parameters.

For ``y > 0`` and a power p between 1 and 2 the density of a Poisson sum of gamma variables is
``W exp(...) / y`` with (Dunn and Smyth 2005, Stat. Comput. 15:267, equations 8 to 11)

    log W_j = j (nu log(y / (phi (p - 1))) - log(phi (2 - p))) - lgamma(j + 1) - lgamma(j nu),
    nu = (2 - p) / (p - 1),    j = 1, 2, ...

whose terms are largest near ``y^(2 - p) / (phi (2 - p))`` and nearly normal about it, with the
standard deviation ``sqrt(j / (1 + nu))``. Where that is large, every h-th term times h has the
same sum: the error is of order ``exp(-2 pi^2 sd^2 / h^2)`` (Trefethen and Weideman 2014, SIAM Rev.
56:385).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

# Terms are summed so many standard deviations to both sides, and so many more.
_REACH, _MARGIN = 9.0, 6.0
_UPPER_MARGIN = 30.0
# Standard deviation from which terms are left out, and terms in each of it that are kept.
_WIDE, _PER_SD = 12.0, 4.0
# Numbers in a block of rows.
_BLOCK = 400_000


class Series(NamedTuple):
    """Logarithm of the sum, and its derivatives by log phi and by the power."""

    value: Vector
    by_log_phi: Vector
    by_power: Vector


class Moments(NamedTuple):
    """
    Logarithm of the sum, and moments of j and of ``g_j = d log W_j / dp`` by the terms.

    ``log W`` has the derivatives ``-(1 + nu) k1``, ``(1 + nu)^2 k2`` and ``-(1 + nu)^3 k3`` by log
    phi with the cumulants k of j, and ``E g`` by the power; g changes with log phi by ``-nu' j``.
    """

    value: Vector
    k1: Vector
    k2: Vector
    k3: Vector
    g: Vector  # E g
    gj: Vector  # Cov(g, j)
    gjj: Vector  # E (g - E g)(j - E j)^2


def of_distinct(
    series: Callable[[Vector, Vector, float], tuple[Vector, ...]],
    y: Vector,
    phi: Vector,
    power: float,
) -> Matrix:
    """A series of rows (k, n), zero where y is; of equal pairs of response and dispersion once."""
    positive = y > 0.0
    pairs = np.column_stack([y[positive], phi[positive]])
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    of_pairs = np.array(series(distinct[:, 0], distinct[:, 1], power))
    found = np.zeros((len(of_pairs), len(y)))
    found[:, positive] = of_pairs[:, index.ravel()]
    return found


def log_series_moments(y: Vector, phi: Vector, power: float) -> Moments:
    """The same with the moments that give its derivatives."""
    out = np.empty((len(Moments._fields), len(y)))
    nu = (2.0 - power) / (power - 1.0)
    for rows, j, h in _terms(y, phi, power):
        value, weights = _weights(y[rows], phi[rows], power, j, h)
        g = j * _power_rates(y[rows], phi[rows], power)[:, None]
        g += j * special.digamma(j * nu) / (power - 1.0) ** 2
        k1, mean_g = (weights * j).sum(axis=1), (weights * g).sum(axis=1)
        j, g = j - k1[:, None], g - mean_g[:, None]
        wj = weights * j
        wjj = wj * j
        products = wjj.sum(axis=1), (wjj * j).sum(axis=1), mean_g, (wj * g).sum(axis=1)
        out[:, rows] = value, k1, *products, (wjj * g).sum(axis=1)
    return Moments(*out)


def log_series(y: Vector, phi: Vector, power: float) -> Series:
    """``log W`` of positive responses, (n,), with dispersions (n,)."""
    out = np.empty((3, len(y)))
    for rows, j, h in _terms(y, phi, power):
        out[:, rows] = _summed(y[rows], phi[rows], power, j, h)
    return Series(*out)


def _terms(
    y: Vector, phi: Vector, power: float
) -> Iterator[tuple[npt.NDArray[np.intp], Matrix, Vector]]:
    """Numbers of the terms about the largest."""
    nu = (2.0 - power) / (power - 1.0)
    centre = np.maximum(y ** (2.0 - power) / (phi * (2.0 - power)), 1.0)
    return _around(centre, np.sqrt(centre / (1.0 + nu)))


def _around(centre: Vector, sd: Vector) -> Iterator[tuple[Rows, Matrix, Vector]]:
    """Rows with as many terms, numbers from 1 on about the centres, (rows, terms), their steps."""
    h = np.where(sd > _WIDE, np.maximum(np.floor(sd / _PER_SD), 1.0), 1.0)
    low = np.maximum(np.floor(centre - _REACH * sd - _MARGIN), 1.0)
    high = centre + _REACH * sd + np.where(sd > _WIDE, _MARGIN, _UPPER_MARGIN)
    counts = np.ceil((high - low) / h).astype(np.intp) + 1
    sizes = 2 ** np.ceil(np.log2(counts)).astype(np.intp)
    for size in np.unique(sizes):
        all_rows = np.flatnonzero(sizes == size)
        for rows in np.array_split(all_rows, math.ceil(len(all_rows) * size / _BLOCK)):
            yield rows, low[rows, None] + h[rows, None] * np.arange(size), h[rows]


def _weights(y: Vector, phi: Vector, power: float, j: Matrix, h: Vector) -> tuple[Vector, Matrix]:
    """Logarithm of the sum over the terms, relative to the largest, and their shares of it."""
    nu = (2.0 - power) / (power - 1.0)
    rate = nu * np.log(y / (phi * (power - 1.0))) - np.log(phi * (2.0 - power))
    log_terms = j * rate[:, None] - special.gammaln(j + 1.0) - special.gammaln(j * nu)
    largest = log_terms.max(axis=1)
    weights = np.exp(log_terms - largest[:, None])
    total = weights.sum(axis=1)
    return largest + np.log(h * total), weights / total[:, None]


def _power_rates(y: Vector, phi: Vector, power: float) -> Vector:
    """Derivative by the power of what is multiplied by j, but for ``lgamma(j nu)``."""
    log_ratio = np.log(y / (phi * (power - 1.0)))
    nu = (2.0 - power) / (power - 1.0)
    return np.asarray(-log_ratio / (power - 1.0) ** 2 - nu / (power - 1.0) + 1.0 / (2.0 - power))


def _summed(y: Vector, phi: Vector, power: float, j: Matrix, h: Vector) -> tuple[Vector, ...]:
    """Sums over the terms."""
    nu = (2.0 - power) / (power - 1.0)
    value, weights = _weights(y, phi, power, j, h)
    mean_j = (weights * j).sum(axis=1)
    mean_digamma = (weights * j * special.digamma(j * nu)).sum(axis=1)
    by_power = mean_j * _power_rates(y, phi, power) + mean_digamma / (power - 1.0) ** 2
    return value, -(1.0 + nu) * mean_j, by_power


def poisson_gamma_cdf(y: Vector, mu: Vector, phi: Vector, power: float) -> Vector:
    """``P(Y <= y)``: the Poisson probabilities times the distribution functions of gamma sums."""
    nu = (2.0 - power) / (power - 1.0)
    rate = mu ** (2.0 - power) / (phi * (2.0 - power))
    scale = phi * (power - 1.0) * mu ** (power - 1.0)
    out = np.where(y < 0.0, 0.0, np.exp(-rate))
    inside = np.flatnonzero(y > 0.0)
    for rows, j, h in _around(rate[inside], np.sqrt(rate[inside])):
        at = inside[rows]
        r = rate[at][:, None]
        probability = np.exp(special.xlogy(j, r) - r - special.gammaln(j + 1.0))
        below = special.gammainc(j * nu, (y[at] / scale[at])[:, None])
        out[at] += h * (probability * below).sum(axis=1)
    return np.clip(out, 0.0, 1.0)
