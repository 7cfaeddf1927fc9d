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
# Beside an end at which some of so many effects do not vary, each of them may be the one instead.
_MOST_EFFECTS, _NO_SD = 6, 0.01
# From an end above the first, at which the effects take nearly all of the response and every other
# correlation fits badly, also those in each of these ranges.
_LARGE_SD = 3.0
_SMALLER = ((_LEAST_SD, 1.0), (_SMALL_SD, _LEAST_SD), (_SMALL_SD, _SMALL_SD))


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
        for of_start in _starting_sds(np.abs(x[part][sds])):
            own = x[part].copy()
            own[sds] = of_start
            candidates = []
            for point in structure.starting_points(own, at):
                moved = x.copy()
                moved[part] = point
                candidates.append((deviance(moved), moved))
            starts += local_minima(candidates)[:MAX_STARTS]
    return [start for _, start in sorted(starts, key=lambda start: start[0])]


def _starting_sds(sds: Vector) -> list[Vector]:
    """Standard deviations from which descents start, by those at an end."""
    starts = [np.maximum(sds, _LEAST_SD)]
    if (sds < _SMALL_SD).any():
        starts.append(np.maximum(sds, _SMALL_SD))
        if 1 < len(sds) <= _MOST_EFFECTS:
            others = max(float(np.sqrt(np.mean(sds**2))), _LEAST_SD)
            starts += list(np.where(np.eye(len(sds)) > 0.0, _NO_SD, others))
    if (sds > _LARGE_SD).any():
        starts += [np.clip(sds, least, most) for least, most in _SMALLER]
    return starts


def local_minima(candidates: list[tuple[float, Vector]]) -> list[tuple[float, Vector]]:
    """Candidates that are finite and lower than the ones before and after, lowest first."""
    values = np.array([np.inf, *(value for value, _ in candidates), np.inf])
    low = np.isfinite(values[1:-1]) & (values[1:-1] <= np.minimum(values[:-2], values[2:]))
    found = [candidates[i] for i in np.flatnonzero(low)]
    return sorted(found, key=lambda candidate: candidate[0])
