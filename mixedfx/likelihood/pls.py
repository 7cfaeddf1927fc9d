"""Theta to what it implies: coefficients, effects, sigma and the deviance.

One elimination of the random effects, and one small Cholesky factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx._arrays import set_readonly
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.linalg.cholesky.batched import flatten, unflatten
from mixedfx.linalg.cholesky.numeric import SchurComplement, factorize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """
    What one theta implies.

    Parameters
    ----------
    lambdas : tuple of ndarray of shape (k, k)
        Each term's Lambda.
    deviance : float
        -2 log-likelihood (REML: the REML criterion), all constants included.
    beta : ndarray of shape (p,)
        Fixed effects.
    sigma : float
        Residual standard deviation, in units of the response.
    unscaled_cov : ndarray of shape (p, p)
        Covariance of ``beta`` over ``sigma**2``.
    r2 : float
        Penalised residual sum of squares.
    reduced : mixedfx.linalg.cholesky.Reduced
        The elimination, for effects and derivatives.
    """

    lambdas: tuple[Matrix, ...] = field(repr=False)
    deviance: float
    beta: Vector
    sigma: float
    vcov_unscaled: Matrix = field(repr=False)
    pwrss: float
    schur: SchurComplement = field(repr=False)
    coef_vector: Vector = field(repr=False)
    vcov_in_basis: Matrix = field(repr=False)
    crossprod: CrossProducts = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def theta(self) -> Vector:
        """The covariance parameters."""
        return self.crossprod.parametrization.to_params(self.lambdas)

    def conditional_modes(self) -> list[Matrix]:
        """Conditional means ``b`` of the random effects (BLUPs), (k, levels) per term."""
        return self.crossprod.term_rows(self.schur.back_substitute(self.coef_vector)[0])

    def spherical_modes(self) -> list[Matrix]:
        """Spherical effects ``u``, ``b = Lambda u``, (k, levels) per term."""
        return self.crossprod.term_rows(self.schur.back_substitute(self.coef_vector)[1])

    def projected_crossproducts(self) -> list[Matrix]:
        """
        ``sigma**2 Z'V^-1 [X B^-1, y - X beta]``, (K, p + 1, levels) per grouping factor.

        ``B`` is the basis of the cross-products. What the random effects see of the fixed
        columns and of the response once both are weighed by the inverse covariance.
        """
        crossprod, symbolic = self.crossprod, self.crossprod.symbolic
        sides = np.empty((symbolic.size, crossprod.p + 1))
        for f in symbolic.block_matrix.factors:
            ZtXy = crossprod.ZtXy[f]
            rest = np.tensordot(ZtXy, self.coef_vector, axes=(1, 0))
            sides[symbolic.columns(f)] = flatten(
                np.concatenate([ZtXy[:, : crossprod.p], rest[:, None]], axis=1)
            )
        left = sides - symbolic.matrix @ self.schur.numeric.solve(sides)
        return [
            unflatten(left[symbolic.columns(f)], symbolic.block_matrix.width(f))
            for f in symbolic.block_matrix.factors
        ]

    @property
    def inner_cov(self) -> Matrix:
        """Covariance over ``sigma**2`` of the coefficients of ``X B^-1``."""
        return self.vcov_in_basis

    def conditional_covariances(self) -> list[Matrix]:
        """Covariance of each level's effects given the data and the parameters, (k, k, levels)."""
        m = self.crossprod.p + 1
        _, blocks = self.schur.backward(np.zeros((m, m)))
        return [self.sigma**2 * b for b in self.crossprod.term_blocks(blocks)]


def solve_pls(crossprod: CrossProducts, theta: Vector, *, reml: bool) -> Solution:
    """
    Solve the penalised least-squares problem at one covariance parameter.

    References
    ----------
    .. [1] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), equations 34
       and 41.
    """
    return solve_pls_at_factors(
        crossprod, crossprod.parametrization.lambdas(np.asarray(theta, dtype=float)), reml=reml
    )


def solve_pls_at_factors(
    crossprod: CrossProducts, lambdas: Sequence[Matrix], *, reml: bool
) -> Solution:
    """Solve at Lambdas that need not be triangular."""
    factor = factorize(crossprod.symbolic, crossprod.factor_lambdas(list(lambdas)))
    schur = factor.schur_complement(crossprod.ZtXy, crossprod.XytXy)
    p = crossprod.p
    C = schur.matrix
    root, shift, unscaled = _small_solve(C[:p, :p], C[:p, p])
    pwrss = float(C[p, p] - C[:p, p] @ shift)
    nu = crossprod.n - p if reml else crossprod.n
    log_det = factor.log_det
    if reml:
        log_det += 2.0 * float(np.log(root).sum()) + crossprod.log_det_basis
    sigma = math.sqrt(pwrss / nu) if crossprod.sigma is None else crossprod.sigma
    spread = nu * math.log(2.0 * math.pi * sigma**2) + pwrss / sigma**2
    natural = shift
    if crossprod.qr_R is not None:
        natural = linalg.solve_triangular(crossprod.qr_R, shift, check_finite=False)
    return Solution(
        lambdas=tuple(lambdas),
        deviance=log_det - crossprod.log_weights + spread,
        beta=crossprod.ols_coef + natural,
        sigma=sigma,
        vcov_unscaled=crossprod.to_natural(unscaled),
        pwrss=pwrss,
        schur=schur,
        coef_vector=np.append(-shift, 1.0),
        vcov_in_basis=unscaled,
        crossprod=crossprod,
    )


def _small_solve(A: Matrix, right: Vector) -> tuple[Vector, Vector, Matrix]:
    """Diagonal of the Cholesky factor of a small matrix, a solution, and the inverse."""
    p = len(A)
    if p == 0:
        return np.zeros(0), np.zeros(0), np.zeros((0, 0))
    root, info = dpotrf(A, lower=1)
    if info != 0:
        raise np.linalg.LinAlgError("fixed columns are dependent")
    solved, _ = dpotrs(root, right, lower=1)
    inverse, _ = dpotri(root, lower=1)
    low = np.tril(inverse)
    return np.diagonal(root), solved, low + np.tril(low, -1).T
