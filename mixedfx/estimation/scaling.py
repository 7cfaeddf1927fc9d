"""Change of variables to unit-free columns of the random terms.

Term t's columns ``Z_t`` are replaced by ``Z_t W_t``, of unit root mean square and, for an
unstructured term, uncorrelated (``W_t`` is :attr:`CrossProducts.term_scaling`). With
``Lambda_t = W_t L_t`` the model is the same, and starting values, tolerances and Hessians in the
scaled factors ``L_t`` do not depend on units. The chain rule is

    dd / dL_t = W_t' dd / dLambda_t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.errors import ResponseError
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.likelihood.score import score_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A penalised residual sum of squares below this share of the response's is rounding.
_ZERO_PWRSS = 1e-14
# A deviance at theta, in the units of the columns, that differs from the deviance at the scaled
# factors by more than this has lost its digits to cancellation.
DEVIANCE_ROUNDING = 1e-6


def scaled_factors(crossprod: CrossProducts, lambdas: Sequence[Matrix]) -> list[Matrix]:
    """``L_t = W_t^-1 Lambda_t`` of each term."""
    return [
        np.asarray(np.linalg.solve(W, lam))
        for W, lam in zip(crossprod.term_scaling, lambdas, strict=True)
    ]


def unscaled_factors(term_scaling: Sequence[Matrix], scaled: Sequence[Matrix]) -> list[Matrix]:
    """``Lambda_t = W_t L_t`` of each term."""
    return [W @ L for W, L in zip(term_scaling, scaled, strict=True)]


def scaled_scores(term_scaling: Sequence[Matrix], scores: Sequence[Matrix]) -> list[Matrix]:
    """``dd / dL_t = W_t' dd / dLambda_t`` of each term."""
    return [W.T @ score for W, score in zip(term_scaling, scores, strict=True)]


def scaled_params(crossprod: CrossProducts, theta: Vector) -> Vector:
    """Parameters of the scaled factors ``W_t^-1 Lambda_t(theta)``."""
    parametrization = crossprod.parametrization
    lambdas = parametrization.lambdas(np.asarray(theta, dtype=float))
    return parametrization.to_params(scaled_factors(crossprod, lambdas))


def theta_from_scaled(crossprod: CrossProducts, scaled: Sequence[Matrix]) -> Vector:
    """Theta of scaled factors, of any shape of square root, with non-negative diagonals."""
    parametrization = crossprod.parametrization
    lambdas = unscaled_factors(crossprod.term_scaling, scaled)
    return canonical_signs(parametrization, parametrization.to_params(lambdas))


def solve_pls_scaled(crossprod: CrossProducts, scaled: Sequence[Matrix], *, reml: bool) -> Solution:
    """Solve the penalised least-squares problem at scaled factors."""
    solution = solve_pls_at_factors(
        crossprod, unscaled_factors(crossprod.term_scaling, scaled), reml=reml
    )
    if crossprod.profiles_sigma and solution.pwrss <= _ZERO_PWRSS * crossprod.XytXy[-1, -1]:
        raise ResponseError(
            f"the random effects explain the response '{crossprod.response}' without "
            "residuals: the likelihood grows without bound as the residual variance goes to "
            "zero. Look for a grouping factor within whose levels the response does not vary."
        )
    return solution


def score_scaled(
    crossprod: CrossProducts,
    coordinates: Coordinates,
    x: Vector,
    *,
    term_scaling: Sequence[Matrix],
    reml: bool,
) -> Vector:
    """Gradient of the deviance by coordinates ``x`` of the scaled factors."""
    lambdas = unscaled_factors(term_scaling, coordinates.lambdas(x))
    scores = score_factors(solve_pls_at_factors(crossprod, lambdas, reml=reml), reml=reml)
    return coordinates.pullback(x, scaled_scores(term_scaling, scores))


def deviance_at_theta(
    crossprod: CrossProducts, theta: Vector, scaled_deviance: float, *, reml: bool
) -> float:
    """Deviance at theta; that at the scaled factors where ``W_t`` is scalar for every term."""
    if max(crossprod.parametrization.widths) == 1:
        return scaled_deviance
    return solve_pls(crossprod, theta, reml=reml).deviance
