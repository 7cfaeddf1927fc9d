"""Starting values where correlations leave several minima: signs, ranges, smoothness.

Beside the end of a first descent, the deviance is evaluated at the typical correlations of each
structure, with the other parameters as they are there; a further descent starts from those that are
lower than both of their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Parametrization

Vector = npt.NDArray[np.float64]

# Descents from other correlations of one term at most.
MAX_STARTS = 3
# Standard deviations of the effects at those, relative to the residual, at least; from an end of
# none the small one too, at which the deviance falls off zero or does not.
_LEAST_SD, _SMALL_SD = 0.3, 0.1


def other_correlations(
    parametrization: Parametrization, x: Vector, deviance: Callable[[Vector], float]
) -> list[Vector]:
    """Parameters from which to descend beside an end ``x``, lowest first."""
    starts: list[tuple[float, Vector]] = []
    terms = zip(parametrization.terms, parametrization.slices, strict=True)
    for (structure, at), part in terms:
        if structure.linear:  # one minimum by its correlations
            continue
        sds = list(structure.sds(at))
        without = bool((np.abs(x[part][sds]) < _SMALL_SD).any())
        for least in (_LEAST_SD, _SMALL_SD) if without else (_LEAST_SD,):
            own = x[part].copy()
            own[sds] = np.maximum(np.abs(own[sds]), least)
            candidates = []
            for point in structure.starting_points(own, at):
                moved = x.copy()
                moved[part] = point
                candidates.append((deviance(moved), moved))
            starts += local_minima(candidates)[:MAX_STARTS]
    return [start for _, start in sorted(starts, key=lambda start: start[0])]


def local_minima(candidates: list[tuple[float, Vector]]) -> list[tuple[float, Vector]]:
    """Candidates that are finite and lower than the ones before and after, lowest first."""
    values = np.array([np.inf, *(value for value, _ in candidates), np.inf])
    low = np.isfinite(values[1:-1]) & (values[1:-1] <= np.minimum(values[:-2], values[2:]))
    found = [candidates[i] for i in np.flatnonzero(low)]
    return sorted(found, key=lambda candidate: candidate[0])
