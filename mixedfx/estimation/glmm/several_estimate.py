"""Estimates of one of several linear predictors, and of the first with all others.

Each predictor is a fitted model of its own: the working linear model of its rows at the modes of
all. What it shares with the others is the marginal likelihood, whose free parameters it holds in an
order that begins with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.predictors import predictor_designs
from mixedfx.design.rows import ModelRows
from mixedfx.errors import ArgumentError, EngineRefusal
from mixedfx.estimation.contracts import Deletion, Number
from mixedfx.estimation.glmm.estimate import LARGEST_STEP, FamilyEstimate
from mixedfx.estimation.glmm.several_deletion import SeveralDeletion
from mixedfx.families.observation_variance import variance_of
from mixedfx.families.several_observation import ObservationOfSeveral
from mixedfx.families.several_predictors import SeveralPredictors
from mixedfx.likelihood.generalized.all_effects import AllEffects, EffectsOfOne
from mixedfx.likelihood.generalized.several_predictors import SeveralRows
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.prediction_variance import ParameterUncertainty
from mixedfx.linalg.cholesky.numeric import SchurComplement
from mixedfx.linalg.cholesky.restricted import RestrictedColumns
from mixedfx.linalg.triangular import solve_upper
from mixedfx.residuals.family_distribution import normal_quantiles
from mixedfx.residuals.model import ResidualParameter, family_components
from mixedfx.residuals.predictive import Predictive
from mixedfx.residuals.several_distribution import DrawnPredictor, SeveralDistribution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class PredictorEstimate(FamilyEstimate):
    """
    Estimates of one predictor.

    The free parameters are coordinates of its covariances, its coefficients, those of the other
    predictors, and the coordinates of the family's parameters.
    """

    n_own: int = field(kw_only=True)  # coordinates of its covariances
    order: Codes = field(kw_only=True, repr=False)  # (m,) numbers of its parameters in the search
    modes_jacobian: Matrix = field(kw_only=True, repr=False)  # (q, m)
    effects_of_one: EffectsOfOne = field(kw_only=True, repr=False)
    all_effects: AllEffects | None = field(kw_only=True, repr=False)  # None: no others

    @property
    def n_covariance(self) -> int:
        """Its own."""
        return self.n_own

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """None: the family's parameters are the first predictor's."""
        return ()

    @property
    def n_params(self) -> int:
        """None."""
        return 0

    def family_params(self, sigma: float) -> dict[str, float]:
        """None."""
        return {}

    def at_estimates(self, solution: Solution) -> Solution:
        """With the conditional covariance of its effects beside those of the other predictors."""
        solution = super().at_estimates(solution)
        if self.all_effects is None:
            return solution
        factor = self.effects_of_one.beside(solution.schur.numeric, self.all_effects)
        columns = RestrictedColumns(factor, cast(SchurComplement, solution.schur))
        return replace(solution, schur=columns)

    def parameter_uncertainty(self, solution: Solution) -> ParameterUncertainty:
        """All free parameters."""
        own = slice(self.n_own, self.n_own + len(self.beta))
        return ParameterUncertainty(self.acov, self.modes_jacobian, own, self.covariance_jacobians)

    def leverage_solution(self, solution: Solution) -> Solution:
        """The working model of this predictor, given the others."""
        if isinstance(solution.schur, RestrictedColumns):
            solution = replace(solution, schur=solution.schur.own)
        return super().leverage_solution(solution)

    def in_search_order(self, matrix: Matrix) -> Matrix:
        """That of all predictors."""
        found = np.empty_like(matrix)
        found[np.ix_(self.order, self.order)] = matrix
        return found

    def unpooled_effects(self, design: Design, solution: Solution, t: int) -> Matrix:
        """Not computed."""
        raise ArgumentError(
            "effects of each level from its rows alone are of one linear predictor, and this fit "
            "has zero_inflation= or dispersion=: fit.ranef() has the conditional modes."
        )


@dataclass(frozen=True)
class SeveralEstimate(PredictorEstimate):
    """Estimates of the mean's predictor, with the others'."""

    density: SeveralPredictors = field(kw_only=True)
    parts: Mapping[str, Any] = field(kw_only=True, repr=False)  # FittedModel of each, by argument
    effects: AllEffects = field(kw_only=True, repr=False)  # of all predictors
    # Of a draw: linear predictors (n,) of the others in the place of those at the modes
    drawn_etas: tuple[Vector, ...] = field(default=(), kw_only=True, repr=False)
    effects_of_draw: tuple[tuple[Matrix, ...], ...] = field(default=(), kw_only=True, repr=False)

    @property
    def parametrized(self) -> SeveralPredictors:
        """The density of all predictors."""
        return self.density

    @property
    def predictors(self) -> Mapping[str, Any]:
        """Fitted model of each further predictor."""
        return self.parts

    @property
    def n_params(self) -> int:
        """Parameters of the family, and all of the other predictors."""
        of_parts = sum(
            fit.crossprod.p + fit.crossprod.parametrization.size for fit in self.parts.values()
        )
        return int(len(self.params) + of_parts)

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """Parameters of the family, and coefficients of the other predictors."""
        found = [*family_components(self.density, self.params, self.params_covariance)]
        for name, part in self.parts.items():
            of_part = np.sqrt(np.maximum(np.diag(part.solution.vcov), 0.0))
            columns = zip(part.spec.X_names, part.solution.beta, of_part, strict=True)
            found += [
                ResidualParameter(c, f"{name}({c})", float(v), float(e)) for c, v, e in columns
            ]
        return tuple(found)

    def family_params(self, sigma: float) -> dict[str, float]:
        """Parameters that are one number."""
        return dict(zip(self.density.param_names, self.params.tolist(), strict=True))

    def deletion(self, design: Design, solution: Solution) -> Deletion:
        """By the likelihood of all predictors in the other rows."""
        rows = SeveralRows.of_parts(predictor_designs(design), self.density)
        hessian = self.in_search_order(self.hessian)
        return SeveralDeletion.of_parts(
            rows, solution, self.parts, params=self.params, hessian=hessian, nagq=self.nagq
        )

    def etas(self, eta: Vector) -> Matrix:
        """Linear predictors of the rows used, that of the mean given, (m, n)."""
        if self.drawn_etas:
            return np.array([eta, *self.drawn_etas])
        return np.array([eta, *(_predictor(part) for part in self.parts.values())])

    def drawn(self, solution: Solution, rng: np.random.Generator) -> tuple[Self, float]:
        """
        Parameters of the family, and the other linear predictors, from their normal distribution.

        Coefficients are drawn by their joint covariance, random effects given these level by level.
        Where the search ended without a finite curvature, the coefficients stay as they are.
        """
        values, vectors = np.linalg.eigh(np.where(np.isfinite(self.acov), self.acov, 0.0))
        root = vectors * np.sqrt(np.clip(values, 0.0, LARGEST_STEP**2))
        step = np.empty(len(self.x))
        step[self.order] = root @ rng.standard_normal(len(self.x))
        own = step[len(self.x) - len(self.params) :]
        coordinates = self.density.coordinates(self.params)
        params = self.density.natural(coordinates + np.clip(own, -LARGEST_STEP, LARGEST_STEP))
        drawn = [_moved(part, step, rng) for part in self.parts.values()]
        etas, effects = tuple(eta for eta, _ in drawn), tuple(effects for _, effects in drawn)
        at_draw = replace(self, params=params, drawn_etas=etas, effects_of_draw=effects)
        return at_draw, solution.sigma

    @property
    def drawn_effects(self) -> tuple[tuple[Matrix, ...], ...]:
        """Of the other predictors."""
        return self.effects_of_draw

    def at_etas(self, etas: Matrix) -> Self:
        """The other predictors are in the place of those at the modes."""
        return replace(self, drawn_etas=tuple(etas[1:]))

    def fitted_mean(self, eta: Vector) -> Vector:
        """Zero part included."""
        return self.density.mean(self.etas(eta), self.params)

    @property
    def log_densities(self) -> Callable[[ModelRows, Matrix], Vector]:
        """By all predictors."""
        return lambda rows, etas: self.density.log_density(rows.y, rows.weights, etas, self.params)

    def pearson_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """By the mean and the variance of the response, zero part included."""
        etas = self.etas(eta)
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = np.sqrt(self.density.variance(etas, rows.weights, self.params))
            return np.asarray((rows.y - self.density.mean(etas, self.params)) / sd)

    def quantile_residuals(
        self, rows: ModelRows, eta: Vector, sigma: float, uniform: Vector
    ) -> Vector:
        """By the distribution function of the response, zero part included."""
        with np.errstate(all="ignore"):
            ends = self.density.cdf(rows.y, self.etas(eta), rows.weights, self.params)
            return normal_quantiles(*ends, uniform)

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> SeveralDistribution:
        """With new random effects of all predictors, or those of the fit."""
        if self.drawn_etas and not new_effects:
            further = tuple(DrawnPredictor(eta, (), ()) for eta in self.drawn_etas)
        else:
            further = tuple(_drawn(part, new=new_effects) for part in self.parts.values())
        return SeveralDistribution(self.density, rows.weights, params, further)

    def new_distribution(self, params: Vector, **given: Any) -> SeveralDistribution:
        """Not computed."""
        raise ArgumentError(
            "simulate(data=) draws from one linear predictor, and this fit has zero_inflation= or "
            "dispersion=: leave data= out to simulate the rows of the fit."
        )

    def predictive_of_rows(self, rows: ModelRows, sds: Vector) -> Predictive:
        """Not computed."""
        raise _no_predictive()

    def predictive_of_new(
        self, data: Any, sigma: float, trials: Callable[[], Vector | None]
    ) -> Predictive:
        """Not computed."""
        raise _no_predictive()

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """Those of the density."""
        return self.density.observation_methods

    def observation_variance(
        self, method: str, residual: Number, mean: Number, counts: Vector | None = None
    ) -> float:
        """That of the response, zero part included, at a typical mean of the family."""
        others = np.array([_predictor(part) for part in self.parts.values()])
        at = ObservationOfSeveral(self.density, mean, others, self.params, counts)
        return variance_of(at, method)

    def scale(self, sigma: float) -> float | None:
        """Not a number where the dispersion differs by row."""
        return float("nan") if self.density.dispersion else super().scale(sigma)

    def statsmodels_result(
        self, design: Design, likelihood: GaussianLikelihood, theta: Vector
    ) -> Any:
        """Refused."""
        raise EngineRefusal(
            "statsmodels' GLM has one linear predictor, and this fit has zero_inflation= or "
            "dispersion=."
        )

    def varcorr_sd(self, sigma: float) -> float | None:
        """None where it differs by row."""
        return None if self.density.dispersion else super().varcorr_sd(sigma)


def _no_predictive() -> ArgumentError:
    return ArgumentError(
        "interval='prediction' integrates over the errors of one linear predictor, and this fit "
        "has zero_inflation= or dispersion=: take interval='confidence', or quantiles of "
        "fit.simulate(n)."
    )


def _predictor(fit: Any) -> Vector:
    """Linear predictor of the rows at the conditional modes."""
    predictor = fit.rows.linear_predictor(fit.solution.beta, fit.solution.conditional_modes())
    return np.asarray(predictor)


def _moved(fit: Any, step: Vector, rng: np.random.Generator) -> tuple[Vector, tuple[Matrix, ...]]:
    """Linear predictor at a step of the free parameters and at effects drawn, and these."""
    estimate, solution = fit.residual, fit.solution
    own = step[estimate.order][estimate.n_own : estimate.n_own + len(estimate.beta)]
    change = solve_upper(solution.crossprod.qr_R, own)
    effects = []
    covariances = solution.conditional_covariances()
    for b, cov in zip(solution.conditional_modes(), covariances, strict=True):
        values, vectors = np.linalg.eigh(np.moveaxis(cov, 2, 0))
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        effects.append(b + np.einsum("lab,lb->al", root, rng.standard_normal(root.shape[:2])))
    eta = np.asarray(fit.rows.linear_predictor(solution.beta + change, effects))
    return eta, tuple(effects)


def _drawn(fit: Any, *, new: bool) -> DrawnPredictor:
    """Linear predictor with new random effects, or with those of the fit."""
    if not new:
        return DrawnPredictor(_predictor(fit), (), ())
    fixed = fit.rows.fixed_predictor(fit.solution.beta)
    return DrawnPredictor(fixed, fit.rows.random_terms, fit.solution.lambdas)
