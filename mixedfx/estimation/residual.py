"""Estimates of a residual model, and what inference reads from them.

Given the estimates, the model is one with known weights, which everything after them uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, sparse

from mixedfx.design.build import Design
from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import ModelRows
from mixedfx.design.spec import ModelSpec
from mixedfx.estimation import contracts
from mixedfx.estimation import statsmodels as mixedlm_engine
from mixedfx.estimation.curvature import HessianAtOptimum, hessian_at_optimum
from mixedfx.estimation.notes import Note
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.residual_ends import EndsOfResiduals
from mixedfx.estimation.unidentified import unidentified, unidentified_note
from mixedfx.likelihood import prediction_variance
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import deviance_rounding
from mixedfx.residuals import correlated_new, predictive
from mixedfx.residuals.model import (
    ResidualDistribution,
    ResidualModel,
    ResidualParameter,
    ResponseAroundPredictor,
    VarcorrRow,
    row_sds,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# A residual with 1 - leverage below this is zero whatever the response.
MIN_RESIDUAL_SHARE = 1e-10


@dataclass(frozen=True)
class ResidualEstimate:
    """Estimates of a residual model; of this class itself, of one without parameters."""

    model: ResidualModel

    @property
    def n_params(self) -> int:
        """Number of parameters, sigma included where it is estimated."""
        return self.model.n_params + self.model.spec.estimates_sigma

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """Reported parameters beside sigma."""
        return ()

    @property
    def residual_params(self) -> Vector:
        """Parameters of the residual model that were searched for."""
        return np.zeros(0)

    def log_sigma_gradient(self, by_theta: Callable[[], Vector]) -> Vector:
        """Derivative of the profiled log sigma by all free parameters, given that by theta."""
        return by_theta()

    def statsmodels_result(
        self, design: Design, likelihood: GaussianLikelihood, theta: Vector
    ) -> Any:
        """Result of statsmodels at an optimum; EngineRefusal where it has none."""
        engine = mixedlm_engine.StatsModels()
        found = engine.estimate(design, likelihood, control=Control(), start=theta)
        return found.results_of_engine

    def family_params(self, sigma: float) -> dict[str, float]:
        """Parameters of the response's distribution beside its mean; sigma of the normal one."""
        return {"sigma": sigma} if self.model.spec.estimates_sigma else {}

    def varcorr_sd(self, sigma: float) -> float | None:
        """Residual standard deviation in the table of variances; None where there is none."""
        return sigma if self.model.spec.estimates_sigma else None

    def varcorr_rows(self, sigma: float) -> list[VarcorrRow]:
        """Rows of the residuals in the table of variances: one, where they have a variance."""
        sd = self.varcorr_sd(sigma)
        return [] if sd is None else [VarcorrRow(None, None, sd**2, sd)]

    def row_sds(self, rows: ModelRows, sigma: float) -> Vector:
        """Residual standard deviations of the rows of the linear model: ``sigma / sqrt(w_i)``."""
        return row_sds(rows, sigma)

    def residual_covariances(self, sigma: float) -> list[contracts.LabelledCovariance]:
        """Covariances of the residuals of subjects, by stratum; empty where independent."""
        return []

    def covariance_curvature(self, by_theta: Callable[[], Matrix]) -> tuple[Matrix, Vector]:
        """Hessian by theta and a residual covariance's parameters; slope of log sigma by these."""
        return by_theta(), np.zeros(0)

    def reported_jacobian(self) -> Matrix:
        """Derivatives of a residual covariance's parameters by log sigma and the searched ones."""
        return np.zeros((0, 1))

    def residual_sds(self, sds: Vector) -> Vector:
        """Residual standard deviations of rows, given those of the linear model."""
        return sds

    def scale(self, sigma: float) -> float | None:
        """Variance of a response of weight one over its variance function; None: not a number."""
        return sigma**2

    @property
    def predictors(self) -> Mapping[str, Any]:
        """Fitted models of further linear predictors, by argument."""
        return {}

    def fitted_mean(self, eta: Vector) -> Vector:
        """Mean of the rows used, at the linear predictor given the random effects."""
        return eta

    def pearson_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """Response less mean, over its standard deviation, at the linear predictor."""
        scaled = (rows.y - eta) / sigma
        return scaled if rows.weights is None else np.asarray(scaled * np.sqrt(rows.weights))

    def normalized_residuals(self, rows: ModelRows, eta: Vector, sigma: float) -> Vector:
        """Residuals that are uncorrelated, of variance one, under the model."""
        return self.pearson_residuals(rows, eta, sigma)

    def row_precision(self, rows: ModelRows) -> Any:
        """Precision of the residuals times ``sigma**2``, sparse (n, n); None: the identity."""
        return None if rows.weights is None else sparse.diags_array(rows.weights)

    def row_influence(
        self, rows: ModelRows, solution: Solution, eta: Vector
    ) -> contracts.RowInfluence:
        """Influence of each row on the fitted values."""
        hat = prediction_variance.leverage(
            self.working_rows(rows), self.leverage_solution(solution)
        )
        share = np.where(1.0 - hat > MIN_RESIDUAL_SHARE, 1.0 - hat, np.nan)
        std_resid = self.pearson_residuals(rows, eta, solution.sigma) / np.sqrt(share)
        return contracts.RowInfluence(hat, std_resid, std_resid**2 * hat / share)

    def crossproducts_of(
        self, design: Design, keep: Mask, bases: tuple[ColumnBasis, ...]
    ) -> CrossProducts:
        """Cross-products of a design of some of the rows, at the estimated residual model."""
        return compute_crossproducts(design, bases=bases)

    @property
    def subjects(self) -> contracts.Subjects | None:
        """Grouping factor of correlated residuals."""
        return None

    def residual_products(self, standardised: Vector) -> contracts.PositionProducts | None:
        """Products of residuals at each two positions of subjects; None: independent."""
        return None

    def weighted_residuals(
        self, rows: ModelRows, codes: Codes, residuals: Vector, effects: Vector
    ) -> Vector:
        """Residuals plus a term's effects, times the precision of the rows of a level."""
        return (residuals + effects) * (1.0 if rows.weights is None else rows.weights)

    @property
    def structure_columns(self) -> Mapping[str, pd.Series]:
        """Columns that a residual covariance is of, by identifier."""
        return {}

    @property
    def residual_groups(self) -> tuple[str, ...]:
        """What predictions can include beside the effects of grouping factors."""
        return ()

    def known_residuals(self, rows: ModelRows, data: Any) -> correlated_new.KnownResiduals | None:
        """Prediction of new rows' residuals from those of the rows used; None: independent."""
        return None

    def hypothesis_root(self, solution: Solution) -> Matrix:
        """Root R of the matrix ``R'R`` (p, p) by which terms are adjusted for others: ``X'WX``."""
        crossprod, p = solution.crossprod, solution.crossprod.p
        # By the QR factorisation, which keeps the digits of columns far from zero.
        root = linalg.cholesky(crossprod.XytXy[:p, :p])
        return np.asarray(root if crossprod.qr_R is None else root @ crossprod.qr_R)

    @property
    def test_columns(self) -> tuple[str, ...]:
        """Columns of the table of tests of terms."""
        return ("sum_sq", "mean_sq", "num_df", "den_df", "F", "p_value")

    def test_row(self, test: Mapping[str, float], sigma: float) -> dict[str, float]:
        """Row of that table, of an F test."""
        mean_sq = test["F"] * sigma**2
        return {"sum_sq": mean_sq * test["num_df"], "mean_sq": mean_sq, **test}

    def hessian_at_optimum(
        self, likelihood: GaussianLikelihood, solution: Solution
    ) -> HessianAtOptimum:
        """Derivatives of the deviance by coordinates of theta, all else profiled out."""
        return hessian_at_optimum(likelihood, solution.factors)

    def deviance(self, solution: Solution) -> float:
        """Deviance of the model, given that of the solution at the estimated weights."""
        return solution.deviance

    def criterion(self, solution: Solution) -> float:
        """What the search minimised, computed again at its end."""
        return solution.deviance

    def rounding(self, solution: Solution) -> float:
        """Estimate of the rounding error of the deviance."""
        return deviance_rounding(solution)

    def at_estimates(self, solution: Solution) -> Solution:
        """Solution with the coefficients and their covariance that the estimation implies."""
        return solution

    def on_rows(self, rows: ResidualRows) -> Self:
        """Estimates of the model on other rows of its strata, where it has none of its own."""
        return self

    def at_rows(self, rows: ModelRows, eta: Vector) -> Self:
        """Estimates with what has a value for each row at other rows, of predictors eta."""
        return self

    def without_rows(self) -> Self:
        """Estimates without what has a value for each row."""
        return self

    def working_rows(self, rows: ModelRows) -> ModelRows:
        """Rows of the linear model whose solution a fit holds; of a linear model its own."""
        return rows

    def parameter_uncertainty(self, solution: Solution) -> prediction_variance.ParameterUncertainty:
        """Parameters whose uncertainty predictions have; of a linear model the coefficients."""
        return prediction_variance.ParameterUncertainty.of_coefficients(solution)

    def leverage_solution(self, solution: Solution) -> Solution:
        """Solution of the linear model whose hat matrix a fit reports."""
        return solution

    def unpooled_effects(self, design: Design, solution: Solution, t: int) -> Matrix | None:
        """Effects (k, levels) of a term from the rows of each level alone; None: least squares."""
        return None

    def deletion(self, design: Design, solution: Solution) -> contracts.Deletion | None:
        """Estimates without some rows; None where cross-products of the others give them."""
        return None

    def quantile_residuals(
        self, rows: ModelRows, eta: Vector, sigma: float, uniform: Vector
    ) -> Vector:
        """Normal quantiles of the responses' probabilities at the linear predictor."""
        return self.pearson_residuals(rows, eta, sigma)

    def independent_residuals(
        self, rows: ModelRows, eta: Vector, sigma: float, uniform: Vector
    ) -> Vector:
        """Quantile residuals that are independent, standard normal, under the model."""
        return self.normalized_residuals(rows, eta, sigma)

    @property
    def log_densities(self) -> Callable[[ModelRows, Matrix], Vector] | None:
        """Log densities (n,) by all linear predictors (m, n); None: effects are exactly normal."""
        return None

    def etas(self, eta: Vector) -> Matrix:
        """Linear predictors of the rows used, that of the mean given, (m, n)."""
        return eta[None]

    def at_etas(self, etas: Matrix) -> Self:
        """The same at linear predictors (m, n) of a draw."""
        return self

    @property
    def drawn_effects(self) -> tuple[tuple[Matrix, ...], ...]:
        """Random effects of a draw, of each linear predictor beside the mean's."""
        return ()

    def drawn(self, solution: Solution, rng: np.random.Generator) -> tuple[Self, float]:
        """
        Draw of the parameters of the response's distribution beside its mean, and of sigma.

        Given theta, ``pwrss / sigma**2`` is chi-squared with n - p degrees of freedom.
        """
        if not self.model.spec.estimates_sigma:
            return self, solution.sigma
        df = max(solution.crossprod.n - solution.crossprod.p, 1)
        return self, float(np.sqrt(solution.pwrss / rng.chisquare(df)))

    def draw_working_residuals(
        self, rows: ModelRows, sigma: float, rng: np.random.Generator
    ) -> Vector:
        """Draw of residuals of the rows, times their precision and ``sigma**2``, (n,)."""
        params = self.distribution_params
        around = self.distribution(rows, sigma, params, new_effects=False)
        residuals, Q = around.draw(np.zeros(rows.n), rng), self.row_precision(rows)
        return residuals if Q is None else np.asarray(Q @ residuals)

    def predictive_of_rows(self, rows: ModelRows, sds: Vector) -> predictive.Predictive:
        """Predictive distribution of new responses of the rows used, given residual sds."""
        return predictive.NormalPredictive(self.row_variances(sds))

    def predictive_of_new(
        self, data: Any, sigma: float, trials: Callable[[], Vector | None]
    ) -> predictive.Predictive:
        """Predictive distribution of responses of new rows, of weight one."""
        return predictive.NormalPredictive(self.new_variances(data, sigma))

    def prior_weights(self, weights: Vector | None, sigma: float) -> Vector | None:
        """Weights as given, from those with the factor ``(sigma / sigma_i)**2`` estimated."""
        return weights

    def derivatives(self, by_theta: Callable[[], contracts.Derivatives]) -> contracts.Derivatives:
        """Derivatives by all parameters, given those by theta at given weights."""
        return by_theta()

    @property
    def at_ends(self) -> EndsOfResiduals:
        """Parameters of the residual model that are on the boundary."""
        return EndsOfResiduals()

    def free_derivatives(self, gradient: Vector, hessian: Matrix) -> tuple[Vector, Matrix]:
        """Derivatives of the deviance by the parameters that are not on the boundary."""
        return gradient, hessian

    def unidentified(self, likelihood: GaussianLikelihood, spec: ModelSpec) -> tuple[str, ...]:
        """Statements of what the rows do not identify of the variances."""
        return unidentified(spec, likelihood.dependences)

    def unidentified_note(self, statements: tuple[str, ...]) -> Note:
        """Note of these statements."""
        return unidentified_note(statements)

    def conditional_cov(self, cov: CoefficientCovariance) -> CoefficientCovariance:
        """Covariance of the coefficients that ``vcov_jacobian`` is the derivative of."""
        return cov

    @property
    def observation_methods(self) -> tuple[str, ...]:
        """Ways to the variance of an observation beside fixed and random part; default first."""
        return ("residual",)

    def observation_variance(
        self,
        method: str,
        residual: contracts.Number,
        mean: contracts.Number,
        counts: Vector | None = None,
    ) -> float:
        """Variance of an observation on the scale of the linear predictor: the residual one."""
        return residual()

    def row_variances(self, sds: Vector) -> Vector:
        """Variances of new responses of the rows used, given their residual sds."""
        return np.asarray(sds**2)

    def new_variances(self, data: Any, sigma: float) -> Any:
        """Variances of responses of new rows about their mean."""
        return self.model.new_variances(data, sigma, np.zeros(0))

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> ResponseAroundPredictor:
        """
        Distribution of the responses of the rows used, given their linear predictors.

        Random effects of the scale are new or those of the fit; ``params`` are a family's.
        """
        return self.model.distribution(row_sds(rows, sigma))

    def new_distribution(
        self,
        params: Vector,
        *,
        sds: Callable[[], Vector],
        weights: Callable[[], Vector | None],
        data: Any,
    ) -> ResponseAroundPredictor:
        """The same of new rows, from their residual sds or from their prior weights or trials."""
        return ResidualDistribution(sds())

    @property
    def distribution_params(self) -> Vector:
        """Parameters of the response's family beside the mean, in the order of its names."""
        return np.zeros(0)
