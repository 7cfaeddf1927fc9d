"""Posterior of a model whose log residual standard deviation has random effects.

Given the parameters ``z`` and the effects ``u`` of the scale, all else is integrated out in closed
form. The effects are integrated out by importance sampling about their mode,

    p(y | z) ~ mean_k p(y, u_k | z) / q(u_k),    q = N(mode, B^-1) of Laplace's approximation,

which is unbiased: Metropolis-Hastings with such an estimate in the place of the density draws from
the exact posterior, and one ``u_k``, chosen by its weight, is a draw of the effects (Andrieu and
Roberts 2009, Ann. Stat. 37:697). The random numbers of a point are those of a generator whose seed
is made of its coordinates, so that the same point has the same estimate.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from mixedfx.bayes.correlations import correlation_draws
from mixedfx.bayes.log_posterior import LogPosterior
from mixedfx.bayes.unconstrained import (
    ConstrainedParameters,
    ParameterTransform,
    parameter_transform,
)
from mixedfx.design.build import Design
from mixedfx.design.new_data import evaluate_new_dispersion
from mixedfx.errors import ArgumentError
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance, LaplaceValue
from mixedfx.estimation.dispersion.prior_rows import NormalPriors
from mixedfx.estimation.dispersion.random import laplace_problem
from mixedfx.estimation.location_scale import sum_of_effects
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.stratified import StratifiedSums, sum_by_stratum
from mixedfx.linalg.differences import jacobian
from mixedfx.priors.specification import PriorSpecification
from mixedfx.residuals.log_linear import LocationScale

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Draws of the effects at each point: the estimate's variance falls with their number.
_EFFECT_DRAWS = 4
# Step of differences of the parameters by their coordinates.
_STEP = 1e-5
_MAX_COORDINATE = 50.0


@dataclass(frozen=True)
class LocationScaleTransform(ParameterTransform):
    """Coordinates of the mean's parameters and the dispersion's, then of the scale's effects'."""

    scale: ParameterTransform = field(kw_only=True)

    @property
    def n_residual(self) -> int:
        """Parameters of the fixed part of the scale."""
        return int(self.residual.stop - self.residual.start)

    def scale_params(self, points: Matrix) -> ConstrainedParameters:
        """Covariances of the scale's effects."""
        return self.scale.constrain(points[:, self.residual.stop :])

    def gamma(self, params: ConstrainedParameters) -> Matrix:
        """Coefficients; effects that draws have behind the parameters do not enter."""
        return super().gamma(self._fixed(params))

    def baseline_sigma(self, params: ConstrainedParameters) -> Vector:
        """The same of sigma."""
        return super().baseline_sigma(self._fixed(params))

    def _fixed(self, params: ConstrainedParameters) -> ConstrainedParameters:
        return replace(params, residual=params.residual[:, : self.n_residual])


@dataclass(frozen=True)
class DrawnScale:
    """Residual model at draws: the parameters of the fixed part, then the scale's effects."""

    model: LocationScale
    problem: LaplaceDeviance = field(repr=False)

    @property
    def n_params(self) -> int:
        """Parameters and effects."""
        return self._n_fixed + self.problem.scale.size

    @property
    def _n_fixed(self) -> int:
        return int(self.problem.coordinates.stratum_columns.shape[1])

    def _stratum_log_sds(self, x: Vector) -> Vector:
        fixed, b = np.split(x, [self._n_fixed])
        columns = self.problem.coordinates.stratum_columns[self.problem.fixed_stratum]
        log_sds = np.asarray(columns @ fixed + self.problem.scale.log_sds(b))
        return log_sds[: self.problem.n_strata]

    def log_sds(self, x: Vector) -> Vector:
        """Log standard deviations of the rows, relative to the cross-products' sigma."""
        return self._stratum_log_sds(x)[self.problem.strata]

    def reweight(self, sums: StratifiedSums, x: Vector) -> CrossProducts:
        """Cross-products at the draw's weights."""
        return sums.reweight(np.exp(-2.0 * self._stratum_log_sds(x)))

    def drawn_variances(self, data: Any, sigmas: Vector, params: Matrix) -> Matrix:
        """Variances (draws, rows) of new rows of levels that the fit has."""
        D, columns = evaluate_new_dispersion(self.model.spec, data)
        if any((codes < 0).any() for _, codes in columns):
            raise ArgumentError(
                f"responses of new levels of the terms of {self.model.spec.argument} are not "
                "drawn from the posterior: take kind='mean', or rows of the fit's levels."
            )
        found = []
        for sigma, x in zip(sigmas, params, strict=True):
            fixed, b = np.split(x, [self._n_fixed])
            log_sds = sum_of_effects(self.problem.scale.effects(b), columns)
            found.append(self.model.variances_at(D, sigma, fixed) * np.exp(2.0 * log_sds))
        return np.array(found)


class LocationScalePosterior(LogPosterior):
    """Log posterior density, estimated without bias, of a location-scale model."""

    def __init__(
        self,
        design: Design,
        priors: PriorSpecification,
        model: LocationScale,
        scale_priors: PriorSpecification,
    ) -> None:
        self.design, self.priors, self.evaluations, self.vectorized = design, priors, 0, None
        of_coefficients = NormalPriors(priors.coef_mean, priors.coef_sd)
        self.problem = laplace_problem(design, model, reml=True, priors=of_coefficients)
        self.scale_priors, self.location_scale = scale_priors, model
        self.model = DrawnScale(model, self.problem)  # type: ignore[assignment]
        self.sums = sum_by_stratum(design, self.problem.strata)
        self.crossprod = self.sums.plain
        self.transform = self._transform(model)

    def _transform(self, model: LocationScale) -> LocationScaleTransform:
        scale = parameter_transform(
            self.problem.scale.parametrization,
            self.scale_priors,
            sigma=1.0,
            to_gamma=np.zeros((0, 1)),
            to_log_sigma=np.ones(1),
        )
        mean = parameter_transform(
            self.crossprod.parametrization,
            self.priors,
            sigma=None,
            to_gamma=model.coefficient_matrix,
            to_log_sigma=model.log_sigma_row,
        )
        size = mean.size + scale.size
        return LocationScaleTransform(**{**vars(mean), "size": size}, scale=scale)

    @property
    def _scale_transform(self) -> LocationScaleTransform:
        assert isinstance(self.transform, LocationScaleTransform)
        return self.transform

    def outer_parameters(self, z: Vector) -> Vector:
        """Parameters of Laplace's approximation at coordinates."""
        problem, transform = self.problem, self._scale_transform
        params, scale = transform.constrain(z[None]), transform.scale_params(z[None])
        out, sigma = np.empty(problem.indices.size), problem.homoscedastic.sigma
        factors = [factor[:, :, 0] / sigma for factor in params.cov_factors]
        own = self.problem.crossprod.own_factors(factors)
        out[problem.indices.theta] = problem.crossprod.parametrization.to_params(own)
        out[problem.indices.mean_log_sd] = np.log(params.sigma[0] / sigma)
        out[problem.indices.dispersion] = params.residual[0]
        in_bases = [
            basis.own_factor(factor[:, :, 0])
            for basis, factor in zip(problem.scale.bases, scale.cov_factors, strict=True)
        ]
        out[problem.indices.scale] = problem.scale.parametrization.to_params(in_bases)
        return out

    def _log_prior(self, z: Vector, *, jacobian: bool) -> float:
        transform = self._scale_transform
        own = transform.log_prior(transform.constrain(z[None]), self.priors, jacobian=jacobian)
        params = transform.scale_params(z[None])
        scale = transform.scale.log_prior(params, self.scale_priors, jacobian=jacobian)
        return float(own[0] + scale[0])

    def log_densities(self, points: Matrix) -> Vector:
        """Estimates of the log posterior density (B,), up to a constant."""
        return np.array([self._estimate(z)[0] for z in points])

    def _estimate(self, z: Vector) -> tuple[float, Vector]:
        """Estimate of the log density at a point, and a draw of the effects in their bases."""
        scale = self.problem.scale
        nothing = -np.inf, np.zeros(scale.size)
        if np.abs(z).max() > _MAX_COORDINATE:
            return nothing
        seed = hashlib.blake2b(np.ascontiguousarray(z).tobytes(), digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(seed, "little"))
        try:
            params = self.outer_parameters(z)
            at = self.problem(params)
            root = np.linalg.cholesky(at.B)
            noise = rng.standard_normal((_EFFECT_DRAWS, scale.size))
            u = at.u + linalg.solve_triangular(root, noise.T, lower=True, trans=1).T
            b = [scale.times_factors(at.factors, one) for one in u]
            deviances = [self.problem.conditional_deviance(params, one).deviance for one in b]
        except (np.linalg.LinAlgError, ValueError):
            return nothing
        log_q = float(np.log(np.diag(root)).sum()) - 0.5 * (noise**2).sum(axis=1)
        logs = -0.5 * (np.array(deviances) + (u**2).sum(axis=1)) - log_q
        total = float(special.logsumexp(logs)) - np.log(len(logs))
        value = total + self._log_prior(z, jacobian=True)
        if not np.isfinite(value):
            return nothing
        chosen = rng.choice(len(logs), p=np.exp(logs - special.logsumexp(logs)))
        return value, b[chosen]

    def objective(self, z: Vector, *, jacobian: bool) -> tuple[float, Vector]:
        """Minus twice the log density by Laplace's approximation, and its gradient."""
        zeros = np.zeros(self.size)
        if np.abs(z).max() > _MAX_COORDINATE:
            return np.inf, zeros
        try:
            params = self.outer_parameters(z)
            at: LaplaceValue = self.problem(params)
            by_params = self.problem.gradient(params, at)
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, zeros

        def moved(z: Vector) -> Vector:
            return np.append(self.outer_parameters(z), self._log_prior(z, jacobian=jacobian))

        J = _jacobian(moved, z)
        value = at.value - 2.0 * self._log_prior(z, jacobian=jacobian)
        gradient = J[:, :-1] @ by_params - 2.0 * J[:, -1]
        return (value, gradient) if np.isfinite(value) else (np.inf, zeros)

    def drawn(self, points: Matrix) -> ConstrainedParameters:
        """Parameters at points, with the draws of the effects behind those of the residuals."""
        params = self.transform.constrain(points)
        b = np.array([self._estimate(z)[1] for z in points])
        return replace(params, residual=np.column_stack([params.residual, b]))

    def further_variables(self, points: Matrix, params: ConstrainedParameters) -> dict[str, Any]:
        """Standard deviations and effects of the scale: values, and labels of their axes."""
        transform, terms = self._scale_transform, self.location_scale.spec.random_terms
        scale = transform.scale_params(points)
        effects = [f"{e} | {term.group}" for term in terms for e in term.effect_names]
        sds = np.concatenate(scale.sds).T
        found: dict[str, Any] = {"dispersion_sd": (sds, {"dispersion_effect": effects})}
        if pairs := correlation_draws(terms, scale):
            axes = {"dispersion_pair": [name for name, _ in pairs]}
            found["dispersion_corr"] = np.array([values for _, values in pairs]).T, axes
        drawn = params.residual[:, transform.n_residual :]
        by_draw = [self.problem.scale.effects(b) for b in drawn]
        for t, term in enumerate(terms):
            of_term = np.array([of_draw[t].T for of_draw in by_draw])  # (draws, levels, k)
            name = f"v_{term.group}".replace("/", "_")  # slashes separate the nodes of a tree
            name = f"{name}_{t + 1}" if name in found else name
            labels = term.levels.labels.to_numpy()
            effects = list(term.effect_names)
            found[name] = of_term, {f"{name}_level": labels, f"{name}_effect": effects}
        return found


def _jacobian(f: Any, z: Vector) -> Matrix:
    """Derivatives (d, m) by central differences."""
    return jacobian(f, z, np.full(len(z), _STEP), order=2)
