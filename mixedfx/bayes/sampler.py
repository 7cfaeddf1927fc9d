"""Markov chains from a log posterior density.

With an efficient mixture proposal (:mod:`mixedfx.bayes.proposal`) each chain is an independence
Metropolis-Hastings sampler: a proposal ``z'`` is accepted with probability
``min(1, w(z') / w(z))``, ``w`` density over proposal. Proposals do not depend on the state, so all
are evaluated at once. Otherwise emcee's affine-invariant ensembles are run (Goodman and Weare 2010,
CAMCoS 5:65; ter Braak and Vrugt 2008, Statistics and Computing 18:435).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.mode import maximize_posterior, objective_hessian, starting_values
from mixedfx.bayes.proposal import AdaptedProposal, adapt_proposal
from mixedfx.errors import SearchError
from mixedfx.estimation.optimizer_result import Control

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this effective sample size per draw the mixture is not used as a proposal.
_MIN_EFFICIENCY = 0.15
# Points per round of adaptation, and least proposals per draw, where the density is evaluated at
# many points at once, and where point by point.
_VECTORIZED, _POINTWISE = (2000, 4), (600, 1)
# Chains are thinned such that a draw has about this effective sample size.
_ESS_PER_DRAW = 0.8
# Draws discarded at the start of a chain.
_WARMUP = 50
# Ensembles: walkers per dimension, steps per draw of a walker, and steps discarded: few, since
# the walkers start at weighted draws from the mixture.
_WALKERS, _THIN, _BURN_IN = 4, 10, 100


@dataclass(frozen=True)
class Chains:
    """Draws of the unconstrained parameters."""

    z: npt.NDArray[np.float64]  # (chains, draws, d)
    log_density: Matrix  # (chains, draws), up to a constant
    acceptance: Matrix  # (chains, draws) share of proposals accepted since the previous draw
    sampler: str
    efficiency: float  # effective sample size of the mixture, per draw

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
        return Chains(np.zeros((*shape, 0)), np.full(shape, constant), np.ones(shape), "exact", 1.0)
    points_per_round, thin = _POINTWISE if posterior.vectorized is None else _VECTORIZED
    start = starting_values(posterior, Control())
    mode = maximize_posterior(posterior, start, jacobian=True, control=Control())
    if not np.isfinite(mode.value):
        raise SearchError("the posterior density cannot be computed at its start.")
    cov = _laplace_covariance(posterior, mode.x)
    proposal = adapt_proposal(
        posterior.log_densities, mode.x, cov, streams[-1], draws=points_per_round
    )
    if proposal.efficiency < _MIN_EFFICIENCY:
        return _ensemble_chains(posterior, proposal, draws, streams[:-1], progress=progress)
    thin = max(thin, round(_ESS_PER_DRAW / proposal.efficiency))
    parts = [_independence_chain(posterior, proposal, draws, thin, one) for one in streams[:-1]]
    z, log_density, acceptance = (np.stack(part) for part in zip(*parts, strict=True))
    return Chains(z, log_density, acceptance, "independence Metropolis", proposal.efficiency)


def _laplace_covariance(posterior: LogPosterior, z: Vector) -> Matrix:
    """``2 H^-1`` at the mode, small and negative eigenvalues of ``H`` raised."""
    values, vectors = np.linalg.eigh(objective_hessian(posterior, z, jacobian=True))
    values = np.maximum(values, 1e-2 * max(1.0, float(np.abs(values).max()) * 1e-4))
    return np.asarray((vectors * (2.0 / values)) @ vectors.T)


def _independence_chain(
    posterior: LogPosterior,
    proposal: AdaptedProposal,
    draws: int,
    thin: int,
    rng: np.random.Generator,
) -> tuple[Matrix, Vector, Vector]:
    """One chain of independence Metropolis-Hastings, started at a draw by importance."""
    total = (draws + _WARMUP) * thin
    proposed = proposal.mixture.draw(total + 1, rng)
    first = rng.choice(len(proposal.points), p=proposal.importance_weights)
    proposed[0] = proposal.points[first]
    log_density = posterior.log_densities(proposed)
    log_ratio = log_density - proposal.mixture.log_densities(proposed)
    log_uniform = np.log(rng.random(total + 1))
    state, states, accepted = 0, np.empty(total, dtype=np.intp), np.empty(total)
    for i in range(1, total + 1):
        accept = log_uniform[i] < log_ratio[i] - log_ratio[state]
        state = i if accept else state
        states[i - 1], accepted[i - 1] = state, accept
    kept = states.reshape(-1, thin)[_WARMUP:, -1]
    acceptance = accepted.reshape(-1, thin)[_WARMUP:].mean(axis=1)
    return proposed[kept], log_density[kept], acceptance


def _ensemble_chains(
    posterior: LogPosterior,
    proposal: AdaptedProposal,
    draws: int,
    streams: list[np.random.Generator],
    *,
    progress: bool,
) -> Chains:
    """One independent ensemble of emcee's walkers for each chain."""
    import emcee
    from tqdm.auto import tqdm

    walkers = 2 * max(_WALKERS * posterior.size // 2, 4)
    steps = -(-draws // walkers)
    # Not DESnookerMove: in emcee 3.1 its draws have too small a variance.
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.StretchMove(), 0.3)]
    z, log_density, acceptance = [], [], []
    for rng in tqdm(streams, desc="ensembles", unit="chain", disable=not progress):
        sampler = emcee.EnsembleSampler(
            walkers, posterior.size, posterior.log_densities, moves=moves, vectorize=True
        )
        sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
        chosen = rng.choice(len(proposal.points), walkers, p=proposal.importance_weights)
        start = proposal.points[chosen]
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
        proposal.efficiency,
    )
