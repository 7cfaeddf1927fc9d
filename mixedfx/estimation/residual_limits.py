"""Limits of correlated residuals at which the likelihood is highest, or has no bound.

With few subjects a contrast of a subject's rows can be fitted perfectly by the fixed effects: let
its variance vanish, and the likelihood grows without bound,

    d = (c - r) log eps + ...,    eps the variance of the contrast, c subjects that have its rows,

r being the rank of their contrasts of X under REML, zero under ML. The c equations have ``r + q``
unknowns, q the parameters of the covariance, so that more subjects than these determine it. Other
limits are covariances of another structure, which no parameters give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.special_cases import LIMITS
from mixedfx.design.build import Design
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# More rows than these are taken to tell the covariance.
_MAX_ROWS = 120
# Parameters drawn, those tried of them, and the lowest from which a search starts.
_DRAWN, _TRIED, _STARTED, _SIZE = 64, 24, 4, 2.0
# Shares of a row's variance, given the rows before it, that are neither singular nor far from it.
_LEAST_SHARE, _LARGEST_SHARE = 1e-5, 1e-1
# Beyond so many positions a limit is not tried.
_MAX_POSITIONS = 500
_TOLERANCE = 1e-6

UNBOUNDED = (
    "the deviance falls without bound as the residuals of a subject become combinations of each "
    "other: the fixed effects fit them perfectly"
)


def starts_near_singular(
    design: Design, model: ResidualModel, deviance: Callable[[Vector], float]
) -> list[Vector]:
    """
    Parameters near singular covariances from which the likelihood may grow without bound.

    The lowest of some random ones; none where the subjects of each two positions are too many.
    """
    if not isinstance(model, Correlated) or design.rows.n > _MAX_ROWS:
        return []
    unknowns = design.rows.X.shape[1] + model.n_params
    if _fewest_subjects(model) > unknowns:
        return []
    drawn = _SIZE * np.random.default_rng(0).standard_normal((_DRAWN, model.n_params))
    shares = np.array([model.least_share(x) for x in drawn])
    near = drawn[(shares > _LEAST_SHARE) & (shares < _LARGEST_SHARE)][:_TRIED]
    values = np.array([deviance(x) for x in near])
    lowest = np.argsort(values)[:_STARTED]
    return [near[i] for i in lowest.tolist() if np.isfinite(values[i])]


def _fewest_subjects(model: Correlated) -> float:
    """Least number of subjects with rows at the same two positions, of those that have any."""
    k, patterns = model.spec.at.k, model.position_patterns
    if k > _MAX_ROWS:
        return np.inf
    counts = np.zeros((model.spec.n_strata, k, k))
    for size in patterns.sizes:
        v = size.positions.shape[1]
        size.add_at_positions(counts, np.tile(size.counts[:, None, None], (1, v, v)))
    pairs = counts[:, *np.triu_indices(k, 1)]
    return float(pairs[pairs > 0.0].min(initial=np.inf))


def limit_statement(
    model: ResidualModel, value: float, lowest: Callable[[Correlated], float]
) -> str | None:
    """What is lower than a deviance in the limit; ``lowest`` minimises that of a model."""
    plain = getattr(model, "plain", model)  # of a dispersion formula
    if not isinstance(plain, Correlated) or plain.spec.at.k > _MAX_POSITIONS:
        return None
    for name in LIMITS.get(plain.spec.structure, ()):
        spec = replace(plain.spec, structure=name, text=plain.spec.with_structure(name))
        limit = model.beside(Correlated(spec, plain.subjects, plain.positions, plain.strata))
        gain = value - lowest(limit)
        if gain > _TOLERANCE:
            return (
                f"the deviance is lower by {gain:.2g} in the limit of an infinite range, which is "
                f"residual='{spec.text}': the likelihood has no maximum in '{plain.spec.structure}'"
            )
    return None
