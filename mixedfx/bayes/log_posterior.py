"""Coordinates to the log posterior density, fixed and random effects integrated out.

The criterion gives the density of the response at one covariance; here it is asked for at the
coordinates of :mod:`mixedfx.bayes.unconstrained`, and the priors are added. A model of a
single grouping factor is asked for at many points at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mixedfx.bayes.unconstrained import Points, UnconstrainedParameters, unconstrained_parameters
from mixedfx.bayes.vectorized_pls import Batch
from mixedfx.design.build import Design
from mixedfx.estimation.dispersion.fixed import score_log_weights
from mixedfx.estimation.dispersion.parametrization import DispersionCoordinates
from mixedfx.estimation.prediction_variance import design_rows
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.constrained import update_with_normal_prior
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.likelihood.score import score_factors, score_log_sigma
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.priors.specification import PriorSpecification

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# No log standard deviation is tried beyond this: its exponential is still a number.
_FARTHEST = 200.0


class Target:
    """
    The log posterior density of a design, at any coordinates.

    Parameters
    ----------
    design : Design
        With known residual standard deviations, a dispersion without a random term, or neither.
    beliefs : Beliefs
        The priors.
    """

    def __init__(self, design: Design, priors: PriorSpecification) -> None:
        self.design, self.priors = design, priors
        self.coordinates: DispersionCoordinates | None = None
        to_gamma = to_log_sigma = None
        if design.dispersion is None:
            self.crossprod = compute_crossproducts(design)
        else:
            codes = design.dispersion.stratum_codes()
            self.strata = sum_by_stratum(design, codes)
            self.crossprod = self.strata.plain
            self.coordinates = at = DispersionCoordinates.of(design.dispersion.D, codes)
            to_gamma = at.map
            to_log_sigma = np.append(1.0, -at.centre @ at.change)
            self.rows = design_rows(design)
        self.chart: UnconstrainedParameters = unconstrained_parameters(
            self.crossprod.parametrization,
            priors,
            sigma=design.sigma,
            to_gamma=to_gamma,
            to_log_sigma=to_log_sigma,
        )
        self.evaluations = 0
        self.batch = Batch.of(self.crossprod, priors) if design.dispersion is None else None

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.chart.size

    def crossed(self, points: Points, i: int) -> CrossProducts:
        """Cross-products at a point's weights, with its sigma."""
        if self.coordinates is None:
            return replace(self.crossprod, sigma=float(points.sigma[i]))
        logs = self.coordinates.by_stratum @ points.scale[i]
        return replace(self.strata.reweight(np.exp(-2.0 * logs)), sigma=float(points.sigma[i]))

    def solution(self, points: Points, i: int) -> Solution:
        """Mean and covariance of the effects at a point, and the density of the response."""
        self.evaluations += 1
        sigma = float(points.sigma[i])
        lambdas = [root[:, :, i] / sigma for root in points.roots]
        found = solve_pls_at_factors(self.crossed(points, i), lambdas, reml=True)
        return update_with_normal_prior(found, self.priors.coef_mean, self.priors.coef_sd)

    def log_densities(self, Z: Matrix) -> Vector:
        """Log posterior density at many points, but for a constant."""
        out = np.full(len(Z), -np.inf)
        good = np.abs(Z).max(axis=1, initial=0.0) < _FARTHEST
        points = self.chart.points(Z[good])
        # Far out a matrix may be singular to rounding, or a number too large.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            prior = self.chart.log_prior(points, self.priors, jacobian=True)
            if self.batch is not None:
                self.evaluations += len(Z)
                deviances = self.batch.deviances(points)
            else:
                deviances = np.array([self._deviance(points, i) for i in range(len(points.sigma))])
            total = prior - 0.5 * deviances
        out[good] = np.where(np.isfinite(total), total, -np.inf)
        return out

    def _deviance(self, points: Points, i: int) -> float:
        try:
            return self.solution(points, i).deviance
        except (np.linalg.LinAlgError, ValueError):
            return np.inf

    def minus_twice(self, z: Vector, *, jacobian: bool) -> tuple[float, Vector]:
        """Minus twice the log posterior density at one point, and its gradient."""
        none = np.zeros(self.size)
        if np.abs(z).max(initial=0.0) > _FARTHEST:
            return np.inf, none
        points = self.chart.points(z[None])
        try:
            solution = self.solution(points, 0)
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, none
        prior = float(self.chart.log_prior(points, self.priors, jacobian=jacobian)[0])
        slope = self._deviance_slope(z, points, solution)
        slope = slope - 2.0 * self.chart.prior_slope(z, self.priors, jacobian=jacobian)
        value = solution.deviance - 2.0 * prior
        return (value, slope) if np.isfinite(value) else (np.inf, none)

    def _deviance_slope(self, z: Vector, points: Points, solution: Solution) -> Vector:
        sigma = float(points.sigma[0])
        by_relative = score_factors(solution, reml=True)
        out = self.chart.pull_back(z, [g / sigma for g in by_relative])
        if isinstance(self.chart.sigma, int):
            by_sigma = score_log_sigma(solution)
            if self.chart.theta is None:  # the roots are held, not their ratio to sigma
                for g, root in zip(by_relative, points.roots, strict=True):
                    by_sigma -= float((g * root[:, :, 0]).sum()) / sigma
            out[self.chart.sigma] = by_sigma
        if self.coordinates is not None:
            logs = (self.coordinates.by_stratum @ points.scale[0])[self.strata.codes]
            cross_here = self.crossed(points, 0)
            by_row = score_log_weights(
                self.design, self.rows, cross_here, solution, reml=True, logs=logs
            )
            out[self.chart.scale] = self.coordinates.pull_back(by_row, self.strata.codes)
        return out
