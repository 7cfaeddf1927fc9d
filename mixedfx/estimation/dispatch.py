"""Choice of the engine that estimates theta, and comparison of two engines' optima.

``auto`` estimates by the profiled engine; where MixedLM can express the model, the optimum is
interior and the problem is small, MixedLM then fits the model from there. The size limits are
constants, so that the engine of a model does not depend on the machine. ``iterative`` takes the
place of the profiled engine where crossed factors leave a large dense block: the likelihood that
is given has its solver (:func:`mixedfx.estimation.iterative.choose_solver`). ``em`` runs only when
asked for, and is not compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal, SearchError
from mixedfx.estimation import em as expectation_maximization
from mixedfx.estimation import statsmodels as mixedlm_engine
from mixedfx.estimation.boundary import boundary_parameters
from mixedfx.estimation.iterative import Iterative
from mixedfx.estimation.least_squares import least_squares_remark, least_squares_result
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import Profiled
from mixedfx.estimation.starts import can_have_several_minima
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.scaled import deviance_rounding
from mixedfx.linalg.iterative.solver import IterativeSolver

if TYPE_CHECKING:
    from mixedfx.estimation.statsmodels import Expressed

Vector = npt.NDArray[np.float64]

# Beyond these sizes MixedLM, whose Hessian is dense in the rows of a group, takes seconds
# instead of milliseconds.
_MAX_ROWS, _MAX_GROUPS = 5000, 100
_MAX_ROWS_IN_GROUP, _MAX_COLUMNS_IN_GROUP = 1000, 100
# Two optima are the same if their deviances differ by less than lme4's own tolerance.
SAME_OPTIMUM = 1e-6
# MixedLM works in the columns as they are: so much it may lose by columns far from zero.
_MOST_ROUNDING = 1e-3


class Engine(Protocol):
    """An estimator of theta."""

    @property
    def name(self) -> str:
        """Value of ``engine=`` that asks for it."""
        ...

    def refusal(self, design: Design) -> str | None:
        """Why it cannot fit a design, in words for the user; None where it can."""
        ...

    def estimate(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        *,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Estimate theta."""
        ...


def estimate(
    engine: str,
    design: Design,
    likelihood: GaussianLikelihood,
    *,
    control: Control,
    start: Vector | None = None,
) -> OptimizerResult:
    """Estimate theta by the engine asked for; by least squares without random terms."""
    if not design.spec.random_terms:
        if not likelihood.crossprod.profiles_sigma:
            return least_squares_result(likelihood)
        if not design.rows.in_memory:
            remark = least_squares_remark(weighted=design.rows.has_weights)
            return replace(least_squares_result(likelihood), remarks=(remark,))
        return mixedlm_engine.StatsModels().estimate(design, likelihood, control=control)
    if engine == "em":
        em: Engine = expectation_maximization.ExpectationMaximization()
        _check_no_refusal(em, design)
        result = em.estimate(design, likelihood, control=control, start=start)
        return _compare_with_lowest(result, design, likelihood, control=control)
    if isinstance(likelihood.crossprod.solver, IterativeSolver):
        iterative: Engine = Iterative()
        return iterative.estimate(design, likelihood, control=control, start=start)
    if engine == "statsmodels":
        _check_no_refusal(mixedlm_engine.StatsModels(), design)
    profiled: Engine = Profiled()
    result = profiled.estimate(design, likelihood, control=control, start=start)
    if engine == "profiled":
        return result
    if engine == "auto":
        return _confirm(result, design, likelihood, control=control)
    if not result.converged:
        raise SearchError(
            f"the search did not converge ({result.message}), and MixedLM is fitted only from the "
            "optimum. Use engine='profiled', or a higher limit in control=."
        )
    mixedlm = mixedlm_engine.StatsModels()
    second = mixedlm.estimate(design, likelihood, control=control, start=result.theta)
    return _compare_optima(result, second, require_second=True)


def _compare_with_lowest(
    result: OptimizerResult, design: Design, likelihood: GaussianLikelihood, *, control: Control
) -> OptimizerResult:
    """Not converged where the profiled engine's starts lead to a lower minimum."""
    if not result.converged or not can_have_several_minima(likelihood):
        return result
    lowest = Profiled().estimate(design, likelihood, control=control)
    rounding = deviance_rounding(likelihood.at(result.theta))
    tolerance = max(SAME_OPTIMUM, 10.0 * control.tolerance) + rounding  # the certificate's
    if result.deviance <= lowest.deviance + tolerance:
        return result
    message = (
        f"{result.engine} ended at a local minimum, {result.deviance - lowest.deviance:.2g} above "
        "that of engine='profiled'"
    )
    return replace(result, converged=False, refuses=True, message=message)


def _check_no_refusal(engine: Engine, design: Design) -> None:
    """Raise where an engine that was asked for cannot fit a design."""
    if (reason := engine.refusal(design)) is not None:
        raise EngineRefusal(
            f"{engine.name} cannot fit {design.spec.formula}: {reason}. Use engine='profiled'."
        )


def _confirm(
    result: OptimizerResult,
    design: Design,
    likelihood: GaussianLikelihood,
    *,
    control: Control,
) -> OptimizerResult:
    """Fit by MixedLM from an interior optimum of a small model; a failure is only remarked on."""
    expressed = _expressed_in_time(design) if result.converged else None
    if (
        expressed is None
        or likelihood.dependences
        or likelihood.crossprod.condition > mixedlm_engine.MAX_CONDITION
        or boundary_parameters(design.spec, likelihood.crossprod, result.theta)
    ):
        return result
    try:
        beta = None if result.solution is None else result.solution.beta
        mixedlm = mixedlm_engine.StatsModels(known=expressed, coefficients=beta)
        second = mixedlm.estimate(design, likelihood, control=control, start=result.theta)
    except SearchError as error:
        return replace(result, remarks=(f"not checked by statsmodels: {error}",))
    ours = result.deviance
    if second.theta is not result.theta:
        ours = likelihood.deviance(second.theta)
    rounding = abs(ours - second.deviance)
    if SAME_OPTIMUM < rounding < _MOST_ROUNDING:
        remark = f"not checked by statsmodels, whose rounding is {rounding:.1e} of deviance here."
        return replace(result, remarks=(*result.remarks, remark))
    return _compare_optima(result, second, require_second=False)


def suits_mixedlm(design: Design) -> bool:
    """Whether MixedLM can express a design and fit it in interactive time."""
    return _expressed_in_time(design) is not None


def _expressed_in_time(design: Design) -> Expressed | None:
    """How MixedLM expresses a small design."""
    if not design.rows.in_memory or design.rows.n > _MAX_ROWS:
        return None
    found = mixedlm_engine.Expressed.of(design)
    if isinstance(found, str):
        return None
    small = (
        int(found.terms.group_codes(design).max()) < _MAX_GROUPS
        and found.rows <= _MAX_ROWS_IN_GROUP
        and found.columns <= _MAX_COLUMNS_IN_GROUP
    )
    return found if small else None


def _compare_optima(
    profiled: OptimizerResult, mixedlm: OptimizerResult, *, require_second: bool
) -> OptimizerResult:
    """MixedLM's result where its deviance is that of the optimum, else the profiled one."""
    if mixedlm.converged and mixedlm.deviance <= profiled.deviance + SAME_OPTIMUM:
        same = mixedlm.theta is profiled.theta
        return replace(
            mixedlm,
            factors=profiled.factors if same else None,
            derivatives=profiled.derivatives if same else None,
            solution=profiled.solution if same else None,
            evaluations=profiled.evaluations + mixedlm.evaluations,
            trace=profiled.trace,
            confirmed_by=profiled.engine,
        )
    gap = mixedlm.deviance - profiled.deviance
    if gap > SAME_OPTIMUM:
        problem = f"MixedLM ended {gap:.2g} above the best deviance known, {profiled.deviance:.10g}"
    else:
        problem = "MixedLM reached the optimum, but does not report convergence there"
    if require_second:
        raise SearchError(f"{problem}. Use engine='profiled'.")
    remark = f"{problem}; the profiled engine's fit stands."
    return replace(profiled, remarks=(*profiled.remarks, remark))
