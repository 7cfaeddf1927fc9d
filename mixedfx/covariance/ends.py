"""Coordinates of a structure on its boundary: parameters at the end of their range are held there.

A correlation of one is at infinity of its unbounded parameter, where the covariance no longer
moves with it; nor does it with the correlation of an effect whose standard deviation is zero. Such
parameters are held, and the others are coordinates of full rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.components import ZERO, Positions
from mixedfx.covariance.coordinates import TermCoordinates

if TYPE_CHECKING:
    from mixedfx.covariance.structure import CovarianceStructure

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A parameter that moves the covariance by less than this share of its size is at an end, ...
NEGLIGIBLE = 1e-4
# ... if it is beyond this: tanh(5) is 0.9999. Otherwise it has no effect, as without a deviation.
_FAR = 5.0
# Parameters near the end, at which the slope is taken: a change of the covariance of 1e-6 or more.
_STEP_IN, _NEAR = 2.0, 8.0
# Where a parameter comes back to from its end, and a standard deviation from zero.
_INSIDE, _STEP_OFF = 1.5, 0.1
# The end is left where the deviance falls by more than this per unit of scaled variance.
_FALLING = 1e-4


@dataclass(frozen=True)
class HeldCoordinates:
    """Some of a structure's parameters; the others are held."""

    parameters: TermCoordinates  # all
    held: Vector  # (m,) all parameters, of which those that are not free are held
    free: Mask  # (m,)

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return int(self.free.sum())

    @property
    def is_linear(self) -> bool:
        """The held parameters can add a constant."""
        return False

    def _full(self, x: Vector) -> Vector:
        full = self.held.copy()
        full[self.free] = x
        return full

    def factor(self, x: Vector) -> Matrix:
        """Lambda at the free parameters ``x``."""
        return self.parameters.factor(self._full(x))

    def jacobian(self, x: Vector) -> Array:
        """Derivatives of Lambda by the free parameters."""
        return self.parameters.jacobian(self._full(x))[self.free]

    def pullback(self, x: Vector, by_factor: Matrix) -> Vector:
        """Derivative by the free parameters from the derivative by the entries of Lambda."""
        return self.parameters.pullback(self._full(x), by_factor)[self.free]

    def params(self, factor: Matrix) -> Vector:
        """Free parameters of a factor."""
        return self.parameters.params(factor)[self.free]

    def canonical(self, x: Vector) -> Vector:
        """Free parameters with non-negative standard deviations."""
        return self.parameters.canonical(self._full(x))[self.free]

    @property
    def is_sd(self) -> Mask:
        """The structure's standard deviations."""
        return np.asarray(self.parameters.is_sd[self.free])


def free_params(structure: CovarianceStructure, params: Vector, at: Positions) -> Mask:
    """Parameters that are not at an end: sds but zero, and others that move the covariance."""
    sds = list(structure.sds(at))
    free = relative_effects(structure, params, at) > NEGLIGIBLE
    free[sds] = np.abs(params[sds]) >= (ZERO if len(sds) > 1 else 0.0)
    return np.asarray(free)


def relative_effects(
    structure: CovarianceStructure, params: Vector, at: Positions, pairs: Mask | None = None
) -> Vector:
    """Largest derivative of the covariance by each parameter, over the largest variance."""
    by = np.abs(structure.covariance_jacobian(params, at))
    by = by.max(axis=(1, 2), initial=0.0, where=True if pairs is None else pairs)
    size = float(np.diag(structure.covariance(params, at)).max())
    return np.asarray(by / max(size, 1e-300))


def held_coordinates(
    structure: CovarianceStructure, params: Vector, at: Positions
) -> tuple[HeldCoordinates, Vector]:
    """Coordinates at parameters of which some are at an end, and their values."""
    free, sds = free_params(structure, params, at), list(structure.sds(at))
    held = params.copy()
    held[sds] = np.where(free[sds], params[sds], 0.0)
    return HeldCoordinates(structure.coordinates(at), held, free), held[free]


def off_ends(
    structure: CovarianceStructure, factor: Matrix, score: Matrix, at: Positions
) -> tuple[Matrix, Vector, Matrix]:
    """
    Factor, slopes of the deviance off the ends of held parameters, and directions of zero.

    Per unit of the largest relative covariance that changes; ``score`` is the derivative by
    ``Lambda Lambda'``. Where the deviance falls, the factor is one inside.
    """
    params = structure.params_of_factor(factor, at)
    coordinates, _ = held_coordinates(structure, params, at)
    C, slopes, inside = structure.covariance(coordinates.held, at), [], []
    sds = structure.sds(at)
    for j in np.flatnonzero(~coordinates.free).tolist():
        near, x = coordinates.held.copy(), float(coordinates.held[j])
        if j not in sds and abs(x) < _FAR:
            continue
        near[j] = ZERO if j in sds else np.sign(x) * min(abs(x) - _STEP_IN, _NEAR)
        change = structure.covariance(near, at) - C
        if size := float(np.abs(change).max()):
            slopes.append(float((score * change).sum()) / size)
            near[j] = _STEP_OFF if j in sds else np.sign(x) * _INSIDE
            inside.append(near)
    if slopes and min(slopes) < -_FALLING:
        factor = structure.factor(inside[int(np.argmin(slopes))], at)
    return factor, np.array(slopes), np.zeros((at.k, len(slopes)))
