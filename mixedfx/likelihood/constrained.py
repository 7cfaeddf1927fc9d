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

from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def constrain_coefficient(solution: Solution, row: Vector, value: float) -> Solution:
    """
    Hold one combination of the fixed effects at a value; the others make the best of it.

    Notes
    -----
    The least-squares problem has a closed form under one constraint: ``r2`` grows by the square
    of the distance over ``row @ unscaled_cov @ row``.
    """
    crossprod = solution.crossprod
    inner = (
        row if crossprod.qr_R is None else linalg.solve_triangular(crossprod.qr_R, row, trans="T")
    )
    along, natural = solution.vcov_in_basis @ inner, solution.vcov_unscaled @ row
    unit, distance = float(inner @ along), value - float(row @ solution.beta)
    weights = solution.coef_vector.copy()
    weights[:-1] -= along * (distance / unit)
    pwrss = solution.pwrss + distance**2 / unit
    if crossprod.sigma is None:
        sigma, risen = (
            math.sqrt(pwrss / crossprod.n),
            crossprod.n * math.log(pwrss / solution.pwrss),
        )
    else:
        sigma, risen = crossprod.sigma, (pwrss - solution.pwrss) / crossprod.sigma**2
    return replace(
        solution,
        deviance=solution.deviance + risen,
        beta=solution.beta + natural * (distance / unit),
        sigma=sigma,
        vcov_unscaled=solution.vcov_unscaled - np.outer(natural, natural) / unit,
        pwrss=pwrss,
        coef_vector=weights,
        vcov_in_basis=solution.vcov_in_basis - np.outer(along, along) / unit,
    )


def fix_coefficients(solution: Solution, beta: Vector) -> Solution:
    """Hold all fixed effects, at a known sigma."""
    crossprod, p = solution.crossprod, solution.crossprod.p
    assert crossprod.sigma is not None
    away = beta - solution.beta
    inner = away if crossprod.qr_R is None else crossprod.qr_R @ away
    weights = solution.coef_vector.copy()
    weights[:p] -= inner
    risen = float(inner @ solution.schur.matrix[:p, :p] @ inner)
    return replace(
        solution,
        deviance=solution.deviance + risen / crossprod.sigma**2,
        beta=np.asarray(beta, dtype=float),
        pwrss=solution.pwrss + risen,
        coef_vector=weights,
    )


def add_coefficient_covariance(solution: Solution, extra: Matrix) -> Solution:
    """Add to the covariance of the fixed effects what something outside the model adds to it."""
    unscaled = extra / solution.sigma**2
    qr_R = solution.crossprod.qr_R
    inner = unscaled if qr_R is None else qr_R @ unscaled @ qr_R.T
    return replace(
        solution,
        vcov_unscaled=solution.vcov_unscaled + unscaled,
        vcov_in_basis=solution.vcov_in_basis + inner,
    )


def update_with_normal_prior(solution: Solution, mean: Vector, sd: Vector) -> Solution:
    """
    Take normal priors of the fixed effects into account.

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
    crossprod, s2 = solution.crossprod, solution.sigma**2
    cov = s2 * solution.vcov_unscaled
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
    inner, inner_cov = beta - crossprod.ols_coef, after / s2
    if crossprod.qr_R is not None:
        inner, inner_cov = crossprod.qr_R @ inner, crossprod.qr_R @ inner_cov @ crossprod.qr_R.T
    weights = np.append(-inner, 1.0)
    return replace(
        solution,
        deviance=solution.deviance
        + log_spread
        + float(scaled @ scaled)
        + int(known.sum()) * math.log(2.0 * math.pi),
        beta=beta,
        vcov_unscaled=after / s2,
        pwrss=float(weights @ solution.schur.matrix @ weights),
        coef_vector=weights,
        vcov_in_basis=inner_cov,
    )


def deviance_at_sigma(solution: Solution, sigma: float) -> float:
    """Deviance of maximum likelihood with sigma held, not at its best."""
    n, ratio = solution.crossprod.n, solution.pwrss / sigma**2
    return solution.deviance + n * (math.log(n / ratio) - 1.0) + ratio
