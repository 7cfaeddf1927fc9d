"""A solution to its derivatives: of the deviance by Lambda, by sigma, by the covariances.

The deviance depends on the eliminated matrix through few numbers; the rest is the factorisation
run backwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.covariance import Chart
from mixedfx.criterion.solution import Solution, solve_at
from mixedfx.crossprod import CrossProducts
from mixedfx.factor.blocks import unflatten

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# How far off zero a root is taken to differentiate by a singular covariance.
_OFFSET = 1e-4


def gradient(solution: Solution, *, reml: bool) -> Vector:
    """
    Differentiate the deviance by theta, at a solution.

    Parameters
    ----------
    solution : Solution
        From :func:`solve`, with the same ``reml``.
    reml : bool
        As for the solution.

    Returns
    -------
    ndarray of shape (m,)
        Exact, also where Lambda is singular.

    Notes
    -----
    The deviance depends on the eliminated matrix ``C`` through ``log |C_XX|`` and ``r2``; the
    rest is the factorisation run backwards.
    """
    return solution._cross.layout.pack(slopes(solution, reml=reml))


def log_sigma_slope(solution: Solution) -> float:
    """
    Differentiate the deviance by log sigma, Lambda held.

    Parameters
    ----------
    solution : Solution
        By REML, or of :func:`believe`, at a known sigma.

    Returns
    -------
    float
        Of the density with the fixed effects integrated out.
    """
    cross, p = solution._cross, solution._cross.p
    told = float(np.sum(solution._inner * solution.reduced.corner[:p, :p]))
    return 2.0 * (cross.n - told - solution.r2 / solution.sigma**2)


def slopes(solution: Solution, *, reml: bool, sigma: float | None = None) -> list[Matrix]:
    """
    Differentiate the deviance by every entry of every Lambda.

    Parameters
    ----------
    solution : Solution
        From :func:`solve` or :func:`solve_at`, with the same ``reml``.
    reml : bool
        As for the solution.
    sigma : float, optional
        A residual standard deviation that is held, as in :func:`deviance_at`, instead of
        following Lambda.

    Returns
    -------
    list of ndarray of shape (k, k)
        One per term, also above the diagonal.
    """
    cross, w = solution._cross, solution._weights
    inner = (solution.sigma if sigma is None else sigma) ** -2.0 * np.outer(w, w)
    if reml:
        inner[: cross.p, : cross.p] += solution._inner
    gradients, _ = solution.reduced.backward(inner)
    return cross.term_blocks(gradients)


def average_information(solution: Solution, chart: Chart, *, reml: bool) -> Matrix:
    """
    Average of the observed and the expected Hessian of the deviance, sigma profiled out.

    Parameters
    ----------
    solution : Solution
        With the same ``reml``.
    chart : Chart
        The coordinates of Lambda.
    reml : bool
        As for the solution.

    Returns
    -------
    ndarray of shape (m, m)
        Positive semidefinite. It costs as much as ``m`` right sides, not a factorisation.

    Notes
    -----
    With ``D_i`` the derivative of ``Lambda Lambda'``, ``g = Z'W(y - X beta - Z b)`` and
    ``w_i = D_i g``, the entries are ``w_i' Z'PZ w_j / sigma**2 - h_i h_j / nu``,
    ``h_i = g'w_i / sigma**2``. The traces that both Hessians hold cancel in their average.

    References
    ----------
    .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51:1440, equation 9.
    """
    cross, plan = solution._cross, solution._cross.plan
    b, _ = solution.reduced.effects(solution._weights)
    flat = np.zeros(plan.size)
    for f in plan.gram.factors:
        flat[plan.columns(f)] = b[f].ravel()
    explained = plan.matrix @ flat
    directions = np.zeros((plan.size, chart.size))
    along = np.zeros(chart.size)
    for t, lam in enumerate(solution.lambdas):
        slot = cross.slots[t]
        part = slice(slot.start, slot.start + slot.width)
        L = plan.gram.levels(slot.factor)
        rest = np.tensordot(cross.border[slot.factor], solution._weights, axes=(1, 0))
        g = (rest - explained[plan.columns(slot.factor)].reshape(-1, L))[part]
        lamg = lam.T @ g
        at = plan.starts[slot.factor] + slot.start * L
        start = chart.slices[t].start
        for i, (row, col) in enumerate(zip(*chart.positions[t], strict=True)):
            w = np.outer(lam[:, col], g[row])
            w[row] += lamg[col]
            directions[at : at + w.size, start + i] = w.ravel()
            along[start + i] = np.vdot(g, w)
    return _projected(solution, directions, along, reml)


def _projected(solution: Solution, directions: Matrix, along: Vector, reml: bool) -> Matrix:
    """``w'Z'PZw / sigma**2`` for the columns of ``directions``, sigma profiled out."""
    cross, plan = solution._cross, solution._cross.plan
    m, p, nu = directions.shape[1], cross.p, cross.n - cross.p if reml else cross.n
    columns = np.empty((plan.size, m + p))
    columns[:, :m] = plan.matrix @ directions
    columns[:, m:] = cross.flat_border
    corner = np.empty((m + p, m + p))
    corner[:m] = directions.T @ columns
    corner[m:, :m] = corner[:m, m:].T
    corner[m:, m:] = cross.corner[:p, :p]
    border = [unflatten(columns[plan.columns(f)], plan.gram.width(f)) for f in plan.gram.factors]
    left = solution.reduced.factor.reduce(border, corner).corner
    projected = left[:m, :m] - left[:m, m:] @ solution._inner @ left[m:, :m]
    s2 = solution.sigma**2
    profiled = 0.0 if cross.sigma is not None else np.outer(along, along) / (nu * s2 * s2)
    return np.asarray(projected / s2 - profiled)


def score(
    cross: CrossProducts,
    lambdas: Sequence[Matrix],
    *,
    frames: Sequence[Matrix],
    reml: bool,
) -> list[Matrix]:
    """
    Differentiate the deviance by each term's relative covariance ``Lambda Lambda'``.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    lambdas : sequence of ndarray of shape (k, k)
        One per term; singular ones are what this is for.
    frames : sequence of ndarray of shape (k, k)
        Columns in which the covariance is meant: those of ``Z`` times these.
    reml : bool
        Which criterion.

    Returns
    -------
    list of ndarray of shape (k, k)
        Symmetric ``S`` with ``dd = tr(S d(Lambda Lambda'))``, in scaled units.

    Notes
    -----
    The derivative by Lambda is ``2 S Lambda``, which says nothing of S where Lambda is
    singular. So a square root with all its columns slightly off zero is taken, and S is read
    from the derivative there, with an error of the order of the offset squared.
    """
    roots = []
    for lam, frame in zip(lambdas, frames, strict=True):
        framed = np.linalg.solve(frame, lam)
        values, vectors = np.linalg.eigh(framed @ framed.T)
        roots.append(vectors * np.maximum(np.sqrt(np.clip(values, 0.0, None)), _OFFSET))
    near = [frame @ root for root, frame in zip(roots, frames, strict=True)]
    result = []
    by_lambda = slopes(solve_at(cross, near, reml=reml), reml=reml)
    for slope, root, frame in zip(by_lambda, roots, frames, strict=True):
        S = np.linalg.solve(root.T, 0.5 * (frame.T @ slope).T).T
        result.append(0.5 * (S + S.T))
    return result
