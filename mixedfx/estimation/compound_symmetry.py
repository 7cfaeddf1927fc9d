"""Compound symmetry as a random intercept, which statsmodels' MixedLM fits.

Residuals of one standard deviation and a correlation ``rho > 0`` within subjects are independent
residuals beside a random intercept of the subjects, of the variances ``(1 - rho)`` and ``rho``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.build import Design
from mixedfx.design.levels import Levels
from mixedfx.design.residual import EqualVariances, ResidualRows
from mixedfx.design.rows import RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import EngineRefusal, SearchError
from mixedfx.estimation.dispatch import SAME_OPTIMUM
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.statsmodels import StatsModels
from mixedfx.formula.terms import RandomTerm
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.residuals.model import ResidualModel

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def check_random_intercept(design: Design, model: ResidualModel) -> None:
    """Refuse, before the search, what MixedLM cannot express."""
    found = model.random_intercept(np.zeros(model.n_params))
    if isinstance(found, str):
        reason: str | None = found
    elif design.spec.random_terms:
        reason = "fits residuals of compound symmetry as a random intercept, not beside others"
    else:
        refusal = StatsModels().refusal(_with_intercept(design, *found[:2]))
        reason = None if refusal is None else f"cannot fit this model: {refusal}"
    if reason is not None:
        raise EngineRefusal(
            f"engine='statsmodels' {reason}; with {model.spec.keyword}= use engine='profiled'."
        )


def confirm_by_mixedlm(
    result: OptimizerResult,
    design: Design,
    model: ResidualModel,
    params: Vector,
    *,
    reml: bool,
    control: Control,
) -> OptimizerResult:
    """Fit the random intercept of the subjects by MixedLM, from the optimum of the search."""
    found = model.random_intercept(params)
    assert not isinstance(found, str)
    name, codes, correlation = found
    if correlation <= 0.0:
        raise EngineRefusal(
            f"engine='statsmodels' fits {design.spec.residual.argument} as a random intercept, "
            f"whose correlation is positive; the estimate is {correlation:.3g}. Use "
            "engine='profiled'."
        )
    mixed = _with_intercept(design, name, codes)
    likelihood = GaussianLikelihood.from_design(mixed, reml=reml)
    start = np.array([math.sqrt(correlation / (1.0 - correlation))])
    second = StatsModels().estimate(mixed, likelihood, control=control, start=start)
    gap = second.deviance - result.deviance
    if not second.converged or abs(gap) > SAME_OPTIMUM:
        raise SearchError(
            f"MixedLM's deviance differs by {gap:.2g} from that of the search. Use "
            "engine='profiled'."
        )
    evaluations = result.evaluations + second.evaluations
    return replace(
        result,
        engine=second.engine,
        confirmed_by=result.engine,
        raw=second.raw,
        evaluations=evaluations,
    )


def _with_intercept(design: Design, name: str, codes: Codes) -> Design:
    """The design with independent residuals and ``(1 | subject)``."""
    distinct, codes = np.unique(codes, return_inverse=True)
    codes = np.asarray(codes, dtype=np.intp)
    term = RandomTerm("1", (name,))
    formula = replace(design.spec.formula, random=(term,), source="")
    levels = Levels((pd.Index(distinct, name=name),), (np.arange(len(distinct)),))
    spec = RandomTermSpec(term, levels, ("Intercept",), None)
    rows = RandomTermRows(name, len(distinct), codes, np.ones((len(codes), 1)))
    return Design(
        replace(design.spec, formula=formula, random_terms=(spec,), residual=EqualVariances()),
        replace(design.rows, random_terms=(rows,), residual=ResidualRows()),
    )
