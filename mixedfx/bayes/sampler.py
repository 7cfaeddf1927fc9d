"""A density to chains of draws from it.

Where a mixture resembles the density well enough, each chain proposes from it anew, whatever
the last draw was, so draws are nearly independent; and all proposals are evaluated at once.
Elsewhere emcee's ensembles walk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.bayes.log_posterior import Target
from mixedfx.bayes.mode import climb, hessian, start
from mixedfx.bayes.proposal import Adapted, adapt
from mixedfx.errors import SearchError
from mixedfx.estimation.optimizer_result import Control

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Below this share of effective draws a mixture is not trusted.
_TRUSTED = 0.15
# Points of a round of adaptation, and proposals per draw, where they are cheap and where not.
_CHEAP, _DEAR = (2000, 4), (600, 1)
_WORTH = 0.8
_TUNE = 50
# An ensemble's walkers per dimension, and steps per draw of a walker.
_WALKERS, _THIN = 4, 10
# Walkers begin at weighted draws of the mixture, so that little is to be forgotten.
_BURN = 100


@dataclass(frozen=True)
class Chains:
    """
    Draws of the coordinates.

    Parameters
    ----------
    z : ndarray of shape (chains, draws, d)
        The draws.
    log_density : ndarray of shape (chains, draws)
        Of the posterior, but for a constant.
    acceptance : ndarray of shape (chains, draws)
        Share of the proposals since the last draw that were accepted.
    sampler : str
        What drew them.
    efficiency : float
        Of the mixture: effective draws per draw.
    """

    z: npt.NDArray[np.float64]
    log_density: Matrix
    acceptance: Matrix
    sampler: str
    efficiency: float

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.z, self.log_density, self.acceptance)


def run(
    target: Target, *, draws: int, chains: int, rng: np.random.Generator, progress: bool = False
) -> Chains:
    """Draw chains from a posterior density."""
    own = rng.spawn(chains + 1)
    if not target.size:
        shape = (chains, draws)
        level = float(target.log_densities(np.zeros((1, 0)))[0])
        return Chains(np.zeros((*shape, 0)), np.full(shape, level), np.ones(shape), "exact", 1.0)
    rounds, thin = _DEAR if target.batch is None else _CHEAP
    mode = climb(target, start(target, Control()), jacobian=True, control=Control())
    if not np.isfinite(mode.value):
        raise SearchError("the posterior density cannot be computed at its start.")
    found = adapt(target.log_densities, mode.x, _inverse(target, mode.x), own[-1], draws=rounds)
    if found.efficiency < _TRUSTED:
        return _ensembles(target, found, draws, own[:-1], progress=progress)
    thin = max(thin, round(_WORTH / found.efficiency))  # so that a draw is worth nearly one
    parts = [_independence(target, found, draws, thin, one) for one in own[:-1]]
    z, logs, accepted = (np.stack(part) for part in zip(*parts, strict=True))
    return Chains(z, logs, accepted, "independence Metropolis", found.efficiency)


def _inverse(target: Target, z: Vector) -> Matrix:
    """Covariance of the normal distribution with the mode's curvature, made positive definite."""
    values, vectors = np.linalg.eigh(hessian(target, z, jacobian=True))
    values = np.maximum(values, 1e-2 * max(1.0, float(np.abs(values).max()) * 1e-4))
    return np.asarray((vectors * (2.0 / values)) @ vectors.T)


def _independence(
    target: Target, found: Adapted, draws: int, thin: int, rng: np.random.Generator
) -> tuple[Matrix, Vector, Vector]:
    """One chain of proposals that do not depend on where it is."""
    total = (draws + _TUNE) * thin
    proposed = found.mixture.draw(total + 1, rng)
    first = rng.choice(len(found.points), p=found.shares)
    proposed[0] = found.points[first]
    density = target.log_densities(proposed)
    ratio = density - found.mixture.log_densities(proposed)
    chance = np.log(rng.random(total + 1))
    at, places, moved = 0, np.empty(total, dtype=np.intp), np.empty(total)
    for i in range(1, total + 1):
        accept = chance[i] < ratio[i] - ratio[at]
        at = i if accept else at
        places[i - 1], moved[i - 1] = at, accept
    kept = places.reshape(-1, thin)[_TUNE:, -1]
    return proposed[kept], density[kept], moved.reshape(-1, thin)[_TUNE:].mean(axis=1)


def _ensembles(
    target: Target,
    found: Adapted,
    draws: int,
    own: list[np.random.Generator],
    *,
    progress: bool,
) -> Chains:
    """Independent ensembles of walkers, one for each chain."""
    import emcee
    from tqdm.auto import tqdm

    walkers = 2 * max(_WALKERS * target.size // 2, 4)
    steps = -(-draws // walkers)
    # Not DESnookerMove: in emcee 3.1 its draws are too narrow.
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.StretchMove(), 0.3)]
    z, logs, accepted = [], [], []
    for rng in tqdm(own, desc="ensembles", unit="chain", disable=not progress):
        sampler = emcee.EnsembleSampler(
            walkers, target.size, target.log_densities, moves=moves, vectorize=True
        )
        sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
        begin = found.points[rng.choice(len(found.points), walkers, p=found.shares)]
        begin = begin + 1e-3 * rng.standard_normal(begin.shape)
        state = sampler.run_mcmc(begin, _BURN, skip_initial_state_check=True)
        sampler.reset()
        sampler.run_mcmc(state, steps, thin_by=_THIN, skip_initial_state_check=True)
        z.append(sampler.get_chain(flat=True)[:draws])
        logs.append(sampler.get_log_prob(flat=True)[:draws])
        accepted.append(np.full(draws, sampler.acceptance_fraction.mean()))
    return Chains(
        np.stack(z), np.stack(logs), np.stack(accepted), "emcee ensembles", found.efficiency
    )
