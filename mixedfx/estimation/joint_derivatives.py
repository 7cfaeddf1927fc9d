"""Derivatives of the deviance by theta and the parameters of the residual variances together.

By central differences of the scores, where no closed form is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.correlated import Derivatives
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Step of the central differences, relative to coordinates above one: their error, of the order of
# its square, is near that of rounding over the step.
_STEP = 2e-4
# Curvature below this share of the largest is rounding of differences; a coefficient that moves by
# less than the second along such a direction is identified.
_FLAT, _MOVED = 1e-6, 1e-3
# Factors are equal whose entries differ by this relatively.
_EQUAL = 1e-14


class ResidualDeviance(Protocol):
    """The likelihood at values of the residual parameters."""

    model: ResidualModel

    def likelihood(self, x: Vector) -> GaussianLikelihood:
        """Likelihood of theta at the parameters."""

    def gradient(self, x: Vector, solution: Solution) -> Vector:
        """Gradient of the deviance by the parameters at constant theta."""

    def exact_derivatives(self, x: Vector, solution: Solution) -> Derivatives | None:
        """Derivatives by the parameters to the second, where they have a closed form."""


@dataclass(frozen=True)
class JointDerivatives:
    """Derivatives by the m coordinates of theta and x together, sigma profiled out."""

    gradient: Vector  # (m,) of the deviance
    hessian: Matrix  # (m, m)
    vcov_jacobian: CoefficientCovariance  # (m, p, p) of cov(beta)
    log_sigma_gradient: Vector  # (m,)


def joint_derivatives(problem: ResidualDeviance, x: Vector, solution: Solution) -> JointDerivatives:
    """
    Differentiate the deviance, cov(beta) and log sigma by theta and x, by central differences.

    The score by x can need the leverage of every row: it is evaluated for differences along x
    alone, and the block of theta and x follows by symmetry.
    """
    crossprod = solution.crossprod
    exact = problem.exact_derivatives(x, solution)
    if exact is not None:
        vcov = CoefficientCovariance(exact.vcov, crossprod.qr_R)
        return JointDerivatives(exact.gradient, exact.hessian, vcov, exact.log_sigma)
    coordinates, theta = rank_reduced_coordinates(crossprod.parametrization, solution.factors)
    m, p = len(theta), crossprod.p
    point = np.concatenate([theta, x])

    def evaluate(at: Vector, *, score_x: bool) -> Vector:
        """Score (m,), covariance (p p,) and log sigma, one after the other."""
        scaled = ScaledLikelihood(problem.likelihood(at[m:]), coordinates)
        is_given = at is point and equal_factors(scaled.factors(theta), solution.factors)
        perturbed = solution if is_given else scaled.at(at[:m])
        by_theta = scaled.score_at(at[:m], perturbed)
        by_x = problem.gradient(at[m:], perturbed) if score_x else np.zeros(len(x))
        cov = perturbed.coefficient_covariance.in_basis
        return np.concatenate([by_theta, by_x, cov.ravel(), [math.log(perturbed.sigma)]])

    size, steps = len(point), relative_steps(point, _STEP)
    by_theta = jacobian(
        lambda t: evaluate(np.append(t, x), score_x=False), theta, steps[:m], order=2
    ).reshape(m, size + p * p + 1)  # without random terms theta is empty
    by_x = jacobian(lambda s: evaluate(np.append(theta, s), score_x=True), x, steps[m:], order=2)
    derivatives = np.concatenate([by_theta, by_x])
    H, vcov_jacobian = derivatives[:, :size], derivatives[:, size:-1].reshape(size, p, p)
    H[:m, m:] = H[m:, :m].T
    gradient = evaluate(point, score_x=True)[:size]
    return JointDerivatives(
        gradient,
        0.5 * (H + H.T),
        CoefficientCovariance(vcov_jacobian, crossprod.qr_R),  # one basis at all weights
        derivatives[:, -1],
    )


def coefficient_covariance(problem: ResidualDeviance, joint: JointDerivatives, nu: int) -> Matrix:
    """
    Covariance (r, r) of the reported coefficients, from that of log sigma and x.

    NaN where the data do not identify a coefficient: the deviance is flat along a move of it.
    """
    k = problem.model.n_params
    values, vectors = np.linalg.eigh(joint.hessian)
    flat = values <= _FLAT * max(values.max(initial=0.0), _FLAT)
    steep = vectors[:, ~flat] / np.sqrt(0.5 * values[~flat])
    J = np.zeros((k + 1, len(joint.hessian)))
    J[0] = joint.log_sigma_gradient
    J[1:, len(joint.hessian) - k :] = np.eye(k)
    to_coefficients = problem.model.coefficient_matrix
    root = to_coefficients @ J @ steep
    cov = root @ root.T
    # of log sigma given theta and x
    cov += 0.5 / nu * np.outer(to_coefficients[:, 0], to_coefficients[:, 0])
    moved = np.abs(to_coefficients @ J @ vectors[:, flat]).max(axis=1, initial=0.0)
    unknown = moved > _MOVED * np.linalg.norm(to_coefficients, axis=1)
    cov[unknown], cov[:, unknown] = np.nan, np.nan
    return np.asarray(cov)


def equal_factors(factors: Sequence[Matrix], others: Sequence[Matrix]) -> bool:
    """Whether factors are the same to rounding."""
    return all(
        F.shape == G.shape and np.allclose(F, G, rtol=_EQUAL, atol=0.0)
        for F, G in zip(factors, others, strict=True)
    )
