"""Starting values of a residual model's parameters where the deviance can have several minima.

With few levels a difference can be taken by the residual variances or, through the coefficients
and the random effects, by the mean: the deviance, theta profiled out, has a minimum for each.
Starts are equal variances, those of the residuals of the fixed part alone and beside random effects
of any size, and a step either way along each parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.estimation.correlation_starts import MAX_STARTS, local_minima
from mixedfx.estimation.starts import can_have_several_minima
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import conditional_residuals
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]

# Scaled standard deviations of the random effects at which residuals are taken.
_NONE, _ANY_SIZE = 0.0, 30.0
# A step of this many log standard deviations, root mean square over the rows.
_STEP = 1.0
# With more parameters or rows no steps are taken along each.
_MAX_PARAMS, _MAX_ROWS = 4, 2000
# More rows than these tell correlations well enough that the deviance has one minimum.
_MANY_ROWS = 1000
# With so few, further minima can be anywhere: steps in random directions start searches too.
FEW_ROWS, _MORE_STARTS = 60, 4


def residual_starts(
    design: Design, model: ResidualModel, sums: Any, likelihood: GaussianLikelihood
) -> list[Vector]:
    """Starting values, the first of equal variances; ``likelihood`` is that of these."""
    terms = likelihood.parametrization.terms

    def solution(size: float) -> Solution:
        return likelihood.at_factors([size * np.eye(at.k) for _, at in terms])

    own = model.starts(lambda size: conditional_residuals(design.rows, solution(size)), design.rows)
    if own:
        return own
    zero = np.zeros(model.n_params)
    if not can_have_several_minima(likelihood) or design.rows.n > _MAX_ROWS:
        return [zero]
    starts = [zero]
    for size in (_NONE, _ANY_SIZE):
        starts.append(model.params_of_residuals(sums, design.rows, solution(size)))
    if model.n_params <= _MAX_PARAMS:
        for step in _STEP * np.eye(model.n_params):
            starts += [step, -step]
    return starts


def other_residual_starts(
    design: Design, model: ResidualModel, x: Vector, deviance: Callable[[Vector], float]
) -> list[Vector]:
    """Parameters from which to descend beside an end ``x`` of correlated residuals."""
    sequences = model.starting_points(x) if design.rows.n <= _MANY_ROWS else []
    starts: list[Vector] = []
    for sequence in sequences:
        candidates = [(deviance(point), point) for point in sequence]
        starts += [point for _, point in local_minima(candidates)[:MAX_STARTS]]
    if any(sequences) and design.rows.n <= FEW_ROWS:
        rng = np.random.default_rng(0)
        starts += [x + step for step in rng.standard_normal((_MORE_STARTS, len(x)))]
    return starts
