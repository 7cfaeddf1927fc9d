"""Mixtures of multivariate t distributions, fitted to weighted points by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A component of less weight keeps its location and scale, and is given this weight.
_MIN_WEIGHT = 1e-3


@dataclass(frozen=True)
class StudentTMixture:
    """Mixture of multivariate t distributions."""

    weights: Vector  # (components,) of sum one
    locations: Matrix  # (components, d)
    scale_factors: Matrix  # (components, d, d) lower Cholesky factors of the scale matrices
    df: float

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.locations, self.scale_factors)

    def draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Draw ``n`` points, (n, d)."""
        d = self.locations.shape[1]
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(self.df, n) / self.df)[:, None]
        scaled = np.einsum("nij,nj->ni", self.scale_factors[component], noise)
        return np.asarray(self.locations[component] + scaled)

    def log_densities(self, points: Matrix) -> Vector:
        """Log density at points (n, d)."""
        return np.asarray(special.logsumexp(self._component_log_densities(points)[0], axis=0))

    def _component_log_densities(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """Weighted log densities and squared Mahalanobis distances, (components, n) each."""
        d, df = points.shape[1], self.df
        constant = special.gammaln(0.5 * (df + d)) - special.gammaln(0.5 * df)
        constant -= 0.5 * d * np.log(df * np.pi)
        logs, distances = [], []
        components = zip(self.weights, self.locations, self.scale_factors, strict=True)
        for weight, location, factor in components:
            scaled = linalg.solve_triangular(factor, (points - location).T, lower=True)
            distance = (scaled**2).sum(axis=0)
            log_det = float(np.log(np.diag(factor)).sum())
            tail = 0.5 * (df + d) * np.log1p(distance / df)
            logs.append(np.log(weight) + constant - log_det - tail)
            distances.append(distance)
        return np.array(logs), np.array(distances)

    def em_update(self, points: Matrix, importance_weights: Vector) -> StudentTMixture:
        """
        Update the mixture by one EM step on weighted points (Cappé et al. 2008).

        Scale matrices are shrunk to the present ones, which count as d effective points.
        """
        logs, distances = self._component_log_densities(points)
        responsibilities = np.exp(logs - special.logsumexp(logs, axis=0)) * importance_weights
        total = responsibilities.sum(axis=1)
        d, df = points.shape[1], self.df
        share = d * float((importance_weights**2).sum())
        locations, factors = self.locations.copy(), self.scale_factors.copy()
        for c in np.flatnonzero(total > _MIN_WEIGHT):
            w = responsibilities[c] * (df + d) / (df + distances[c])
            locations[c] = w @ points / w.sum()
            deviations = points - locations[c]
            scale = (deviations * w[:, None]).T @ deviations
            scale += share * factors[c] @ factors[c].T
            factor, failed = linalg.lapack.dpotrf(scale / (total[c] + share), lower=1, clean=1)
            if not failed and np.isfinite(factor).all():
                factors[c] = factor
        weights = np.maximum(total, _MIN_WEIGHT)
        return StudentTMixture(weights / weights.sum(), locations, factors, df)
