"""Part of a deviance without the response, near one theta: a polynomial in log theta.

The deviance is ``L(theta) + nu log(2 pi e pwrss / nu)``, or ``L + nu log(2 pi sigma**2) + pwrss /
sigma**2`` of a known sigma, and ``L = log|M| [+ log|X'V^-1X|] - log|W|`` is the same for every
response of the rows. The polynomial is of degree 8 along a coordinate, 6 in two and 3 in three of
them, by least squares through values and gradients at a point, at two distances on both sides of
each coordinate, and at two corners of each pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Function = Callable[[Vector], tuple[float, Vector]]

# Exponents of the monomials of one, two and three coordinates.
_OF_ONE = tuple((k,) for k in range(1, 9))
_OF_TWO = tuple((j, k) for j in range(1, 5) for k in range(1, 7 - j))
_OF_THREE = ((1, 1, 1),)


def response_part(solution: Solution, pwrss: float) -> tuple[float, float, float]:
    """What the deviance has of the response, with its first two derivatives by the pwrss."""
    nu, sigma = solution.crossprod.nu(reml=solution.reml), solution.crossprod.sigma
    if sigma is not None:
        value = nu * math.log(2.0 * math.pi * sigma**2) + pwrss / sigma**2
        return value, sigma**-2.0, 0.0
    return nu * (1.0 + math.log(2.0 * math.pi * pwrss / nu)), nu / pwrss, -nu / pwrss**2


@dataclass(frozen=True)
class ResponseFreePart:
    """L as a polynomial of ``d = (t - centre) / steps``."""

    centre: Vector  # (m,)
    steps: Vector  # (m,)
    exponents: Codes = field(repr=False)  # (terms, m)
    coefficients: Vector = field(repr=False)  # (terms,)

    @staticmethod
    def of(function: Function, centre: Vector, steps: Vector) -> ResponseFreePart:
        """Interpolate a function with its gradient."""
        exponents = _exponents(len(centre))
        rows, values = [], []
        for d in _points(len(centre)):
            value, gradient = function(centre + steps * d)
            monomials, derivatives, _ = _monomials(exponents, d)
            rows += [monomials, *derivatives]
            values += [value, *(steps * gradient)]
        # The value at the centre is large beside what it changes by.
        of_centre = np.array([values[0], *np.zeros(len(centre))] * (len(rows) // (len(centre) + 1)))
        found, *_ = np.linalg.lstsq(np.array(rows), np.array(values) - of_centre)
        found[0] += values[0]
        return ResponseFreePart(centre, steps, exponents, found)

    def derivatives(self, t: Vector) -> tuple[float, Vector, Matrix]:
        """Value, gradient (m,) and Hessian (m, m)."""
        monomials, first, second = _monomials(self.exponents, (t - self.centre) / self.steps)
        scale, c = self.steps, self.coefficients
        return float(monomials @ c), first @ c / scale, second @ c / np.outer(scale, scale)

    def through(self, t: Vector, value: float, gradient: Vector) -> ResponseFreePart:
        """The same with this value and gradient at a point: a linear function more."""
        now, slope, _ = self.derivatives(t)
        m, found, linear = len(t), self.coefficients.copy(), gradient - slope
        found[0] += value - now - float(linear @ (t - self.centre))
        found[1 : m + 1] += linear * self.steps
        return replace(self, coefficients=found)


def _exponents(m: int) -> Codes:
    """Exponents of all monomials, (terms, m): the constant, then each coordinate, first."""
    found = [np.zeros(m, dtype=np.intp), *np.eye(m, dtype=np.intp)]
    for own in (_OF_ONE[1:], _OF_TWO, _OF_THREE):
        for at in itertools.combinations(range(m), len(own[0])):
            for powers in own:
                row = np.zeros(m, dtype=np.intp)
                row[list(at)] = powers
                found.append(row)
    return np.array(found)


def _points(m: int) -> Iterator[Vector]:
    """Zero, points on both sides of each coordinate, and two corners of each pair."""
    unit = np.eye(m)
    yield np.zeros(m)
    for i in range(m):
        for distance in (-2.0, -1.0, 1.0, 2.0):
            yield distance * unit[i]
    for i, j in itertools.combinations(range(m), 2):
        yield unit[i] + unit[j]
        yield -unit[i] - unit[j]


def _monomials(exponents: Codes, d: Vector) -> tuple[Vector, Matrix, npt.NDArray[np.float64]]:
    """Monomials (terms,), their gradients (m, terms) and Hessians (m, m, terms)."""
    terms, m = exponents.shape
    powers = d[:, None] ** np.arange(exponents.max() + 1)
    # Powers of each coordinate, and their first and second derivatives.
    k = np.arange(powers.shape[1])
    first = np.append(np.zeros((m, 1)), k[1:] * powers[:, :-1], axis=1)
    second = np.append(np.zeros((m, 1)), k[1:] * first[:, :-1], axis=1)
    at = np.arange(m), exponents
    P, P1, P2 = powers[at], first[at], second[at]  # (terms, m)
    gradients, hessians = np.empty((m, terms)), np.empty((m, m, terms))
    others = np.ones((m, terms))
    for i in range(m):
        others = P.copy()
        others[:, i] = P1[:, i]
        gradients[i] = others.prod(axis=1)
        for j in range(i):
            both = others.copy()
            both[:, j] = P1[:, j]
            hessians[i, j] = hessians[j, i] = both.prod(axis=1)
        others[:, i] = P2[:, i]
        hessians[i, i] = others.prod(axis=1)
    return P.prod(axis=1), gradients, hessians
