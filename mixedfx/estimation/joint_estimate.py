"""Estimates of a residual model whose parameters were searched for together with theta."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.residual import ResidualRows
from mixedfx.design.spec import ModelSpec
from mixedfx.estimation.contracts import Derivatives
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.estimation.residual_ends import EndsOfResiduals
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.residuals.model import ResidualParameter

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JointEstimate(ResidualEstimate):
    """
    Estimates of parameters that were searched for together with theta.

    Derivatives are by all m free parameters but sigma, unit-free: the coordinates of theta, then
    the parameters of the residual model.
    """

    params: Vector = field(kw_only=True)  # (k,)
    coefficients: Vector = field(kw_only=True)  # (r,) as reported
    cov: Matrix = field(kw_only=True, repr=False)  # (r, r) of the coefficients
    gradient: Vector = field(kw_only=True, repr=False)  # (m,) of the deviance
    hessian: Matrix = field(kw_only=True, repr=False)  # (m, m) of the deviance
    # (m, p, p) of cov(beta)
    vcov_jacobian: CoefficientCovariance = field(kw_only=True, repr=False)
    # (m,) derivative of log sigma; empty where sigma is itself a parameter
    log_sigma_by: Vector = field(default_factory=lambda: np.zeros(0), kw_only=True, repr=False)
    # With correlated residuals, which no weights express
    crossprod: CrossProducts | None = field(default=None, kw_only=True, repr=False)
    # Parameters of the residual model at the end of their range
    ends: EndsOfResiduals = field(default=EndsOfResiduals(), kw_only=True)
    # Statements of what the rows do not identify, of residual variances too
    not_identified: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def residual_params(self) -> Vector:
        """The parameters."""
        return self.params

    def log_sigma_gradient(self, by_theta: Callable[[], Vector]) -> Vector:
        """That of the search."""
        return self.log_sigma_by

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """The coefficients."""
        return self.model.components(self.coefficients, self.cov)

    def relative_log_sds(self, sigma: float) -> Vector:
        """Log standard deviations (n,) of rows of weight one over the reported sigma."""
        return self.model.log_sds(self.params) - self.model.log_sigma_offset(self.params)

    def on_rows(self, rows: ResidualRows) -> Self:
        """Estimates of the model on other rows of its strata."""
        return replace(self, model=self.model.on_rows(rows))

    def prior_weights(self, weights: Vector | None, sigma: float) -> Vector | None:
        """Divide by the estimated weights."""
        if weights is None:
            return None
        prior = np.asarray(weights * np.exp(2.0 * self.relative_log_sds(sigma)))
        return None if np.abs(prior - 1.0).max() < 1e-12 else prior

    def derivatives(self, by_theta: Callable[[], Derivatives]) -> Derivatives:
        """Those of the search."""
        return self

    @property
    def at_ends(self) -> EndsOfResiduals:
        """Those that the search ended with."""
        return self.ends

    def free_derivatives(self, gradient: Vector, hessian: Matrix) -> tuple[Vector, Matrix]:
        """Without parameters at the end of their range."""
        first = len(self.gradient) - len(self.params)
        held = [first + i for i in self.ends.parameters]
        H = np.delete(np.delete(hessian, held, axis=0), held, axis=1)
        return np.delete(gradient, held), H

    def unidentified(self, likelihood: GaussianLikelihood, spec: ModelSpec) -> tuple[str, ...]:
        """Those found at the estimates."""
        return self.not_identified

    def new_variances(self, data: Any, sigma: float) -> Any:
        """Variances at the estimated parameters."""
        return self.model.new_variances(data, sigma, self.params)
