"""Gradient and Hessian of the deviance at an optimum, over the parameters that are free there.

A singular covariance is parametrised with its rank fixed (:func:`rank_reduced_coordinates`), in
scaled columns. The Hessian is exact for small models, else a fourth-order central difference of the
analytic gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.coordinates import Coordinates, concatenate
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.dense import DENSE_EFFECTS
from mixedfx.likelihood.dense_point import DensePoint
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.newton import newton_decrement

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HessianAtOptimum:
    """First and second derivatives of the deviance at an optimum."""

    scaled: ScaledLikelihood  # in coordinates of the scaled factors, m in all
    x: Vector  # (m,) the optimum in these coordinates
    gradient: Vector  # (m,) zero but for rounding
    hessian: Matrix  # (m, m) symmetric
    is_observed: bool = True  # whether it is the Hessian, not the average information

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.x, self.gradient, self.hessian)

    @cached_property
    def units(self) -> Vector | None:
        """Sds of the effects that each of ``x`` moves, at least 1, (m,); None where all are 1."""
        coordinates = self.scaled.coordinates
        variances = concatenate(np.einsum("ij,ij->i", F, F) for F in coordinates.lambdas(self.x))
        if max(variances.tolist(), default=0.0) <= 1.0:
            return None
        moved = coordinates.moved_effects(self.x) * variances
        return np.asarray(np.sqrt(np.maximum.reduce(moved, axis=1, initial=1.0)))

    @cached_property
    def relative(self) -> HessianAtOptimum:
        """
        Derivatives by ``x_i / s_i``, ``s_i`` the units.

        The curvature of a variance falls with its square: relative to it, it does not.
        """
        scale = self.units
        if scale is None:
            return self
        hessian = self.hessian * (scale[:, None] * scale)
        return HessianAtOptimum(self.scaled, self.x / scale, self.gradient * scale, hessian)

    @cached_property
    def newton(self) -> tuple[float, float]:
        """Newton decrement, null directions by their gradient, and the smallest curvature."""
        return newton_decrement(self.gradient, self.hessian)

    @cached_property
    def vcov_jacobian(self) -> CoefficientCovariance:
        """Derivatives of the covariance of the fixed effects by ``x``, (m, p, p)."""
        return self.scaled.vcov_jacobian(self.x)


def derivatives_at_optimum(
    likelihood: GaussianLikelihood, factors: Sequence[Matrix]
) -> HessianAtOptimum:
    """Derivatives that certify an optimum: of a large model the average information."""
    if likelihood.crossprod.symbolic.size <= DENSE_EFFECTS:
        return hessian_at_optimum(likelihood, factors)
    return information_at_optimum(likelihood, factors)


def hessian_at_optimum(
    likelihood: GaussianLikelihood, factors: Sequence[Matrix]
) -> HessianAtOptimum:
    """Differentiate the deviance at the scaled factors of an optimum."""
    coordinates, x = rank_reduced_coordinates(likelihood.parametrization, factors)
    if likelihood.crossprod.symbolic.size <= DENSE_EFFECTS:
        return dense_derivatives(likelihood, coordinates, x)[0]
    scaled = ScaledLikelihood(likelihood, coordinates)
    gradient = scaled.score(x) if len(x) else x
    hessian = ScaledLikelihood(likelihood.for_curvature, coordinates).hessian(x)
    return HessianAtOptimum(scaled, x, gradient, hessian)


def dense_derivatives(
    likelihood: GaussianLikelihood,
    coordinates: Coordinates,
    x: Vector,
    known: DensePoint | None = None,
) -> tuple[HessianAtOptimum, DensePoint]:
    """
    Derivatives at a point of a small model, and all else that one factor has there.

    ``known`` is the last point of the search, which may be this one.
    """
    scaled = ScaledLikelihood(likelihood, coordinates)
    at = coordinates.lambdas(x)
    if known is not None and all((a == b).all() for a, b in zip(at, known.factors, strict=True)):
        point = known
    else:
        point = DensePoint.of(likelihood.dense, at, reml=likelihood.reml)
    gradient, hessian = point.gradient(coordinates, x), point.hessian(coordinates, x)
    return HessianAtOptimum(scaled, x, gradient, hessian), point


def information_at_optimum(
    likelihood: GaussianLikelihood, factors: Sequence[Matrix]
) -> HessianAtOptimum:
    """Gradient, and the average information in place of the Hessian: one evaluation, not 4 m."""
    coordinates, x = rank_reduced_coordinates(likelihood.parametrization, factors)
    scaled = ScaledLikelihood(likelihood, coordinates)
    if not len(x):
        return HessianAtOptimum(scaled, x, x, np.zeros((0, 0)))
    return HessianAtOptimum(scaled, x, *scaled.score_and_information(x), is_observed=False)
