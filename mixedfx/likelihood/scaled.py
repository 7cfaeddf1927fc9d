"""Likelihood as a function of coordinates of the scaled factors.

Scaled factors ``F_t`` are those of the effects of each term's basis
(:mod:`mixedfx.likelihood.basis`), ``Lambda_t = T_t F_t``: without units, and well conditioned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.coordinates import Coordinates
from mixedfx.errors import ResponseError
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.dense import DENSE_EFFECTS
from mixedfx.likelihood.dense_point import DensePoint
from mixedfx.likelihood.field import FieldLikelihood
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.score import average_information, score_factors
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.linalg.symmetric import eigenvalues

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

_EPSILON = float(np.finfo(float).eps)
# Step of differences, relative to coordinates above one.
_STEP = 1e-3
# Rounding errors measured are about this share of their bound where terms or columns are many ...
_SHARE_OF_BOUND = 0.1
# ... and up to this many times the share of one variance: against 60 digits, n of 60 to 3000.
_OF_VARIANCE = 3.0


@dataclass(frozen=True)
class ScaledLikelihood:
    """Likelihood as a function of coordinates ``x`` of the scaled factors."""

    likelihood: GaussianLikelihood
    coordinates: Coordinates

    def factors(self, x: Vector) -> list[Matrix]:
        """``F_t(x)`` of each term."""
        return self.coordinates.lambdas(x)

    def jacobians(self, x: Vector) -> list[Array]:
        """Derivatives of each ``F_t`` by its part of ``x``, (m, k, k)."""
        return self.coordinates.jacobians(x)

    def at(self, x: Vector) -> Solution:
        """Solution at ``x``."""
        return self.likelihood.at_factors(self.factors(x))

    def score_at(self, x: Vector, solution: Solution) -> Vector:
        """Derivative of the deviance by ``x`` at a solution, (m,)."""
        return self.coordinates.pullback(x, score_factors(solution))

    @cached_property
    def field(self) -> FieldLikelihood | None:
        """The same likelihood by covariances instead of factors, of one term of many effects."""
        likelihood = self.likelihood
        return FieldLikelihood.of(likelihood.crossprod, self.coordinates, reml=likelihood.reml)

    @property
    def is_small(self) -> bool:
        """Whether a point is computed faster by one dense matrix."""
        return self.likelihood.is_small

    def dense_point(self, x: Vector) -> DensePoint:
        """The likelihood at ``x`` by dense matrices, with its derivatives: of a small model."""
        likelihood = self.likelihood
        return DensePoint.of(likelihood.dense, self.factors(x), reml=likelihood.reml)

    def score(self, x: Vector) -> Vector:
        """Derivative of the deviance by ``x``, (m,)."""
        if self.field is not None:
            return self.field.at_params(x).score
        return self.score_at(x, self.at(x))

    def score_and_information(self, x: Vector) -> tuple[Vector, Matrix]:
        """Derivative of the deviance by ``x``, and the average information, (m, m)."""
        if self.field is not None:
            point = self.field.at_params(x)
            return point.score, point.average_information
        solution = self.at(x)
        return self.score_at(x, solution), average_information(solution, self.jacobians(x))

    def hessian(self, x: Vector) -> Matrix:
        """Second derivatives of the deviance by ``x``, (m, m)."""
        if self.likelihood.crossprod.symbolic.size <= DENSE_EFFECTS:
            return self.exact_derivatives(x)[1]
        # Near zero the score is a cubic, whose differences of fourth order are exact.
        H = jacobian(self.score, x, relative_steps(x, _STEP))
        return 0.5 * (H + H.T)

    def exact_derivatives(self, x: Vector) -> tuple[Vector, Matrix]:
        """Gradient (m,) and Hessian (m, m) by dense matrices: of small models."""
        point = self.dense_point(x)
        return point.gradient(self.coordinates, x), point.hessian(self.coordinates, x)

    def vcov_jacobian(self, x: Vector) -> CoefficientCovariance:
        """
        Derivatives of the covariance of the fixed effects by ``x``, (m, p, p).

        With ``D_i = d(F F')/dx_i``, ``ZtVX = sigma**2 Z'V^-1 X`` and
        ``ZtVr = sigma**2 Z'V^-1 (y - X beta)``, the unscaled covariance Phi has the derivative
        ``Phi ZtVX'D_i ZtVX Phi``; sigma**2, unless it is known,
        ``-sigma**2 ZtVr'D_i ZtVr / pwrss``.
        """
        solution, crossprod = self.at(x), self.likelihood.crossprod
        projected = crossprod.term_rows(solution.projected_crossproducts())
        Phi, sigma_free = solution.vcov_in_basis, crossprod.profiles_sigma
        parts = [np.zeros((0, crossprod.p, crossprod.p))]
        terms = zip(self.jacobians(x), self.factors(x), projected, strict=True)
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
        return CoefficientCovariance(solution.sigma**2 * np.concatenate(parts), crossprod.qr_R)


def check_positive_pwrss(crossprod: CrossProducts, pwrss: float, *, factor: float = 1.0) -> None:
    """Raise a ``ResponseError`` if what the random effects leave of the response is rounding."""
    if crossprod.profiles_sigma and pwrss <= factor * crossprod.zero_pwrss:
        structures = [s.name for s, _ in crossprod.parametrization.terms if not s.linear]
        if structures:
            raise ResponseError(
                f"the residual variance of '{crossprod.response}' goes to zero: the random effects "
                "explain it without residuals, as a term with a position for each row can. Take "
                f"the term '{structures[0]}(...)' out of the formula, and give it as the "
                f"covariance of the residuals, residual='{structures[0]}(...)'."
            )
        raise ResponseError(
            f"the random effects explain the response '{crossprod.response}' without "
            "residuals: the likelihood grows without bound as the residual variance goes to "
            "zero. Look for a grouping factor within whose levels the response does not vary."
        )


def deviance_rounding(solution: Solution) -> float:
    """
    Estimate of the rounding error of a deviance: its parts are differences of larger numbers.

    What the random effects leave of ``y'Wy`` is pwrss, and of ``x_j'Wx_j`` it is ``1 / Phi_jj``,
    which enters the deviance with the squared t statistic of the change from least squares, and
    under REML in ``log|R'R|``.
    """
    crossprod, p = solution.crossprod, solution.crossprod.p
    nu = crossprod.nu(reml=solution.reml)
    of_response = _SHARE_OF_BOUND * nu * float(crossprod.XytXy[-1, -1]) / solution.pwrss
    # Phi is zero where a coefficient is known: t_j^2 Phi_jj is written without dividing by it.
    diagonals = crossprod.XytXy.diagonal()[:p], solution.vcov_in_basis.diagonal()
    of_each = zip(*(a.tolist() for a in (*diagonals, solution.coef_vector[:p])), strict=True)
    of_coefficients: float = sum(
        XtX * (solution.reml * Phi + (coef / solution.sigma) ** 2) for XtX, Phi, coef in of_each
    )
    of_effects = crossprod.n * _lost_to_effects(solution)
    return max(of_response + of_coefficients, of_effects) * _EPSILON


def _lost_to_effects(solution: Solution) -> float:
    """
    Share by which numbers of the random effects' equations exceed what is left of them.

    The largest relative variance, over the smallest eigenvalue of the products of the term's
    columns where these are collinear: of diagonal structures, by columns far from zero.
    """
    crossprod, lost = solution.crossprod, [0.0]
    for F, of_term in zip(solution.factors, crossprod.products_of_terms, strict=True):
        products = of_term / crossprod.n
        smallest = products.item() if len(products) == 1 else float(eigenvalues(products)[0])
        smallest = max(smallest, _EPSILON)
        largest = float(np.maximum.reduce(np.abs(F), axis=None, initial=0.0)) ** 2
        lost.append(largest * max(_OF_VARIANCE, _SHARE_OF_BOUND / smallest))
    return max(lost)
