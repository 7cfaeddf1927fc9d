"""Coordinates of a posterior in which the spread of correlations does not depend on the sds.

Where a standard deviation is near zero its correlations have the spread of their prior, elsewhere
one that the levels of the grouping factor determine: no t distribution has such a shape. With
reliabilities ``r = s**2 / (s**2 + v)``, v the error variance of a level's own estimate, a
coordinate ``z = atanh y`` of two effects has about the precision and the mean

    tau(s) = p + d r_i r_j,    m(s) = c d r_i r_j / tau(s),

p of the prior, d and c those that agree with the mode, and is replaced by
``u = (z - m(s)) sqrt(tau(s))``: a partially non-centred parametrisation (Papaspiliopoulos, Roberts
and Skold 2007, Statistical Science 22:59).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.unconstrained import ColumnOrValue
from mixedfx.linalg.differences import jacobian

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Least precision of a correlation by the data: of a mode where the curvature is not positive.
_LEAST_PRECISION = 1e-3
# Step of the differences of the coordinates.
_STEP = 1e-4


@dataclass(frozen=True)
class _Pairs:
    """Two effects of each correlation, (pairs,)."""

    columns: Codes  # of z
    sds: tuple[Sequence[ColumnOrValue], Sequence[ColumnOrValue]]
    log_errors: Matrix  # (2, pairs) log v of each effect
    prior: Vector  # p

    @staticmethod
    def of(posterior: LogPosterior, sigma: float) -> _Pairs:
        transform, crossprod = posterior.transform, posterior.crossprod
        found: list[tuple[int, ColumnOrValue, ColumnOrValue, float, float, float]] = []
        for t, term in enumerate(transform.terms):
            levels = crossprod.ZtZ.layout.levels(crossprod.term_positions[t].group)
            information = crossprod.column_rms[t] ** 2 * crossprod.n / levels
            error = 2.0 * np.log(sigma) - np.log(information)
            exponents = term.lkj_exponents(posterior.priors.lkj_eta[t], jacobian=True)
            pairs = [(i, j) for i in range(term.width) for j in range(i)]
            for k, (exponent, (i, j)) in enumerate(zip(exponents, pairs, strict=False)):
                # log cosh z has the curvature 1 at zero.
                p = 2.0 * float(exponent)
                sds = (term.sds[i], term.sds[j])
                found.append((term.partials.start + k, *sds, error[i], error[j], p))
        columns, first, second, *errors, prior = zip(*found, strict=True)
        return _Pairs(
            np.array(columns, dtype=np.intp), (first, second), np.array(errors), np.array(prior)
        )

    def reliabilities(self, points: Matrix) -> Matrix:
        """``r_i r_j``, (B, pairs)."""
        product = np.ones((len(points), len(self.columns)))
        for sds, errors in zip(self.sds, self.log_errors, strict=True):
            for k, at in enumerate(sds):
                log_sd = points[:, at] if isinstance(at, int) else np.log(at)
                product[:, k] /= 1.0 + np.exp(errors[k] - 2.0 * log_sd)
        return product


@dataclass(frozen=True)
class StandardizedCorrelations:
    """Posterior density in coordinates u, (B, size), of points z."""

    posterior: LogPosterior = field(repr=False)
    pairs: _Pairs = field(repr=False)
    data: Vector = field(repr=False)  # (pairs,) d
    centres: Vector = field(repr=False)  # (pairs,) c

    @staticmethod
    def at_mode(posterior: LogPosterior, mode: Vector, cov: Matrix) -> StandardizedCorrelations:
        """Coordinates that agree with a mode and the covariance of Laplace's approximation."""
        sigma = float(posterior.transform.constrain(mode[None]).sigma[0])
        pairs = _Pairs.of(posterior, sigma)
        z, p = mode[pairs.columns], pairs.prior
        by_data = np.diag(np.linalg.inv(cov))[pairs.columns] - p / np.cosh(z) ** 2
        by_data = np.maximum(by_data, _LEAST_PRECISION)
        data = by_data / pairs.reliabilities(mode[None])[0]
        return StandardizedCorrelations(posterior, pairs, data, z * (p + by_data) / by_data)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.posterior.size

    def coordinates(self, points: Matrix) -> Matrix:
        """Coordinates u of points z."""
        mean, precision = self._moments(points)
        found, at = points.copy(), self.pairs.columns
        found[:, at] = (points[:, at] - mean) * np.sqrt(precision)
        return found

    def points(self, coordinates: Matrix) -> Matrix:
        """Points z of coordinates u: the standard deviations are the same."""
        mean, precision = self._moments(coordinates)
        found, at = coordinates.copy(), self.pairs.columns
        found[:, at] = coordinates[:, at] / np.sqrt(precision) + mean
        return found

    def log_jacobian(self, points: Matrix) -> Vector:
        """``log |du/dz|``, (B,)."""
        return np.asarray(0.5 * np.log(self._moments(points)[1]).sum(axis=1))

    def log_densities(self, coordinates: Matrix) -> Vector:
        """Log density of the coordinates, (B,)."""
        points = self.points(coordinates)
        return self.posterior.log_densities(points) - self.log_jacobian(points)

    def covariance(self, mode: Vector, cov: Matrix) -> Matrix:
        """Covariance of the coordinates, of that of points near the mode."""
        steps = np.full(len(mode), _STEP)
        by_point = jacobian(lambda z: self.coordinates(z[None])[0], mode, steps, order=2)
        return np.asarray(by_point.T @ cov @ by_point)

    def _moments(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """Mean and precision of each correlation given the standard deviations, (B, pairs)."""
        by_data = self.data * self.pairs.reliabilities(points)
        precision = self.pairs.prior + by_data
        return self.centres * by_data / precision, precision
