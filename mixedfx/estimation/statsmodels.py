"""statsmodels engine: MixedLM, started at the profiled optimum, for the models it can express.

MixedLM has one grouping of the rows, one block of correlated effects on it (``exog_re``), and any
number of independent variance components within it (``exog_vc``). It is always started at the
profiled engine's optimum, where it needs at most a few steps; from its own starting values its
optimisers are known to fail. Its likelihood is then an independent computation of the same number.

statsmodels is imported in this module only, and when first needed.
"""

from __future__ import annotations

import importlib
import math
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.covariance.parametrization import canonical_signs
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.unstructured import relative_factor
from mixedfx.design.build import Design
from mixedfx.design.levels import are_nested
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import ModelSpec, RandomTermSpec
from mixedfx.errors import EngineRefusal, SearchError
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.least_squares import least_squares_remark
from mixedfx.estimation.mixedlm_results import MixedLMOptimum, mixedlm_results
from mixedfx.estimation.model_spec import attach_formula
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# MixedLM's Hessian holds matrices of rows by rows of a group: this many entries is 4 GB.
_MAX_DENSE_ENTRIES = 5e8
# It takes columns as they are, and loses the square of their condition number: with a larger one
# its log-likelihood differs from that of centred columns by more than 1e-6.
MAX_CONDITION = 1e4


_IMPORT_LOCK = threading.Lock()


@dataclass(frozen=True)
class _MixedLMTerms:
    """Roles of a design's random terms in MixedLM."""

    top: int | None  # a random term on the top grouping factor; None: all rows form one group
    correlated: int | None  # term that is exog_re; of the others each column is a component

    def components(self, spec: ModelSpec) -> list[tuple[int, int]]:
        """Random term and column of each variance component, in order."""
        return [
            (t, j)
            for t, random_term in enumerate(spec.random_terms)
            if t != self.correlated
            for j in range(len(random_term.effect_names))
        ]


@dataclass(frozen=True)
class StatsModels:
    """Engine that fits by statsmodels' MixedLM; OLS or WLS where there are no random terms."""

    name: str = "statsmodels"

    def refusal(self, design: Design) -> str | None:
        """Why MixedLM cannot express a design, or would need too much memory; else None."""
        if not design.spec.random_terms:
            return None
        for term in design.spec.random_terms:
            if not term.is_plain:
                return f"MixedLM's levels are independent, a row has one: not {term.formula_term}"
        if not design.spec.residual.equal_variances:
            return "MixedLM has one residual variance, which it estimates"
        if design.rows.weights is not None:
            return "MixedLM has no prior weights"
        if design.rows.X.shape[1] == 0:
            return "MixedLM needs at least one fixed effect"
        terms = _mixedlm_terms(design)
        if isinstance(terms, str):
            return terms
        rows, columns = largest_group(design)
        if rows * (rows + columns) > _MAX_DENSE_ENTRIES:
            return (
                f"MixedLM would handle one group of {rows:,} rows and {columns:,} random-effect "
                f"columns with dense matrices of {8e-9 * rows * (rows + columns):.1f} GB"
            )
        return None

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
        crossprod, reason = likelihood.crossprod, self.refusal(design)
        if reason is None and start is not None:
            boundary = boundary_parameters(design.spec, crossprod, start)
            if boundary:
                reason = (
                    f"the optimum is singular ({', '.join(boundary)}), where MixedLM cannot give "
                    "effects or standard errors"
                )
        if reason is None and crossprod.condition > MAX_CONDITION:
            reason = (
                "columns far from zero, or nearly dependent, would leave its log-likelihood too "
                "few digits"
            )
        if reason is not None:
            raise EngineRefusal(f"statsmodels cannot fit {design.spec.formula}: {reason}.")
        terms = _mixedlm_terms(design)
        assert isinstance(terms, _MixedLMTerms)
        result = _fit_mixedlm(design, likelihood, terms, start)
        theta = start  # where MixedLM's search takes no step from it
        if theta is None or result.steps:
            theta = _theta(design.spec, crossprod, terms, result)
        return OptimizerResult(
            theta=theta,
            engine=self.name,
            evaluations=0,
            converged=result.converged,
            message="MixedLM, started at the profiled optimum",
            deviance=-2.0 * float(result.llf),
            raw=result,
        )


def import_module(name: str) -> Any:
    """
    Import a module of statsmodels, and leave the process's warning filters alone.

    statsmodels inserts some when it is first imported, which would change what a program shows.
    """
    with _IMPORT_LOCK:
        filters: Any = warnings.filters
        before = list(filters)
        module = importlib.import_module(f"statsmodels.{name}")
        for inserted in [f for f in filters if f not in before]:
            filters.remove(inserted)
    return module


def _mixedlm_terms(design: Design) -> _MixedLMTerms | str:
    """Roles of the random terms in MixedLM, or the reason why there are none."""
    random_terms, rows = design.spec.random_terms, design.rows.random_terms
    structures = [STRUCTURES[term.formula_term.structure] for term in random_terms]
    for term, structure in zip(random_terms, structures, strict=True):
        if not structure.linear:
            return f"MixedLM cannot express the covariance of {term.formula_term}"
    correlated = [
        t
        for t, (term, structure) in enumerate(zip(random_terms, structures, strict=True))
        if structure.invariance == "linear" and len(term.effect_names) > 1
    ]
    top = next((t for t, term in enumerate(rows) if _contains_all(term, rows)), None)
    for t in correlated:
        if top is None or random_terms[t].group != random_terms[top].group:
            return (
                f"the correlated term {random_terms[t].formula_term} is not on a grouping factor "
                "that contains all the others"
            )
    if len(correlated) > 1:
        return f"MixedLM has one correlated term, and the formula has {len(correlated)}"
    if top is None:
        return _MixedLMTerms(None, None)
    on_top = design.spec.terms_of(random_terms[top].group)
    scalar = [t for t in on_top if len(random_terms[t].effect_names) == 1]
    return _MixedLMTerms(top, next(iter(correlated or scalar), None))


def _contains_all(outer: RandomTermRows, random_terms: tuple[RandomTermRows, ...]) -> bool:
    """Whether every level of every factor is nested in one level of ``outer``."""
    others = (inner for inner in random_terms if inner.group != outer.group)
    return all(are_nested(inner.codes, outer.codes) for inner in others)


def top_level_codes(design: Design) -> Codes:
    """Group of each row in MixedLM."""
    terms = _mixedlm_terms(design)
    if isinstance(terms, str) or terms.top is None:
        return np.zeros(design.rows.n, dtype=np.intp)
    return design.rows.random_terms[terms.top].codes


def largest_group(design: Design) -> tuple[int, int]:
    """Largest number of rows, and of random-effect columns, in one of MixedLM's groups."""
    codes = top_level_codes(design)
    sizes = np.bincount(codes)
    columns = np.zeros(len(sizes), dtype=int)
    for term in design.rows.random_terms:
        group_of = np.empty(term.n_levels, dtype=np.intp)  # each level is in one group
        group_of[term.codes] = codes
        columns += term.model_matrix.shape[1] * np.bincount(group_of, minlength=len(sizes))
    return int(sizes.max()), int(columns.max())


def _fit_mixedlm(
    design: Design, likelihood: GaussianLikelihood, terms: _MixedLMTerms, start: Vector | None
) -> MixedLMOptimum:
    """MixedLM's optimum; SearchError where it fails or its log-likelihood is not finite."""
    lm = import_module("regression.mixed_linear_model")
    arguments = _mixedlm_arguments(design, terms)
    if start is None:
        parametrization = likelihood.crossprod.parametrization
        start = parametrization.to_params([np.eye(k) for k in parametrization.widths])
    params = _start_params(design.spec, likelihood.crossprod, terms, start)
    with np.errstate(all="ignore"):
        try:
            model = lm.MixedLM(
                pd.Series(
                    np.array(design.rows.response_less_offset),
                    name=design.spec.formula.response_name,
                ),
                pd.DataFrame(np.array(design.rows.X), columns=list(design.spec.X_names)),
                **arguments,
            )
            attach_formula(model, design.spec)
            result = mixedlm_results(lm, model, params, reml=likelihood.reml)
            finite = np.isfinite(result.llf)
        except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
            raise SearchError(f"MixedLM failed: {type(error).__name__}: {error}") from error
    if not finite:
        raise SearchError("MixedLM failed: its log-likelihood is not finite.")
    return result


def _mixedlm_arguments(design: Design, terms: _MixedLMTerms) -> dict[str, Any]:
    """Arguments ``groups``, ``exog_re`` and ``exog_vc`` of MixedLM."""
    codes = top_level_codes(design)
    if terms.top is None:
        groups = np.full(len(codes), "all")
    else:
        groups = _sortable(design.spec.random_terms[terms.top].levels.labels)[codes]
    exog_vc = None
    spec_of, rows_of = design.spec.random_terms, design.rows.random_terms
    of_components = terms.components(design.spec)
    if of_components:
        rows = [np.flatnonzero(groups == group) for group in sorted(set(groups.tolist()))]
        components = [_component(spec_of[t], rows_of[t], j, rows) for t, j in of_components]
        exog_vc = import_module("regression.mixed_linear_model").VCSpec(
            *(list(part) for part in zip(*components, strict=True))
        )
    exog_re = None
    if terms.correlated is not None:
        exog_re = pd.DataFrame(
            np.array(rows_of[terms.correlated].model_matrix),
            columns=list(spec_of[terms.correlated].effect_names),
        )
    return {"groups": groups, "exog_re": exog_re, "exog_vc": exog_vc}


def _sortable(labels: pd.Index) -> npt.NDArray[Any]:
    """Labels, which MixedLM sorts; their numbers where they are tuples or cannot be compared."""
    if any(isinstance(label, tuple) for label in labels):
        return np.arange(len(labels))
    try:
        sorted(labels)
    except TypeError:
        return np.arange(len(labels))
    return np.asarray(labels)


def _component(
    spec: RandomTermSpec, term: RandomTermRows, j: int, rows: list[Codes]
) -> tuple[str, list[Any], list[Matrix]]:
    """Name, column names and matrices of one variance component, group by group."""
    effect = spec.effect_names[j]
    name = spec.group if effect == "Intercept" else f"{spec.group} {effect}"
    labels = spec.levels.labels
    columns, matrices = [], []
    for in_group in rows:
        levels, column = np.unique(term.codes[in_group], return_inverse=True)
        matrix = np.zeros((len(in_group), len(levels)))
        matrix[np.arange(len(in_group)), column] = term.model_matrix[in_group, j]
        columns.append([f"{name}[{labels[level]}]" for level in levels])
        matrices.append(matrix)
    return name, columns, matrices


def _start_params(
    spec: ModelSpec, crossprod: CrossProducts, terms: _MixedLMTerms, theta: Vector
) -> Any:
    """MixedLM's parameters at theta: covariances over sigma**2 (coefficients are profiled out)."""
    lambdas = crossprod.parametrization.lambdas(theta)
    vcomp = [lambdas[t][j, j] ** 2 for t, j in terms.components(spec)]
    cov_re = np.empty((0, 0))
    if terms.correlated is not None:
        lam = lambdas[terms.correlated]
        cov_re = lam @ lam.T
    return import_module("regression.mixed_linear_model").MixedLMParams.from_components(
        fe_params=np.zeros(crossprod.p), cov_re=cov_re, vcomp=np.array(vcomp)
    )


def _theta(
    spec: ModelSpec, crossprod: CrossProducts, terms: _MixedLMTerms, result: MixedLMOptimum
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
