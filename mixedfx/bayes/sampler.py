"""Markov chains from a log posterior density.

With an efficient proposal (:mod:`mixedfx.bayes.proposal`) each chain is an independence
Metropolis-Hastings sampler: a proposal ``z'`` is accepted with probability
``min(1, w(z') / w(z))``, ``w`` density over proposal. Proposals do not depend on the state, so all
are evaluated at once. How far the tail of ``w`` reaches is told by the shape k of the generalised
Pareto distribution of its largest values (Vehtari, Simpson, Gelman, Yao and Gabry 2024, Journal of
Machine Learning Research 25:72). In many dimensions chains would stay at points of large weight:
there proposals are resampled by weight, which is more efficient (Rubin 1988, Bayesian Statistics
3:395; Liu 1996, Statistics and Computing 6:113). With an inefficient one emcee's affine-invariant
ensembles are run (Goodman and Weare 2010, CAMCoS 5:65; ter Braak and Vrugt 2008, Statistics and
Computing 18:435).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._progress import DELAY
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.mode import maximize_posterior, objective_hessian, starting_values
from mixedfx.bayes.pareto import pareto_k
from mixedfx.bayes.proposal import (
    MOST_DIMENSIONS,
    AdaptedProposal,
    adapt_proposal,
    normalize_weights,
    sampling_efficiency,
)
from mixedfx.bayes.standardized_correlations import StandardizedCorrelations
from mixedfx.errors import SearchError
from mixedfx.estimation.optimizer_result import Control

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this effective sample size per draw the proposal is not used.
_MIN_EFFICIENCY = 0.05
# Points per round of adaptation, and effective draws that chains are thinned for, as a share of
# the draws and at least in number: where a density costs microseconds, and where a millisecond.
_CHEAP, _COSTLY = (1000, 0.8, 0), (800, 0.25, 1500)
# Effective draws, as a share of the draws, beyond which thinning gains little.
_MOST_EFFECTIVE = 0.8
# Multiplications that take some ten microseconds.
_CHEAP_PRODUCTS = 100_000
# Effective draws of a chain, and of resampled ones, over those of as many weighted ones, of the
# parameter of fewest.
_OF_CHAIN, _OF_RESAMPLED = 0.4, 0.45
# Draws discarded at the start of a chain.
_WARMUP = 50
# Ensembles: walkers per dimension and at least, since their densities are evaluated together;
# steps per draw of a walker, and steps discarded: few, as walkers start at weighted draws.
_WALKERS, _MIN_WALKERS, _THIN, _BURN_IN = 4, 64, 10, 100


class Density(Protocol):
    """A density of unbounded coordinates."""

    @property
    def size(self) -> int:
        """Number of coordinates."""
        ...

    def log_densities(self, points: Matrix, /) -> Vector:
        """Log density (B,) at points (B, size), up to a constant."""
        ...


@dataclass(frozen=True)
class Chains:
    """Draws of the unconstrained parameters."""

    z: npt.NDArray[np.float64]  # (chains, draws, d)
    log_density: Matrix  # (chains, draws), up to a constant
    acceptance: Matrix  # (chains, draws) share of proposals accepted since the previous draw
    sampler: str
    efficiency: float  # effective sample size of the weighted proposals, per draw
    pareto_k: float  # of their weights; NaN of fewer than 25

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.z, self.log_density, self.acceptance)


def sample_chains(
    posterior: LogPosterior,
    *,
    draws: int,
    chains: int,
    rng: np.random.Generator,
    progress: bool = False,
) -> Chains:
    """Draw chains from a posterior density."""
    streams = rng.spawn(chains + 1)
    if not posterior.size:
        shape = (chains, draws)
        constant = float(posterior.log_densities(np.zeros((1, 0)))[0])
        return Chains(
            np.zeros((*shape, 0)), np.full(shape, constant), np.ones(shape), "exact", 1.0, np.nan
        )
    start = starting_values(posterior, Control())
    mode = maximize_posterior(posterior, start, jacobian=True, control=Control())
    if not np.isfinite(mode.value):
        raise SearchError("the posterior density cannot be computed at its start.")
    cov = _laplace_covariance(posterior, mode.x)
    costs = _CHEAP if _is_cheap(posterior) else _COSTLY
    options: Any = {"costs": costs, "draws": draws, "streams": streams, "progress": progress}
    if posterior.size <= MOST_DIMENSIONS or not posterior.transform.has_correlations:
        return _chains(posterior, mode.x, cov, **options)
    target = StandardizedCorrelations.at_mode(posterior, mode.x, cov)
    at = target.coordinates(mode.x[None])[0]
    found = _chains(target, at, target.covariance(mode.x, cov), **options)
    z = target.points(found.z.reshape(-1, posterior.size))
    log_jacobian = target.log_jacobian(z).reshape(found.log_density.shape)
    return replace(found, z=z.reshape(found.z.shape), log_density=found.log_density + log_jacobian)


def _chains(
    target: Density,
    mode: Vector,
    cov: Matrix,
    *,
    costs: tuple[int, float, int],
    draws: int,
    streams: list[np.random.Generator],
    progress: bool,
) -> Chains:
    """Chains of a density with a mode, and there the covariance of Laplace's approximation."""
    points_per_round, share, least = costs
    adapted = adapt_proposal(target.log_densities, mode, cov, streams[-1], draws=points_per_round)
    if adapted.efficiency < _MIN_EFFICIENCY:
        return _ensemble_chains(target, adapted, draws, streams[:-1], progress=progress)
    wanted = min(max(share, least / (draws * len(streams[:-1]))), _MOST_EFFECTIVE)
    if target.size > MOST_DIMENSIONS:
        name, times = "importance resampling", wanted / (_OF_RESAMPLED * adapted.efficiency)
        proposed = math.ceil(max(times, 1.0) * draws)
        parts = [_resampled_chain(target, adapted, draws, proposed, one) for one in streams[:-1]]
    else:
        name, times = "independence Metropolis", wanted / (_OF_CHAIN * adapted.efficiency)
        thin = math.ceil(times)
        parts = [_independence_chain(target, adapted, draws, thin, one) for one in streams[:-1]]
    z, log_density, acceptance, log_ratio = (np.stack(part) for part in zip(*parts, strict=True))
    ratios = log_ratio.ravel()
    efficiency = sampling_efficiency(ratios)
    return Chains(z, log_density, acceptance, name, efficiency, pareto_k(ratios))


def _is_cheap(posterior: LogPosterior) -> bool:
    """Whether densities of many points are evaluated at once, in microseconds each."""
    vectorized = posterior.vectorized
    return vectorized is not None and vectorized.elimination.products <= _CHEAP_PRODUCTS


def _laplace_covariance(posterior: LogPosterior, z: Vector) -> Matrix:
    """``2 H^-1`` at the mode, small and negative eigenvalues of ``H`` raised."""
    values, vectors = np.linalg.eigh(objective_hessian(posterior, z, jacobian=True))
    values = np.maximum(values, 1e-2 * max(1.0, float(np.abs(values).max()) * 1e-4))
    return np.asarray((vectors * (2.0 / values)) @ vectors.T)


def _independence_chain(
    target: Density,
    adapted: AdaptedProposal,
    draws: int,
    thin: int,
    rng: np.random.Generator,
) -> tuple[Matrix, Vector, Vector, Vector]:
    """One chain of independence Metropolis-Hastings, started at a draw by importance."""
    total = (draws + _WARMUP) * thin
    proposed = adapted.proposal.draw(total + 1, rng)
    first = rng.choice(len(adapted.points), p=adapted.importance_weights)
    proposed[0] = adapted.points[first]
    log_density = target.log_densities(proposed)
    log_ratio = log_density - adapted.proposal.log_densities(proposed)
    log_uniform = np.log(rng.random(total + 1))
    state, states, accepted = 0, np.empty(total, dtype=np.intp), np.empty(total)
    for i in range(1, total + 1):
        accept = log_uniform[i] < log_ratio[i] - log_ratio[state]
        state = i if accept else state
        states[i - 1], accepted[i - 1] = state, accept
    kept = states.reshape(-1, thin)[_WARMUP:, -1]
    acceptance = accepted.reshape(-1, thin)[_WARMUP:].mean(axis=1)
    return proposed[kept], log_density[kept], acceptance, log_ratio[1:]


def _resampled_chain(
    target: Density,
    adapted: AdaptedProposal,
    draws: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[Matrix, Vector, Vector, Vector]:
    """
    Resample ``draws`` of ``count`` draws of a proposal systematically by weight.

    Copies of a draw follow each other, so that the effective sample size counts them.
    """
    proposed = adapted.proposal.draw(count, rng)
    log_density = target.log_densities(proposed)
    log_ratio = log_density - adapted.proposal.log_densities(proposed)
    cumulative = np.cumsum(normalize_weights(log_ratio))
    levels = (rng.random() + np.arange(draws)) / draws * cumulative[-1]
    kept = np.minimum(np.searchsorted(cumulative, levels), len(proposed) - 1)
    is_new = np.append(1.0, np.diff(kept) > 0)
    return proposed[kept], log_density[kept], is_new, log_ratio


def _ensemble_chains(
    target: Density,
    adapted: AdaptedProposal,
    draws: int,
    streams: list[np.random.Generator],
    *,
    progress: bool,
) -> Chains:
    """One independent ensemble of emcee's walkers for each chain."""
    import emcee
    from tqdm.auto import tqdm

    walkers = 2 * (max(_WALKERS * target.size, _MIN_WALKERS) // 2)
    steps = -(-draws // walkers)
    # Not DESnookerMove: in emcee 3.1 its draws have too small a variance.
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.StretchMove(), 0.3)]
    z, log_density, acceptance = [], [], []
    bar = tqdm(streams, desc="ensembles", unit="chain", delay=DELAY, disable=not progress)
    for rng in bar:
        sampler = emcee.EnsembleSampler(
            walkers, target.size, target.log_densities, moves=moves, vectorize=True
        )
        sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
        chosen = rng.choice(len(adapted.points), walkers, p=adapted.importance_weights)
        start = adapted.points[chosen]
        start = start + 1e-3 * rng.standard_normal(start.shape)
        state = sampler.run_mcmc(start, _BURN_IN, skip_initial_state_check=True)
        sampler.reset()
        sampler.run_mcmc(state, steps, thin_by=_THIN, skip_initial_state_check=True)
        z.append(sampler.get_chain(flat=True)[:draws])
        log_density.append(sampler.get_log_prob(flat=True)[:draws])
        acceptance.append(np.full(draws, sampler.acceptance_fraction.mean()))
    return Chains(
        np.stack(z),
        np.stack(log_density),
        np.stack(acceptance),
        "emcee ensembles",
        adapted.efficiency,
        pareto_k(np.log(adapted.importance_weights[adapted.importance_weights > 0.0])),
    )
