"""Satterthwaite's degrees of freedom of combinations of the fixed effects.

An estimate ``c'beta`` has the estimated variance ``f(theta, sigma)``. Matching the moments of
``f`` to a scaled chi-squared variable gives ``df = 2 f^2 / (g' Acov g)``, with ``g`` the gradient
of ``f`` and ``Acov`` the asymptotic covariance of its arguments (Kuznetsova et al. 2017,
equation 6). With sigma profiled out, ``nu = n`` (``n - p`` under REML), ``H`` the Hessian of the
profiled deviance and ``h`` the gradient of ``log f`` by theta, this is

    1 / df = 1 / nu + h' H^-1 h

A residual model adds its parameters to ``theta``; with known standard deviations ``1 / nu`` is
zero. ``H`` and ``h`` are in coordinates of the covariances' rank: on the boundary of the parameter
space that is the limit from inside, ``f`` being constant in the direction of a zero variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Eigenvalues of the Hessian below this share of the largest are taken as zero.
_MIN_EIGENVALUE = 1e-8


@dataclass(frozen=True)
class Satterthwaite:
    """Covariance of the fixed effects, and Satterthwaite's degrees of freedom of its variances."""

    covariance: CoefficientCovariance
    remark: str | None  # of a singular fit
    _nu: float
    _estimated_cov: CoefficientCovariance = field(repr=False)  # the next are derivatives of it
    _vcov_jacobian: CoefficientCovariance = field(repr=False)  # (m, p, p)
    _hessian_inverse: Matrix = field(repr=False)  # (m, m) of the deviance
    name: str = "satterthwaite"  # for df_method=

    @property
    def cov(self) -> Matrix:
        """Covariance of the fixed effects, (p, p)."""
        return self.covariance.matrix

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects."""
        if not len(self._hessian_inverse):
            return self._nu
        variance = float(self._estimated_cov.variances(row[None])[0])
        h = self._vcov_jacobian.variances(row[None])[:, 0] / variance
        inverse_df = 1.0 / self._nu + float(h @ self._hessian_inverse @ h)
        return 1.0 / inverse_df if inverse_df > 0.0 else np.inf

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """
        Combine the degrees of freedom of the principal components of independent rows.

        References
        ----------
        .. [1] Fai and Cornelius (1996), J. Stat. Comput. Simul. 54:363.
        .. [2] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), section 2.
        """
        _, vectors = np.linalg.eigh(self.covariance.of(rows))
        dfs = np.array([self.t_df(v @ rows) for v in vectors.T])
        if np.isinf(dfs).all():
            return 1.0, np.inf
        if np.ptp(dfs) < 1e-8:
            return 1.0, float(dfs.mean())
        if (dfs <= 2.0).any():
            return 1.0, 2.0
        sum_of_means = float((1.0 / (1.0 - 2.0 / dfs)).sum())  # of F(1, df): df / (df - 2)
        return 1.0, 2.0 * sum_of_means / (sum_of_means - len(dfs))


def satterthwaite(fit: FittedModel) -> Satterthwaite:
    """
    Compute what Satterthwaite's degrees of freedom of any combination need.

    References
    ----------
    .. [1] Satterthwaite (1946), Biometrics Bulletin 2:110.
    .. [2] Kuznetsova, Brockhoff and Christensen (2017), lmerTest package: tests in linear
       mixed effects models, J. Stat. Softw. 82(13), equation 6.
    """
    covariance = fit.solution.coefficient_covariance
    at = fit.derivatives
    values, vectors = np.linalg.eigh(at.hessian)
    positive = values > _MIN_EIGENVALUE * max(values.max(initial=0.0), 1.0)
    inverse = (vectors[:, positive] / values[positive]) @ vectors[:, positive].T
    on_boundary = boundary_parameters(fit.spec, fit.crossprod, fit.solution.theta)
    remark = None
    if on_boundary:
        remark = (
            f"degrees of freedom are the limit on the boundary, where {', '.join(on_boundary)} "
            f"{'is' if len(on_boundary) == 1 else 'are'} taken as known."
        )
    estimated_cov = fit.residual.conditional_cov(covariance)
    return Satterthwaite(covariance, remark, fit.nu, estimated_cov, at.vcov_jacobian, inverse)
