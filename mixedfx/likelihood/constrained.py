"""Solutions under a constraint on the coefficients or sigma, or with a normal prior.

Each is a closed form of the unconstrained solution and returns a ``Solution``, of which the
derivatives of :mod:`mixedfx.likelihood.score` are valid.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance, combinations_in_basis
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def constrain_coefficient(solution: Solution, row: Vector, value: float) -> Solution:
    """
    Maximise over the fixed effects under the constraint ``row @ beta = value``.

    Notes
    -----
    Constrained generalised least squares: ``pwrss`` grows by
    ``(value - row @ beta)**2 / (row @ vcov_unscaled @ row)``.
    """
    crossprod = solution.crossprod
    n, qr_R = crossprod.n, crossprod.qr_R
    row_in_basis = combinations_in_basis(row[None], qr_R)[0]
    along_in_basis = solution.vcov_in_basis @ row_in_basis
    along = solution.vcov_unscaled @ row
    variance = float(row_in_basis @ along_in_basis)
    distance = value - float(row @ solution.beta)
    coef_vector = solution.coef_vector.copy()
    coef_vector[:-1] -= along_in_basis * (distance / variance)
    pwrss = solution.pwrss + distance**2 / variance
    sigma = crossprod.sigma_at(pwrss, n)
    increase = (pwrss - solution.pwrss) / sigma**2
    if crossprod.profiles_sigma:
        increase = n * math.log(pwrss / solution.pwrss)
    return replace(
        solution,
        deviance=solution.deviance + increase,
        beta=solution.beta + along * (distance / variance),
        sigma=sigma,
        vcov_unscaled=solution.vcov_unscaled - np.outer(along, along) / variance,
        pwrss=pwrss,
        coef_vector=coef_vector,
        vcov_in_basis=solution.vcov_in_basis - np.outer(along_in_basis, along_in_basis) / variance,
    )


def fix_coefficients(solution: Solution, beta: Vector) -> Solution:
    """Solution with all fixed effects fixed at ``beta``, sigma being known."""
    crossprod = solution.crossprod
    coef = beta - crossprod.ols_coef
    coef = coef if crossprod.qr_R is None else crossprod.qr_R @ coef
    return _fixed(solution, coef, np.asarray(beta, dtype=float))


def fix_coefficients_in_basis(solution: Solution, coef: Vector) -> Solution:
    """Solution with ``qr_R (beta - ols_coef)`` fixed, sigma being known."""
    return _fixed(solution, coef, solution.crossprod.coefficients(coef))


def _fixed(solution: Solution, coef: Vector, beta: Vector) -> Solution:
    """Solution with both coefficients fixed."""
    p = solution.crossprod.p
    assert not solution.crossprod.profiles_sigma
    change = coef + solution.coef_vector[:p]
    increase = float(change @ solution.schur.matrix[:p, :p] @ change)
    return replace(
        solution,
        deviance=solution.deviance + increase / solution.sigma**2,
        beta=beta,
        pwrss=solution.pwrss + increase,
        coef_vector=np.append(-coef, 1.0),
    )


def add_coefficient_covariance(solution: Solution, extra: CoefficientCovariance) -> Solution:
    """Add a covariance to that of the fixed effects, such as that from estimated dispersion."""
    crossprod, s2 = solution.crossprod, solution.sigma**2
    in_basis = solution.vcov_in_basis + extra.in_basis_of(crossprod.qr_R) / s2
    return replace(
        solution,
        vcov_unscaled=crossprod.vcov_of_coefficients(in_basis),
        vcov_in_basis=in_basis,
    )


def update_with_normal_prior(solution: Solution, mean: Vector, sd: Vector) -> Solution:
    """
    Posterior of the fixed effects under independent normal priors, infinite sds being flat.

    Notes
    -----
    With flat priors ``beta`` is normal with the generalised least-squares mean and covariance
    ``K``, so with a prior ``N(m, S)`` on some of it the density of the response changes by that
    of the estimate, ``N(m, K + S)``, and the mean by a Kalman step.

    References
    ----------
    .. [1] Lindley and Smith (1972), J. R. Stat. Soc. B 34:1, section 2.
    """
    proper = np.isfinite(sd)
    if not proper.any():
        return solution
    crossprod, s2, p = solution.crossprod, solution.sigma**2, solution.crossprod.p
    # In the basis of X: of nearly dependent columns the covariances are large and cancel.
    rows = combinations_in_basis(np.eye(p)[proper], crossprod.qr_R)
    cov_rows = s2 * solution.vcov_in_basis @ rows.T
    root = np.linalg.cholesky(rows @ cov_rows + np.diag(sd[proper] ** 2))
    innovation = mean[proper] - solution.beta[proper]
    scaled = linalg.solve_triangular(root, innovation, lower=True)
    gain = np.asarray(linalg.cho_solve((root, True), cov_rows.T)).T
    change = gain @ innovation - solution.coef_vector[:p]
    in_basis = solution.vcov_in_basis - gain @ cov_rows.T / s2
    in_basis = 0.5 * (in_basis + in_basis.T)
    beta = crossprod.ols_coef + combinations_in_basis(np.eye(p), crossprod.qr_R) @ change
    vcov_unscaled = np.array(crossprod.vcov_of_coefficients(in_basis))
    fixed = proper & (sd == 0.0)  # exactly, since rounding leaves a remainder
    beta[fixed], vcov_unscaled[fixed], vcov_unscaled[:, fixed] = mean[fixed], 0.0, 0.0
    if crossprod.qr_R is None:
        in_basis[fixed], in_basis[:, fixed] = 0.0, 0.0
    log_det = 2.0 * float(np.log(np.diag(root)).sum())
    coef_vector = np.append(-change, 1.0)
    return replace(
        solution,
        deviance=solution.deviance
        + log_det
        + float(scaled @ scaled)
        + int(proper.sum()) * math.log(2.0 * math.pi),
        beta=beta,
        vcov_unscaled=vcov_unscaled,
        pwrss=float(coef_vector @ solution.schur.matrix @ coef_vector),
        coef_vector=coef_vector,
        vcov_in_basis=in_basis,
    )


def deviance_at_sigma(solution: Solution, sigma: float) -> float:
    """ML deviance at a given sigma: ``d + n (log(n sigma**2 / pwrss) - 1) + pwrss / sigma**2``."""
    n, ratio = solution.crossprod.n, solution.pwrss / sigma**2
    return solution.deviance + n * (math.log(n / ratio) - 1.0) + ratio
