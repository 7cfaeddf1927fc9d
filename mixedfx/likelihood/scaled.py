"""Change of variables to unit-free columns of the random terms.

Term t's columns ``Z_t`` are replaced by ``Z_t T_t``, of unit root mean square and, for an
unstructured term, uncorrelated (``T_t`` is :attr:`CrossProducts.term_scaling`). With
``Lambda_t = T_t F_t`` the model is the same, and starting values, tolerances and Hessians in the
scaled factors ``F_t`` do not depend on units. The chain rule is

    dd / dF_t = T_t' dd / dLambda_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.errors import ResponseError
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.score import average_information, score_factors
from mixedfx.linalg.differences import jacobian, relative_steps

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Step of differences, relative to coordinates above one.
_STEP = 1e-3
# A penalised residual sum of squares below this share of the response's is rounding.
ZERO_PWRSS = 1e-14
# A deviance at theta, in the units of the columns, that differs from the deviance at the scaled
# factors by more than this has lost its digits to cancellation.
DEVIANCE_ROUNDING = 1e-6


def scaled_factors(term_scaling: Sequence[Matrix], lambdas: Sequence[Matrix]) -> list[Matrix]:
    """``F_t = T_t^-1 Lambda_t`` of each term."""
    return [
        np.asarray(np.linalg.solve(T, lam)) for T, lam in zip(term_scaling, lambdas, strict=True)
    ]


def unscaled_factors(term_scaling: Sequence[Matrix], scaled: Sequence[Matrix]) -> list[Matrix]:
    """``Lambda_t = T_t F_t`` of each term."""
    return [T @ F for T, F in zip(term_scaling, scaled, strict=True)]


def scaled_scores(term_scaling: Sequence[Matrix], scores: Sequence[Matrix]) -> list[Matrix]:
    """``dd / dF_t = T_t' dd / dLambda_t`` of each term."""
    return [T.T @ score for T, score in zip(term_scaling, scores, strict=True)]


def scaled_params(crossprod: CrossProducts, theta: Vector) -> Vector:
    """Parameters of the scaled factors ``T_t^-1 Lambda_t(theta)``."""
    parametrization = crossprod.parametrization
    lambdas = parametrization.lambdas(np.asarray(theta, dtype=float))
    return parametrization.to_params(scaled_factors(crossprod.term_scaling, lambdas))


def theta_from_scaled(crossprod: CrossProducts, scaled: Sequence[Matrix]) -> Vector:
    """Theta of scaled factors, of any shape of square root, with non-negative diagonals."""
    parametrization = crossprod.parametrization
    lambdas = unscaled_factors(crossprod.term_scaling, scaled)
    return canonical_signs(parametrization, parametrization.to_params(lambdas))


@dataclass(frozen=True)
class ScaledLikelihood:
    """Likelihood as a function of coordinates ``x`` of the scaled factors."""

    likelihood: GaussianLikelihood
    coordinates: Coordinates
    term_scaling: tuple[Matrix, ...]  # T_t, (k, k)

    @staticmethod
    def of(likelihood: GaussianLikelihood, coordinates: Coordinates) -> ScaledLikelihood:
        """The likelihood in columns of its own scaling."""
        return ScaledLikelihood(likelihood, coordinates, likelihood.crossprod.term_scaling)

    def lambdas(self, x: Vector) -> list[Matrix]:
        """``Lambda_t = T_t F_t(x)`` of each term."""
        return unscaled_factors(self.term_scaling, self.coordinates.lambdas(x))

    def jacobians(self, x: Vector) -> list[Array]:
        """Derivatives of each ``Lambda_t`` by its part of ``x``, (m, k, k)."""
        scaled = self.coordinates.jacobians(x)
        return [T @ J for T, J in zip(self.term_scaling, scaled, strict=True)]

    def at(self, x: Vector) -> Solution:
        """Solution at ``x``."""
        return self.likelihood.at_factors(self.lambdas(x))

    def score_at(self, x: Vector, solution: Solution) -> Vector:
        """Derivative of the deviance by ``x`` at a solution, (m,)."""
        scores = scaled_scores(self.term_scaling, score_factors(solution))
        return self.coordinates.pullback(x, scores)

    def score(self, x: Vector) -> Vector:
        """Derivative of the deviance by ``x``, (m,)."""
        return self.score_at(x, self.at(x))

    def information(self, x: Vector) -> Matrix:
        """Average information, (m, m)."""
        return average_information(self.at(x), self.jacobians(x))

    def hessian(self, x: Vector) -> Matrix:
        """Second derivatives of the deviance by ``x``, differences of the score, (m, m)."""
        # Near zero the score is a cubic, whose differences of fourth order are exact.
        H = jacobian(self.score, x, relative_steps(x, _STEP))
        return 0.5 * (H + H.T)

    def vcov_jacobian(self, x: Vector) -> Array:
        """
        Derivatives of the covariance of the fixed effects by ``x``, (m, p, p).

        With ``D_i = d(Lambda Lambda')/dx_i``, ``ZtVX = sigma**2 Z'V^-1 X`` and
        ``ZtVr = sigma**2 Z'V^-1 (y - X beta)``, the unscaled covariance Phi has the derivative
        ``Phi ZtVX'D_i ZtVX Phi``; sigma**2, unless it is known,
        ``-sigma**2 ZtVr'D_i ZtVr / pwrss``.
        """
        solution, crossprod = self.at(x), self.likelihood.crossprod
        projected = crossprod.term_rows(solution.projected_crossproducts())
        Phi, sigma_free = solution.vcov_in_basis, crossprod.profiles_sigma
        parts = [np.zeros((0, crossprod.p, crossprod.p))]
        terms = zip(self.jacobians(x), self.lambdas(x), projected, strict=True)
        for J, lam, rows in terms:
            half = J @ lam.T
            D = half + half.transpose(0, 2, 1)
            ZtVX, ZtVr = rows[:, :-1], rows[:, -1]
            products = np.tensordot(ZtVX, ZtVX, axes=([2], [2]))  # (k, p, k, p)
            by_x = Phi @ np.tensordot(D, products, axes=([1, 2], [0, 2])) @ Phi
            if sigma_free:
                change = np.tensordot(D, ZtVr @ ZtVr.T, axes=2) / solution.pwrss
                by_x = by_x - change[:, None, None] * Phi
            parts.append(by_x)
        in_basis = solution.sigma**2 * np.concatenate(parts)
        return np.array([crossprod.vcov_of_coefficients(part) for part in in_basis]).reshape(
            in_basis.shape
        )


def check_positive_pwrss(solution: Solution) -> Solution:
    """Raise a ``ResponseError`` if the random effects explain the response; else the solution."""
    crossprod = solution.crossprod
    if crossprod.profiles_sigma and solution.pwrss <= ZERO_PWRSS * crossprod.XytXy[-1, -1]:
        raise ResponseError(
            f"the random effects explain the response '{crossprod.response}' without "
            "residuals: the likelihood grows without bound as the residual variance goes to "
            "zero. Look for a grouping factor within whose levels the response does not vary."
        )
    return solution


def deviance_at_theta(
    likelihood: GaussianLikelihood, theta: Vector, scaled_deviance: float
) -> float:
    """Deviance at theta; that at the scaled factors where ``T_t`` is scalar for every term."""
    if max(likelihood.parametrization.widths) == 1:
        return scaled_deviance
    return likelihood.deviance(theta)
