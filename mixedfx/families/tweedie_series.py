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
from collections.abc import Iterator
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


def _summed(y: Vector, phi: Vector, power: float, j: Matrix, h: Vector) -> tuple[Vector, ...]:
    """Sums over the terms relative to the largest."""
    nu = (2.0 - power) / (power - 1.0)
    by_power_of_nu = -1.0 / (power - 1.0) ** 2
    log_ratio = np.log(y / (phi * (power - 1.0)))
    rate = nu * log_ratio - np.log(phi * (2.0 - power))
    log_terms = j * rate[:, None] - special.gammaln(j + 1.0) - special.gammaln(j * nu)
    largest = log_terms.max(axis=1)
    weights = np.exp(log_terms - largest[:, None])
    total = weights.sum(axis=1)
    mean_j = (weights * j).sum(axis=1) / total
    mean_digamma = (weights * j * special.digamma(j * nu)).sum(axis=1) / total
    by_power = mean_j * (by_power_of_nu * log_ratio - nu / (power - 1.0) + 1.0 / (2.0 - power))
    by_power -= by_power_of_nu * mean_digamma
    return largest + np.log(h * total), -(1.0 + nu) * mean_j, by_power


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
