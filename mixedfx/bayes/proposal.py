"""Adaptive mixture proposal for importance sampling and independence Metropolis-Hastings.

A mixture of multivariate t distributions starts at the mode, with the covariance of Laplace's
approximation. In each round points are drawn from it, and the mixture is fitted to all points so
far by weighted EM: adaptive importance sampling by minimisation of the Kullback-Leibler divergence
(Cappé, Douc, Guillin, Marin and Robert 2008, Statistics and Computing 18:447), with all rounds'
points weighted by density over the mean of all rounds' proposals (adaptive multiple importance
sampling; Cornuet, Marin, Mira and Robert 2012, Scandinavian Journal of Statistics 39:798). The
importance weights ``w`` of n points, of sum one, give the efficiency ``1 / (n sum w**2)``.

In many dimensions too few points are effective for the scale matrices of several components: there
the proposal is one t distribution of coordinates with nearly normal marginals
(:mod:`mixedfx.bayes.marginal_transform`), with four parameters a coordinate for skewness and tails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from mixedfx._arrays import set_readonly
from mixedfx.bayes.marginal_transform import MarginalTransform

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Degrees of freedom, and least number of them by coordinate: few, since the proposal needs heavier
# tails than the density; but in many dimensions most draws of heavy tails are far out.
_MIN_DF, _DF_PER_DIMENSION = 8.0, 1.0
# Components, and the largest number of dimensions with so many.
_COMPONENTS, MOST_DIMENSIONS = 3, 8
# Scales of the initial components, as multiples of the scale of Laplace's approximation.
_NARROWEST, _WIDEST = 1.0, 1.6
# Rounds of a mixture and of transformed coordinates: at least, and at most. Transformations are
# fitted to the points of all rounds: many rounds of few points come further than few of many.
_ROUNDS, _ROUNDS_TRANSFORMED = (3, 5), (18, 18)
# Proposals of transformed coordinates that draws are made from: weights have a shorter tail than
# those of the last alone.
_LAST = 4
# Draws, resampled by weight, that transformations are fitted to.
_RESAMPLED = 1000
_EM_STEPS = 5
# A component of less weight keeps its location and scale, and is given this weight.
_MIN_WEIGHT = 1e-3
# Adaptation ends after two rounds whose efficiency does not exceed the best by this much.
_MIN_GAIN = 0.02


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


@dataclass(frozen=True)
class Proposal:
    """Mixture distribution of transformed coordinates."""

    transform: MarginalTransform
    mixture: StudentTMixture

    def draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Draw ``n`` points, (n, d)."""
        return self.transform.inverse(self.mixture.draw(n, rng))

    def log_densities(self, points: Matrix) -> Vector:
        """Log density at points (n, d)."""
        transformed = self.transform.forward(points)
        log_jacobian = self.transform.log_jacobian(points, transformed)
        return self.mixture.log_densities(transformed) + log_jacobian

    def refit(self, points: Matrix, weights: Vector, rng: np.random.Generator) -> Proposal:
        """Fit to weighted points."""
        transform, mixture = self.transform, self.mixture
        if len(mixture.weights) == 1:
            transform = MarginalTransform.fit(
                points[rng.choice(len(points), _RESAMPLED, p=weights)]
            )
            transformed = transform.forward(points)
            variances = weights @ (transformed - weights @ transformed) ** 2
            factor = np.diag(np.sqrt(variances))[None]
            mixture = replace(
                mixture, locations=(weights @ transformed)[None], scale_factors=factor
            )
        else:
            transformed = transform.forward(points)
        for _ in range(_EM_STEPS):
            mixture = mixture.em_update(transformed, weights)
        return Proposal(transform, mixture)


@dataclass(frozen=True)
class SeveralProposals:
    """Mixture of proposals in equal parts: where one has too few draws another may have them."""

    parts: tuple[Proposal, ...]

    def draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Draw ``n`` points in random order, (n, d)."""
        counts = rng.multinomial(n, np.full(len(self.parts), 1.0 / len(self.parts)))
        drawn = [part.draw(k, rng) for part, k in zip(self.parts, counts, strict=True)]
        return np.asarray(rng.permutation(np.concatenate(drawn)))

    def log_densities(self, points: Matrix) -> Vector:
        """Log density at points (n, d)."""
        each = np.array([part.log_densities(points) for part in self.parts])
        return np.asarray(special.logsumexp(each, axis=0) - np.log(len(self.parts)))


def laplace_proposal(mode: Vector, cov: Matrix) -> Proposal:
    """Components at the mode, of several multiples of the scale of Laplace's approximation."""
    d, sds = len(mode), np.sqrt(np.diag(cov))
    components = _COMPONENTS if d <= MOST_DIMENSIONS else 1
    scales = np.linspace(_NARROWEST, _WIDEST, components)
    factor = np.linalg.cholesky(cov) / sds[:, None]
    mixture = StudentTMixture(
        np.full(components, 1.0 / components),
        np.zeros((components, d)),
        scales[:, None, None] * factor,
        max(_MIN_DF, _DF_PER_DIMENSION * d),
    )
    return Proposal(MarginalTransform.affine(mode, sds), mixture)


@dataclass(frozen=True)
class AdaptedProposal:
    """Proposal, and the importance sample that it was fitted to."""

    proposal: Proposal | SeveralProposals
    efficiency: float  # effective sample size per draw: of the best round, or of the last ones
    points: Matrix  # (n, d) of all rounds
    importance_weights: Vector  # (n,) of sum one


def adapt_proposal(
    log_densities: Callable[[Matrix], Vector],
    mode: Vector,
    cov: Matrix,
    rng: np.random.Generator,
    *,
    draws: int,
) -> AdaptedProposal:
    """Adapt a proposal to a density, in rounds of ``draws`` points or half; fitted to all."""
    proposals = [laplace_proposal(mode, cov)]
    several = len(proposals[0].mixture.weights) > 1
    least, most = _ROUNDS if several else _ROUNDS_TRANSFORMED
    draws = draws if several else draws // 2
    points, densities = np.zeros((0, len(mode))), np.zeros(0)
    proposed = np.zeros((1, 0))  # log density of each proposal at each point
    efficiencies: list[float] = []
    for _ in range(most):
        drawn = proposals[-1].draw(draws, rng)
        density = log_densities(drawn)
        by_proposal = np.array([proposal.log_densities(drawn) for proposal in proposals])
        efficiencies.append(sampling_efficiency(density - by_proposal[-1]))
        points, densities = np.concatenate([points, drawn]), np.concatenate([densities, density])
        proposed = np.concatenate([proposed, by_proposal], axis=1)
        weights = normalize_weights(densities - special.logsumexp(proposed, axis=0))
        # Truncated weights have a finite variance (Ionides 2008).
        truncated = np.minimum(weights, 1.0 / np.sqrt(len(weights)))
        proposals.append(proposals[-1].refit(points, truncated / truncated.sum(), rng))
        if len(efficiencies) >= least and _without_gain(efficiencies) >= 2:
            break
        proposed = np.vstack([proposed, proposals[-1].log_densities(points)])
    if several:
        return AdaptedProposal(proposals[-1], max(efficiencies), points, weights)
    last = SeveralProposals(tuple(proposals[-_LAST:]))
    return AdaptedProposal(last, float(np.mean(efficiencies[-_LAST:])), points, weights)


def _without_gain(efficiencies: Sequence[float]) -> int:
    """Number of rounds at the end whose efficiency does not exceed the best before them."""
    best, count = 0.0, 0
    for efficiency in efficiencies:
        count = 0 if efficiency > best + _MIN_GAIN else count + 1
        best = max(best, efficiency)
    return count


def normalize_weights(log_ratios: Vector) -> Vector:
    """Importance weights, of sum one."""
    return np.asarray(np.exp(log_ratios - special.logsumexp(log_ratios)))


def sampling_efficiency(log_ratios: Vector) -> float:
    """Effective sample size of weighted points, per point."""
    return 1.0 / float((normalize_weights(log_ratios) ** 2).sum()) / len(log_ratios)
