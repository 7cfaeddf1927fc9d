"""A solution with something more given: a coefficient, a sigma, a prior.

Each has a closed form beyond the solution without it, and gives a solution again, from which
derivatives go on.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.criterion.solution import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def hold(solution: Solution, row: Vector, value: float) -> Solution:
    """
    Hold one combination of the fixed effects at a value; the others make the best of it.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood.
    row : ndarray of shape (p,)
        The combination.
    value : float
        What it is to be.

    Returns
    -------
    Solution
        With ``row @ beta == value``, at the same Lambdas; :func:`slopes` goes on from it.

    Notes
    -----
    The least-squares problem has a closed form under one constraint: ``r2`` grows by the square
    of the distance over ``row @ unscaled_cov @ row``.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), reml=False).fit
    >>> hold(fit.solution, np.ones(1), 1500.0).beta
    array([1500.])
    """
    cross = solution._cross
    inner = row if cross.basis is None else linalg.solve_triangular(cross.basis, row, trans="T")
    along, natural = solution._inner @ inner, solution.unscaled_cov @ row
    unit, distance = float(inner @ along), value - float(row @ solution.beta)
    weights = solution._weights.copy()
    weights[:-1] -= along * (distance / unit)
    r2 = solution.r2 + distance**2 / unit
    if cross.sigma is None:
        sigma, risen = math.sqrt(r2 / cross.n), cross.n * math.log(r2 / solution.r2)
    else:
        sigma, risen = cross.sigma, (r2 - solution.r2) / cross.sigma**2
    return replace(
        solution,
        deviance=solution.deviance + risen,
        beta=solution.beta + natural * (distance / unit),
        sigma=sigma,
        unscaled_cov=solution.unscaled_cov - np.outer(natural, natural) / unit,
        r2=r2,
        _weights=weights,
        _inner=solution._inner - np.outer(along, along) / unit,
    )


def hold_all(solution: Solution, beta: Vector) -> Solution:
    """
    Hold all fixed effects, at a known sigma.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood, of cross-products with a known sigma.
    beta : ndarray of shape (p,)
        What they are to be.

    Returns
    -------
    Solution
        At the same Lambdas, with the effects that are best for these coefficients; the
        covariance of the coefficients stays what it was.
    """
    cross, p = solution._cross, solution._cross.p
    assert cross.sigma is not None
    away = beta - solution.beta
    inner = away if cross.basis is None else cross.basis @ away
    weights = solution._weights.copy()
    weights[:p] -= inner
    risen = float(inner @ solution.reduced.corner[:p, :p] @ inner)
    return replace(
        solution,
        deviance=solution.deviance + risen / cross.sigma**2,
        beta=np.asarray(beta, dtype=float),
        r2=solution.r2 + risen,
        _weights=weights,
    )


def widen(solution: Solution, extra: Matrix) -> Solution:
    """
    Add to the covariance of the fixed effects what something outside the model adds to it.

    Parameters
    ----------
    solution : Solution
        Any.
    extra : ndarray of shape (p, p)
        Covariance, in squared units of the coefficients.

    Returns
    -------
    Solution
        Otherwise the same.
    """
    unscaled = extra / solution.sigma**2
    basis = solution._cross.basis
    inner = unscaled if basis is None else basis @ unscaled @ basis.T
    return replace(
        solution,
        unscaled_cov=solution.unscaled_cov + unscaled,
        _inner=solution._inner + inner,
    )


def believe(solution: Solution, mean: Vector, sd: Vector) -> Solution:
    """
    Take normal priors of the fixed effects into account.

    Parameters
    ----------
    solution : Solution
        By REML, which is to say with flat priors, at a known sigma.
    mean, sd : ndarray of shape (p,)
        Of the priors; an infinite ``sd`` keeps the flat one, zero makes a constant.

    Returns
    -------
    Solution
        ``deviance`` is -2 log of the response's density, fixed and random effects integrated
        out; ``beta`` and ``unscaled_cov`` are mean and covariance given Lambda and sigma.
        :func:`slopes` goes on from it.

    Notes
    -----
    With flat priors ``beta`` is normal with the generalised least-squares mean and covariance
    ``K``, so with a prior ``N(m, S)`` on some of it the density of the response changes by that
    of the estimate, ``N(m, K + S)``, and the mean by a Kalman step.

    References
    ----------
    .. [1] Lindley and Smith (1972), J. R. Stat. Soc. B 34:1, section 2.
    """
    known = np.isfinite(sd)
    if not known.any():
        return solution
    cross, s2 = solution._cross, solution.sigma**2
    cov = s2 * solution.unscaled_cov
    spread = cov[np.ix_(known, known)] + np.diag(sd[known] ** 2)
    root = np.linalg.cholesky(spread)
    away = mean[known] - solution.beta[known]
    scaled = linalg.solve_triangular(root, away, lower=True)
    gain = np.asarray(linalg.cho_solve((root, True), cov[known])).T
    beta = solution.beta + gain @ away
    after = cov - gain @ cov[known]
    after = 0.5 * (after + after.T)
    constant = known & (sd == 0.0)  # exactly, where rounding leaves a trace
    beta[constant], after[constant], after[:, constant] = mean[constant], 0.0, 0.0
    log_spread = 2.0 * float(np.log(np.diag(root)).sum())
    inner, inner_cov = beta - cross.centre, after / s2
    if cross.basis is not None:
        inner, inner_cov = cross.basis @ inner, cross.basis @ inner_cov @ cross.basis.T
    weights = np.append(-inner, 1.0)
    return replace(
        solution,
        deviance=solution.deviance
        + log_spread
        + float(scaled @ scaled)
        + int(known.sum()) * math.log(2.0 * math.pi),
        beta=beta,
        unscaled_cov=after / s2,
        r2=float(weights @ solution.reduced.corner @ weights),
        _weights=weights,
        _inner=inner_cov,
    )


def deviance_at(solution: Solution, sigma: float) -> float:
    """
    Deviance of maximum likelihood with sigma held, not at its best.

    Parameters
    ----------
    solution : Solution
        By maximum likelihood.
    sigma : float
        Residual standard deviation, positive, in units of the response.

    Returns
    -------
    float
        -2 log-likelihood at the solution's Lambdas and beta, which sigma does not change.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), reml=False).fit
    >>> deviance_at(fit.solution, 2 * fit.solution.sigma) > fit.solution.deviance
    True
    """
    n, ratio = solution._cross.n, solution.r2 / sigma**2
    return solution.deviance + n * (math.log(n / ratio) - 1.0) + ratio
