"""What was found of residual standard deviations that differ between rows.

The logarithm of a row's residual standard deviation is ``D gamma``, and where its formula has
a random term, ``D gamma + v`` with a normal ``v`` for each level. Given both, the model is one
with weights, so the rest of a fit knows them only as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.dispersion import DispersionDesign

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DispersionRandomEffects:
    """
    Random effects of the scale.

    Parameters
    ----------
    sd : float
        Their standard deviation, of log standard deviations.
    sd_error : float
        Its standard error.
    effects : ndarray of shape (levels,)
        Their conditional modes.
    cond_sd : ndarray of shape (levels,)
        Their standard deviations given data and parameters.
    """

    sd: float
    sd_error: float
    effects: Vector
    cond_sd: Vector

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.effects, self.cond_sd)


@dataclass(frozen=True)
class DispersionEstimate:
    """
    The model of the residual standard deviation, estimated.

    Parameters
    ----------
    scale : Scale
        Its columns.
    gamma : ndarray of shape (r,)
        Coefficients of the log standard deviation.
    cov : ndarray of shape (r, r)
        Their covariance.
    spread : Spread or None
        Random effects of the scale.
    deviance : float or None
        Of the model integrated over those effects; None without them.
    gradient : ndarray of shape (m,)
        Of the deviance by all free parameters but sigma, without units: those of theta, then
        those of the scale; with random effects of the scale sigma and the fixed effects too,
        and last those effects in their standard deviations.
    hessian : ndarray of shape (m, m)
        Second derivatives; the random effects of the scale have a block of their own, the
        parameters held.
    slopes : ndarray of shape (m, p, p)
        Derivatives of the covariance of the fixed effects by the same parameters.
    beta : ndarray of shape (p,) or None
        Coefficients, where they are not those that the weights imply: with random effects of
        the scale under maximum likelihood.
    extra : ndarray of shape (p, p) or None
        What the uncertainty of the scale's random effects adds to the covariance of the fixed
        effects given their modes, of which ``vcov_jacobian`` are the derivatives.
    """

    design: DispersionDesign = field(repr=False)
    gamma: Vector
    cov: Matrix = field(repr=False)
    random: DispersionRandomEffects | None
    deviance: float | None
    gradient: Vector = field(repr=False)
    hessian: Matrix = field(repr=False)
    vcov_jacobian: Matrix = field(repr=False)
    beta: Vector | None = None
    vcov_correction: Matrix | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def size(self) -> int:
        """Parameters of the scale."""
        return len(self.gamma) + (self.random is not None)

    @property
    def fitted_sds(self) -> Vector:
        """Residual standard deviation of each row of the fit, of weight one."""
        random_term = self.design.random_term
        return self.sds(self.design.D, None if random_term is None else random_term.codes)

    def sds(self, columns: Matrix, codes: npt.NDArray[np.intp] | None = None) -> Vector:
        """Residual standard deviations of rows."""
        logs = columns @ self.gamma
        if self.random is not None and codes is not None:
            logs = logs + np.where(codes < 0, 0.0, self.random.effects[np.maximum(codes, 0)])
        return np.asarray(np.exp(logs))

    def variances(self, columns: Matrix, codes: npt.NDArray[np.intp] | None = None) -> Vector:
        """Residual variances of new rows, the levels' effects being uncertain."""
        squared = self.sds(columns, codes) ** 2
        if self.random is None or codes is None:
            return squared
        known = self.random.cond_sd[np.maximum(codes, 0)]
        sd = np.where(codes < 0, self.random.sd, known)
        return np.asarray(squared * np.exp(2.0 * sd**2))
