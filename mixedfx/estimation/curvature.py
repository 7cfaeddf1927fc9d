"""Gradient and Hessian of the deviance at an optimum, over the parameters that are free there.

A singular covariance is parametrised with its rank fixed (:func:`rank_reduced`), in scaled
columns. The Hessian is a fourth-order central difference of the analytic gradient g,

    H_j = (8 [g(x + h e_j) - g(x - h e_j)] - [g(x + 2 h e_j) - g(x - 2 h e_j)]) / 12 h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.estimation.scaling import score_scaled
from mixedfx.likelihood.crossproducts import CrossProducts

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_STEP = 1e-3


@dataclass(frozen=True)
class HessianAtOptimum:
    """First and second derivatives of the deviance at an optimum."""

    coordinates: Coordinates  # free entries of the scaled factors, m in all
    x: Vector  # (m,) the optimum in these coordinates
    gradient: Vector  # (m,) zero but for rounding
    hessian: Matrix  # (m, m) symmetric

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())


def hessian_at_optimum(crossprod: CrossProducts, theta: Vector, *, reml: bool) -> HessianAtOptimum:
    """Differentiate the score numerically at an optimum theta."""
    coordinates, x = rank_reduced_coordinates(crossprod, theta)

    def score(at: Vector) -> Vector:
        return score_scaled(
            crossprod, coordinates, at, term_scaling=crossprod.term_scaling, reml=reml
        )

    H = np.empty((len(x), len(x)))
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = h = _STEP * max(1.0, abs(x[j]))
        near, far = score(x + step) - score(x - step), score(x + 2 * step) - score(x - 2 * step)
        H[j] = (8.0 * near - far) / (12.0 * h)  # exact for cubics: near zero the score is one
    gradient = score(x) if len(x) else x
    return HessianAtOptimum(coordinates, x, gradient, 0.5 * (H + H.T))
