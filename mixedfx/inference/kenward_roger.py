"""Kenward and Roger's adjusted covariance and F test of the fixed effects.

The marginal covariance is linear in the variances and covariances ``psi``,
``V = psi_0 W^-1 + sum_i psi_i S_i`` with ``S_i = Z E_i Z'``. With ``K = Z'V^-1 Z`` and
``J = Z'V^-1 X``, the matrices of Kenward and Roger (1997), section 2, are

    P_i = -J'E_i J      Q_ij = J'E_i K E_j J      tr(V^-1 S_i V^-1 S_j) = tr(E_i K E_j K)

all of the size of the random effects instead of the rows; those of the residual variance follow
from ``V^-1 V V^-1 = V^-1``. ``K = A - A Lambda M^-1 Lambda' A`` is applied to batches of probing
vectors and never formed. Everything is in units of the residual variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance, orthonormal_rows
from mixedfx.likelihood.component_traces import component_traces
from mixedfx.likelihood.covariance_components import covariance_components, fixed_effect_products

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Numerator and denominator of the scale's ratio below this are both rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class KenwardRoger:
    """Adjusted covariance of the fixed effects, and what its F tests need."""

    covariance: CoefficientCovariance  # adjusted
    W: Matrix = field(repr=False)  # (m + 1, m + 1) covariance of psi_hat, the residual's first
    P: Matrix = field(repr=False)  # (m + 1, p, p): -X'V^-1 S_i V^-1 X
    _fit: FittedModel = field(repr=False)
    name: str = "kenward-roger"  # for df_method=
    # Of estimated traces; on the boundary the formulas hold as they are.
    remark: str | None = None

    @property
    def cov(self) -> Matrix:
        """Adjusted covariance of the fixed effects, (p, p)."""
        return self.covariance.matrix

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects."""
        return self.f_scale_and_df(row[None])[1]

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """
        Scale and degrees of freedom of an F test of independent rows.

        References
        ----------
        .. [1] Kenward and Roger (1997), Biometrics 53:983, section 3.
        """
        rows, _ = orthonormal_rows(rows, self._fit.crossprod.qr_R)  # of any rows of one span
        q, Phi = len(rows), self._fit.solution.vcov_in_basis
        Theta = rows.T @ np.linalg.solve(rows @ Phi @ rows.T, rows)
        products = np.array([Theta @ Phi @ P @ Phi for P in self.P])
        traces = np.einsum("iaa->i", products)
        A1 = float(traces @ self.W @ traces)
        A2 = float(np.einsum("ij,iab,jba->", self.W, products, products))
        return _scale_and_df(q, A1, A2)


def _scale_and_df(q: int, A1: float, A2: float) -> tuple[float, float]:
    """
    Scale and denominator degrees of freedom that match the first two moments of the statistic.

    Kenward and Roger (1997), equations 7 and 8.
    """
    if A2 < 1e-14:  # known variances
        return 1.0, np.inf
    if q == 1:  # the formulas below, simplified: A1 is A2
        return 1.0, 2.0 / A2
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    divisor = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / divisor, (q - g) / divisor, (q + 2 - g) / divisor
    V0, V1, V2 = 1 + c1 * B, 1 - c2 * B, 1 - c3 * B
    inverse_mean = 1 - A2 / q
    # With two degrees of freedom both are zero, and their ratio is one in the limit.
    ratio = 1.0 if max(abs(inverse_mean), abs(V1)) < _ROUNDING else inverse_mean / V1
    df = 4 + (q + 2) * V2 / (ratio**2 * V0 - V2)
    scale = 1.0 if abs(df - 2) < 1e-2 else df * inverse_mean / (df - 2)
    return float(scale), float(df)


def kenward_roger(fit: FittedModel) -> KenwardRoger:
    """
    Adjust the covariance of the fixed effects, and prepare the degrees of freedom.

    References
    ----------
    .. [1] Kenward and Roger (1997), Small sample inference for fixed effects from restricted
       maximum likelihood, Biometrics 53:983, equations 5 and 6.
    .. [2] Halekoh and Hojsgaard (2014), J. Stat. Softw. 59(9), whose numbers these are.
    """
    check_no_priors(fit, "Kenward and Roger's method")
    Phi = fit.solution.vcov_in_basis
    components = covariance_components(fit.solution)
    JtEJ, Q = fixed_effect_products(fit.solution, components)
    found = component_traces(fit.solution, components)
    P, traces = -JtEJ, found.of_KK
    if fit.crossprod.profiles_sigma:
        psi = np.array([c.psi for c in components])
        P, Q, traces = _prepend_residual_variance(fit, psi, JtEJ, Q, found.of_K, found.of_KK)
    PPhi = P @ Phi
    information = (
        traces - 2.0 * np.einsum("ab,ijab->ij", Phi, Q) + np.einsum("iab,jba->ij", PPhi, PPhi)
    )
    W = 2.0 * _inverse(0.5 * (information + information.T))
    covariance = adjusted_covariance(fit, W, P, Q)
    return KenwardRoger(covariance, W, P, fit, remark=_remark(W, found.errors))


def _remark(W: Matrix, errors: Matrix) -> str | None:
    """
    Monte Carlo error of the variances' information ``I = 2 W^-1``, where it is estimated.

    ``|I^-1/2 dI I^-1/2|``, by which degrees of freedom change at most, has about the mean square
    ``sum_ij I^ii I^jj var(dI_ij)``.
    """
    if not errors.any():
        return None
    inverse = np.diagonal(W)[-len(errors) :] / 2.0
    percent = 100.0 * float(np.sqrt(inverse @ errors**2 @ inverse))
    return (
        "Kenward and Roger's information of the variances is estimated from vectors of random "
        f"signs; by its Monte Carlo error the degrees of freedom change by up to {percent:.2g}%."
    )


def adjusted_covariance(
    fit: FittedModel, W: Matrix, P: Matrix, Q: Matrix, R: Matrix | float = 0.0
) -> CoefficientCovariance:
    """``sigma^2 [Phi + 2 Phi { sum_ij W_ij (Q_ij - P_i Phi P_j) - R } Phi]``."""
    Phi = fit.solution.vcov_in_basis
    bracket = np.einsum("ij,ijab->ab", W, Q) - np.einsum("ij,iab,jbc->ac", W, P @ Phi, P) - R
    adjusted = Phi + 2.0 * Phi @ (0.5 * (bracket + bracket.T)) @ Phi
    return CoefficientCovariance(fit.solution.sigma**2 * adjusted, fit.crossprod.qr_R)


def _prepend_residual_variance(
    fit: FittedModel, psi: Vector, JtEJ: Matrix, Q: Matrix, tr_EK: Vector, tr_EKEK: Matrix
) -> tuple[Matrix, Matrix, Matrix]:
    """``P, Q`` and the traces with the residual variance first: ``S_0 = V - sum_i psi_i S_i``."""
    m, p = len(psi), fit.crossprod.p
    precision = np.linalg.inv(fit.solution.vcov_in_basis)
    minus_P0 = precision - np.einsum("i,iab->ab", psi, JtEJ)
    Q0 = JtEJ - np.einsum("i,ijab->jab", psi, Q)
    all_Q = np.empty((m + 1, m + 1, p, p))
    all_Q[1:, 1:] = Q
    all_Q[0, 1:] = Q0
    all_Q[1:, 0] = Q0.transpose(0, 2, 1)
    all_Q[0, 0] = minus_P0 - np.einsum("i,iab->ab", psi, Q0)
    traces = np.empty((m + 1, m + 1))
    traces[1:, 1:] = tr_EKEK
    traces[0, 1:] = traces[1:, 0] = tr_EK - psi @ tr_EKEK
    traces[0, 0] = fit.crossprod.n - psi @ tr_EK - psi @ traces[0, 1:]
    return -np.concatenate([minus_P0[None], JtEJ]), all_Q, traces


def _inverse(information: Matrix) -> Matrix:
    """Pseudo-inverse of a symmetric matrix, with a cutoff that does not depend on its units."""
    size = np.sqrt(np.abs(np.diag(information)))
    size[size == 0.0] = 1.0
    scale = np.outer(size, size)
    return np.asarray(np.linalg.pinv(information / scale, rcond=1e-8, hermitian=True) / scale)
