"""Parameters of correlated residuals at the end of their range, and where a search may start.

A correlation that vanishes, or never does, has a range of zero, or an infinite one: its parameter
is at an end, the deviance flat beyond. It is put there, and reported as on the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.ends import NEGLIGIBLE
from mixedfx.likelihood.patterns import Patterns
from mixedfx.residuals.correlated_components import searched_params

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Derivatives of the covariance below which a parameter may be near its end; there it is put.
_NEARLY = 1e-2
_END = 40.0
# Distance from the end, in the search's parameter, at which the slope is taken.
_INWARD = 0.3


@dataclass(frozen=True)
class ParameterAtEnd:
    """A parameter that moves the covariances of residuals by nearly nothing."""

    index: int  # among those of the search
    name: str  # of the component that goes with it
    at_end: bool  # by less than what counts

    def put(self, params: Vector) -> Vector:
        """Parameters with this one at its end."""
        moved = params.copy()
        moved[self.index] = _END if params[self.index] > 0.0 else -_END
        return moved

    def inside(self, params: Vector) -> Vector:
        """Parameters with this one less far out."""
        moved = params.copy()
        moved[self.index] *= _INWARD
        return moved


def parameters_at_ends(model: Any, params: Vector, pairs: Mask | None) -> list[ParameterAtEnd]:
    """Those of correlated residuals near an end; ``pairs`` are the entries that rows have."""
    S, m = model.spec.n_strata, len(model.is_positive)
    # Of each stratum as many components as parameters, but for correlations that follow.
    of_stratum = np.reshape(model.component_names, (S, -1)).tolist()
    names = [of[min(j, len(of) - 1)] for of in of_stratum for j in range(m)]
    searched, is_sd = np.flatnonzero(model.is_free), np.tile(model.is_positive, S)
    by = np.abs(model.covariance_jacobian(params))
    axes, where = tuple(range(1, by.ndim)), True if pairs is None else pairs
    variance = float(model.first_covariances(params).max())
    effects = by.max(axis=axes, initial=0.0, where=where) / variance
    near = (effects < _NEARLY) & ~is_sd[searched]
    return [
        ParameterAtEnd(i, names[searched[i]], bool(effects[i] < NEGLIGIBLE))
        for i in np.flatnonzero(near).tolist()
    ]


def pairs_within_subjects(patterns: Patterns, k: int) -> Mask:
    """Pairs of positions at which a subject has rows, (k, k)."""
    pairs = np.zeros((k, k), dtype=bool)
    for size in patterns.sizes:
        pairs[size.positions[:, :, None], size.positions[:, None]] = True
    return pairs


def starting_points(model: Any, params: Vector) -> list[list[Vector]]:
    """
    Parameters of the search from which it may end elsewhere, neighbours after each other.

    The typical correlations of a structure of levels or effects at the same standard deviations, in
    one stratum at a time.
    """
    structure, at = model.spec.covariance, model.spec.at
    if structure.design == "coordinates":  # whose search starts over the ranges
        return []
    by_stratum, sequences = model.structure_params(params), []
    for s, x in enumerate(by_stratum):
        sequence = []
        for point in structure.starting_points(x, at):
            full = by_stratum.copy()
            full[s] = point
            sequence.append(searched_params(model, full))
        sequences.append(sequence)
    return sequences
