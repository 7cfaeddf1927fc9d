"""A solution to its derivatives: of the deviance by Lambda, by sigma, by the covariances.

The deviance depends on the eliminated matrix through few numbers; the rest is the factorisation
run backwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import Coordinates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.linalg.cholesky.batched import unflatten

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# How far off zero a root is taken to differentiate by a singular covariance.
_OFFSET = 1e-4


def score_theta(solution: Solution, *, reml: bool) -> Vector:
    """
    Differentiate the deviance by theta, at a solution.

    Notes
    -----
    The deviance depends on the eliminated matrix ``C`` through ``log |C_XX|`` and ``r2``; the
    rest is the factorisation run backwards.
    """
    return solution.crossprod.parametrization.to_params(score_factors(solution, reml=reml))


def score_log_sigma(solution: Solution) -> float:
    """Differentiate the deviance by log sigma, Lambda held."""
    crossprod, p = solution.crossprod, solution.crossprod.p
    told = float(np.sum(solution.vcov_in_basis * solution.schur.matrix[:p, :p]))
    return 2.0 * (crossprod.n - told - solution.pwrss / solution.sigma**2)


def score_factors(solution: Solution, *, reml: bool, sigma: float | None = None) -> list[Matrix]:
    """Differentiate the deviance by every entry of every Lambda."""
    crossprod, w = solution.crossprod, solution.coef_vector
    inner = (solution.sigma if sigma is None else sigma) ** -2.0 * np.outer(w, w)
    if reml:
        inner[: crossprod.p, : crossprod.p] += solution.vcov_in_basis
    gradients, _ = solution.schur.backward(inner)
    return crossprod.term_blocks(gradients)


def average_information(solution: Solution, coordinates: Coordinates, *, reml: bool) -> Matrix:
    """
    Average of the observed and the expected Hessian of the deviance, sigma profiled out.

    Notes
    -----
    With ``D_i`` the derivative of ``Lambda Lambda'``, ``g = Z'W(y - X beta - Z b)`` and
    ``w_i = D_i g``, the entries are ``w_i' Z'PZ w_j / sigma**2 - h_i h_j / nu``,
    ``h_i = g'w_i / sigma**2``. The traces that both Hessians hold cancel in their average.

    References
    ----------
    .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51:1440, equation 9.
    """
    crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
    b, _ = solution.schur.back_substitute(solution.coef_vector)
    flat = np.zeros(symbolic.size)
    for f in symbolic.block_matrix.factors:
        flat[symbolic.columns(f)] = b[f].ravel()
    explained = symbolic.matrix @ flat
    directions = np.zeros((symbolic.size, coordinates.size))
    along = np.zeros(coordinates.size)
    for t, lam in enumerate(solution.lambdas):
        position = crossprod.term_positions[t]
        part = slice(position.start, position.start + position.width)
        L = symbolic.block_matrix.levels(position.factor)
        rest = np.tensordot(crossprod.ZtXy[position.factor], solution.coef_vector, axes=(1, 0))
        g = (rest - explained[symbolic.columns(position.factor)].reshape(-1, L))[part]
        lamg = lam.T @ g
        at = symbolic.starts[position.factor] + position.start * L
        start = coordinates.slices[t].start
        for i, (row, col) in enumerate(zip(*coordinates.positions[t], strict=True)):
            w = np.outer(lam[:, col], g[row])
            w[row] += lamg[col]
            directions[at : at + w.size, start + i] = w.ravel()
            along[start + i] = np.vdot(g, w)
    return _projected(solution, directions, along, reml)


def _projected(solution: Solution, directions: Matrix, along: Vector, reml: bool) -> Matrix:
    """``w'Z'PZw / sigma**2`` for the columns of ``directions``, sigma profiled out."""
    crossprod, symbolic = solution.crossprod, solution.crossprod.symbolic
    m, p, nu = directions.shape[1], crossprod.p, crossprod.n - crossprod.p if reml else crossprod.n
    columns = np.empty((symbolic.size, m + p))
    columns[:, :m] = symbolic.matrix @ directions
    columns[:, m:] = crossprod.flat_border
    corner = np.empty((m + p, m + p))
    corner[:m] = directions.T @ columns
    corner[m:, :m] = corner[:m, m:].T
    corner[m:, m:] = crossprod.XytXy[:p, :p]
    ZtXy = [
        unflatten(columns[symbolic.columns(f)], symbolic.block_matrix.width(f))
        for f in symbolic.block_matrix.factors
    ]
    left = solution.schur.numeric.schur_complement(ZtXy, corner).matrix
    projected = left[:m, :m] - left[:m, m:] @ solution.vcov_in_basis @ left[m:, :m]
    s2 = solution.sigma**2
    profiled = 0.0 if crossprod.sigma is not None else np.outer(along, along) / (nu * s2 * s2)
    return np.asarray(projected / s2 - profiled)


def score_covariance(
    crossprod: CrossProducts,
    lambdas: Sequence[Matrix],
    *,
    term_scaling: Sequence[Matrix],
    reml: bool,
) -> list[Matrix]:
    """
    Differentiate the deviance by each term's relative covariance ``Lambda Lambda'``.

    Notes
    -----
    The derivative by Lambda is ``2 S Lambda``, which says nothing of S where Lambda is
    singular. So a square root with all its columns slightly off zero is taken, and S is read
    from the derivative there, with an error of the order of the offset squared.
    """
    roots = []
    for lam, frame in zip(lambdas, term_scaling, strict=True):
        framed = np.linalg.solve(frame, lam)
        values, vectors = np.linalg.eigh(framed @ framed.T)
        roots.append(vectors * np.maximum(np.sqrt(np.clip(values, 0.0, None)), _OFFSET))
    near = [frame @ root for root, frame in zip(roots, term_scaling, strict=True)]
    result = []
    by_lambda = score_factors(solve_pls_at_factors(crossprod, near, reml=reml), reml=reml)
    for slope, root, frame in zip(by_lambda, roots, term_scaling, strict=True):
        S = np.linalg.solve(root.T, 0.5 * (frame.T @ slope).T).T
        result.append(0.5 * (S + S.T))
    return result
