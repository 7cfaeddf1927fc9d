"""Residual models: the contract.

The residuals have the covariance ``sigma**2 W^-1/2 R(params) W^-1/2`` with prior weights ``W``. A
residual model is the family ``R`` on the rows of a design: it reduces the rows to sums once, gives
the cross-products at any parameters from these sums, and reports its estimates; sigma and theta
are profiled out of the search for the parameters. A new model is a subclass of
:class:`ResidualModel`, or of :class:`~mixedfx.residuals.variance_function.VarianceFunction` where
the residuals are independent, and a line in :mod:`mixedfx.residuals.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx.covariance.components import Positions
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design import new_data
from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.residual import (
    EqualVariances,
    KnownStandardDeviations,
    ResidualRows,
    ResidualSpec,
)
from mixedfx.design.rows import ModelRows
from mixedfx.design.source import as_frame
from mixedfx.families.family import Family
from mixedfx.likelihood import prediction_variance
from mixedfx.likelihood.accumulate import crossproducts_of
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.residual_directions import OneVariance, ResidualDirections
from mixedfx.residuals import blocks, reported

if TYPE_CHECKING:
    from mixedfx.families.several_predictors import SeveralPredictors
    from mixedfx.likelihood.correlated import Derivatives
    from mixedfx.residuals.blocks import CovarianceBlock
    from mixedfx.residuals.reported import Reported


Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Estimator = Literal["engine", "nested", "laplace", "marginal", "several"]


@dataclass(frozen=True)
class ResidualParameter:
    """One parameter of a residual model as it is reported."""

    name: str  # row of fit.dispersion
    full_name: str  # unique in a fit
    value: float
    std_error: float
    # Wald limits are symmetric about the value, its logarithm, Fisher's z of a correlation, or the
    # logit of a power less one
    scale: Literal["identity", "log", "atanh", "power"] = "identity"


def family_components(
    of: Family | SeveralPredictors, params: Vector, covariance: Matrix
) -> tuple[ResidualParameter, ...]:
    """Parameters of a family, given the covariance of their estimates."""
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    named = zip(of.param_names, params, errors, of.param_scales, strict=True)
    return tuple(
        ResidualParameter(name, name, float(value), float(error), scale)
        for name, value, error, scale in named
    )


class VarcorrRow(NamedTuple):
    """Row of the table of variances that belongs to the residuals."""

    effect: str | None
    effect2: str | None
    vcov: float
    sdcor: float


class ResponseAroundPredictor(Protocol):
    """Distribution of the responses of rows given their linear predictors."""

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Draw one response for each row, on the scale of the mean."""
        ...


@dataclass(frozen=True)
class ResidualDistribution:
    """Independent normal residuals of rows."""

    residual_sd: Vector  # (n,)

    def __post_init__(self) -> None:
        """Make the array read-only."""
        set_readonly(self.residual_sd)

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Add one residual to each row's predictor."""
        return predictor + self.residual_sd * rng.standard_normal(len(self.residual_sd))


def row_sds(rows: ModelRows, sigma: float) -> Vector:
    """``sigma / sqrt(w_i)``, the residual standard deviation of each row, (n,)."""
    sds = np.full(rows.n, sigma)
    return sds if rows.weights is None else sds / np.sqrt(rows.weights)


class ResidualModel(ResidualRows):
    """
    A family of residual covariances, on the rows of a design.

    The defaults are those of a model without parameters beside sigma.
    """

    spec: ResidualSpec  # what it is called

    # What finds the parameters: nothing beside an engine's theta, the nested search over them with
    # theta inside, Laplace's approximation where the scale has random effects, or the marginal
    # likelihood of a family, of one linear predictor or several.
    estimator: ClassVar[Estimator] = "nested"
    # Whether levels of a random term may have a relationship matrix, or rows several of them.
    takes_related_levels: ClassVar[bool] = False

    @property
    def n_params(self) -> int:
        """Number k of parameters beside sigma."""
        return self.spec.n_params

    # ------------------------------------------------------------ the search

    def check(self, design: Design, *, reml: bool) -> None:
        """Refuse data for which the parameters have no estimate."""

    @property
    def neutral(self) -> Vector:
        """Parameters (k,) at which residuals are nearly independent and alike."""
        return np.zeros(self.n_params)

    def contains(self, params: Vector) -> bool:
        """Whether the deviance is finite at the parameters."""
        return True

    def expected_hessian(self, params: Vector) -> Matrix:
        """First Hessian of the search, (k, k)."""
        return np.eye(self.n_params)

    def params_near(self, residuals: Vector, weights: Vector | None) -> Vector:
        """Parameters (k,) that residuals of the rows of a fit suggest: starting values."""
        return np.zeros(self.n_params)

    def params_of_residuals(self, sums: Any, rows: ModelRows, solution: Solution) -> Vector:
        """The same, of the conditional residuals at a solution."""
        return self.params_near(
            prediction_variance.conditional_residuals(rows, solution), rows.weights
        )

    def starts(self, residuals: Callable[[float], Vector], rows: ModelRows) -> list[Vector]:
        """
        Starting values beside those that are tried for every model.

        ``residuals`` gives those of a fit with random effects of a size, relative to sigma.
        """
        return []

    def starting_points(self, params: Vector) -> list[list[Vector]]:
        """Parameters from which a search may end elsewhere than at ``params``, in some orders."""
        return []

    def at_ends(self, params: Vector) -> Sequence[Any]:
        """Parameters at the end of their range, where the deviance is flat."""
        return ()

    def nearly_singular(self, params: Vector) -> bool:
        """Whether the covariances of the residuals have nearly no inverse."""
        return False

    def reduce(self, design: Design) -> Any:
        """Sum the rows, once."""
        return crossproducts_of(design)

    def reweight(self, sums: Any, params: Vector) -> CrossProducts:
        """Cross-products at the parameters; no row is read."""
        return cast(CrossProducts, sums)

    def score(self, sums: Any, rows: ModelRows, params: Vector, solution: Solution) -> Vector:
        """Derivative (k,) of the deviance by the parameters, theta constant and sigma profiled."""
        return np.zeros_like(params)

    def crossproducts_at(self, sums: Any, params: Vector) -> CrossProducts | None:
        """Cross-products of :meth:`weighted_design`; None: those of its rows."""
        return None

    def weighted_design(self, design: Design, params: Vector) -> Design:
        """Design whose weights are those of the parameters, at the reported sigma."""
        relative = np.exp(-2.0 * (self.log_sds(params) - self.log_sigma_offset(params)))
        return design.with_weights(design.rows.combined_weights(relative))

    def exact_derivatives(
        self, sums: Any, params: Vector, solution: Solution
    ) -> Derivatives | None:
        """First and second derivatives by the parameters, where they have a closed form."""
        return None

    def covariance_blocks(
        self, params: Vector, weights: Vector | None
    ) -> tuple[CovarianceBlock, ...]:
        """Covariances of the residuals over ``sigma**2``: one variance."""
        rows = blocks.IndependentRows(weights)
        return (blocks.CovarianceBlock(STRUCTURES["homdiag"], Positions(1), np.eye(1), rows),)

    def row_precision(self, params: Vector, weights: Vector | None) -> Any:
        """Precision of the residuals times ``sigma**2``, sparse (n, n); None: the identity."""
        return None if weights is None else sparse.diags_array(weights)

    def variance_directions(self, sums: Any, params: Vector) -> ResidualDirections:
        """Derivatives of V by sigma and the parameters, for what the rows identify."""
        return OneVariance()

    def random_intercept(self, params: Vector) -> tuple[str, Codes, float] | str:
        """
        Random intercept that is the same model, with independent residuals.

        Its grouping factor, the level of each row, and the correlation within levels; or why there
        is none.
        """
        return "knows one residual variance"

    def check_optimum(
        self, design: Design, params: Vector, solution: Solution, *, converged: bool
    ) -> None:
        """Refuse an optimum at which there is no estimate."""

    # ------------------------------------------------------------ variances

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations (n,) of rows of weight one, relative to sigma; (1,) if equal."""
        return np.zeros(1)

    def log_sigma_offset(self, params: Vector) -> float:
        """Log of the reported sigma over that of the cross-products at the parameters."""
        return 0.0

    def mean_variance(self, sigma: float, sds: Vector) -> float:
        """Residual variance averaged over rows with standard deviations ``sds``."""
        return float(np.mean(sds**2))

    def new_variances(self, data: Any, sigma: float, params: Vector) -> Any:
        """Residual variances of new rows of weight one, at the reported sigma."""
        return sigma**2

    def drawn_variances(self, data: Any, sigmas: Vector, params: Matrix) -> Matrix:
        """The same at each of several sigmas and parameters, (draws, rows)."""
        each = zip(sigmas, params, strict=True)
        return np.array([self.new_variances(data, sigma, x) for sigma, x in each])

    def on_rows(self, rows: ResidualRows) -> Self:
        """The model on other rows of the same strata, where it has none of its own."""
        return self

    def without_rows(self) -> Self | None:
        """The model without its rows; None where it has none."""
        return None

    def distribution(self, sds: Vector) -> ResidualDistribution:
        """Distribution of the residuals of rows with standard deviations ``sds``."""
        return ResidualDistribution(sds)

    # ------------------------------------------------------------ what is reported

    @property
    def coefficient_matrix(self) -> Matrix:
        """Matrix (r, 1 + k) that maps ``(log sigma, params)`` of a solution to coefficients."""
        return np.eye(1 + self.n_params)[1:]

    @property
    def log_sigma_row(self) -> Vector:
        """Row (1 + k,) that maps ``(log sigma, params)`` of a solution to log sigma as reported."""
        return np.asarray(np.eye(1 + self.n_params)[0])

    def coefficients(self, log_sigma: float, params: Vector) -> Vector:
        """Reported coefficients (r,) at a solution's log sigma and the parameters."""
        return np.asarray(self.coefficient_matrix @ np.append(log_sigma, params))

    def reported_sigma(self) -> Reported:
        """How sigma as it is reported depends on that of a solution."""
        return reported.OfLogSigma.linear(self.log_sigma_row, exponential=True)

    def reported_parameter(self, index: int) -> Reported:
        """How a reported parameter depends on log sigma and the parameters."""
        row = np.asarray(self.coefficient_matrix[index], dtype=float)
        return (
            reported.OfLogSigma.linear(row, exponential=False)
            if row[0]
            else reported.LinearInParams(row[1:])
        )

    def components(self, coefficients: Vector, cov: Matrix) -> tuple[ResidualParameter, ...]:
        """Reported parameters, with standard errors."""
        named = zip(self.spec.coefficient_names, coefficients, np.sqrt(np.diag(cov)), strict=True)
        return tuple(
            ResidualParameter(name, self.spec.full_name(name), float(value), float(error))
            for name, value, error in named
        )


@dataclass(frozen=True)
class Homoscedastic(ResidualModel):
    """One residual variance: ``R = I``."""

    spec: EqualVariances

    estimator = "engine"
    takes_related_levels = True

    def mean_variance(self, sigma: float, sds: Vector) -> float:
        """Variance of a row of weight one."""
        return sigma**2


@dataclass(frozen=True)
class KnownVariances(ResidualModel):
    """Residual standard deviations that are given."""

    spec: KnownStandardDeviations

    estimator = "engine"
    takes_related_levels = True

    def new_variances(self, data: Any, sigma: float, params: Vector) -> Any:
        """Read from the column of the standard deviations."""
        advice = (
            "residual_sd as a column's name to predict new responses, or take "
            "interval='confidence'."
        )
        sds = new_data.new_argument("residual_sd", self.spec.column, as_frame(data), advice=advice)
        return sds**2


@dataclass(frozen=True)
class FamilyModel(ResidualModel):
    """Distribution of the response around its mean, in the place of residuals."""

    spec: FamilyResidual

    estimator: ClassVar[Estimator] = "marginal"
    takes_related_levels = True


@dataclass(frozen=True)
class SeveralModel(FamilyModel):
    """A family with further linear predictors."""

    estimator: ClassVar[Estimator] = "several"
    takes_related_levels = False
