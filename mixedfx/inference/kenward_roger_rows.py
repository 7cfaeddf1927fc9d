"""Kenward and Roger's covariance where V is not linear in its parameters.

With U = V^-1 X and parameters psi of the covariances (variances, correlations, ranges),

    P_i = -U'dV_i U    Q_ij = U'dV_i V^-1 dV_j U    R_ij = U'd2V_ij U
    Phi_A = Phi + 2 Phi { sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4) } Phi

(Kenward and Roger 1997, Biometrics 53:983, equation 5), W being the inverse of the observed
information of the restricted likelihood, as in SAS; without R_ij it is the linear form. All in
units of the residual variance. ``dV_i U`` are sums over levels, or over the rows of a subject;
``V^-1`` is applied by the factorisation of the random effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import Coordinates
from mixedfx.errors import ArgumentError
from mixedfx.estimation.boundary import rank_reduced_coordinates
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.kenward_roger import KenwardRoger, adjusted_covariance
from mixedfx.likelihood.accumulate import centred_columns, sparse_Z
from mixedfx.likelihood.scaled import ScaledLikelihood
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.residuals.blocks import BlockRows, CovarianceBlock, natural_values

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

_STEP = 1e-5


@dataclass(frozen=True)
class _Precision:
    """``V^-1`` over ``sigma**2`` as an operator on rows."""

    Q: Any  # sparse (n, n), the precision of the residuals
    QZ: Any  # sparse (n, q)
    fit: FittedModel

    @staticmethod
    def of(fit: FittedModel) -> _Precision:
        Q = fit.residual.model.row_precision(fit.residual.residual_params, fit.rows.weights)
        Z = sparse_Z(fit.rows, fit.crossprod) if fit.spec.random_terms else None
        if Z is not None and Q is not None:
            Z = (Q @ Z).tocsr()
        return _Precision(Q, Z, fit)

    def __call__(self, M: Matrix) -> Matrix:
        QM = M if self.Q is None else np.asarray(self.Q @ M)
        if self.QZ is None:
            return QM
        GM = self.fit.solution.schur.numeric.solve(np.asarray(self.QZ.T @ M))
        return np.asarray(QM - self.QZ @ GM)


@dataclass(frozen=True)
class _Part:
    """One covariance of V: its derivatives by natural parameters, and where it stands in V."""

    by_natural: Array  # (m, k, k) over sigma**2
    second: Array | None  # (m, m, k, k); None: linear
    rows: BlockRows

    @staticmethod
    def of(block: CovarianceBlock) -> _Part:
        return _Part(*block.natural_derivatives(), block.rows)


@dataclass(frozen=True)
class _EffectRows:
    """Rows of a random term."""

    codes: npt.NDArray[np.intp]
    n_levels: int
    columns: Matrix  # (n, k)

    def along(self, D: Array, U: Matrix) -> Array:
        """``Z (I x D) Z'U``, (n, p)."""
        moved = np.tensordot(D, self.sums(U), axes=(-1, 0))  # (..., k, L, p)
        return np.asarray(np.einsum("nk,...knp->...np", self.columns, moved[..., self.codes, :]))

    def sums(self, U: Matrix) -> Array:
        """``Z'U`` by level, (k, L, p)."""
        L = self.n_levels
        return np.array(
            [
                np.column_stack([np.bincount(self.codes, z * u, L) for u in U.T])
                for z in self.columns.T
            ]
        )

    def products(self, U: Matrix) -> Array:
        """``sum_l (Z'U)_l (Z'U)_l'``, (k, k, p, p)."""
        sums = self.sums(U)
        return np.asarray(np.einsum("alp,blq->abpq", sums, sums, optimize=True))


def kenward_roger_of_rows(fit: FittedModel, *, second_order: bool) -> KenwardRoger:
    """Adjust the covariance of the fixed effects, with second derivatives or without."""
    _check_variances(fit)
    columns = centred_columns(fit.rows)[0][:-1]
    X = np.column_stack(columns) if columns else np.zeros((fit.rows.n, 0))
    precision = _Precision.of(fit)
    U, parts = precision(X), _parts(fit)
    moved = [part.rows.along(D, U) for part in parts for D in part.by_natural]
    T = np.array(moved)  # (m, n, p)
    m, n, p = T.shape
    VT = precision(T.transpose(1, 0, 2).reshape(n, m * p)).reshape(n, m, p)
    P = -np.einsum("np,inq->ipq", U, T, optimize=True)
    Q = np.tensordot(T, VT, axes=(1, 0)).transpose(0, 2, 1, 3)  # (i, j, p, q)
    W = _natural_covariance(fit)
    R = 0.25 * _second_order(parts, U, W) if second_order else 0.0
    cov = adjusted_covariance(fit, W, P, Q, R)
    name = "kenward-roger" if second_order else "kenward-roger-linear"
    return KenwardRoger(cov, W, P, fit, name)


def _check_variances(fit: FittedModel) -> None:
    """Refuse structures at a variance of zero: correlations have no derivative there."""
    terms = zip(fit.spec.random_terms, fit.crossprod.parametrization.terms, strict=True)
    zero = [
        term.component_name("sd", (i,) if len(structure.sds(at)) > 1 else ())
        for (term, (structure, at)), lam in zip(terms, fit.solution.lambdas, strict=True)
        if not structure.linear
        for i in np.flatnonzero(~lam.any(axis=1))[: len(structure.sds(at))]
    ]
    if zero:
        raise ArgumentError(
            f"Kenward and Roger's method takes derivatives by variances and correlations, and "
            f"{', '.join(zero)} {'is' if len(zero) == 1 else 'are'} estimated as zero, where "
            "correlations have none. Take df_method='satterthwaite', or fit without the effects "
            "that do not vary."
        )


def _parts(fit: FittedModel) -> list[_Part]:
    """Covariances of V over ``sigma**2``: of each random term, of the residuals."""
    parts = []
    terms = zip(
        fit.rows.random_terms,
        fit.crossprod.parametrization.terms,
        fit.solution.lambdas,
        strict=True,
    )
    for rows, (structure, at), lam in terms:
        effects = _EffectRows(rows.codes, rows.n_levels, np.asarray(rows.model_matrix))
        parts.append(_Part.of(CovarianceBlock(structure, at, lam @ lam.T, effects)))
    blocks = fit.residual.model.covariance_blocks(fit.residual.residual_params, fit.rows.weights)
    return parts + [_Part.of(block) for block in blocks]


def _second_order(parts: Sequence[_Part], U: Matrix, W: Matrix) -> Matrix:
    """``sum_ij W_ij U'd2V_ij U``."""
    total, start = np.zeros((U.shape[1], U.shape[1])), 0
    for part in parts:
        m = len(part.by_natural)
        if part.second is not None:
            own = W[start : start + m, start : start + m]
            D = np.tensordot(own, part.second, axes=2)
            total += np.tensordot(D, part.rows.products(U), axes=2)
        start += m
    return total


def _natural_covariance(fit: FittedModel) -> Matrix:
    """
    Covariance of the natural parameters over ``sigma**2``, by the observed information.

    By the delta method from that of log sigma and the free parameters z, given z of variance
    ``1 / (2 nu)``; sigma is that of the fit, so that ``psi / sigma**2`` depends on it too.
    """
    crossprod, model = fit.crossprod, fit.residual.model
    coordinates, theta = rank_reduced_coordinates(crossprod.parametrization, fit.solution.factors)
    z, m = np.append(theta, fit.residual.residual_params), len(theta)
    cov_z = 2.0 * np.linalg.pinv(fit.derivatives.hessian, rcond=1e-10, hermitian=True)
    g = fit.residual.log_sigma_gradient(lambda: _log_sigma_by_theta(fit, coordinates, theta))
    cov = np.empty((len(z) + 1, len(z) + 1))
    cov[1:, 1:] = cov_z
    cov[0, 1:] = cov[1:, 0] = cov_z @ g
    cov[0, 0] = 0.5 / fit.nu + g @ cov_z @ g

    def natural(point: Vector) -> Vector:
        scale = np.exp(2.0 * point[0])
        lambdas = crossprod.lambdas(coordinates.lambdas(point[1 : m + 1]))
        terms = zip(crossprod.parametrization.terms, lambdas, strict=True)
        found = [natural_values(s, scale * (lam @ lam.T), at) for (s, at), lam in terms]
        for block in model.covariance_blocks(point[m + 1 :], None):
            found.append(block.natural_values(scale))
        return np.concatenate(found)

    point = np.append(0.0, z)
    J = jacobian(natural, point, relative_steps(point, _STEP), order=2).T
    return np.asarray(J @ cov @ J.T)


def _log_sigma_by_theta(fit: FittedModel, coordinates: Coordinates, theta: Vector) -> Vector:
    """Derivative of the profiled log sigma by coordinates of theta."""
    scaled = ScaledLikelihood(fit.likelihood, coordinates)

    def log_sigma(x: Vector) -> Vector:
        return np.array([np.log(scaled.at(x).sigma)])

    return np.asarray(jacobian(log_sigma, theta, relative_steps(theta, _STEP))[:, 0])
