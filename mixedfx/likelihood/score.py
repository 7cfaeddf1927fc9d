"""Score and average information of the profiled deviance.

The deviance depends on the Schur complement C of [X, y] through ``log |C_XX|`` and the penalised
residual sum of squares; derivatives by Lambda follow by reverse-mode differentiation of the
factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.linalg.cholesky.batched import unflatten

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Smallest singular value of the factor at which a singular covariance is differentiated.
_OFFSET = 1e-4


def score_theta(solution: Solution, theta: Vector | None = None) -> Vector:
    """Derivative of the deviance by theta, at its solution; by default at canonical signs."""
    coordinates = solution.crossprod.parametrization.coordinates
    at = solution.theta if theta is None else np.asarray(theta, dtype=float)
    return coordinates.pullback(at, score_lambdas(solution))


def score_lambdas(solution: Solution, *, sigma: float | None = None) -> list[Matrix]:
    """Derivative of the deviance by every entry of every Lambda: ``T^-T dd / dF``."""
    bases = solution.crossprod.bases
    scores = zip(bases, score_factors(solution, sigma=sigma), strict=True)
    return [basis.inverse.T @ by for basis, by in scores]


def score_log_sigma(solution: Solution) -> float:
    """Derivative of the deviance by log sigma at given Lambda."""
    crossprod, p = solution.crossprod, solution.crossprod.p
    leverage = float(np.sum(solution.vcov_in_basis * solution.schur.matrix[:p, :p]))
    return 2.0 * (crossprod.n - leverage - solution.pwrss / solution.sigma**2)


def score_factors(solution: Solution, *, sigma: float | None = None) -> list[Matrix]:
    """Derivative of the deviance by every entry of every F; Lambda fixed, sigma profiled."""
    crossprod, r = solution.crossprod, solution.coef_vector
    by_schur = (solution.sigma if sigma is None else sigma) ** -2.0 * np.outer(r, r)
    if solution.reml:
        by_schur[: crossprod.p, : crossprod.p] += solution.vcov_in_basis
    by_group = solution.schur.derivative(by_schur)
    return crossprod.term_blocks(by_group)


def average_information(solution: Solution, jacobians: Sequence[Array]) -> Matrix:
    """
    Average of the observed and the expected Hessian of the deviance, sigma profiled out.

    Notes
    -----
    ``jacobians`` are the derivatives of each term's F by its parameters, (m, k, k). With
    ``D_i`` the derivative of ``F F'``, ``g = Z'W(y - X beta - Z b)`` and
    ``w_i = D_i g``, the entries are ``w_i' Z'PZ w_j / sigma**2 - h_i h_j / nu``,
    ``h_i = g'w_i / sigma**2``. The traces in both Hessians cancel in their average.

    References
    ----------
    .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51:1440, equation 9.
    """
    return information_along(solution, *response_directions(solution, jacobians))


def response_directions(solution: Solution, jacobians: Sequence[Array]) -> tuple[Matrix, Vector]:
    """``w_i = D_i g``, (q, m), and ``g'w_i``, (m,): minus the derivatives of the pwrss."""
    crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
    projected = projected_response(solution)
    size = sum(len(jacobian) for jacobian in jacobians)
    directions, along, i = np.zeros((symbolic.size, size)), np.zeros(size), 0
    terms = zip(solution.factors, crossprod.term_positions, jacobians, strict=True)
    for lam, position, jacobian in terms:
        L = symbolic.layout.levels(position.group)
        of_group = projected[symbolic.columns(position.group)].reshape(-1, L)
        g = of_group[position.columns]
        lamg = lam.T @ g
        at = symbolic.starts[position.group] + position.start * L
        for J in jacobian:
            w = lam @ (J.T @ g) + J @ lamg
            directions[at : at + w.size, i] = w.ravel()
            along[i] = np.vdot(g, w)
            i += 1
    return directions, along


def projected_response(solution: Solution) -> Vector:
    """``g = Z'W(y - X beta - Z b)``, (q,) in the order of elimination."""
    crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
    b, _ = solution.schur.back_substitute(solution.coef_vector)
    modes, Ztr = np.zeros(symbolic.size), np.zeros(symbolic.size)
    for f in symbolic.layout.factors:
        modes[symbolic.columns(f)] = b[f].ravel()
        residuals = np.tensordot(crossprod.ZtXy[f], solution.coef_vector, axes=(1, 0))
        Ztr[symbolic.columns(f)] = residuals.ravel()
    return np.asarray(Ztr - crossprod.assembled.sparse_matrix @ modes)


def information_along(solution: Solution, directions: Matrix, along: Vector) -> Matrix:
    """Average information, ``w'Z'PZw / sigma**2`` for the columns of ``directions``, (m, m)."""
    crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
    m, p, nu = directions.shape[1], crossprod.p, crossprod.nu(reml=solution.reml)
    columns = np.empty((symbolic.size, m + p))
    columns[:, :m] = crossprod.assembled.sparse_matrix @ directions
    columns[:, m:] = crossprod.ZtX
    products = np.empty((m + p, m + p))
    products[:m] = directions.T @ columns
    products[m:, :m] = products[:m, m:].T
    products[m:, m:] = crossprod.XytXy[:p, :p]
    rhs = [
        unflatten(columns[symbolic.columns(f)], symbolic.layout.width(f))
        for f in symbolic.layout.factors
    ]
    C = solution.schur.numeric.schur_complement(rhs, products).matrix
    projected = C[:m, :m] - C[:m, m:] @ solution.vcov_in_basis @ C[m:, :m]
    s2 = solution.sigma**2
    profiled = np.outer(along, along) / (nu * s2 * s2) if crossprod.profiles_sigma else 0.0
    return np.asarray(projected / s2 - profiled)


def score_covariance(
    crossprod: CrossProducts, factors: Sequence[Matrix], *, reml: bool
) -> list[Matrix]:
    """
    Derivative of the deviance by each term's relative covariance ``F F'``.

    Notes
    -----
    The derivative by F is ``2 S F``, which does not determine S where F is singular. It is taken
    at a factor of full rank with singular values of at least an offset; the error of S is of the
    order of the offset squared.
    """
    roots = []
    for F in factors:
        values, vectors = np.linalg.eigh(F @ F.T)
        roots.append(vectors * np.maximum(np.sqrt(np.clip(values, 0.0, None)), _OFFSET))
    result = []
    by_factor = score_factors(solve_pls_at_factors(crossprod, roots, reml=reml))
    for by, root in zip(by_factor, roots, strict=True):
        S = np.linalg.solve(root.T, 0.5 * by.T).T
        result.append(0.5 * (S + S.T))
    return result
