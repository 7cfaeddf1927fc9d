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
The first one has those of slices of the density through its mode, and draws of it, as many as there
are parameters, count beside the effective points that the next ones are fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import interpolate, special

from mixedfx.bayes.marginal_transform import MarginalTransform
from mixedfx.bayes.student_mixture import StudentTMixture

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
LogDensities = Callable[[Matrix], Vector]

# Degrees of freedom, and least number of them by coordinate: few, since the proposal needs heavier
# tails than the density; but in many dimensions most draws of heavy tails are far out.
_MIN_DF, _DF_PER_DIMENSION = 8.0, 1.0
# Components, and the largest number of dimensions with so many.
_COMPONENTS, MOST_DIMENSIONS = 3, 8
# Scales of the initial components, as multiples of the scale of Laplace's approximation.
_NARROWEST, _WIDEST = 1.0, 1.6
# Rounds of a mixture, at least and at most.
_ROUNDS = (3, 5)
# Proposals of transformed coordinates that draws are made from, beside the last one widened by a
# factor: weights have a shorter tail than those of the last alone.
_LAST, _WIDENED = 4, 1.25
# Rounds of transformed coordinates, at least and at most, and the effective points of all rounds
# that are enough.
_ROUNDS_TRANSFORMED, _ENOUGH = (_LAST, 18), 1000.0
# Points of a slice through the mode, in conditional standard deviations by Laplace's approximation:
# logarithms of standard deviations near zero have a tail several times as long as it says.
_SLICE = np.array(
    [-14, -10.5, -8, -6, -4.5, -3.2, -2.2, -1.4, -0.7, 0, 0.7, 1.4, 2.2, 3.2, 4.5, 6, 8]
)
# Least log density of these points, that of the largest being zero.
_LEAST_LOG_DENSITY = -80.0
# Draws, resampled by weight, that transformations are fitted to.
_RESAMPLED = 1000
_EM_STEPS = 5
# Adaptation ends after two rounds whose efficiency does not exceed the best by this much.
_MIN_GAIN = 0.02


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

    def widened(self, factor: float) -> Proposal:
        """Scales multiplied by a factor."""
        scale_factors = factor * self.mixture.scale_factors
        return replace(self, mixture=replace(self.mixture, scale_factors=scale_factors))

    def refit(
        self, points: Matrix, weights: Vector, first: Proposal, rng: np.random.Generator
    ) -> Proposal:
        """Fit to weighted points and, of transformed coordinates, draws of the first proposal."""
        transform, mixture = self.transform, self.mixture
        if len(mixture.weights) == 1:
            d = points.shape[1]
            effective, parameters = _effective(weights), d * (d + 9) / 2
            share = effective / (effective + parameters)
            drawn = first.draw(_RESAMPLED, rng)
            count = round(share * _RESAMPLED)
            resampled = points[rng.choice(len(points), count, p=weights)]
            transform = MarginalTransform.fit(np.concatenate([resampled, drawn[count:]]))
            points = np.concatenate([points, drawn])
            weights = np.append(share * weights, np.full(len(drawn), (1.0 - share) / len(drawn)))
            transformed = transform.forward(points)
            mean = weights @ transformed
            factor = np.diag(np.sqrt(weights @ (transformed - mean) ** 2))[None]
            mixture = replace(mixture, locations=mean[None], scale_factors=factor)
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


def sliced_proposal(log_densities: LogDensities, mode: Vector, cov: Matrix) -> Proposal:
    """
    Laplace's approximation, with the skewness and the tails of slices through the mode.

    A slice along a coordinate is its density given the others; as the marginal one it is stretched
    by the ratio of the standard deviations by Laplace's approximation.
    """
    d, sds = len(mode), np.sqrt(np.diag(cov))
    steps = np.diag(1.0 / np.sqrt(np.diag(np.linalg.inv(cov))))
    points = mode + _SLICE[:, None, None] * steps
    density = log_densities(points.reshape(-1, d)).reshape(-1, d)
    density = np.maximum(density - density.max(axis=0), _LEAST_LOG_DENSITY)
    fine = np.linspace(_SLICE[0], _SLICE[-1], 2001)
    cumulative = np.cumsum(np.exp(interpolate.PchipInterpolator(_SLICE, density)(fine)), axis=0)
    levels = (np.arange(_RESAMPLED) + 0.5) / _RESAMPLED
    quantiles = [np.interp(levels, column / column[-1], fine) for column in cumulative.T]
    transform = MarginalTransform.fit(mode + sds * np.column_stack(quantiles))
    return replace(laplace_proposal(mode, cov), transform=transform)


@dataclass(frozen=True)
class AdaptedProposal:
    """Proposal, and the importance sample that it was fitted to."""

    proposal: Proposal | SeveralProposals
    efficiency: float  # effective sample size per draw: of the best round, or of all rounds
    points: Matrix  # (n, d) of all rounds
    importance_weights: Vector  # (n,) of sum one


def adapt_proposal(
    log_densities: LogDensities,
    mode: Vector,
    cov: Matrix,
    rng: np.random.Generator,
    *,
    draws: int,
) -> AdaptedProposal:
    """Adapt a proposal to a density, in rounds of ``draws`` points or half; fitted to all."""
    several = len(mode) <= MOST_DIMENSIONS
    first = laplace_proposal(mode, cov) if several else sliced_proposal(log_densities, mode, cov)
    proposals = [first]
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
        proposals.append(proposals[-1].refit(points, truncated / truncated.sum(), first, rng))
        enough = _without_gain(efficiencies) >= 2 if several else _effective(weights) >= _ENOUGH
        if len(efficiencies) >= least and enough:
            break
        proposed = np.vstack([proposed, proposals[-1].log_densities(points)])
    if several:
        return AdaptedProposal(proposals[-1], max(efficiencies), points, weights)
    last = SeveralProposals((*proposals[-_LAST:], proposals[-1].widened(_WIDENED)))
    return AdaptedProposal(last, _effective(weights) / len(weights), points, weights)


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
    return _effective(normalize_weights(log_ratios)) / len(log_ratios)


def _effective(weights: Vector) -> float:
    """Effective sample size of weights of sum one."""
    return 1.0 / float((weights**2).sum())
