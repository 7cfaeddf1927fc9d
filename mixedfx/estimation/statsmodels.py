"""statsmodels engine: MixedLM, started at the profiled optimum, for the models it can express.

It is always started at the profiled engine's optimum, where it needs at most a few steps; from its
own starting values its optimisers are known to fail. Its likelihood is then an independent
computation of the same number. The model itself is in :mod:`mixedfx.estimation.mixedlm_model`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.covariance.unstructured import relative_factor
from mixedfx.design.build import Design
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import EngineRefusal, SearchError
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.least_squares import least_squares_remark
from mixedfx.estimation.mixedlm_model import (
    MixedLMTerms,
    NamedModel,
    import_module,
    mixedlm_terms,
    plain_model,
)
from mixedfx.estimation.mixedlm_results import MixedLMOptimum, mixedlm_results
from mixedfx.estimation.model_spec import attach_formula
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood

Vector = npt.NDArray[np.float64]

# MixedLM's Hessian holds matrices of rows by rows of a group: this many entries is 4 GB.
_MAX_DENSE_ENTRIES = 5e8
# It takes columns as they are, and loses the square of their condition number: with a larger one
# its log-likelihood differs from that of centred columns by more than 1e-6.
MAX_CONDITION = 1e4


@dataclass(frozen=True)
class Expressed:
    """How MixedLM expresses a design, and the size of its largest group."""

    terms: MixedLMTerms
    rows: int
    columns: int

    @staticmethod
    def of(design: Design) -> Expressed | str:
        """Of a design with random terms; or why MixedLM cannot, or would need too much memory."""
        for term in design.spec.random_terms:
            if not term.is_plain:
                return f"MixedLM's levels are independent, a row has one: not {term.formula_term}"
        if not design.spec.residual.equal_variances:
            return "MixedLM has one residual variance, which it estimates"
        if design.rows.weights is not None:
            return "MixedLM has no prior weights"
        if design.rows.X.shape[1] == 0:
            return "MixedLM needs at least one fixed effect"
        terms = mixedlm_terms(design)
        if isinstance(terms, str):
            return terms
        rows, columns = terms.largest_group(design)
        if rows * (rows + columns) > _MAX_DENSE_ENTRIES:
            return (
                f"MixedLM would handle one group of {rows:,} rows and {columns:,} random-effect "
                f"columns with dense matrices of {8e-9 * rows * (rows + columns):.1f} GB"
            )
        return Expressed(terms, rows, columns)


@dataclass(frozen=True)
class StatsModels:
    """Engine that fits by statsmodels' MixedLM; OLS or WLS where there are no random terms."""

    name: str = "statsmodels"
    # Where it is known that MixedLM can express the design, and that a start is an interior point.
    known: Expressed | None = None
    coefficients: Vector | None = None  # at the start, where they are known

    def refusal(self, design: Design) -> str | None:
        """Why MixedLM cannot express a design, or would need too much memory; else None."""
        if not design.spec.random_terms:
            return None
        expressed = Expressed.of(design)
        return expressed if isinstance(expressed, str) else None

    def estimate(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        *,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Fit by MixedLM, or by OLS or WLS where there are no random terms."""
        if not design.spec.random_terms:
            return _fit_least_squares(design, reml=likelihood.reml)
        expressed = self.known or _checked(design, likelihood.crossprod, start)
        if start is None:
            parametrization = likelihood.parametrization
            start = parametrization.to_params([np.eye(k) for k in parametrization.widths])
        beta = likelihood.at(start).beta if self.coefficients is None else self.coefficients
        params = _start_params(design.spec, likelihood, expressed.terms, start, beta)
        result = _fit_mixedlm(design, expressed.terms, params, reml=likelihood.reml)
        theta = start  # where MixedLM's search takes no step from it
        if result.steps:
            theta = _theta(design.spec, likelihood.crossprod, expressed.terms, result)
        return OptimizerResult(
            theta=theta,
            engine=self.name,
            evaluations=0,
            converged=result.converged,
            message="MixedLM, started at the profiled optimum",
            deviance=-2.0 * float(result.llf),
            raw=result,
        )


def _checked(design: Design, crossprod: CrossProducts, start: Vector | None) -> Expressed:
    """How MixedLM expresses a design; EngineRefusal where it cannot fit it from the start."""
    found = Expressed.of(design)
    reason = found if isinstance(found, str) else None
    if reason is None and start is not None:
        boundary = boundary_parameters(design.spec, crossprod, start)
        if boundary:
            reason = (
                f"the optimum is singular ({', '.join(boundary)}), where MixedLM cannot give "
                "effects or standard errors"
            )
    if reason is None and crossprod.condition > MAX_CONDITION:
        reason = (
            "columns far from zero, or nearly dependent, would leave its log-likelihood too few "
            "digits"
        )
    if isinstance(found, str) or reason is not None:
        raise EngineRefusal(f"statsmodels cannot fit {design.spec.formula}: {reason}.")
    return found


def _fit_mixedlm(design: Design, terms: MixedLMTerms, params: Any, *, reml: bool) -> MixedLMOptimum:
    """MixedLM's optimum; SearchError where it fails or its log-likelihood is not finite."""
    lm = import_module("regression.mixed_linear_model")
    with np.errstate(all="ignore"):
        try:
            model = plain_model(design, terms)
            named = NamedModel(design, terms)
            result = mixedlm_results(lm, model, params, named=named, reml=reml)
            finite = np.isfinite(result.llf)
        except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
            raise SearchError(f"MixedLM failed: {type(error).__name__}: {error}") from error
    if not finite:
        raise SearchError("MixedLM failed: its log-likelihood is not finite.")
    return result


def _start_params(
    spec: ModelSpec,
    likelihood: GaussianLikelihood,
    terms: MixedLMTerms,
    theta: Vector,
    coefficients: Vector,
) -> Any:
    """MixedLM's parameters at theta: our coefficients there, and covariances over sigma**2."""
    lambdas = likelihood.parametrization.lambdas(theta)
    vcomp = [lambdas[t][j, j] ** 2 for t, j in terms.components(spec)]
    cov_re = np.empty((0, 0))
    if terms.correlated is not None:
        lam = lambdas[terms.correlated]
        cov_re = lam @ lam.T
    return import_module("regression.mixed_linear_model").MixedLMParams.from_components(
        fe_params=np.array(coefficients), cov_re=cov_re, vcomp=np.array(vcomp)
    )


def _theta(
    spec: ModelSpec, crossprod: CrossProducts, terms: MixedLMTerms, result: MixedLMOptimum
) -> Vector:
    """Theta of MixedLM's covariances."""
    parametrization = crossprod.parametrization
    lambdas = [np.zeros((k, k)) for k in parametrization.widths]
    if terms.correlated is not None:
        lambdas[terms.correlated] = relative_factor(result.params.cov_re)
    for (t, j), variance in zip(terms.components(spec), result.params.vcomp, strict=True):
        lambdas[t][j, j] = np.sqrt(max(variance, 0.0))
    return canonical_signs(parametrization, parametrization.to_params(lambdas))


def _fit_least_squares(design: Design, *, reml: bool) -> OptimizerResult:
    """Ordinary or weighted least squares, where the formula has no random terms."""
    lm = import_module("regression.linear_model")
    spec, rows = design.spec, design.rows
    response = np.array(rows.response_less_offset)
    y = pd.Series(response, index=rows.index, name=spec.formula.response_name)
    X = pd.DataFrame(np.array(rows.X), index=rows.index, columns=list(spec.X_names))
    model = lm.OLS(y, X) if rows.weights is None else lm.WLS(y, X, weights=rows.weights)
    result = attach_formula(model, spec).fit()
    return OptimizerResult(
        theta=np.zeros(0),
        engine="statsmodels",
        evaluations=0,
        converged=True,
        message="least squares",
        deviance=_reml_criterion(result) if reml else -2.0 * float(result.llf),
        raw=result,
        remarks=(least_squares_remark(weighted=rows.weights is not None),),
    )


def _reml_criterion(result: Any) -> float:
    """``(n - p) (1 + log(2 pi s^2)) + log|X'WX| - log|W|`` of OLS or WLS, as R's logLik.lm."""
    s2, df = float(result.scale), float(result.df_resid)
    singular_values = np.linalg.svd(result.model.wexog, compute_uv=False)
    log_weights = np.log(np.broadcast_to(result.model.weights, int(result.nobs))).sum()
    log_det = 2.0 * float(np.log(singular_values).sum())
    return df * (1.0 + math.log(2.0 * math.pi * s2)) + log_det - float(log_weights)
