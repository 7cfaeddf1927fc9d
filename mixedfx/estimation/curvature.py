"""Gradient and Hessian of the deviance at an optimum, over the parameters that are free there.

A singular covariance is parametrised with its rank fixed (:func:`rank_reduced`), in scaled
columns. The Hessian is a fourth-order central difference of the analytic gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import ScaledLikelihood

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HessianAtOptimum:
    """First and second derivatives of the deviance at an optimum."""

    scaled: ScaledLikelihood  # in coordinates of the scaled factors, m in all
    x: Vector  # (m,) the optimum in these coordinates
    gradient: Vector  # (m,) zero but for rounding
    hessian: Matrix  # (m, m) symmetric

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @cached_property
    def vcov_jacobian(self) -> Array:
        """Derivatives of the covariance of the fixed effects by ``x``, (m, p, p)."""
        return self.scaled.vcov_jacobian(self.x)


def hessian_at_optimum(
    likelihood: GaussianLikelihood, factors: Sequence[Matrix]
) -> HessianAtOptimum:
    """Differentiate the score numerically at the scaled factors of an optimum."""
    coordinates, x = rank_reduced_coordinates(likelihood.parametrization, factors)
    scaled = ScaledLikelihood(likelihood, coordinates)
    gradient = scaled.score(x) if len(x) else x
    return HessianAtOptimum(scaled, x, gradient, scaled.hessian(x))
