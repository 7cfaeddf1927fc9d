"""Estimates of a dispersion model, and the residual standard deviations that they imply.

The log residual standard deviation of a row is ``D gamma + v_g``, with ``v_g ~ N(0, tau^2)`` for
the level ``g`` of its random term, if there is one. Given ``gamma`` and ``v`` the model is one with
known weights, and everything after estimation uses these weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.spec import DispersionSpec

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DispersionRandomEffects:
    """Random effects ``v`` of the log residual standard deviation."""

    sd: float  # tau
    sd_error: float  # standard error of tau
    effects: Vector  # (levels,) conditional modes
    cond_sd: Vector  # (levels,) conditional standard deviations given data and parameters

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.effects, self.cond_sd)


@dataclass(frozen=True)
class DispersionEstimate:
    """
    Estimated dispersion model.

    Derivatives are by all m free parameters but sigma, unit-free: theta, then the coordinates of
    ``gamma``; with a random term those of :class:`LocationScaleIndices`, then ``v / tau``, with the
    parameters constant.
    """

    spec: DispersionSpec = field(repr=False)
    gamma: Vector  # (r,)
    cov: Matrix = field(repr=False)  # (r, r) of gamma
    random: DispersionRandomEffects | None
    deviance: float | None  # integrated over v; None without a random term
    gradient: Vector = field(repr=False)  # (m,) of the deviance
    hessian: Matrix = field(repr=False)  # (m, m) of the deviance
    vcov_jacobian: Matrix = field(repr=False)  # (m, p, p) of cov(beta) given v
    # (p,) where the weights do not imply beta: with a random term under ML
    beta: Vector | None = None
    # (p, p) what the uncertainty of v adds to cov(beta) given v
    vcov_correction: Matrix | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def size(self) -> int:
        """Number of parameters of the dispersion model."""
        return len(self.gamma) + (self.random is not None)

    def sds(self, columns: Matrix, codes: npt.NDArray[np.intp] | None = None) -> Vector:
        """``exp(D gamma + v)`` of rows at weight one, with ``v = 0`` for new levels (code -1)."""
        logs = columns @ self.gamma
        if self.random is not None and codes is not None:
            logs = logs + np.where(codes < 0, 0.0, self.random.effects[np.maximum(codes, 0)])
        return np.asarray(np.exp(logs))

    def variances(self, columns: Matrix, codes: npt.NDArray[np.intp] | None = None) -> Vector:
        """``E exp(2 (D gamma + v))`` of rows, ``v`` normal about its conditional mode."""
        squared = self.sds(columns, codes) ** 2
        if self.random is None or codes is None:
            return squared
        cond_sd = self.random.cond_sd[np.maximum(codes, 0)]
        sd = np.where(codes < 0, self.random.sd, cond_sd)
        return np.asarray(squared * np.exp(2.0 * sd**2))
