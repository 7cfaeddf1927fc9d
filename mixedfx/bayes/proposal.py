"""Adaptive mixture proposal for importance sampling and independence Metropolis-Hastings.

A mixture of multivariate t distributions starts at the mode, with the covariance of Laplace's
approximation. In each round points are drawn from it, weighted by density over proposal, and the
mixture is updated by one weighted EM step: adaptive importance sampling by minimisation of the
Kullback-Leibler divergence (Cappé, Douc, Guillin, Marin and Robert 2008, Statistics and Computing
18:447). The importance weights ``w``, of sum one, give the efficiency ``1 / (n sum w**2)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Few degrees of freedom: the proposal needs heavier tails than the density.
_DF = 5.0
_COMPONENTS = 3
# Scales of the initial components, as multiples of the scale of Laplace's approximation.
_NARROWEST, _WIDEST = 1.0, 1.6
_MAX_ROUNDS = 12
# A component of less weight keeps its location and scale, and is given this weight.
_MIN_WEIGHT = 1e-3
# Adaptation ends after two rounds whose efficiency does not exceed the best by this much.
_MIN_GAIN = 0.005


@dataclass(frozen=True)
class StudentTMixture:
    """Mixture of multivariate t distributions."""

    weights: Vector  # (components,) of sum one
    locations: Matrix  # (components, d)
    scale_factors: Matrix  # (components, d, d) lower Cholesky factors of the scale matrices

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.locations, self.scale_factors)

    def draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Draw ``n`` points, (n, d)."""
        d = self.locations.shape[1]
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(_DF, n) / _DF)[:, None]
        scaled = np.einsum("nij,nj->ni", self.scale_factors[component], noise)
        return np.asarray(self.locations[component] + scaled)

    def log_densities(self, points: Matrix) -> Vector:
        """Log density at points (n, d)."""
        return np.asarray(special.logsumexp(self._component_log_densities(points)[0], axis=0))

    def _component_log_densities(self, points: Matrix) -> tuple[Matrix, Matrix]:
        """Weighted log densities and squared Mahalanobis distances, (components, n) each."""
        d = points.shape[1]
        constant = special.gammaln(0.5 * (_DF + d)) - special.gammaln(0.5 * _DF)
        constant -= 0.5 * d * np.log(_DF * np.pi)
        logs, distances = [], []
        components = zip(self.weights, self.locations, self.scale_factors, strict=True)
        for weight, location, factor in components:
            scaled = linalg.solve_triangular(factor, (points - location).T, lower=True)
            distance = (scaled**2).sum(axis=0)
            log_det = float(np.log(np.diag(factor)).sum())
            tail = 0.5 * (_DF + d) * np.log1p(distance / _DF)
            logs.append(np.log(weight) + constant - log_det - tail)
            distances.append(distance)
        return np.array(logs), np.array(distances)

    def em_update(self, points: Matrix, importance_weights: Vector) -> StudentTMixture:
        """Update the mixture by one EM step on weighted points (Cappé et al. 2008)."""
        logs, distances = self._component_log_densities(points)
        responsibilities = np.exp(logs - special.logsumexp(logs, axis=0)) * importance_weights
        total = responsibilities.sum(axis=1)
        d = points.shape[1]
        locations, factors = self.locations.copy(), self.scale_factors.copy()
        for c in np.flatnonzero(total > _MIN_WEIGHT):
            w = responsibilities[c] * (_DF + d) / (_DF + distances[c])
            locations[c] = w @ points / w.sum()
            deviations = points - locations[c]
            scale = (deviations * w[:, None]).T @ deviations / total[c]
            factor, failed = linalg.lapack.dpotrf(scale, lower=1, clean=1)
            if not failed and np.isfinite(factor).all():
                factors[c] = factor
        weights = np.maximum(total, _MIN_WEIGHT)
        return StudentTMixture(weights / weights.sum(), locations, factors)


@dataclass(frozen=True)
class AdaptedProposal:
    """Mixture, and the importance sample that measures its efficiency."""

    mixture: StudentTMixture
    efficiency: float  # effective sample size per draw
    points: Matrix  # (n, d) draws from the mixture
    importance_weights: Vector  # (n,) of sum one


def adapt_proposal(
    log_densities: Callable[[Matrix], Vector],
    mode: Vector,
    cov: Matrix,
    rng: np.random.Generator,
    *,
    draws: int,
) -> AdaptedProposal:
    """Adapt a mixture to a density, in rounds of ``draws`` points; the best round is returned."""
    factor = np.linalg.cholesky(cov)
    scales = np.linspace(_NARROWEST, _WIDEST, _COMPONENTS)
    locations = np.tile(mode, (_COMPONENTS, 1))
    weights = np.full(_COMPONENTS, 1.0 / _COMPONENTS)
    mixture = StudentTMixture(weights, locations, scales[:, None, None] * factor)
    best: AdaptedProposal | None = None
    rounds_without_gain = 0
    for _ in range(_MAX_ROUNDS):
        points = mixture.draw(draws, rng)
        log_ratios = log_densities(points) - mixture.log_densities(points)
        weights = np.exp(log_ratios - special.logsumexp(log_ratios))
        efficiency = 1.0 / float((weights**2).sum()) / draws
        gained = best is None or efficiency > best.efficiency + _MIN_GAIN
        rounds_without_gain = 0 if gained else rounds_without_gain + 1
        if best is None or efficiency > best.efficiency:
            best = AdaptedProposal(mixture, efficiency, points, weights)
        if rounds_without_gain == 2:
            break
        mixture = mixture.em_update(points, weights)
    assert best is not None
    return best
