"""Estimates of a location-scale model: random effects of the log residual standard deviation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.new_data import evaluate_new_dispersion
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.constrained import add_coefficient_covariance, fix_coefficients
from mixedfx.likelihood.pls import Solution
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.model import (
    ResidualDistribution,
    ResidualParameter,
    ResponseAroundPredictor,
    row_sds,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ScaleEffects:
    """Random effects ``v`` of the log residual standard deviation."""

    sd: float  # tau
    sd_error: float  # standard error of tau
    effects: Vector  # (levels,) conditional modes
    cond_sd: Vector  # (levels,) conditional standard deviations given data and parameters

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.effects, self.cond_sd)


@dataclass(frozen=True)
class RandomScaleDistribution(ResidualDistribution):
    """Normal residuals whose log standard deviation has effects that are drawn anew."""

    codes: Codes  # (n,) level of each row
    n_levels: int
    sd: float  # of the effects

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Draw the effects, then one residual for each row."""
        log_sd = self.sd * rng.standard_normal(self.n_levels)
        residual_sd = self.residual_sd * np.exp(log_sd[self.codes])
        return predictor + residual_sd * rng.standard_normal(len(residual_sd))


@dataclass(frozen=True)
class LocationScaleEstimate(JointEstimate):
    """
    Estimates of a location-scale model, with the conditional modes of its random effects.

    The derivatives are by the parameters of
    :class:`~mixedfx.estimation.dispersion.laplace.LocationScaleIndices`, then by ``v / tau``,
    with the parameters constant; ``vcov_jacobian`` is of cov(beta) given ``v``.
    """

    model: LocationScale
    random: ScaleEffects = field(kw_only=True)
    integrated_deviance: float = field(kw_only=True)  # over v
    # (p,) where the weights do not imply beta: under ML
    beta: Vector | None = field(kw_only=True)
    # (p, p) what the uncertainty of v adds to cov(beta) given v
    vcov_correction: CoefficientCovariance = field(kw_only=True, repr=False)

    @property
    def random_term(self) -> RandomTermRows:
        """Random term of the log standard deviation."""
        return self.model.random_term

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """The coefficients, and tau."""
        group, random = self.random_term.group, self.random
        tau = ResidualParameter(
            f"sd({group})", f"sd(dispersion | {group})", random.sd, random.sd_error, "log"
        )
        return (*super().components, tau)

    def deviance(self, solution: Solution) -> float:
        """Integrated over the random effects."""
        return self.integrated_deviance

    def at_estimates(self, solution: Solution) -> Solution:
        """Coefficients of the search under ML, and the covariance that ``v`` adds."""
        if self.beta is not None:
            solution = fix_coefficients(solution, self.beta)
        return add_coefficient_covariance(solution, self.vcov_correction)

    def _log_sds(self, columns: Matrix, codes: Codes) -> Vector:
        """``D gamma + v``, with ``v = 0`` for new levels (code -1)."""
        v = np.where(codes < 0, 0.0, self.random.effects[np.maximum(codes, 0)])
        return np.asarray(columns @ self.coefficients + v)

    def relative_log_sds(self, sigma: float) -> Vector:
        """At the modes of ``v``."""
        return np.asarray(self._log_sds(self.model.rows.D, self.random_term.codes) - np.log(sigma))

    def conditional_cov(self, cov: CoefficientCovariance) -> CoefficientCovariance:
        """Given ``v``."""
        return cov.less(self.vcov_correction)

    def row_variances(self, sds: Vector) -> Vector:
        """``E exp(2 v)`` of the rows, ``v`` normal about its conditional mode."""
        cond_var = self.random.cond_sd[self.random_term.codes] ** 2
        return np.asarray(sds**2 * np.exp(2.0 * cond_var))

    def new_variances(self, data: Any, sigma: float) -> Any:
        """``E exp(2 (D gamma + v))`` of new rows, ``v`` normal about its conditional mode."""
        columns, codes = evaluate_new_dispersion(self.model.spec, data)
        assert codes is not None
        cond_sd = self.random.cond_sd[np.maximum(codes, 0)]
        sd = np.where(codes < 0, self.random.sd, cond_sd)
        return np.asarray(np.exp(2.0 * (self._log_sds(columns, codes) + sd**2)))

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> ResponseAroundPredictor:
        """With new effects, or those of the fit."""
        sds = row_sds(rows, sigma)
        if not new_effects:
            return self.model.distribution(sds)
        codes, n_levels = self.random_term.codes, self.random_term.n_levels
        without_effects = sds / np.exp(self.random.effects[codes])
        return RandomScaleDistribution(without_effects, codes, n_levels, self.random.sd)
