"""Further searches of a generalised model where there can be several minima.

As of linear models (:mod:`mixedfx.estimation.correlation_starts`): beside the end of the first
search, from other correlations, ranges and standard deviations of its structured terms. Where
densities are not log-concave, also from small and large variances: there one minimum can explain
levels that lie apart by their effects, and another by the tails of the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import identity_params
from mixedfx.errors import ModesNotFound
from mixedfx.estimation.correlation_starts import other_correlations
from mixedfx.estimation.glmm.search import MarginalSearch, search
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point
from mixedfx.likelihood.generalized.profiled import ProfiledLikelihood

Vector = npt.NDArray[np.float64]

# Random effects up to which there are further searches, and how many.
_MOST_EFFECTS, _MOST_SEARCHES = 300, 6
# Standard deviations of the effects, in units of the linear predictor, that are started from.
_SDS = (0.05, 0.4, 1.2, 3.0)
# Standard deviation, in units of the predictor, from which a variance that ends at zero is searched
# again, and the gain for which that end is taken.
_FAR, _GAIN_FROM_AFAR = 1.0, 1e-6
# Deviance by which another end is the better one.
_GAIN = 1e-7


def or_from_large_variances(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood, found: MarginalSearch, control: Control
) -> MarginalSearch:
    """
    The better of a search at whose end a variance is zero and one from a large variance there.

    Laplace's approximation can have another maximum far from zero, as where each level has few
    counts.
    """
    point = found.evaluation.point
    vanished = [not F.any() for F in point.factors]
    if not any(vanished) or not found.end.converged:
        return found
    terms = zip(point.factors, vanished, strict=True)
    factors = [_FAR * np.eye(len(F)) if zero else np.asarray(F) for F, zero in terms]
    start = likelihood.model.parametrization.to_params(factors)
    return _best_of(likelihood, found, [start], point, control, _GAIN_FROM_AFAR)


def or_from_other_correlations(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood, found: MarginalSearch, control: Control
) -> MarginalSearch:
    """The best of a search and those from other correlations, where structures leave several."""
    parametrization = likelihood.model.parametrization
    if all(structure.linear for structure, _ in parametrization.terms) or _is_large(likelihood):
        return found
    point = found.evaluation.point

    def deviance(params: Vector) -> float:
        factors = tuple(parametrization.coordinates.lambdas(params))
        try:
            return float(likelihood.at(replace(point, factors=factors)).deviance)
        except ModesNotFound:
            return np.inf

    x = parametrization.to_params(point.factors)
    starts = other_correlations(parametrization, x, deviance)[:_MOST_SEARCHES]
    return _best_of(likelihood, found, starts, point, control)


def or_from_other_variances(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood,
    found: MarginalSearch,
    first: Point,
    control: Control,
) -> MarginalSearch:
    """
    The best of a search and those from other variances, where densities are not log-concave.

    They begin with the coefficients that the search began with.
    """
    if likelihood.model.has_one_mode or _is_large(likelihood):
        return found
    identity = identity_params(likelihood.model.parametrization)
    starts = [likelihood.model.parametrization.scaled(identity, sd) for sd in _SDS]
    return _best_of(likelihood, found, starts, first, control)


def _is_large(likelihood: GeneralizedLikelihood | ProfiledLikelihood) -> bool:
    """Whether further searches would take long."""
    return sum(effects.size for effects in likelihood.model.zero_effects) > _MOST_EFFECTS


def _best_of(
    likelihood: GeneralizedLikelihood | ProfiledLikelihood,
    found: MarginalSearch,
    starts: Sequence[Vector],
    point: Point,
    control: Control,
    gain: float = _GAIN,
) -> MarginalSearch:
    """The lowest end of a search and of those from other starts, by more than the gain."""
    for start in starts:
        try:
            other = search(likelihood, start, point, control)
        except ModesNotFound:
            continue
        if other.end.converged and other.end.value < found.end.value - gain:
            found = other
    return found
