"""Satterthwaite's degrees of freedom: how well the variance of an estimate is itself known.

An estimate ``c'beta`` has the estimated variance ``f(theta, sigma)``. A chi-squared variable
with ``df`` degrees of freedom has a variance of 2 by ``df`` relative to its squared mean, so
that of ``f``, by the delta method, gives the ``df``. With sigma profiled out, ``nu`` rows (less
the fixed effects under REML), ``H`` the Hessian of the profiled deviance and ``h`` the
gradient of ``log f`` along theta, the sum over theta and sigma is

    1 / df = 1 / nu + h' H^-1 h

With estimated standard deviations of several strata, ``theta`` has their coordinates too; with
known ones ``1 / nu`` is zero.

Both are taken in coordinates of the covariances' rank. On the boundary of the parameter
space that is the limit from inside: ``f`` is flat there in the direction of a zero variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.curvature import HessianAtOptimum
from mixedfx.estimation.fitted_model import FittedModel

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Directions in which the deviance curves less than this share of the steepest tell nothing.
_FLAT = 1e-8


@dataclass(frozen=True)
class Satterthwaite:
    """
    Made by :func:`satterthwaite`.

    Parameters
    ----------
    cov : ndarray of shape (p, p)
        Covariance of the fixed effects.
    remark : str or None
        Said of singular fits.
    name : str
        For ``df_method=``.
    """

    cov: Matrix
    remark: str | None
    _fit: FittedModel = field(repr=False)
    _seen: tuple[Matrix, ...] = field(repr=False)
    _inverse: Matrix = field(repr=False)
    name: str = "satterthwaite"

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects."""
        fit, crossprod = self._fit, self._fit.crossprod
        if not len(self._inverse):
            return float(fit.nu)
        if fit.dispersion is not None:
            extra = fit.dispersion.vcov_correction
            given = self.cov if extra is None else self.cov - extra
            h = fit.dispersion.vcov_jacobian @ row @ row / float(row @ given @ row)
            return float(1.0 / (1.0 / fit.nu + h @ self._inverse @ h))
        if crossprod.qr_R is not None:
            row = linalg.solve_triangular(crossprod.qr_R, row, trans="T")
        weights = fit.solution.vcov_in_basis @ row
        h = self._log_slope(weights, float(row @ weights))
        spread = 1.0 / fit.nu + float(h @ self._inverse @ h)
        return 1.0 / spread if spread > 0.0 else np.inf

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """
        Combine the degrees of freedom of independent rows.

        References
        ----------
        .. [1] Fai and Cornelius (1996), J. Stat. Comput. Simul. 54:363.
        .. [2] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), section 2.
        """
        _, vectors = np.linalg.eigh(rows @ self.cov @ rows.T)
        each = np.array([self.t_df(v @ rows) for v in vectors.T])
        if np.isinf(each).all():
            return 1.0, np.inf
        if np.ptp(each) < 1e-8:
            return 1.0, float(each.mean())
        if (each <= 2.0).any():
            return 1.0, 2.0
        mean = float((1.0 / (1.0 - 2.0 / each)).sum())
        return 1.0, 2.0 * mean / (mean - len(each))

    def _log_slope(self, weights: Vector, unscaled: float) -> Vector:
        """Gradient of the logarithm of the variance of a combination, by theta."""
        fit, at = self._fit, self._fit.hessian_at_optimum
        by_covariance = []
        for seen in self._seen:
            column = np.tensordot(seen[:, :-1], weights, axes=(1, 0))
            rest = seen[:, -1]
            slope = column @ column.T / unscaled
            if fit.crossprod.sigma is None:  # what sigma has of theta
                slope -= rest @ rest.T / fit.solution.pwrss
            by_covariance.append(slope)
        return at.coordinates.to_params(
            _by_frame(fit, at, fit.crossprod.term_blocks(by_covariance))
        )


def _by_frame(fit: FittedModel, at: HessianAtOptimum, slopes: list[Matrix]) -> list[Matrix]:
    """Turn derivatives by the covariances into those by the framed Lambdas."""
    parts = zip(slopes, fit.crossprod.term_scaling, at.coordinates.lambdas(at.x), strict=True)
    return [2.0 * (frame.T @ S @ frame) @ lam for S, frame, lam in parts]


def satterthwaite(fit: FittedModel) -> Satterthwaite:
    """
    Prepare Satterthwaite's degrees of freedom.

    References
    ----------
    .. [1] Satterthwaite (1946), Biometrics Bulletin 2:110.
    .. [2] Kuznetsova, Brockhoff and Christensen (2017), lmerTest package: tests in linear
       mixed effects models, J. Stat. Softw. 82(13), equation 6.
    """
    cov = fit.solution.sigma**2 * fit.solution.vcov_unscaled
    if not fit.design.random_terms and fit.dispersion is None:
        return Satterthwaite(cov, None, fit, (), np.zeros((0, 0)))
    surface = fit.hessian_at_optimum if fit.dispersion is None else fit.dispersion
    values, vectors = np.linalg.eigh(surface.hessian)
    steep = values > _FLAT * max(values.max(initial=0.0), 1.0)
    inverse = (vectors[:, steep] / values[steep]) @ vectors[:, steep].T
    on_boundary = boundary_parameters(fit.design, fit.crossprod, fit.solution.theta)
    remark = None
    if on_boundary:
        remark = (
            f"degrees of freedom are the limit on the boundary, where {', '.join(on_boundary)} "
            f"{'is' if len(on_boundary) == 1 else 'are'} taken as known."
        )
    return Satterthwaite(cov, remark, fit, tuple(fit.solution.projected_crossproducts()), inverse)
