"""Penalised weighted least squares: coefficients, modes, sigma and deviance at one theta.

    M = Lambda' Z'WZ Lambda + I = L L'      R'R = X'WX - R_ZX' R_ZX,  R_ZX = L^-1 Lambda' Z'WX

Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), equations 17 to 29.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.wide import WideTerm
from mixedfx.linalg.cholesky.batched import flatten, unflatten
from mixedfx.linalg.precision import PrecisionBasis
from mixedfx.linalg.solver import EliminatedColumns, Factor

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """
    Solution of the penalised least-squares problem at one theta.

    The cross-products are those of ``X qr_R^-1`` and ``y - X ols_coef`` (see ``crossprod``), and
    of each term's columns in their basis. What has no unit of its own there (effects, Lambda,
    theta) is reported for the columns of the formula.
    """

    factors: tuple[Matrix, ...] = field(repr=False)  # each term's F, (k, k), in its basis
    deviance: float  # -2 log-likelihood or the REML criterion, all constants included
    beta: Vector  # (p,) fixed effects
    sigma: float  # residual standard deviation, in units of the response
    vcov_unscaled: Matrix = field(repr=False)  # (p, p) covariance of beta over sigma**2
    pwrss: float  # penalised weighted residual sum of squares
    schur: EliminatedColumns = field(repr=False)  # [X, y] after elimination of the random effects
    coef_vector: Vector = field(repr=False)  # (p + 1,) residuals as combination of [X qr_R^-1, y]
    vcov_in_basis: Matrix = field(repr=False)  # (p, p) qr_R vcov_unscaled qr_R'
    crossprod: CrossProducts = field(repr=False)
    reml: bool  # whether beta is integrated out

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.beta, self.vcov_unscaled, self.coef_vector, self.vcov_in_basis)

    @cached_property
    def lambdas(self) -> tuple[Matrix, ...]:
        """Each term's Lambda, (k, k), lower triangular."""
        return tuple(self.crossprod.lambdas(self.factors))

    @cached_property
    def theta(self) -> Vector:
        """The covariance parameters."""
        theta = self.crossprod.theta(self.factors)
        theta.setflags(write=False)
        return theta

    @property
    def vcov(self) -> Matrix:
        """Covariance of beta given theta, (p, p)."""
        return self.coefficient_covariance.matrix

    @property
    def coefficient_covariance(self) -> CoefficientCovariance:
        """Covariance of beta given theta, for its linear combinations."""
        return CoefficientCovariance(self.sigma**2 * self.vcov_in_basis, self.crossprod.qr_R)

    def conditional_modes(self) -> list[Matrix]:
        """Conditional means ``b`` of the random effects (BLUPs), (k, levels) per term."""
        return self.crossprod.effects(self.conditional_modes_in_basis())

    def spherical_modes(self) -> list[Matrix]:
        """Spherical effects ``u``, ``b = T F u``, (k, levels) per term."""
        return self.crossprod.term_rows(self.schur.back_substitute(self.coef_vector)[1])

    def conditional_modes_in_basis(self) -> list[Matrix]:
        """``b~`` with ``b = T b~``, (k, levels) per term."""
        return self.crossprod.term_rows(self.schur.back_substitute(self.coef_vector)[0])

    def projected_crossproducts(self) -> list[Matrix]:
        """
        ``sigma**2 Z'V^-1 [X qr_R^-1, y - X beta]``, (K, p + 1, levels) per grouping factor.

        With A = Z'WZ and G = Lambda M^-1 Lambda': ``(I - A G) Z'W [X qr_R^-1, y - X beta]``.
        """
        crossprod, symbolic = self.crossprod, self.crossprod.symbolic
        rhs = np.empty((symbolic.size, crossprod.p + 1))
        for f in symbolic.layout.factors:
            ZtXy = crossprod.ZtXy[f]
            Zt_residuals = np.tensordot(ZtXy, self.coef_vector, axes=(1, 0))
            rhs[symbolic.columns(f)] = flatten(
                np.concatenate([ZtXy[:, : crossprod.p], Zt_residuals[:, None]], axis=1)
            )
        projected = rhs - crossprod.assembled.sparse_matrix @ self.schur.numeric.solve(rhs)
        return [
            unflatten(projected[symbolic.columns(f)], symbolic.layout.width(f))
            for f in symbolic.layout.factors
        ]

    def conditional_covariances(self) -> list[Matrix]:
        """Covariance of each level's effects given the data and the parameters, (k, k, levels)."""
        return self.crossprod.term_blocks(self.conditional_covariances_by_group())

    def conditional_covariances_by_group(self) -> list[Matrix]:
        """
        Conditional covariance of all effects of each level of a group, (K, K, levels).

        The derivative of ``log|M|`` by the diagonal blocks of ``Z'WZ`` is the conditional
        covariance over ``sigma**2``.
        """
        blocks = self.schur.level_covariances()
        changes = [self.sigma * T for T in self.crossprod.changes_by_group()]
        found = [
            np.einsum("ac,cdl,bd->abl", T, block, T, optimize=True)
            for T, block in zip(changes, blocks, strict=True)
        ]
        for f in range(len(found)):
            if isinstance(self.crossprod.level_basis(f), np.ndarray):
                found[f] = self._covariances_in_levels(f)
        return found

    def covariance_between_levels(self, factor: int, effect: int) -> Matrix:
        """Conditional covariance of an effect between the levels of a factor with a basis B."""
        B, own = self._covariance_with_basis(factor, effect)
        T = self.crossprod.changes_by_group()[factor]
        return np.asarray(self.sigma**2 * (B @ np.tensordot(T[effect], own, axes=1)))

    def _covariances_in_levels(self, factor: int) -> Array:
        """Of all effects within each level of a factor with a basis B, (K, K, L)."""
        T, found = self.crossprod.changes_by_group()[factor], []
        for effect in range(len(T)):
            B, own = self._covariance_with_basis(factor, effect)
            found.append(self.sigma**2 * T @ np.einsum("li,cil->cl", B, own))
        return np.array(found)

    def _covariance_with_basis(self, factor: int, effect: int) -> tuple[Matrix, Array]:
        """B, and ``G (T'e (x) B')``: of the effects of the basis with one of the levels."""
        symbolic, B = self.crossprod.symbolic, self.crossprod.level_basis(factor)
        assert B is not None
        if isinstance(B, PrecisionBasis):
            B = np.eye(len(B)) @ B
        T, columns = self.crossprod.changes_by_group()[factor], symbolic.columns(factor)
        rhs = np.zeros((symbolic.size, len(B)))
        rhs[columns] = np.kron(T[effect][:, None], B.T)
        return B, self.schur.numeric.solve(rhs)[columns].reshape(len(T), B.shape[1], len(B))


@dataclass(frozen=True)
class DeferredElimination:
    """[X, y] after elimination, where its Schur complement is known: eliminated when asked for."""

    crossprod: CrossProducts
    factors: tuple[Matrix, ...]  # one F of each term
    root: Matrix  # (p + 1, p + 1), lower Cholesky factor of the Schur complement

    @cached_property
    def matrix(self) -> Matrix:
        """The Schur complement, (p + 1, p + 1)."""
        return self.root @ self.root.T

    @cached_property
    def _eliminated(self) -> EliminatedColumns:
        crossprod = self.crossprod
        return crossprod.factorize(self.factors).schur_complement(crossprod.ZtXy, crossprod.XytXy)

    @property
    def numeric(self) -> Any:
        """The factorisation."""
        return self._eliminated.numeric

    def back_substitute(self, weights: Array) -> tuple[list[Array], list[Array]]:
        """Effects ``b = Lambda u`` and u, (K, L) per factor."""
        return self._eliminated.back_substitute(weights)

    def derivative(self, dC: Array) -> list[Array]:
        """Derivative of ``log|M| + f(matrix)`` by each Lambda, given that of f by the matrix."""
        return self._eliminated.derivative(dC)

    def level_covariances(self) -> list[Array]:
        """Blocks of ``Lambda M^-1 Lambda'`` of each level, (K, K, L) per factor."""
        return self._eliminated.level_covariances()


def solve_pls(crossprod: CrossProducts, theta: Vector, *, reml: bool) -> Solution:
    """Solve at theta; the deviance is equation 34 (ML) or 41 (REML) of Bates et al. (2015)."""
    return solve_pls_at_factors(crossprod, crossprod.factors_at(theta), reml=reml)


def solve_pls_at_factors(
    crossprod: CrossProducts, factors: Sequence[Matrix], *, reml: bool
) -> Solution:
    """Solve at one factor F of the relative covariance for each term, of any form."""
    return solve_pls_with(crossprod.factorize(factors), crossprod, factors, reml=reml)


def solve_pls_with(
    numeric: Factor, crossprod: CrossProducts, factors: Sequence[Matrix], *, reml: bool
) -> Solution:
    """Solve with a factorisation at these factors, of any response's cross-products."""
    schur = numeric.schur_complement(crossprod.ZtXy, crossprod.XytXy)
    matrix, log_det = schur.matrix, numeric.log_det
    if (wide := WideTerm.of(crossprod)) is not None:
        F = factors[0]
        log_det, matrix = wide.schur(F @ F.T)
    found = criterion_of_schur(crossprod, matrix, log_det, reml=reml)
    return Solution(
        factors=tuple(factors),
        deviance=found.deviance,
        beta=crossprod.coefficients(-found.coef_vector[:-1]),
        sigma=found.sigma,
        vcov_unscaled=crossprod.vcov_of_coefficients(found.vcov_in_basis),
        pwrss=found.pwrss,
        schur=schur,
        coef_vector=found.coef_vector,
        vcov_in_basis=found.vcov_in_basis,
        crossprod=crossprod,
        reml=reml,
    )


class Criterion(NamedTuple):
    """Deviance, and the estimates that follow from the Schur complement of [X, y]."""

    deviance: float
    sigma: float
    pwrss: float
    coef_vector: Vector  # (p + 1,)
    vcov_in_basis: Matrix  # (p, p)

    def by_schur(self, *, reml: bool) -> Matrix:
        """Derivative of the deviance by the Schur complement, (p + 1, p + 1)."""
        by_schur = np.outer(self.coef_vector, self.coef_vector) / self.sigma**2
        if reml:
            by_schur[:-1, :-1] += self.vcov_in_basis
        return by_schur


def criterion_of_schur(
    crossprod: CrossProducts, C: Matrix, log_det: float, *, reml: bool
) -> Criterion:
    """Profile beta and sigma out, given the Schur complement and ``log|M|``."""
    p, nu = crossprod.p, crossprod.nu(reml=reml)
    R_diagonal, coef, unscaled = _solve_coefficients(C[:p, :p], C[:p, p])
    pwrss = float(C[p, p] - C[:p, p] @ coef)
    if reml:
        log_det += 2.0 * float(np.log(R_diagonal).sum()) + crossprod.log_det_qr
    sigma = crossprod.sigma_at(pwrss, nu)
    residual_part = nu * math.log(2.0 * math.pi * sigma**2) + pwrss / sigma**2
    deviance = log_det - crossprod.log_weights + residual_part
    return Criterion(deviance, sigma, pwrss, np.append(-coef, 1.0), unscaled)


def _solve_coefficients(A: Matrix, rhs: Vector) -> tuple[Vector, Vector, Matrix]:
    """Diagonal of the Cholesky factor of A, the solution of ``A x = rhs``, and ``A^-1``."""
    p = len(A)
    if p == 0:
        return np.zeros(0), np.zeros(0), np.zeros((0, 0))
    root, info = dpotrf(A, lower=1)
    if info != 0:
        raise np.linalg.LinAlgError("fixed columns are dependent")
    solved, _ = dpotrs(root, rhs, lower=1)
    inverse, _ = dpotri(root, lower=1)
    # Above the diagonal there are zeros, as in the factor.
    inverse = inverse + inverse.T
    inverse.flat[:: p + 1] *= 0.5
    return np.diagonal(root), solved, inverse
