"""Parameters of correlated residuals at the end of their range, where a search ends.

Far out the deviance is flat, as for the range of a correlation that vanishes: an estimate there is
moved to the end where that costs nothing, and is on the boundary of the parameter space. Like
theta's, its derivative is zero for any data; that the deviance rises inside makes it a minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.linalg.trust_region import TrustRegionResult
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]

# The end may raise the deviance by no more than rounding does.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class EndsOfResiduals:
    """Parameters at their ends, by their number in the search."""

    parameters: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    rise: float = np.inf  # of the deviance on leaving the ends
    singular: bool = False  # covariances are nearly so
    no_maximum: tuple[str, ...] = ()  # statements of where the deviance is lower than anywhere


def settle_ends(
    model: ResidualModel, optimum: TrustRegionResult, deviance: Callable[[Vector], float]
) -> tuple[TrustRegionResult, EndsOfResiduals]:
    """Put parameters at their ends where the deviance is no higher there."""
    for near in model.at_ends(optimum.x):
        moved = near.put(optimum.x)
        if model.contains(moved):
            value = deviance(moved)
            if value <= optimum.value + _TOLERANCE:
                gradient = np.where(moved == optimum.x, optimum.gradient, 0.0)
                optimum = replace(optimum, x=moved, value=value, gradient=gradient)
    ends = [end for end in model.at_ends(optimum.x) if end.at_end]
    singular = model.nearly_singular(optimum.x)
    if not ends:
        return optimum, EndsOfResiduals(singular=singular)
    rises = [deviance(end.inside(optimum.x)) - optimum.value for end in ends]
    deviance(optimum.x)  # the last evaluation is that of the optimum
    names, indices = tuple(end.name for end in ends), tuple(end.index for end in ends)
    return optimum, EndsOfResiduals(indices, names, min(rises), singular)
