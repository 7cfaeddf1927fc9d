"""Further searches of a generalised model where correlations leave several minima.

As of linear models (:mod:`mixedfx.estimation.correlation_starts`): beside the end of the first
search, from other correlations, ranges and standard deviations of its structured terms.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ModesNotFound
from mixedfx.estimation.correlation_starts import other_correlations
from mixedfx.estimation.glmm.search import MarginalSearch, search
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood
from mixedfx.likelihood.generalized.profiled import ProfiledLikelihood

Vector = npt.NDArray[np.float64]

# Random effects up to which there are further searches, and how many.
_MOST_EFFECTS, _MOST_SEARCHES = 300, 6
# Deviance by which another end is the better one.
_GAIN = 1e-7


def or_from_other_correlations(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood, found: MarginalSearch, control: Control
) -> MarginalSearch:
    """The best of a search and those from other correlations, where structures leave several."""
    rows = likelihood.model
    parametrization = rows.parametrization
    if all(structure.linear for structure, _ in parametrization.terms):
        return found
    if sum(effects.size for effects in rows.zero_effects) > _MOST_EFFECTS:
        return found
    point = found.evaluation.point

    def deviance(params: Vector) -> float:
        factors = tuple(parametrization.coordinates.lambdas(params))
        try:
            return float(likelihood.at(replace(point, factors=factors)).deviance)
        except ModesNotFound:
            return np.inf

    x = parametrization.to_params(point.factors)
    for start in other_correlations(parametrization, x, deviance)[:_MOST_SEARCHES]:
        try:
            other = search(likelihood, start, point, control)
        except ModesNotFound:
            continue
        if other.end.converged and other.end.value < found.end.value - _GAIN:
            found = other
    return found
