"""Which engine finds theta, and how two of them check each other.

``auto`` lets the profiled engine find the optimum and, where the model can be said in
MixedLM's words and is of interactive size, lets MixedLM fit it from there. The rule is fixed,
so that a model's engine never depends on the machine. ``em`` is run only when asked for, and
alone: it is there to be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal, SearchError, expect_choice
from mixedfx.estimation.curvature import boundary_parameters
from mixedfx.estimation.em import ExpectationMaximisation
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.profiled import Profiled
from mixedfx.estimation.scaling import without_random_effects
from mixedfx.estimation.statsmodels import StatsModels, largest_group, top_level_codes
from mixedfx.likelihood.crossproducts import CrossProducts

Vector = npt.NDArray[np.float64]

EngineName = Literal["auto", "statsmodels", "profiled", "em"]
ENGINES: tuple[EngineName, ...] = ("auto", "statsmodels", "profiled", "em")

# Beyond these sizes MixedLM, whose Hessian is dense in the rows of a group, is no longer
# interactive: seconds instead of milliseconds.
_MOST_ROWS, _MOST_GROUPS = 5000, 100
_MOST_ROWS_IN_GROUP, _MOST_COLUMNS_IN_GROUP = 1000, 100
# Two optima are the same if their deviances differ by less than lme4's own tolerance.
_SAME_OPTIMUM = 1e-6


class Engine(Protocol):
    """What an engine can be asked."""

    @property
    def name(self) -> str:
        """Its name, for ``engine=``."""
        ...

    def refusal(self, design: Design) -> str | None:
        """Why it cannot fit a design, in words for the user; None where it can."""
        ...

    def estimate(
        self,
        design: Design,
        crossprod: CrossProducts,
        *,
        reml: bool,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Find theta."""
        ...


def estimate(
    engine: str,
    design: Design,
    crossprod: CrossProducts,
    *,
    reml: bool,
    control: Control,
    start: Vector | None = None,
) -> OptimizerResult:
    """Find theta with the engine asked for."""
    expect_choice("engine", engine, ENGINES)
    other: Engine = StatsModels()
    if not design.blocks and crossprod.sigma is not None:
        return without_random_effects(crossprod, reml=False)
    if not design.blocks:
        return other.estimate(design, crossprod, reml=reml, control=control)
    if engine == "em":
        alone: Engine = ExpectationMaximisation()
        return alone.estimate(design, crossprod, reml=reml, control=control, start=start)
    if engine == "statsmodels":
        reason = other.refusal(design)
        if reason is not None:
            raise EngineRefusal(
                f"statsmodels cannot fit {design.formula}: {reason}. Use engine='profiled'."
            )
    first: Engine = Profiled()
    found = first.estimate(design, crossprod, reml=reml, control=control, start=start)
    if engine == "statsmodels" and not found.converged:
        raise SearchError(
            f"the search did not converge ({found.message}), and MixedLM is fitted only from the "
            "optimum. Use engine='profiled', or a higher limit in control=."
        )
    if engine == "profiled" or not found.converged:
        return found
    if engine == "statsmodels":
        second = other.estimate(design, crossprod, reml=reml, control=control, start=found.theta)
        return _agreed(found, second, forced=True)
    if not suits_mixedlm(design) or boundary_parameters(design, crossprod, found.theta):
        return found
    try:
        second = other.estimate(design, crossprod, reml=reml, control=control, start=found.theta)
    except SearchError as error:
        return replace(found, remarks=(f"not checked by statsmodels: {error}",))
    return _agreed(found, second, forced=False)


def suits_mixedlm(design: Design) -> bool:
    """Whether MixedLM can express a design and fit it in interactive time."""
    if len(design.y) > _MOST_ROWS or StatsModels().refusal(design) is not None:
        return False
    rows, columns = largest_group(design)
    return (
        int(top_level_codes(design).max()) < _MOST_GROUPS
        and rows <= _MOST_ROWS_IN_GROUP
        and columns <= _MOST_COLUMNS_IN_GROUP
    )


def _agreed(found: OptimizerResult, second: OptimizerResult, *, forced: bool) -> OptimizerResult:
    """Take MixedLM's fit where it ended at the same optimum, else keep the better one."""
    both = found.evaluations + second.evaluations
    if second.converged and second.deviance <= found.deviance + _SAME_OPTIMUM:
        return replace(second, evaluations=both, trace=found.trace, confirmed_by=found.engine)
    gap = second.deviance - found.deviance
    if gap > _SAME_OPTIMUM:
        problem = f"MixedLM ended {gap:.2g} above the best deviance known, {found.deviance:.10g}"
    else:
        problem = "MixedLM reached the optimum, but does not report convergence there"
    if forced:
        raise SearchError(f"{problem}. Use engine='profiled'.")
    remark = f"{problem}; the profiled engine's fit stands."
    return replace(found, remarks=(*found.remarks, remark))
